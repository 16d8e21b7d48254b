import { KithError } from "../base/index.js";

/** What requests to a collection may ask for, below the limits of the server; what is missing is as much as the server allows. */
export interface StrictMode {
  /** Results of a query with those of its offset, of each prefetch, of all groups together; points of a page; values of a facet. */
  maxLimit?: number;
  maxEf?: number;
  maxFilterConditions?: number;
  maxFilterDepth?: number;
  maxPrefetchDepth?: number;
  /** Queries of one batch. */
  maxBatchQueries?: number;
  /** Points of one write, ids of one read or deletion. */
  maxBatchPoints?: number;
  /** Points of the collection. */
  maxPoints?: number;
  /** Bytes on the disk of one replica of each shard, together. */
  maxBytes?: number;
  maxPayloadBytes?: number;
  /** Of each router. */
  maxReadsPerSecond?: number;
  maxWritesPerSecond?: number;
  refuseExact?: boolean;
  refuseUnindexed?: boolean;
}

/** What a collection allows or does not. */
export const strictRefusals = ["refuseExact", "refuseUnindexed"] as const satisfies readonly (keyof StrictMode)[];

export type StrictLimit = Exclude<keyof StrictMode, (typeof strictRefusals)[number]>;

export const strictLimits = [
  "maxLimit",
  "maxEf",
  "maxFilterConditions",
  "maxFilterDepth",
  "maxPrefetchDepth",
  "maxBatchQueries",
  "maxBatchPoints",
  "maxPoints",
  "maxBytes",
  "maxPayloadBytes",
  "maxReadsPerSecond",
  "maxWritesPerSecond",
] as const satisfies readonly StrictLimit[];

/** The name of a limit in the API, such as "max_ef". */
export function strictLimitName(limit: keyof StrictMode): string {
  return limit.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** COLLECTION_LIMIT where a value is beyond a limit of the collection; `what` says what has it, for the message. */
export function checkStrict(strict: StrictMode | undefined, limit: StrictLimit, value: number, what: string): void {
  const max = strict?.[limit];
  if (max === undefined || value <= max) return;
  const name = strictLimitName(limit);
  throw new KithError("COLLECTION_LIMIT", `${what} is ${value}; this collection allows at most ${max} (${name})`, {
    details: { limit: name, value, max },
  });
}

/** What a collection holds, as far as it is known. */
export interface Stored {
  points: number;
  bytes: number;
  /** Whether the caller may see all points, and so be told how many there are. */
  isTold: boolean;
}

/** How long whoever was refused for want of room should wait: it takes deletions. Milliseconds. */
const roomWaitMs = 60_000;

/**
 * RESOURCE_EXHAUSTED where a collection holds as much as it may, by a limit of its own or of the caller.
 *
 * @param limit the limit's name in the API
 * @param what "points" or "bytes"
 */
export function checkRoom(
  collection: string,
  what: "points" | "bytes",
  stored: Stored,
  max: number | undefined,
  limit: string,
): void {
  const value = stored[what];
  if (max === undefined || value < max) return;
  const has = stored.isTold ? `it has ${value} ${what}, and ${max} are allowed` : `${max} ${what} are allowed`;
  throw new KithError(
    "RESOURCE_EXHAUSTED",
    `the collection "${collection}" is full: ${has} (${limit}); delete some, or have the limit raised`,
    { details: { limit, max, ...(stored.isTold && { value }) }, retryAfterMs: roomWaitMs },
  );
}

/** COLLECTION_LIMIT where every vector would be scanned and the collection does not allow that. */
export function checkStrictExact(strict: StrictMode | undefined, exact: boolean, what: string): void {
  if (!exact || strict?.refuseExact !== true) return;
  const name = strictLimitName("refuseExact");
  throw new KithError("COLLECTION_LIMIT", `${what} is set; this collection allows no exact searches (${name})`, {
    details: { limit: name, value: true, max: false },
  });
}
