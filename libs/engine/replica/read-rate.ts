import type { Clock } from "../../base/index.js";

/** Reads older than about this weigh little. */
const windowMs = 10_000;
/** Not measured anew before so much time has passed. */
const intervalMinMs = 500;

/** How often a replica is read: an average with exponential weights, brought up to date when it is asked for. */
export class ReadRate {
  /** Reads so far. */
  count = 0;
  readonly #clock: Clock;
  #seenCount = 0;
  #seenMs: number;
  #perSecond = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#seenMs = clock.monotonicMs();
  }

  perSecond(): number {
    const nowMs = this.#clock.monotonicMs();
    const elapsedMs = nowMs - this.#seenMs;
    if (elapsedMs < intervalMinMs) return this.#perSecond;
    const recent = ((this.count - this.#seenCount) * 1000) / elapsedMs;
    this.#perSecond += (1 - Math.exp(-elapsedMs / windowMs)) * (recent - this.#perSecond);
    this.#seenCount = this.count;
    this.#seenMs = nowMs;
    return this.#perSecond;
  }
}
