import { abortReason, type Clock } from "../../base/index.js";

/** Longest stretch of work between two turns of the event loop, in milliseconds. */
const turnMs = 3;
/** How often the clock is asked: after so many pieces of work of some microseconds each. */
const piecesMax = 32;

/** Lets others run while there is much to do. */
export class Turns {
  readonly #clock: Clock;
  readonly #stopped: AbortSignal;
  readonly #stretchMs: number;
  readonly #piecesMax: number;
  #startMs: number;
  #pieces = 0;

  /** `stretchMs`: longest stretch between two turns; `pieces`: work between two looks at the clock. */
  constructor(clock: Clock, stopped: AbortSignal, stretchMs = turnMs, pieces = piecesMax) {
    this.#clock = clock;
    this.#stopped = stopped;
    this.#stretchMs = stretchMs;
    this.#piecesMax = pieces;
    this.#startMs = clock.monotonicMs();
  }

  /** Whether it is time to `pass`; called after each piece of work, or after so many. */
  isDue(pieces = 1): boolean {
    this.#pieces += pieces;
    if (this.#pieces < this.#piecesMax) return false;
    this.#pieces = 0;
    return this.#clock.monotonicMs() - this.#startMs >= this.#stretchMs;
  }

  /** Others have just had their turn, while something was awaited that ends in one of its own. */
  begin(): void {
    this.#startMs = this.#clock.monotonicMs();
  }

  /** Rejects where the replica has ended meanwhile. */
  async pass(): Promise<void> {
    await new Promise<void>((resolve) => this.#clock.soon(resolve));
    if (this.#stopped.aborted) throw abortReason(this.#stopped);
    this.begin();
  }
}

/** For reads, which test and parse single points, of up to hundreds of kilobytes each. */
export function readTurns(clock: Clock, stopped: AbortSignal): Turns {
  return new Turns(clock, stopped, 1, 1);
}
