/** What every call takes. */

/**
 * What a client has seen of one collection: the highest log sequence of each shard. JSON-safe, so that it can be handed
 * to another process, which then reads at least this state with `consistency: {atLeast: token}`.
 */
export interface Token {
  /** Ids are never used again: a token of a collection that was deleted is refused, whatever has its name now. */
  readonly collectionId: string;
  /** Log sequence by shard. */
  readonly shards: Readonly<Record<number, number>>;
}

/**
 * How fresh a read must be. `"session"` (default): everything that this client has written. `"none"`: what an active
 * replica has. `"linearizable"`: everything acknowledged to anyone before the call. `{atLeast}`: another client's token.
 */
export type ReadConsistency = "session" | "none" | "linearizable" | { readonly atLeast: Token };

/**
 * When a write is answered. `"log"`: durable. `"applied"` (default): visible on one replica of each shard.
 * `"all"`: visible on all active replicas, and on one at least; those that catch up or are away are not waited for.
 */
export type WriteAck = "log" | "applied" | "all";

export interface CallOptions {
  /** Ends the call with CANCELLED; a write may still take effect. */
  signal?: AbortSignal;
  /** Longest time for the call with all its retries, in milliseconds; beyond 23 days, as Infinity, it is 23 days. */
  deadlineMs?: number;
}

export interface WriteCallOptions extends CallOptions {
  ack?: WriteAck;
  /**
   * 1..64 bytes. A write repeated with the same key takes effect once; another write with a key that was used before is
   * refused with INVALID_ARGUMENT. The client makes a random one for each write; an error after which the outcome is unknown
   * has it in `details.idempotencyKey`.
   */
  idempotencyKey?: string;
}
