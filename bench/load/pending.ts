import type { OnDone } from "./driver.js";

/** Start times of the requests of one stream by request id; ids are reused, so memory is bounded by those in flight. */
export class Pending {
  readonly #starts: number[] = [];
  readonly #free: number[] = [];
  readonly #onDone: OnDone;

  constructor(onDone: OnDone) {
    this.#onDone = onDone;
  }

  /** The id (1 or more) under which the answer will come. */
  add(startMs: number): number {
    const slot = this.#free.pop() ?? this.#starts.length;
    this.#starts[slot] = startMs;
    return slot + 1;
  }

  done(id: number, error: string | undefined): void {
    const startMs = this.#starts[id - 1];
    if (startMs === undefined || Number.isNaN(startMs)) throw new RangeError(`an answer to the unknown request ${id}`);
    this.#starts[id - 1] = NaN;
    this.#free.push(id - 1);
    this.#onDone(startMs, error);
  }

  /** Ends all that wait. */
  fail(error: string): void {
    this.#starts.forEach((startMs, slot) => {
      if (!Number.isNaN(startMs)) this.done(slot + 1, error);
    });
  }
}
