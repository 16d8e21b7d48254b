/** A call in flight that must end by a moment. */
export interface Expiring {
  /** Monotonic milliseconds (performance.now()); Infinity for none. */
  readonly deadlineMs: number;
  /** Called once the deadline is past; at every tick until the call leaves the sweep. */
  expire(): void;
}

/** How late a deadline may be noticed. */
export const deadlineTickMs = 10;

/**
 * Watches the deadlines of all calls in flight with one timer: a Set costs a call about 0.1 µs, a timer of its own
 * about 1 µs. The timer runs only while there are calls and does not hold the process.
 */
export class DeadlineSweep<T extends Expiring> {
  readonly #calls = new Set<T>();
  #timer: NodeJS.Timeout | undefined;

  get size(): number {
    return this.#calls.size;
  }

  add(call: T): void {
    this.#calls.add(call);
    this.#timer ??= setInterval(() => this.#tick(), deadlineTickMs).unref();
  }

  delete(call: T): void {
    this.#calls.delete(call);
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#calls.values();
  }

  #tick(): void {
    // Stops one tick after the last call has gone, so that a trickle of calls does not start a timer for each.
    if (this.#calls.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    const now = performance.now();
    for (const call of this.#calls) if (call.deadlineMs <= now) call.expire();
  }
}
