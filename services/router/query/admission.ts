import { type Clock, KithError, limits } from "../../../libs/base/index.js";

/** So many queries are always let in: fewer tell nothing about how long one more would wait. */
const admittedLeast = 64;
/** The rate at which queries are answered is taken over one to two stretches of so many milliseconds. */
const windowMs = 500;
/** What a query without a deadline may wait, in milliseconds. */
const patienceMs = 10_000;
/** The part of its time that a query may wait: the rate is an estimate, and one that ends behind its deadline was work for nobody. */
const waitShare = 0.8;

/**
 * Lets queries in as long as they can be answered in time. By Little's law a query waits for as long as those before it take to be answered: their
 * number by the rate at which queries were answered lately. One that would wait longer than its deadline allows is refused at once, so that an
 * overloaded router goes on answering instead of working for callers that have given up.
 *
 * The rate is taken when queries come, not by a timer: while thousands of requests wait in its sockets, the event loop reads all of them before any
 * timer has its turn.
 */
export class QueryAdmission {
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #least: number;
  #inFlight = 0;
  #waiting = 0;
  /** From when many are in flight until few are. How few queries are answered while few are asked says nothing. */
  #isBusy = false;
  /** Since then. */
  #answered = 0;
  /** Where the present stretch and the one before began, and what was answered until then. */
  #sinceMs = 0;
  #answeredThen = 0;
  #beforeMs = 0;
  #answeredBefore = 0;

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
    if (this.#inFlight + this.#waiting >= this.#limit) throw tooMany(this.#limit);
    if (this.#inFlight < this.#least) return;
    const nowMs = this.#clock.monotonicMs();
    const spanMs = this.#spanMs(nowMs);
    if (spanMs < windowMs) return;
    const waitMs = (this.#inFlight * spanMs) / (this.#answered - this.#answeredBefore);
    const leftMs = deadlineMs === undefined ? patienceMs : deadlineMs - nowMs;
    if (waitMs > leftMs * waitShare) throw tooLate(this.#inFlight, waitMs, leftMs);
  }

  enter(): void {
    this.#inFlight++;
    if (this.#isBusy || this.#inFlight < this.#least) return;
    const nowMs = this.#clock.monotonicMs();
    this.#isBusy = true;
    this.#answered = 0;
    this.#sinceMs = nowMs;
    this.#answeredThen = 0;
    this.#beforeMs = nowMs;
    this.#answeredBefore = 0;
  }

  /** `isAnswered`: not given up, by its caller or at its deadline. What is given up says nothing of how fast others are answered. */
  leave(isAnswered: boolean): void {
    this.#inFlight--;
    if (isAnswered) this.#answered++;
    if (this.#inFlight * 2 < this.#least) this.#isBusy = false;
  }

  /** A query that has entered, and waits until there is room for its answer: nobody waits behind it, and others may be answered at once. */
  async aside<T>(waiting: Promise<T>): Promise<T> {
    this.leave(false);
    this.#waiting++;
    try {
      return await waiting;
    } finally {
      this.#waiting--;
      this.enter();
    }
  }

  /** Those that wait for room, too. */
  get inFlight(): number {
    return this.#inFlight + this.#waiting;
  }

  /** How long the stretches are together by which the rate is taken. */
  #spanMs(nowMs: number): number {
    if (nowMs - this.#sinceMs >= windowMs) {
      this.#beforeMs = this.#sinceMs;
      this.#answeredBefore = this.#answeredThen;
      this.#sinceMs = nowMs;
      this.#answeredThen = this.#answered;
    }
    return nowMs - this.#beforeMs;
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
