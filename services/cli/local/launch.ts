import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { deferred } from "../../../libs/base/index.js";
import type { Io } from "../io.js";

/** What a child says when it serves. */
export interface ReadyMessage {
  kind: "ready";
  address?: string;
  url?: string;
  port?: number;
  monitorUrl?: string;
}

/** A process that was started. */
export interface Launched {
  /** Undefined before there is one. */
  readonly pid: number | undefined;
  /** When it serves; never where it ends before. */
  readonly ready: Promise<ReadyMessage>;
  /** How it ended: "with code 1", "by SIGKILL". */
  readonly ended: Promise<string>;
  /** Asks it to end. */
  stop(): void;
  /** Ends it, without waiting for anything. */
  kill(): void;
}

/**
 * Runs this program as a child that ends when this process does: the channel between the two closes with either of them, even by
 * kill -9. It has a process group of its own, so that Ctrl-C in the terminal reaches only the parent, which then stops its
 * children in order.
 */
export function launchProgram(
  { program, cwd, env }: Io,
  options: { args: readonly string[]; nodeArgs?: readonly string[]; env?: Record<string, string | undefined> },
  onLine: (line: string) => void,
): Launched {
  const args = [...(options.nodeArgs ?? []), ...program.args, ...options.args];
  const child = spawn(program.executable, args, {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    detached: true,
    cwd,
    env: { ...env, ...options.env },
  });
  const ready = deferred<ReadyMessage>();
  const ended = deferred<string>();
  child.on("error", (error) => ended.resolve(`and could not be started (${error.message})`));
  child.on("exit", (code, signal) => ended.resolve(signal === null ? `with code ${code}` : `by ${signal}`));
  child.on("message", (message: ReadyMessage) => {
    if (message.kind === "ready") ready.resolve(message);
  });
  for (const stream of [child.stdout, child.stderr] as (Readable | null)[]) {
    if (stream !== null) createInterface({ input: stream }).on("line", onLine);
  }
  const isAlive = (): boolean => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  return {
    pid: child.pid,
    ready: ready.promise,
    ended: ended.promise,
    stop: () => {
      if (isAlive()) child.kill("SIGTERM");
    },
    kill: () => {
      if (isAlive()) child.kill("SIGKILL");
    },
  };
}
