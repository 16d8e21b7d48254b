import { abortReason, type Deferred, deferred } from "../../libs/base/index.js";

/** Lets at most so many actions run at once; the others wait in the order in which they came. */
export class Semaphore {
  #free: number;
  readonly #queue = new Set<Deferred<void>>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Rejects with the reason of `signal` where that aborts while the action waits; one that runs is left to its end. */
  async run<T>(action: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await action();
    } finally {
      const [next] = this.#queue;
      if (next === undefined) this.#free++;
      else {
        this.#queue.delete(next);
        next.resolve();
      }
    }
  }

  async #turn(signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw abortReason(signal);
    const turn = deferred<void>();
    const onAbort = (): void => {
      if (this.#queue.delete(turn)) turn.reject(abortReason(signal));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    this.#queue.add(turn);
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
