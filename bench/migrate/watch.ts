import { type Deferred, deferred } from "../../libs/base/index.js";
import { readProcess } from "../lib/process-stats.js";

export interface Migration {
  /** From the first replica that began to the last that was done. */
  seconds: number;
  /** Of the whole process meanwhile. */
  cpuSeconds: number;
}

/** Reads in the server's log when migrations begin and end. */
export class MigrationWatch {
  #started: { atMs: number; cpuSeconds: number } | undefined;
  #left: number;
  #done: Deferred<Migration> = deferred();

  constructor(private readonly stores: number) {
    this.#left = stores;
  }

  begin(): void {
    this.#started = undefined;
    this.#left = this.stores;
    this.#done = deferred();
  }

  end(): Promise<Migration> {
    return this.#done.promise;
  }

  take(line: string, pid: number | undefined): void {
    if (!/"alarm":"(migrated|migration_started)"/.test(line) || pid === undefined) return;
    const { alarm, time } = JSON.parse(line) as { alarm: string; time: string };
    const now = { atMs: Date.parse(time), cpuSeconds: readProcess(pid)?.cpuSeconds ?? 0 };
    if (alarm === "migration_started") {
      this.#started ??= now;
      return;
    }
    if (this.#started === undefined || --this.#left > 0) return;
    const { atMs, cpuSeconds } = this.#started;
    this.#done.resolve({ seconds: (now.atMs - atMs) / 1000, cpuSeconds: now.cpuSeconds - cpuSeconds });
  }
}
