import type { Clock, Timer } from "../clock.js";

/** A clock that runs `rate` times as fast as another one, from now on. */
export class FastClock implements Clock {
  readonly #clock: Clock;
  readonly #rate: number;
  readonly #startMs: number;
  readonly #startMonotonicMs: number;

  constructor(clock: Clock, rate: number) {
    this.#clock = clock;
    this.#rate = rate;
    this.#startMs = clock.nowMs();
    this.#startMonotonicMs = clock.monotonicMs();
  }

  get originMs(): number {
    return this.#clock.originMs;
  }

  nowMs(): number {
    return this.#startMs + (this.#clock.nowMs() - this.#startMs) * this.#rate;
  }

  monotonicMs(): number {
    return this.#startMonotonicMs + (this.#clock.monotonicMs() - this.#startMonotonicMs) * this.#rate;
  }

  setTimer(callback: () => void, delayMs: number): Timer {
    return this.#clock.setTimer(callback, delayMs / this.#rate);
  }

  every(callback: () => void, periodMs: number): Timer {
    return this.#clock.every(callback, periodMs / this.#rate);
  }

  soon(callback: () => void): void {
    this.#clock.soon(callback);
  }
}
