import { abortReason, type Clock } from "../../base/index.js";

/** Longest stretch of work between two turns of the event loop, in milliseconds. */
const turnMs = 3;
/** How often the clock is asked: after so many pieces of work of some microseconds each. */
const piecesMax = 32;

/** Lets others run while there is much to do. */
export class Turns {
  readonly #clock: Clock;
  readonly #stopped: AbortSignal;
  #startMs: number;
  #pieces = 0;

  constructor(clock: Clock, stopped: AbortSignal) {
    this.#clock = clock;
    this.#stopped = stopped;
    this.#startMs = clock.monotonicMs();
  }

  /** Whether it is time to `pass`; called after each piece of work, or after so many. */
  isDue(pieces = 1): boolean {
    this.#pieces += pieces;
    if (this.#pieces < piecesMax) return false;
    this.#pieces = 0;
    return this.#clock.monotonicMs() - this.#startMs >= turnMs;
  }

  /** Rejects where the replica has ended meanwhile. */
  async pass(): Promise<void> {
    await new Promise<void>((resolve) => this.#clock.soon(resolve));
    if (this.#stopped.aborted) throw abortReason(this.#stopped);
    this.#startMs = this.#clock.monotonicMs();
  }
}
