import { type Clock, KithError, limits, type Timer } from "../../../libs/base/index.js";

/** So many queries are always let in: fewer tell nothing about how long one more would wait. */
const admittedLeast = 256;
/** The rate at which queries end is taken over two stretches of so many milliseconds: in one, the event loop may have stood still. */
const windowMs = 1_000;
/** What a query without a deadline may wait, in milliseconds. */
const patienceMs = 10_000;

interface Window {
  startMs: number;
  ended: number;
}

/**
 * Lets queries in as long as they can be answered in time. By Little's law a query waits for as long as those before it take to end: their
 * number by the rate at which queries have ended lately. One that would wait longer than its deadline allows is refused at once, so that an
 * overloaded router goes on answering instead of working for callers that have given up.
 */
export class QueryAdmission {
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #least: number;
  #inFlight = 0;
  #ended = 0;
  /** Where the present window and the one before began, while many are in flight. How few queries end while few are asked says nothing. */
  #windows: Window[] = [];
  #timer: Timer | undefined;
  /** Queries that ended in a millisecond; undefined: not known yet. */
  #rate: number | undefined;

  constructor(clock: Clock, limit: number = limits.inFlightCalls, least: number = admittedLeast) {
    this.#clock = clock;
    this.#limit = limit;
    this.#least = least;
  }

  /**
   * RESOURCE_EXHAUSTED, to be tried again later, for a query that is not let in; `enter` counts one that is. `deadlineMs`: monotonic milliseconds at
   * which the call must have ended.
   */
  check(deadlineMs: number | undefined): void {
    if (this.#inFlight >= this.#limit) throw tooMany(this.#limit);
    if (this.#rate === undefined) return;
    const waitMs = this.#inFlight / this.#rate;
    const leftMs = deadlineMs === undefined ? patienceMs : deadlineMs - this.#clock.monotonicMs();
    if (waitMs > leftMs) throw tooLate(this.#inFlight, waitMs, leftMs);
  }

  enter(): void {
    this.#inFlight++;
    if (this.#inFlight !== this.#least) return;
    this.#windows = [{ startMs: this.#clock.monotonicMs(), ended: this.#ended }];
    this.#timer = this.#clock.every(() => this.#measure(), windowMs).unref();
  }

  leave(): void {
    this.#ended++;
    this.#inFlight--;
    if (this.#inFlight === this.#least - 1) this.close();
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  close(): void {
    this.#timer?.close();
    this.#rate = undefined;
  }

  #measure(): void {
    const startMs = this.#clock.monotonicMs();
    const [oldest] = this.#windows.splice(0, this.#windows.length - 1);
    if (oldest !== undefined) this.#rate = (this.#ended - oldest.ended) / (startMs - oldest.startMs);
    this.#windows.push({ startMs, ended: this.#ended });
  }
}

function tooMany(limit: number): KithError {
  return new KithError("RESOURCE_EXHAUSTED", `the router is answering ${limit} queries already; try again shortly`, {
    details: { limit },
    retryAfterMs: 100,
  });
}

function tooLate(inFlight: number, waitMs: number, leftMs: number): KithError {
  const wait = Number.isFinite(waitMs) ? `about ${Math.ceil(waitMs)} ms` : "longer than can be said";
  return new KithError(
    "RESOURCE_EXHAUSTED",
    `the router is overloaded: behind ${inFlight} queries one more would wait ${wait}, and its deadline is in ${Math.max(0, Math.round(leftMs))} ms; ` +
      "try again later, with fewer queries at once",
    { details: { inFlight, leftMs: Math.max(0, Math.round(leftMs)) }, retryAfterMs: 500 },
  );
}
