import { type Clock, KithError, Slab, type Timer } from "../../base/index.js";

/** A call in flight that must end by a moment. */
export interface Expiring {
  /** Monotonic milliseconds; Infinity for none. */
  readonly deadlineMs: number;
  /** Its place in the sweep that it is in: the sweep's to write. */
  sweepSlot: number;
  /** Called once the deadline is past; at every tick until the call leaves the sweep. */
  expire(): void;
}

/** How late a deadline may be noticed. */
export const deadlineTickMs = 10;

/**
 * The calls in flight, whose deadlines one timer watches: a timer of its own costs a call about 1 µs, a slot here next
 * to nothing. The timer runs only while there are calls and does not hold the process.
 */
export class DeadlineSweep<T extends Expiring> {
  readonly #calls = new Slab<T>();
  readonly #clock: Clock;
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#calls.size;
  }

  add(call: T): void {
    call.sweepSlot = this.#calls.add(call);
    this.#timer ??= this.#clock.every(() => this.#tick(), deadlineTickMs).unref();
  }

  /** Nothing happens where the call is not, or no longer, in the sweep. */
  delete(call: T): void {
    if (this.#calls.at(call.sweepSlot) === call) this.#calls.remove(call.sweepSlot);
  }

  at(slot: number): T | undefined {
    return this.#calls.at(slot);
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#calls[Symbol.iterator]();
  }

  #tick(): void {
    // Stops one tick after the last call has gone, so that a trickle of calls does not start a timer for each.
    if (this.#calls.size === 0) {
      this.#timer?.close();
      this.#timer = undefined;
      return;
    }
    const now = this.#clock.monotonicMs();
    for (const call of this.#calls) if (call.deadlineMs <= now) call.expire();
  }
}

export function deadlinePassed(): KithError {
  return new KithError("DEADLINE_EXCEEDED", "the deadline passed before the call ended");
}

export function shuttingDown(): KithError {
  return new KithError("SHUTTING_DOWN", "this node is shutting down; send the call to another one", {
    retryAfterMs: 500,
  });
}
