import type {
  IdKey,
  Select,
  ShardCount,
  ShardPage,
  ShardPoints,
  ShardQuery,
  ShardQueryResult,
} from "../model/index.js";
import type { CallContext } from "../call/index.js";

/** What every read of a shard says. */
export interface ShardRead {
  /** Read at this sequence or later; 0: what an active replica has applied. */
  minSequence: number;
}

/** Points by id. */
export interface ShardGet extends ShardRead {
  ids: readonly IdKey[];
  select: Select;
}

/** Points in order of id. */
export interface ShardScroll extends ShardRead {
  /** Exclusive; undefined: from the start. */
  after: IdKey | undefined;
  limit: number;
  select: Select;
}

/**
 * The kinds of read, each with what it asks and what it answers. A new kind is one line here; the compiler then names
 * what is missing: the method of the engine's Reader and the row in the link's codec.
 */
export interface ShardReads {
  query: { request: ShardQuery; answer: ShardQueryResult };
  /** Those that exist, in the order asked. BATCH_TOO_LARGE where they do not fit into one message. */
  get: { request: ShardGet; answer: ShardPoints };
  /** `limit` points, or fewer where they hold more than limits.scrollBytes. */
  scroll: { request: ShardScroll; answer: ShardPage };
  count: { request: ShardRead; answer: ShardCount };
}

export type ReadKind = keyof ShardReads;
export type ReadRequest<K extends ReadKind> = ShardReads[K]["request"];
export type ReadAnswer<K extends ReadKind> = ShardReads[K]["answer"];

/** One method for each kind of read: whoever can answer all of them. */
export type ReadHandlers = {
  [K in ReadKind]: (request: ReadRequest<K>, call: CallContext) => Promise<ReadAnswer<K>>;
};
