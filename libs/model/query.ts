import type { ErrorCode, KithError } from "../base/index.js";
import type { IdKey } from "./id.js";
import type { PayloadIndexKind } from "./payload-index.js";
import type { SlotRange } from "./placement.js";
import type { SparseVector } from "./sparse.js";

/** What comes back with each point. */
export interface Select {
  payload: boolean;
  /** Names of vector fields; "all" for every one. */
  vectors: readonly string[] | "all";
}

/** A query for one replica of one shard. */
export interface ShardQuery {
  field: string;
  vector: Float32Array;
  /** Results wanted. */
  k: number;
  /** With a recall target: the widest beam that may be taken for it; 0: any. */
  ef: number;
  /** The replica takes the beam width that holds this recall; missing: `ef` is what is taken. */
  recallTarget?: number | undefined;
  exact: boolean;
  /**
   * Where the index keeps vectors as they were written: how many of the rows that look best by their codes are scored by these; 0: none, scores are those of
   * codes. Missing: what is usual for the datatype.
   */
  scored?: number | undefined;
  select: Select;
  /** Read at this sequence or later; 0: what is there. */
  minSequence: number;
}

/** One result of a shard, or of a query. */
export interface Hit {
  id: IdKey;
  /** As the user sees it, rounded to f32, so that every router orders results alike: see scoreOf of libs/query. */
  score: number;
  version: number;
  /** JSON text in UTF-8; empty for none or not asked for. */
  payload: Uint8Array;
  /** By field name; only where asked for. */
  vectors?: Map<string, Float32Array>;
  /** By field name; only where asked for and there. */
  sparse?: Map<string, SparseVector>;
  /** Where the point stands in an order by payload; only there. */
  order?: number;
  /** Parts of its texts with marks, by path of the field; only where asked for. */
  highlights?: Readonly<Record<string, readonly string[]>>;
}

/** A point as a shard gives it out. */
export interface StoredPoint {
  id: IdKey;
  version: number;
  payload: Uint8Array;
  vectors?: Map<string, Float32Array>;
  /** By field name; only where asked for and there. */
  sparse?: Map<string, SparseVector>;
  /** Milliseconds since the Unix epoch; missing where it does not expire. */
  expiresAtMs?: number;
}

export interface ShardQueryResult {
  /** Best first; ties by id. */
  hits: Hit[];
  /** How the index answered: see SearchResult.plan. */
  plan: string;
  /** The last record that the answer may show anything of: a later read at this sequence does not go back behind it. */
  sequence: number;
}

export interface ShardPoints {
  points: StoredPoint[];
  /** As in ShardQueryResult. */
  sequence: number;
}

export interface ShardPage extends ShardPoints {
  /** Whether no point follows. */
  end: boolean;
}

export interface ShardCount {
  count: number;
  /** As in ShardQueryResult. */
  sequence: number;
}

export type ReplicaState = "initializing" | "catching_up" | "active" | "stale" | "removing";

export interface ReplicaStatus {
  state: ReplicaState;
  appliedSequence: number;
  pointCount: number;
  indexedVectorCount: number;
  unindexedVectorCount: number;
  memoryBytes: number;
  diskBytes: number;
  /** Content digest at appliedSequence, 16 hexadecimal digits. */
  digest: string;
  /** How it is computed: digests of different formats say nothing about each other. */
  digestFormat: number;
  /** Why the replica is stale; "" where it is not. */
  fault: string;
  /** The code of what made it stale, where it is known. */
  faultCode?: ErrorCode;
  /** Applied and flushed to its disk: what a loss of power leaves; missing: nothing is known to be. */
  durableSequence?: number;
  /** Incarnation of the log that it follows; "" before the first contact. */
  incarnation?: string;
  /** CRC-32C of the record `appliedSequence`, where it is known. */
  lastChecksum?: number;
  /** Digests of earlier records, oldest first: every 256th, so that replicas can be compared under writes. */
  digestMarks?: readonly { sequence: number; digest: string }[];
  /** Largest time of a record that it has applied, by the clocks of routers. */
  newestAppendedAtMs?: number;
  /** Of the schema at appliedSequence; 0 before the replica is open. */
  schemaVersion: number;
  payloadIndexes: readonly PayloadIndexStatus[];
  /** While it copies another replica. */
  copy?: CopyProgress;
  /** Reads a second, as an average over some ten seconds; missing: not measured. */
  readsPerSecond?: number;
  /** The record with which it had all of the shards that were merged into its own; 0 and missing: before that, and where none were. */
  adoptedSequence?: number;
  /** Fields that filters asked for and no index answers, most often first; since the replica was opened, or its indexes changed. */
  unindexedFields: readonly UnindexedField[];
  /** Builds of the indexes of vector fields, of fields that have another one beside the one that answers. */
  generations?: readonly GenerationStatus[];
  /** How its points are encrypted on the disk; missing: not at all. */
  encryption?: ReplicaEncryption;
  /** What is known of the recall of searches that ask for one. */
  recalls?: readonly RecallStatus[];
}

/** How a replica's points are encrypted. */
export interface ReplicaEncryption {
  /** Id of the master key: 16 hexadecimal digits. */
  masterKey: string;
  /** Whether points are left that are to be encrypted with it, and are encrypted with another one, or not at all. */
  isRewriting: boolean;
}

/** Searches of one kind that ask for a recall, as a replica knows them. */
export interface RecallStatus {
  field: string;
  /** Up to so many results. */
  k: number;
  /** Filters that let through up to this share of the points; 1: or none. */
  share: number;
  /** The last one that was asked for. */
  target: number;
  /** The beam width that is taken for it. */
  ef: number;
  /** At that beam width, with half of the width of its interval of 95 % confidence. */
  recall: number;
  margin: number;
  /** Searches that it was measured with, those of long ago in part. */
  samples: number;
  /** False where no beam width reaches the target. */
  isHeld: boolean;
}

/** One build of the index of a vector field, or of one by BM25, as a replica has it. */
export interface GenerationStatus {
  /** Name of the vector field; path of the index by BM25. */
  field: string;
  /** Whether it is one of an index by BM25. */
  isText?: boolean;
  number: number;
  /** Whether it is whole, with all rows in its graph. */
  isReady: boolean;
  rowCount: number;
  /** Rows that searches must still scan. */
  unindexedCount: number;
  /** Its codes, graph and what belongs to them, in bytes. */
  memoryBytes: number;
  /** Missing: not measured (yet). */
  recall?: GenerationRecall;
  /** Of the generation beside the one that answers; missing: nothing was compared (yet). */
  shadow?: GenerationShadow;
}

/** What searches of clients came to that were run again in both generations of a field, and exactly: means over them. */
export interface GenerationShadow {
  /** Searches. */
  samples: number;
  /** Results that were compared of each. */
  k: number;
  /** Share of the results of both that are the same points, in 0..1. */
  overlap: number;
  /** recall@k against an exact search: of the generation, and of the one that answers. */
  recall: number;
  baseline: number;
  /** Half of the width of the interval of 95 % confidence of the difference of both recalls. */
  margin: number;
  /** Microseconds of one search, without waiting: of the generation, and of the one that answers. */
  searchUs: number;
  baselineUs: number;
}

/** Recall@10 against an exact search, of both generations of a field with the same queries. */
export interface GenerationRecall {
  recall: number;
  /** Of the generation that answers. */
  baseline: number;
  /** Queries. */
  samples: number;
}

export interface CopyProgress {
  /** Bytes that have come. */
  copiedBytes: number;
  /** About how many there are. */
  totalBytes: number;
}

/** A field that filters ask for without an index that answers them. */
export interface UnindexedField {
  path: string;
  /** Kinds of index that would answer the latest of these conditions, the best first. */
  kinds: readonly PayloadIndexKind[];
  /** Conditions on it. */
  count: number;
}

/** What a replica says of one of its payload indexes. */
export interface PayloadIndexStatus {
  path: string;
  /** Whether it answers; else it is being built. */
  isReady: boolean;
  /** Points with a payload that are in it, and of those the ones with a value of its kind. */
  pointCount: number;
  valuePointCount: number;
  memoryBytes: number;
  /** Conditions of filters, facets and orders that it answered, since then: milliseconds since the Unix epoch. */
  useCount: number;
  countedSinceMs: number;
}

/** A condition that refused one item of an operation. */
export interface ItemFailure {
  /** Position within the operation. */
  index: number;
  code: ItemFailureCode;
  message: string;
}

/** Why an item may be refused. Numbered by their places in the data of replicas (docs/format.md): new ones go to the end. */
export const itemFailureCodes = [
  "POINT_EXISTS",
  "POINT_NOT_FOUND",
  "VERSION_MISMATCH",
  "CONDITION_FAILED",
  "PAYLOAD_TOO_LARGE",
  "INVALID_PAYLOAD",
  "BATCH_TOO_LARGE",
  "PERMISSION_DENIED",
] as const satisfies readonly ErrorCode[];

export type ItemFailureCode = (typeof itemFailureCodes)[number];

/** What an operation did. */
export interface OperationEffect {
  /** Points written or deleted. */
  affected: number;
  failures: ItemFailure[];
  /**
   * What shards that were merged into this one had done of it, each to the points of its slots, and the first of those that have a slot. `affected` and
   * `failures` are about all other points then.
   */
  former?: readonly FormerEffect[];
  /** The hash slots whose part of the call it is about, where that is not the one that was asked about: the shard had more of them then. */
  slots?: SlotRange;
}

/** What an operation did to the points of some hash slots. */
export interface FormerEffect {
  slots: SlotRange;
  affected: number;
  failures: ItemFailure[];
}

/**
 * What became of an operation; the same on every replica, and again for a retry. An error where it had no effect as a
 * whole, with the code of the reason, or where what it did is no longer known (FAILED_PRECONDITION).
 */
export type OperationOutcome = OperationEffect | KithError;
