import { type Clock, sleep } from "../../libs/base/index.js";

/** Lets bytes pass at a rate that may change meanwhile; shared by all copies that a node takes. */
export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: () => number;
  /** When what was let pass would have passed at the rate, in monotonic milliseconds. */
  #paidMs = 0;

  /** `bytesPerSecond`: 0 for no limit. */
  constructor(clock: Clock, bytesPerSecond: () => number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when the next bytes may come, after `sizeBytes` have. */
  async pass(sizeBytes: number, signal: AbortSignal): Promise<void> {
    const rate = this.#bytesPerSecond();
    if (rate <= 0) return;
    const nowMs = this.#clock.monotonicMs();
    this.#paidMs = Math.max(this.#paidMs, nowMs) + (sizeBytes * 1000) / rate;
    const waitMs = this.#paidMs - nowMs;
    // A timer's own inaccuracy is no reason to wait: it is made good with the next bytes.
    if (waitMs >= 2) await sleep(this.#clock, waitMs, signal);
  }
}
