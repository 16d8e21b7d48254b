import { type Clock, toKithError } from "../../../libs/base/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** Slow queries that are kept; the oldest goes first. */
const keptMax = 256;
/** Slow queries of one second that are kept; of more, it is counted how many there were. */
const perSecondMax = 10;
/** Text that describes one query, in characters. */
const shapeMax = 1_000;

/** What is said of a query that took long. */
export interface SlowQuery {
  /** Of the method: "query", "scroll", ... */
  kind: string;
  collection: string;
  /** What was asked for, without vectors, ids and values of payloads. */
  shape: () => string;
}

/** The queries of this node that took longest lately: a bounded list, of which people learn what to mend. */
export class SlowLog {
  readonly #clock: Clock;
  readonly #node: string;
  readonly #threshold: () => number;
  #entries: pb.SlowQuery[] = [];
  #skipped = 0;
  #second = Number.NEGATIVE_INFINITY;
  #inSecond = 0;

  /** @param threshold in milliseconds; of 0 nothing is kept */
  constructor(clock: Clock, node: string, threshold: () => number) {
    this.#clock = clock;
    this.#node = node;
    this.#threshold = threshold;
  }

  get #thresholdMs(): number {
    return this.#threshold();
  }

  /** Runs a query, and keeps what it was where it took long, also where it failed. */
  async watch<T>(query: SlowQuery, run: () => Promise<T>): Promise<T> {
    if (this.#thresholdMs === 0) return run();
    const startMs = this.#clock.monotonicMs();
    let errorCode = "";
    try {
      return await run();
    } catch (error) {
      errorCode = toKithError(error).code;
      throw error;
    } finally {
      this.note(query, query.collection, this.#clock.monotonicMs() - startMs, errorCode);
    }
  }

  /** Keeps what a query was that has ended, where it took long. `errorCode`: "" where it was answered. */
  note(query: Pick<SlowQuery, "kind" | "shape">, collection: string, tookMs: number, errorCode: string): void {
    if (this.#thresholdMs > 0 && tookMs >= this.#thresholdMs) this.#keep(query, collection, tookMs, errorCode);
  }

  /** The newest first. */
  list({ limit }: pb.SlowQueriesRequest): pb.SlowQueriesResponse {
    const queries = this.#entries.slice(limit === 0 ? 0 : -limit).reverse();
    return { queries, skipped: this.#skipped, thresholdMs: this.#thresholdMs };
  }

  #keep(
    { kind, shape }: Pick<SlowQuery, "kind" | "shape">,
    collection: string,
    tookMs: number,
    errorCode: string,
  ): void {
    const nowMs = this.#clock.nowMs();
    const second = Math.floor(nowMs / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#inSecond = 0;
    }
    if (++this.#inSecond > perSecondMax) {
      this.#skipped++;
      return;
    }
    this.#entries.push({
      endedAt: new Date(nowMs),
      node: this.#node,
      kind,
      collection,
      tookUs: Math.round(tookMs * 1000),
      shape: shape().slice(0, shapeMax),
      errorCode,
    });
    if (this.#entries.length > keptMax) this.#entries = this.#entries.slice(-keptMax);
  }
}
