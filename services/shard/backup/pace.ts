import { type Clock, sleep } from "../../../libs/base/index.js";

/** Holds work to so many bytes a second. */
export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  #freeAtMs: number;

  /** `bytesPerSecond`: 0 for no limit. */
  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#freeAtMs = clock.monotonicMs();
  }

  /** Resolves when the work that took `bytes` has had its time. Rejects when the signal aborts. */
  async spent(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const nowMs = this.#clock.monotonicMs();
    // Time that was not used is not saved up.
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (bytes / this.#bytesPerSecond) * 1_000;
    await sleep(this.#clock, this.#freeAtMs - nowMs, signal);
  }
}
