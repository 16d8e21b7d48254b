import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import {
  backoffMs,
  type Deferred,
  deferred,
  KithError,
  sleep,
  systemClock,
  systemRandom,
} from "../../../libs/base/index.js";
import type { Io } from "../io.js";

/** What a child says when it serves. */
export interface ReadyMessage {
  kind: "ready";
  address?: string;
  url?: string;
  port?: number;
  monitorUrl?: string;
  /** A process below the child that must not outlive it. */
  pid?: number;
}

export interface ChildSpec {
  name: string;
  /** Arguments of this program; `before` is what the child said when it was ready the last time. */
  args: (before: ReadyMessage | undefined) => readonly string[];
  env?: Record<string, string | undefined>;
  /** How long it may take to end in good order before it is ended by force. */
  stopTimeoutMs: number;
}

export interface ChildHooks {
  /** A line of the child's output. */
  onLine: (line: string) => void;
  /** Something about the child that people should know. */
  onNote: (text: string) => void;
  /** The child will not be started again. */
  onGivenUp: (error: KithError) => void;
}

/** A child that dies more often than this within the window is not started again. */
const restartsMax = 5;
const restartWindowMs = 60_000;
const restartBackoff = { initialMs: 500, maxMs: 10_000 };
const linesRemembered = 12;

/**
 * A child process that runs this program, is started again when it dies, and ends when this process does: the channel
 * between the two closes with either of them, even by kill -9. It has a process group of its own, so that Ctrl-C in the
 * terminal reaches only the parent, which then stops its children in order.
 */
export class SupervisedChild {
  readonly name: string;
  readonly #spec: ChildSpec;
  readonly #io: Io;
  readonly #hooks: ChildHooks;
  readonly #stopping = new AbortController();
  readonly #recentLines: string[] = [];
  readonly #deathsMs: number[] = [];
  #process: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #ready: ReadyMessage | undefined;
  #pidBelow: number | undefined;
  #firstReady: Deferred<ReadyMessage> | undefined;
  #watched: Promise<void> = Promise.resolve();

  constructor(spec: ChildSpec, io: Io, hooks: ChildHooks) {
    this.name = spec.name;
    this.#spec = spec;
    this.#io = io;
    this.#hooks = hooks;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** What it said when it was ready the last time. */
  get ready(): ReadyMessage | undefined {
    return this.#ready;
  }

  /** Starts it; resolves when it serves. A child that dies before that is not tried again. */
  start(): Promise<ReadyMessage> {
    this.#firstReady = deferred<ReadyMessage>();
    this.#watched = this.#watch();
    return this.#firstReady.promise;
  }

  /** Ends it in good order, by force after its time. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#process;
    if (child !== undefined && isAlive(child)) {
      child.kill("SIGTERM");
      const timer = setTimeout(() => {
        this.#hooks.onNote(`${this.name} did not end within ${this.#spec.stopTimeoutMs} ms and is ended by force`);
        child.kill("SIGKILL");
      }, this.#spec.stopTimeoutMs);
      await this.#exited;
      clearTimeout(timer);
    }
    await this.#watched;
    this.#endBelow();
  }

  /** For the ways out that leave no time. */
  kill(): void {
    this.#stopping.abort();
    if (this.#process !== undefined && isAlive(this.#process)) this.#process.kill("SIGKILL");
    this.#endBelow();
  }

  /** Runs the child again and again until it is stopped, or given up. */
  async #watch(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const how = await this.#runOnce();
      if (this.#stopping.signal.aborted) return;
      // What the child had started may have outlived it, and would be in the way of the next one.
      this.#endBelow();
      const tail = this.#recentLines.map((line) => `\n  ${line}`).join("");
      if (this.#ready === undefined) {
        this.#giveUp(new KithError("FAILED_PRECONDITION", `${this.name} ended ${how} before it was ready:${tail}`));
        return;
      }
      const now = performance.now();
      this.#deathsMs.push(now);
      const recent = this.#deathsMs.filter((deathMs) => now - deathMs < restartWindowMs).length;
      if (recent > restartsMax) {
        this.#giveUp(
          new KithError(
            "INTERNAL",
            `${this.name} ended ${recent} times within a minute, the last time ${how}; its last lines:${tail}`,
          ),
        );
        return;
      }
      const pauseMs = backoffMs(recent - 1, restartBackoff, systemRandom);
      this.#hooks.onNote(
        `${this.name} ended unexpectedly ${how}; starting it again in ${(pauseMs / 1000).toFixed(1)} s`,
      );
      await sleep(systemClock, pauseMs, this.#stopping.signal).catch((error: unknown) => {
        if (!this.#stopping.signal.aborted) throw error;
      });
    }
  }

  #giveUp(error: KithError): void {
    if (this.#ready === undefined) this.#firstReady?.reject(error);
    else this.#hooks.onGivenUp(error);
  }

  /** Starts the child and waits for its end; says how it ended. */
  async #runOnce(): Promise<string> {
    const { executable, args } = this.#io.program;
    const child = spawn(executable, [...args, ...this.#spec.args(this.#ready)], {
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      detached: true,
      cwd: this.#io.cwd,
      env: { ...this.#io.env, ...this.#spec.env },
    });
    this.#process = child;
    const end = deferred<string>();
    child.on("error", (error) => end.resolve(`and could not be started (${error.message})`));
    child.on("exit", (code, signal) => {
      // A child that ended by itself has ended what is below it.
      if (code === 0) this.#pidBelow = undefined;
      end.resolve(signal === null ? `with code ${code}` : `by ${signal}`);
    });
    child.on("message", (message: ReadyMessage) => {
      if (message.kind !== "ready") return;
      this.#ready = message;
      this.#pidBelow = message.pid;
      this.#firstReady?.resolve(message);
    });
    this.#readLines(child.stdout);
    this.#readLines(child.stderr);
    this.#exited = end.promise.then(() => undefined);
    return end.promise;
  }

  #readLines(stream: Readable | null): void {
    if (stream === null) return;
    createInterface({ input: stream }).on("line", (line) => {
      this.#recentLines.push(line);
      if (this.#recentLines.length > linesRemembered) this.#recentLines.shift();
      this.#hooks.onLine(line);
    });
  }

  /**
   * Ends the process below the child where the child died without doing so itself. Done once, right after the child's end:
   * later the number could belong to another process.
   */
  #endBelow(): void {
    const pid = this.#pidBelow;
    this.#pidBelow = undefined;
    if (pid === undefined) return;
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      // It has ended, as it should have.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

function isAlive(child: ChildProcess): boolean {
  return child.pid !== undefined && child.exitCode === null && child.signalCode === null;
}
