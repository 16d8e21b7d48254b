import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";

/** One process of the cluster; may be started again after it has ended. */
export class NodeProcess {
  #child: ChildProcess | undefined;
  #exited: Promise<number | undefined> = Promise.resolve(undefined);

  constructor(
    readonly id: string,
    readonly command: readonly string[],
    readonly env: Record<string, string>,
    readonly logFile: string,
  ) {}

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.id} does not run`);
    return pid;
  }

  /** Resolves with the exit code; undefined where a signal ended it. */
  get exited(): Promise<number | undefined> {
    return this.#exited;
  }

  start(): void {
    if (this.#child !== undefined) throw new Error(`${this.id} runs already`);
    const [program, ...args] = this.command;
    // The file, not a pipe: nothing is lost when either side is killed.
    const log = openSync(this.logFile, "a");
    const child = spawn(program as string, args, { stdio: ["ignore", log, log], env: this.env });
    closeSync(log);
    this.#child = child;
    this.#exited = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => {
        if (this.#child === child) this.#child = undefined;
        resolve(code ?? undefined);
      });
    });
    this.#exited.catch(() => {
      this.#child = undefined;
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** SIGTERM ends by force after half a minute, so that a test run always ends. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const timer = setTimeout(() => this.signal("SIGKILL"), 30_000);
    this.signal(signal);
    try {
      await this.#exited;
    } finally {
      clearTimeout(timer);
    }
  }
}
