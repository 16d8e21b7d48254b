import { type Clock, KithError } from "../base/index.js";
import type { CallUsage } from "../call/index.js";
import { checkRoom, type Stored } from "../model/index.js";

/** How much one caller may do, in each router. What is missing is not limited. */
export interface AccessLimits {
  /** Calls, queries of batches and streams, and batches of streamed writes. */
  readonly requestsPerSecond?: number;
  /** Points that are written, or come back. */
  readonly pointsPerSecond?: number;
  /** Of points that are written, or come back. */
  readonly bytesPerSecond?: number;
  /** Queries that run at once. */
  readonly concurrentQueries?: number;
  /** Points of a collection to which the caller may add. */
  readonly storedPoints?: number;
  /** Bytes on disks of such a collection, of one replica of each shard. */
  readonly storedBytes?: number;
}

type Rate = Exclude<keyof AccessLimits, "concurrentQueries" | "storedPoints" | "storedBytes">;

const rates: readonly Rate[] = ["requestsPerSecond", "pointsPerSecond", "bytesPerSecond"];
export const limitNames: readonly (keyof AccessLimits)[] = [
  ...rates,
  "concurrentQueries",
  "storedPoints",
  "storedBytes",
];
const limitMax = 2 ** 40;

/** INVALID_ARGUMENT for a limit that is no whole number from 1. */
export function checkLimits(limits: AccessLimits, at: string): void {
  for (const name of limitNames) {
    const value = limits[name];
    if (value === undefined || (Number.isSafeInteger(value) && value >= 1 && value <= limitMax)) continue;
    throw new KithError("INVALID_ARGUMENT", `${at}.${name} is ${value}; it must be a whole number in 1..${limitMax}`, {
      details: { field: `${at}.${name}`, value },
    });
  }
}

/** The lower of both, for each. */
export function lowest(all: readonly (AccessLimits | undefined)[]): AccessLimits | undefined {
  const lower: { -readonly [K in keyof AccessLimits]: number } = {};
  for (const limits of all) {
    for (const name of limitNames) {
      const value = limits?.[name];
      if (value !== undefined) lower[name] = Math.min(value, lower[name] ?? value);
    }
  }
  return Object.keys(lower).length === 0 ? undefined : lower;
}

interface Bucket {
  readonly perSecond: number;
  /** What is left, a second's worth at most; below 0 what has been taken beyond it. */
  free: number;
  atMs: number;
}

/** Callers that are remembered; others begin afresh. */
const callersMax = 10_000;

/** What each caller has used of its limits lately. */
export class Usages {
  readonly #clock: Clock;
  readonly #usages = new Map<string, CallerUsage>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `caller`: names it for good, whatever key or token it shows. */
  of(caller: string, limits: AccessLimits | undefined): CallUsage | undefined {
    if (limits === undefined) return undefined;
    const key = `${caller} ${JSON.stringify(limits)}`;
    let usage = this.#usages.get(key);
    this.#usages.delete(key);
    usage ??= new CallerUsage(limits, this.#clock);
    // In order of last use, so that the first is the one to forget.
    this.#usages.set(key, usage);
    for (const oldest of this.#usages.keys()) {
      if (this.#usages.size <= callersMax) break;
      this.#usages.delete(oldest);
    }
    return usage;
  }
}

/**
 * Token buckets. A call is let in while none is empty, and takes what it costs, also beyond what is there: what it costs is known at its end, and a
 * batch larger than a second's worth is not refused for ever. Those that follow wait until that is made up for.
 */
class CallerUsage implements CallUsage {
  readonly #buckets: ReadonlyMap<Rate, Bucket>;
  readonly #queriesMax: number;
  readonly #limits: AccessLimits;
  readonly #clock: Clock;
  #queries = 0;

  constructor(limits: AccessLimits, clock: Clock) {
    this.#clock = clock;
    this.#limits = limits;
    this.#queriesMax = limits.concurrentQueries ?? Number.POSITIVE_INFINITY;
    const atMs = clock.monotonicMs();
    this.#buckets = new Map(
      rates.flatMap((rate): [Rate, Bucket][] => {
        const perSecond = limits[rate];
        return perSecond === undefined ? [] : [[rate, { perSecond, free: perSecond, atMs }]];
      }),
    );
  }

  begin(requests = 1): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [rate, bucket] of this.#buckets) {
      const { perSecond } = bucket;
      bucket.free = Math.min(perSecond, bucket.free + ((nowMs - bucket.atMs) / 1000) * perSecond);
      bucket.atMs = nowMs;
      const least = rate === "requestsPerSecond" ? 1 : Number.MIN_VALUE;
      if (bucket.free < least) throw exceeded(rate, perSecond, Math.ceil(((least - bucket.free) / perSecond) * 1000));
    }
    this.#take("requestsPerSecond", requests);
  }

  spend(points: number, bytes: number): void {
    this.#take("pointsPerSecond", points);
    this.#take("bytesPerSecond", bytes);
  }

  query(): () => void {
    if (this.#queries >= this.#queriesMax) throw exceeded("concurrentQueries", this.#queriesMax, 100);
    this.#queries++;
    return () => {
      this.#queries--;
    };
  }

  room(collection: string, stored: Stored): void {
    const { storedPoints, storedBytes } = this.#limits;
    checkRoom(collection, "points", stored, storedPoints, "storedPoints");
    checkRoom(collection, "bytes", stored, storedBytes, "storedBytes");
  }

  #take(rate: Rate, amount: number): void {
    const bucket = this.#buckets.get(rate);
    if (bucket !== undefined) bucket.free -= amount;
  }
}

const texts: Record<Rate | "concurrentQueries", string> = {
  requestsPerSecond: "requests a second",
  pointsPerSecond: "points a second",
  bytesPerSecond: "bytes a second",
  concurrentQueries: "queries at once",
};

function exceeded(limit: keyof typeof texts, max: number, waitMs: number): KithError {
  return new KithError(
    "RESOURCE_EXHAUSTED",
    `the caller may have ${max} ${texts[limit]} from each router, and has had them; try again shortly`,
    { details: { limit, max }, retryAfterMs: Math.max(1, waitMs) },
  );
}
