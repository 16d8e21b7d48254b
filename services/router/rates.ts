import { type Clock, KithError } from "../../libs/base/index.js";
import { type Collection, strictLimitName } from "../../libs/model/index.js";

type Rate = "maxReadsPerSecond" | "maxWritesPerSecond";

interface Bucket {
  /** Calls that may come at once; beyond a second's worth none are saved up. */
  free: number;
  atMs: number;
}

/** Collections whose rates are remembered; others begin afresh. */
const bucketsMax = 2_000;

/** Keeps the calls to each collection to the rates that it allows: of this router alone. */
export class Rates {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** RESOURCE_EXHAUSTED, with a time to wait, where a collection had as many calls as it takes. */
  take({ id, name, strictMode }: Collection, rate: Rate): void {
    const perSecond = strictMode?.[rate];
    if (perSecond === undefined) return;
    const key = `${id} ${rate}`;
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(key) ?? { free: perSecond, atMs: nowMs };
    // In order of last use, so that the first is the one to forget.
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    for (const oldest of this.#buckets.keys()) {
      if (this.#buckets.size <= bucketsMax) break;
      this.#buckets.delete(oldest);
    }
    bucket.free = Math.min(perSecond, bucket.free + ((nowMs - bucket.atMs) / 1000) * perSecond);
    bucket.atMs = nowMs;
    if (bucket.free >= 1) {
      bucket.free--;
      return;
    }
    const limit = strictLimitName(rate);
    throw new KithError(
      "RESOURCE_EXHAUSTED",
      `the collection "${name}" takes ${perSecond} calls a second from each router (${limit}); try again shortly`,
      {
        details: { limit, value: perSecond, max: perSecond },
        retryAfterMs: Math.ceil(((1 - bucket.free) / perSecond) * 1000),
      },
    );
  }
}
