import { abortReason, type Clock, KithError } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";

interface Waiter {
  sequence: number;
  settled: boolean;
  settle(error?: KithError): void;
}

/** Calls that wait until a sequence is applied, ordered by sequence; bounded; each ends with its signal or deadline. */
export class SequenceWaiters {
  readonly #clock: Clock;
  readonly #max: number;
  #waiting: Waiter[] = [];
  #count = 0;

  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#max = max;
  }

  wait(sequence: number, call: CallContext): Promise<void> {
    const { signal, deadlineMs } = call;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    const remainingMs = deadlineMs === undefined ? undefined : deadlineMs - this.#clock.monotonicMs();
    if (remainingMs !== undefined && remainingMs <= 0) return Promise.reject(tooLate(sequence));
    if (this.#count >= this.#max) {
      return Promise.reject(
        new KithError("RESOURCE_EXHAUSTED", `${this.#max} calls wait for this replica already; try again later`, {
          retryAfterMs: 500,
        }),
      );
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => waiter.settle(abortReason(signal as AbortSignal));
      const timer =
        remainingMs === undefined
          ? undefined
          : this.#clock.setTimer(() => waiter.settle(tooLate(sequence)), Math.min(remainingMs, 2 ** 31 - 1));
      const waiter: Waiter = {
        sequence,
        settled: false,
        settle: (error) => {
          if (waiter.settled) return;
          waiter.settled = true;
          this.#count--;
          timer?.close();
          signal?.removeEventListener("abort", onAbort);
          if (error) reject(error);
          else resolve();
        },
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#count++;
      this.#insert(waiter);
    });
  }

  /** Wakes everyone who waits for `sequence` or less. */
  advance(sequence: number): void {
    let due = 0;
    while (due < this.#waiting.length && (this.#waiting[due] as Waiter).sequence <= sequence) due++;
    if (due === 0) return;
    for (const waiter of this.#waiting.splice(0, due)) waiter.settle();
  }

  /** Rejects everyone. */
  fail(error: KithError): void {
    for (const waiter of this.#waiting.splice(0)) waiter.settle(error);
  }

  #insert(waiter: Waiter): void {
    // Those that gave up stay in the list until their sequence comes; drop them when they are the most of it.
    if (this.#waiting.length > 64 && this.#waiting.length > 2 * this.#count) {
      this.#waiting = this.#waiting.filter((each) => !each.settled);
    }
    let low = 0;
    let high = this.#waiting.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#waiting[middle] as Waiter).sequence <= waiter.sequence) low = middle + 1;
      else high = middle;
    }
    this.#waiting.splice(low, 0, waiter);
  }
}

function tooLate(sequence: number): KithError {
  return new KithError("DEADLINE_EXCEEDED", `sequence ${sequence} was not applied before the deadline`, {
    details: { sequence },
  });
}
