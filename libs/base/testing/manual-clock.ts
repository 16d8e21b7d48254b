import type { Clock, Timer } from "../clock.js";

/** A clock that stands still until a test moves it. The monotonic clock starts at 1 s, the wall clock on 1 January 2026. */
export class ManualClock implements Clock {
  #monotonicMs = 1_000;
  /** Wall clock minus monotonic clock: a test sets it to let the wall clock jump. */
  wallOffsetMs = Date.UTC(2026, 0, 1) - 1_000;
  readonly #timers = new Set<ManualTimer>();
  #setCount = 0;

  nowMs(): number {
    return this.#monotonicMs + this.wallOffsetMs;
  }

  get originMs(): number {
    return this.wallOffsetMs;
  }

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  setTimer(callback: () => void, delayMs: number): Timer {
    return this.#set(callback, delayMs, undefined);
  }

  every(callback: () => void, periodMs: number): Timer {
    // As Node does; a period of 0 would never end.
    const atLeastMs = Math.max(1, periodMs);
    return this.#set(callback, atLeastMs, atLeastMs);
  }

  /** Runs with the next advance(), be it of 0 ms. */
  soon(callback: () => void): void {
    this.#set(callback, 0, undefined);
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves the time and runs no timer: those that are due by then run with the next advance(). */
  jump(ms: number): void {
    this.#monotonicMs += ms;
  }

  /**
   * Moves the time by `ms` and runs the timers that become due, by their time and then in the order in which they were set. Before the
   * first and after each one, promises that are settled and whatever input has arrived are handled, so that timers which these set in
   * the span are run too.
   */
  async advance(ms: number): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    await turn();
    for (let timer = this.#next(endMs); timer !== undefined; timer = this.#next(endMs)) {
      this.#monotonicMs = Math.max(this.#monotonicMs, timer.atMs);
      if (timer.periodMs === undefined) this.#timers.delete(timer);
      else timer.again(timer.periodMs, this.#setCount++);
      timer.callback();
      await turn();
    }
    this.#monotonicMs = Math.max(this.#monotonicMs, endMs);
  }

  #set(callback: () => void, delayMs: number, periodMs: number | undefined): Timer {
    const atMs = this.#monotonicMs + Math.max(0, delayMs);
    const timer = new ManualTimer(callback, atMs, periodMs, this.#setCount++, this.#timers);
    this.#timers.add(timer);
    return timer;
  }

  #next(endMs: number): ManualTimer | undefined {
    let next: ManualTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.atMs <= endMs && (next === undefined || timer.isBefore(next))) next = timer;
    }
    return next;
  }
}

class ManualTimer implements Timer {
  readonly #timers: Set<ManualTimer>;

  constructor(
    readonly callback: () => void,
    public atMs: number,
    readonly periodMs: number | undefined,
    private order: number,
    timers: Set<ManualTimer>,
  ) {
    this.#timers = timers;
  }

  isBefore(other: ManualTimer): boolean {
    return this.atMs === other.atMs ? this.order < other.order : this.atMs < other.atMs;
  }

  again(periodMs: number, order: number): void {
    this.atMs += periodMs;
    this.order = order;
  }

  close(): void {
    this.#timers.delete(this);
  }

  unref(): this {
    return this;
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
