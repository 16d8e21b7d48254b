import type { Clock, Timer } from "../clock.js";

/** Another clock, which a test can put forward; its timers do not follow. */
export class ShiftedClock implements Clock {
  readonly #clock: Clock;
  #ms = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  pass(ms: number): void {
    this.#ms += ms;
  }

  nowMs(): number {
    return this.#clock.nowMs() + this.#ms;
  }
  monotonicMs(): number {
    return this.#clock.monotonicMs() + this.#ms;
  }
  get originMs(): number {
    return this.#clock.originMs;
  }
  setTimer(callback: () => void, delayMs: number): Timer {
    return this.#clock.setTimer(callback, delayMs);
  }
  every(callback: () => void, periodMs: number): Timer {
    return this.#clock.every(callback, periodMs);
  }
  soon(callback: () => void): void {
    this.#clock.soon(callback);
  }
}
