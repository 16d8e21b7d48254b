import type { Bm25Input } from "./bm25.js";
import type { KithError } from "../base/index.js";
import type {
  Bm25Options,
  CollectionState,
  Datatype,
  Metric,
  PayloadIndex,
  PayloadIndexKind,
  StrictMode,
  TextIndexOptions,
  TextTokenizer,
  UnindexedField,
} from "../model/index.js";
import type { LookupInput, PrefetchInput, QueryExpression } from "./query-types.js";

import type {
  FilterInput,
  Id,
  JsonObject,
  MatrixInput,
  SparseInput,
  SparseVector,
  VectorInput,
} from "./value-types.js";

export type { StrictMode, UnindexedField };
export type {
  ContextPairInput,
  DecayInput,
  ExampleInput,
  ExpressionInput,
  FeedbackInput,
  FusionInput,
  GeoInput,
  LookupInput,
  MmrInput,
  OrderByInput,
  PrefetchInput,
  QueryExpression,
} from "./query-types.js";
export type {
  FilterInput,
  Id,
  JsonObject,
  MatrixInput,
  SparseInput,
  SparseVector,
  VectorInput,
} from "./value-types.js";

/** What a write takes: `vector` for the unnamed vector of a collection, `vectors` by name otherwise. */
export interface PointInput<P = JsonObject> {
  id: Id;
  vector?: VectorInput | MatrixInput;
  vectors?: Readonly<Record<string, VectorInput | MatrixInput>>;
  /** Matrices by name, "" for the unnamed one, as reads give them: so what was read can be written again. */
  matrices?: Readonly<Record<string, MatrixInput>>;
  /** Sparse vectors by name. */
  sparse?: Readonly<Record<string, SparseInput>>;
  /** An object, or its JSON text in UTF-8, which is stored as it is. */
  payload?: P | Uint8Array;
  /** From when on the point is not found any more: a Date, or milliseconds since the Unix epoch. Default: never. */
  expiresAt?: Date | number | undefined;
  /** Written only where the point has this version: VERSION_MISMATCH of the item otherwise. */
  expectedVersion?: number | undefined;
}

/** Vectors of some fields of one point. */
export interface VectorsInput {
  id: Id;
  vector?: VectorInput | MatrixInput;
  vectors?: Readonly<Record<string, VectorInput | MatrixInput>>;
  /** Sparse vectors by name. */
  sparse?: Readonly<Record<string, SparseInput>>;
}

/** A point as the server gives it out. */
export interface Point<P = JsonObject> {
  id: Id;
  /** Log sequence of the last write of this point in its shard. */
  version: number;
  payload?: P;
  /** The unnamed vector, where it was asked for. */
  vector?: Float32Array;
  /** Named vectors, where they were asked for. */
  vectors?: Record<string, Float32Array>;
  /** Of fields of matrices: their rows, by name ("" is the unnamed one), where they were asked for. */
  matrices?: Record<string, Float32Array[]>;
  /** Sparse vectors by name, where they were asked for. */
  sparse?: Record<string, SparseVector>;
  /** When it expires; of points that do, and that are read by id or scrolled. */
  expiresAt?: Date;
}

export interface ScoredPoint<P = JsonObject> extends Point<P> {
  /** Cosine similarity or dot product (higher is nearer), or euclidean distance (lower is nearer). */
  score: number;
  /** Where the point stands in an order by payload: a number, or microseconds since the epoch. */
  order?: number;
}

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

/** `"upsert"` (default) inserts or replaces; `"insert"` refuses ids that exist, `"update"` ids that do not, per item. */
export type WriteMode = "upsert" | "insert" | "update";

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

export interface UpsertOptions extends WriteCallOptions {
  mode?: WriteMode;
  /** Written only where the point as it is matches: CONDITION_FAILED of the item otherwise, also where there is no point. */
  onlyIf?: FilterInput;
}

/** The points that a write is about: by id, or all that pass a filter. */
export type WriteTarget = Id | readonly Id[] | { filter: FilterInput };

/** A value of the partition key of a collection. */
export type PartitionValue = string | number | bigint;

/** When a write takes effect on a point; decided where it stands in the log. */
export interface WriteConditions {
  /** Points that do not match are left alone; with ids, each is a CONDITION_FAILED in `errors`. */
  onlyIf?: FilterInput;
  /** Only with ids: one for each, or a number for a single one. VERSION_MISMATCH for a point that has another version. */
  expectedVersion?: number | readonly number[];
  /** In a collection with a partition key: its value in the points that are written. Needed with ids. */
  partition?: PartitionValue;
}

export interface TargetOptions extends WriteCallOptions, WriteConditions {}

export interface SetPayloadOptions extends TargetOptions {
  /** Path of the object whose keys are set, such as "address" or "offers[]". Default: the payload itself. */
  path?: string;
}

/** One write of a batch; `op` is the name of the method that does it alone. */
export type WriteOperation<P = JsonObject> =
  | { op: "upsert"; points: PointInput<P> | readonly PointInput<P>[]; mode?: WriteMode; onlyIf?: FilterInput }
  | ({ op: "updateVectors"; points: VectorsInput | readonly VectorsInput[] } & WriteConditions)
  | ({ target: WriteTarget } & WriteConditions &
      (
        | { op: "delete" | "clearPayload" }
        | { op: "setPayload"; payload: JsonObject; path?: string }
        | { op: "overwritePayload"; payload: P }
        | { op: "deletePayload"; paths: string | readonly string[] }
        | { op: "deleteVectors"; vectors: string | readonly string[] }
        | { op: "setExpiry"; expiresAt: Date | number | null }
      ));

export interface WriteResult {
  /** Points on which the write took effect; with ack "log": 0. */
  affected: number;
  /** Items that could not be written; always empty with ack "log", and for writes by filter. */
  errors: ItemError[];
  token: Token;
}

/** One answer of a batch of writes: a result, or the error of that write alone. */
export type WriteBatchItem = { ok: true; result: Omit<WriteResult, "token"> } | { ok: false; error: KithError };

export interface WriteBatchResult {
  /** One per operation, in order. */
  results: WriteBatchItem[];
  token: Token;
}

/** One item of a write that a condition refused; the others were written. */
export interface ItemError {
  /** Position in what was passed in. */
  index: number;
  /** Stable code, such as POINT_EXISTS. */
  code: string;
  message: string;
}

export interface UpsertResult {
  /** Points written; with ack "log": points accepted. */
  upserted: number;
  /** Always empty with ack "log". */
  errors: ItemError[];
  token: Token;
}

export interface DeleteResult {
  /** Points that existed and are gone; with ack "log": 0. */
  deleted: number;
  /** Items that a condition refused; always empty with ack "log", and for deletions by filter. */
  errors: ItemError[];
  token: Token;
}

export interface SelectOptions {
  /** Return payloads (default: true), or of each only what lies at some paths ("a.b", "a[].b"), or everything else. */
  withPayload?: boolean | { include: readonly string[] } | { exclude: readonly string[] };
  /** Return all vectors (true) or the named ones, dense and sparse; "" is the unnamed one. Default: none. */
  withVectors?: boolean | readonly string[];
}

export interface ReadOptions extends CallOptions, SelectOptions {
  /** In a collection with a partition key: only points with this value of it, which are in one shard. Needed with ids. */
  partition?: PartitionValue;
  consistency?: ReadConsistency;
}

export interface QueryInput extends SelectOptions {
  /** Another way to score or order points. Either this or `vector`, `sparse` or `point`. */
  query?: QueryExpression;
  /** Queries whose results this one works on. */
  prefetch?: readonly PrefetchInput[];
  /** Where the vectors of points named as examples come from. Default: this collection. */
  lookup?: LookupInput;
  /** The query vector; of a field of matrices the rows of a matrix. */
  vector?: VectorInput | MatrixInput;
  /** The query vector, of a sparse field that `using` names. */
  sparse?: SparseInput;
  /** Use the stored vector of this point; the point itself is left out of the results. */
  point?: Id;
  /** Results wanted, 1..10 000. Default: 10. */
  limit?: number;
  /** Results to leave out at the beginning. Default: 0. */
  offset?: number;
  /** Only points that pass; it also holds inside each prefetch. */
  filter?: FilterInput;
  /** Name of the vector field. Default: the unnamed one. */
  using?: string;
  /** Beam width of the search: more is slower and finds more. Default: the collection's. */
  ef?: number;
  /**
   * The recall that is wanted of the results, 0.5 to 0.999: each shard takes the beam width that gives it on its data, as it has measured on queries of before.
   * With `ef`, that is the widest that may be taken. Default: the collection's, for a query that names neither.
   */
  recallTarget?: number;
  /** Scan every vector instead of the graph. */
  exact?: boolean;
  /**
   * Score and order the results by the vectors as they were written, not as the field's datatype (f16, bf16, i8) holds them. With `vector` or `point`, and
   * `filter`; not with `prefetch`, `query`, `offset` or `explain`.
   */
  exactScores?: boolean;
  /**
   * Of a field with `originals`: how many times the wanted results are scored by the vectors as they were written, of those that look best by their codes. At least 1.
   * Default: what is usual for the datatype. For queries by a vector or a point, with a filter or without.
   */
  oversampling?: number;
  /** Whether they are at all; false: scores are those of codes. Default: true. */
  rescore?: boolean;
  /** Leave out results worse than this score. */
  scoreThreshold?: number;
  consistency?: ReadConsistency;
  /** In a collection with a partition key: only points with this value of it, which are in one shard. Needed where points are named by ids. */
  partition?: PartitionValue;
  /** Answer with what the reachable shards have, naming the missing hash slots, instead of failing. */
  allowPartial?: boolean;
  /** Return the timed steps of the query. */
  trace?: boolean;
  /** Tell how the answer came about. */
  explain?: boolean;
}

export interface QueryOptions extends QueryInput, CallOptions {}

/** One step of how an answer came about, with the steps within it. */
export interface ExplainStep {
  /** "answer", "query", "prefetch[0]", "search", "shard 3", "mask", "fuse", ... */
  name: string;
  /** Microseconds after the beginning of the call; of what happened within a shard: after the shard was asked. */
  startUs: number;
  durationUs: number;
  facts: Record<string, string | number>;
  steps: ExplainStep[];
}

export interface QueryGroupsOptions extends Omit<QueryOptions, "limit" | "offset"> {
  /** Path in the payload. */
  groupBy: string;
  /** Groups wanted. Default: 10. */
  limit?: number;
  /** Points wanted of each. Default: 3. */
  groupSize?: number;
  /** With each group the point of another collection whose id is the group's value. */
  withLookup?: { collection: string } & SelectOptions;
}

export interface PointGroup<P = JsonObject> {
  /** What the points have in common; a whole number beyond 2^53 is text. */
  value: string | number;
  /** Best first. */
  points: ScoredPoint<P>[];
  /** Only with `withLookup`, where there is such a point. */
  lookup?: Point;
}

export interface GroupsResult<P = JsonObject> extends Omit<QueryResult<P>, "points"> {
  /** In order of their best points; where these are equally good, by value. */
  groups: PointGroup<P>[];
}

export interface FacetOptions extends CallOptions {
  /** In a collection with a partition key: only points with this value of it, which are in one shard. */
  partition?: PartitionValue;
  /** Only points that pass. */
  filter?: FilterInput;
  /** Values wanted. Default: 10. */
  limit?: number;
  /** Counts may be estimates, where these are cheaper. */
  approximate?: boolean;
  explain?: boolean;
  consistency?: ReadConsistency;
}

export interface FacetResult {
  /** Most frequent first, ties by value; a whole number beyond 2^53 is text. */
  hits: { value: string | number | boolean; count: number }[];
  /** Only with `explain`. */
  explain?: ExplainStep;
}

export interface MatrixOptions extends CallOptions {
  /** In a collection with a partition key: only points with this value of it, which are in one shard. */
  partition?: PartitionValue;
  /** Name of the vector field. Default: the unnamed one. */
  using?: string;
  /** Only points that pass. */
  filter?: FilterInput;
  /** Points drawn by chance. Default: 10. */
  sample?: number;
  /** Nearest of the others wanted for each. Default: 3. */
  limit?: number;
  consistency?: ReadConsistency;
}

/** How alike points drawn by chance are: by place in `ids`, and as pairs. For each point the nearest first. */
export interface DistanceMatrix {
  /** In order of id; empty where fewer than two points have the vector. */
  ids: Id[];
  rows: number[];
  columns: number[];
  scores: number[];
  pairs: { a: Id; b: Id; score: number }[];
}

/** One timed step of a call. */
export interface TraceSpan {
  spanId: string;
  /** "" for the root. */
  parentSpanId: string;
  name: string;
  /** Microseconds since the Unix epoch. */
  startUs: number;
  durationUs: number;
  attributes: Record<string, string>;
  /** The node that did it; "client" for the SDK itself. */
  node: string;
}

export interface QueryResult<P = JsonObject> {
  /** Nearest first; ties by id. */
  points: ScoredPoint<P>[];
  /** Ranges of hash slots (inclusive) that did not answer; only with `allowPartial`. */
  missing: { first: number; last: number }[];
  /** Only with `trace`: the client's own span first, then the server's. */
  trace: TraceSpan[];
  /** Only with `trace`: the id under which servers that export traces have this one, 32 hexadecimal digits. */
  traceId?: string;
  /** The server's time, in microseconds. */
  tookUs: number;
  /** Only with `explain`. */
  explain?: ExplainStep;
}

/** One answer of a batch: a result, or the error of that query alone. */
export type QueryBatchItem<P = JsonObject> = { ok: true; result: QueryResult<P> } | { ok: false; error: KithError };

/** A vector field as it is created. */
export interface VectorSpec {
  dimension: number;
  /** Default: "cosine". */
  metric?: Metric;
  /** How the index keeps vectors in memory. Default: "f32". */
  datatype?: Datatype;
  /** Links per node of the graph (HNSW M). Default: the server's, 16. */
  m?: number;
  /** Beam width of the build. Default: the server's. */
  efConstruction?: number;
  /** Beam width of a query that names none. Default: the server's, 64. */
  efSearch?: number;
  /**
   * Keep the vectors as they were written too, in a file beside the index, and score results by them: the datatype then decides what is looked at, not how it is
   * scored. "i4" and "binary" always do. Default: false.
   */
  originals?: boolean;
  /**
   * Points have a matrix of 1 to 2,048 rows in the field instead of one vector, compared by late interaction: the sum, over the rows of the query, of the
   * similarity to the most similar row.
   */
  multivector?: "maxSim" | undefined;
}

/** A sparse field as it is created. */
export interface SparseSpec {
  /** idf: values of queries are weighed by how rare their index is in the collection. Default: none. */
  modifier?: "idf";
}

export interface CreateOptions extends CallOptions {
  /** One spec for a single unnamed vector, or specs by name. May be left out where there are sparse fields. */
  vectors?: VectorSpec | Readonly<Record<string, VectorSpec>>;
  /** Sparse fields by name. */
  sparse?: Readonly<Record<string, SparseSpec>>;
  /** Default: 1. */
  shards?: number;
  /** Replicas of each shard. Default: the cluster's. */
  replicas?: number;
  labels?: Readonly<Record<string, string>>;
  /** What requests may ask for, below the limits of the server. */
  strictMode?: StrictMode;
  /** The recall that queries ask for which name neither `recallTarget` nor `ef`, 0.5 to 0.999. */
  recallTarget?: number;
  /**
   * Path of a field of the payload by whose value points are put into shards ("tenant", "owner.id"): each point must have one, a string or a whole
   * number, and keeps it; an id is that of one point within a value. Fixed once the collection is made.
   */
  partitionKey?: string;
  /** Give the collection of that name where there is one, as long as it is as these options say; COLLECTION_EXISTS with the difference else. */
  ifNotExists?: boolean;
}

export interface UpdateOptions extends CallOptions {
  /** New default beam width: of the unnamed vector, or by name. */
  efSearch?: number | Readonly<Record<string, number>>;
  /** Labels to set; an empty value removes the label. */
  labels?: Readonly<Record<string, string>>;
  /** In place of the limits of before; `{}` takes them all away. */
  strictMode?: StrictMode;
  /** In place of the one of before; 0: none. */
  recallTarget?: number;
  /** Replicas of each shard: the cluster adds or removes them by itself afterwards. */
  replicas?: number;
}

export interface VectorInfo extends Required<Omit<VectorSpec, "multivector">>, Pick<VectorSpec, "multivector"> {
  /** "" for the unnamed vector. */
  name: string;
}

/** Which datatype was picked for a vector field by its own data, and why. */
export interface VectorChoice {
  /** "" for the unnamed vector. */
  field: string;
  /** The recall@10 that was asked for. */
  recall: number;
  datatype: Datatype;
  reason: string;
  /** Vectors that were tried, over all shards. */
  rowCount: number;
  trials: BuildTrial[];
  chosenAt: Date | undefined;
}

/** A datatype as it was tried; of several shards the worst. */
export interface BuildTrial {
  datatype: Datatype;
  /** The beam width that reaches the recall, and what it gives; the widest one where none does. */
  ef: number;
  recall: number;
  reaches: boolean;
  /** Microseconds of one search with that beam width, on the sample. */
  searchUs: number;
  /** Codes and graph of one vector. */
  vectorBytes: number;
}

export interface SparseInfo extends SparseSpec {
  name: string;
}

export interface CollectionInfo {
  id: string;
  name: string;
  vectors: VectorInfo[];
  /** Sparse fields. */
  sparse: SparseInfo[];
  shards: number;
  replicas: number;
  epoch: number;
  createdAt: Date | undefined;
  labels: Record<string, string>;
  state: CollectionState;
  /** The limits that are set. */
  strictMode: StrictMode;
  payloadIndexes: PayloadIndexSpec[];
  /** 1 for the schema that the collection was made with; one more with each change of vector fields or payload indexes. */
  schemaVersion: number;
  /** Second names, in order. */
  aliases: string[];
  /** Path of the partition key, where there is one. */
  partitionKey?: string;
  /** The recall that queries ask for which name neither one nor `ef`. */
  recallTarget?: number;
  /** Datatypes that were picked by the data, of the fields for which that was asked. */
  choices: VectorChoice[];
}

export type { PayloadIndexKind, TextIndexOptions, TextTokenizer };

/** An index of a field of the payload. */
export type PayloadIndexSpec = PayloadIndex;

export interface PayloadIndexOptions {
  /** A hint: most queries ask for one value of the field. For keywords, integers and UUIDs. */
  isTenant?: boolean;
  /** A hint: most queries ask for a range of the field. For integers, floats and datetimes. Kept and shown; it changes nothing. */
  isPrincipal?: boolean;
  /** For texts; what is missing is the default: words, of any length, in lower case, with phrases. */
  text?: Partial<TextIndexOptions>;
  /** For an index by BM25; what is missing is the default. */
  bm25?: Bm25Input;
}

export interface CreatePayloadIndexOptions extends PayloadIndexOptions, CallOptions {
  /** Resolve when every replica answers by it. Default: when it is part of the schema. */
  wait?: boolean;
}

/** What of a vector field's index is to be otherwise; what is left out stays. */
export interface AlterVectorFieldOptions extends CallOptions {
  datatype?: Datatype;
  /** Links per node of the graph (HNSW M). */
  m?: number;
  /** Beam width of the build. */
  efConstruction?: number;
  /** Whether the vectors are kept as they were written too: see `VectorSpec`. */
  originals?: boolean;
  /**
   * Least recall@10 that the new generation must have to answer, against an exact search, in 0..1. Default: that of the one that answers, less 0.02,
   * both measured with 200 vectors of the collection.
   */
  minRecall?: number;
  /**
   * Pick the datatype by the data, instead of `datatype` and `originals`: of those that reach this recall@10 on a sample of each shard's vectors, and are not
   * much slower than f32, the one of the least memory. It becomes the `recallTarget` of the collection, unless that has one. 0.5 to 0.999.
   */
  autoRecall?: number;
  /** It does not answer by itself once it is whole: `promoteGeneration` says when. */
  manual?: boolean;
  /** Resolve when it answers; FAILED_PRECONDITION, with the numbers, where its recall is too low. Default: when it is begun. */
  wait?: boolean;
}

export interface AlteredVectorField {
  collection: CollectionInfo;
  /** Number of the generation that is being built, or that is like that already. */
  generation: number;
}

export interface AlterPayloadIndexOptions extends CallOptions {
  /** As the index is to be; what is missing is the default, whatever it is now. */
  bm25?: Bm25Input;
  /** It does not answer by itself once it is whole: `promoteGeneration` says when. */
  manual?: boolean;
  /** Resolve when it answers. Default: when it is begun. */
  wait?: boolean;
}

export interface GenerationOptions extends CallOptions {
  /** Path of an index by BM25, instead of a vector field. */
  index?: string;
}

export interface PromoteGenerationOptions extends GenerationOptions {
  /** Although its recall is too low. */
  force?: boolean;
}

/**
 * "answering": queries are answered by it; "ready": whole on every replica, and about to answer or waiting for `promoteGeneration`; "refused": whole,
 * but its recall was too low; "kept": it has answered, and can again.
 */
export type GenerationState = "answering" | "building" | "ready" | "refused" | "kept";

/** One build of the index of a vector field. */
export interface GenerationInfo {
  /** "" for the unnamed vector. */
  field: string;
  /** 0 for the one that the field was made with. */
  number: number;
  state: GenerationState;
  datatype: Datatype;
  m: number;
  efConstruction: number;
  /** Whether results are scored by the vectors as they were written, which are kept in a file. */
  originals: boolean;
  /** Vectors in it, and those of them that are not in its graph yet; of one replica of each shard, the one that is behind most. */
  rowCount: number;
  unindexedCount: number;
  memoryBytes: number;
  /** recall@10 of it and of the one that answered then, with the same queries, and what it must be; missing before it is measured. */
  recall?: { recall: number; baseline: number; wanted: number; samples: number };
  /** Of the one beside the one that answers, once both are whole and some queries were run again in both. */
  shadow?: GenerationShadow;
}

/** One build of an index by BM25. */
export interface TextGenerationInfo {
  /** Path of the index. */
  index: string;
  /** 0 for the one that the index was made with. */
  number: number;
  state: GenerationState;
  bm25: Bm25Options;
  /** Points in it; of one replica of each shard, the one that is behind most. */
  rowCount: number;
  memoryBytes: number;
}

/** Queries of users that were run again in both generations of a field, and exactly, in the background, over all replicas: means over them. */
export interface GenerationShadow {
  /** Queries. */
  samples: number;
  /** Results that were compared of each, 100 at most. */
  k: number;
  /** Share of the results of both generations that are the same points. */
  overlap: number;
  /** recall@k against an exact search: of the generation, and of the one that answers. */
  recall: number;
  baseline: number;
  /** Half of the interval of 95 % confidence of the difference of both recalls. */
  margin: number;
  /** Microseconds of one search of a shard, without waiting: of the generation, and of the one that answers. */
  searchUs: number;
  baselineUs: number;
}

/** A payload index with what the replicas say of it, summed over the shards. */
export interface PayloadIndexInfo extends PayloadIndexSpec {
  /** Whether every replica answers by it; else it is being built. */
  ready: boolean;
  /** Points with a payload that are in it, and of those the ones with a value of its kind. */
  pointCount: number;
  valuePointCount: number;
  /** Of one replica of each shard. */
  memoryBytes: number;
}

interface Sizes {
  pointCount: number;
  /** Vectors in the graphs. */
  indexedVectorCount: number;
  /** Vectors that are still scanned exactly. */
  unindexedVectorCount: number;
  memoryBytes: number;
  diskBytes: number;
}

export interface CollectionStats extends Sizes {
  shards: (Sizes & { shard: number; appliedSequence: number })[];
  /**
   * Fields that filters asked for without an index that answers them, most often first: points are read for them. `kinds` would answer, the best
   * first. Counted since the replicas were opened or the indexes changed.
   */
  unindexedFields: UnindexedField[];
  /** Payload indexes that answered no filter, facet or order since then. */
  unusedIndexes: { path: string; since: Date }[];
  /** What is known of the recall of queries that ask for one, by kind. */
  recalls: RecallStats[];
}

/** Queries of one kind that ask for a recall, as replicas have measured them: some are run again exactly, in the background. */
export interface RecallStats {
  /** Name of the vector field. */
  vector: string;
  /** Up to so many results. */
  k: number;
  /** Filters that let through up to this share of the points; 1: or none. */
  share: number;
  /** The last one that was asked for. */
  target: number;
  /** The beam width that is taken for it; of shards that differ the widest. */
  ef: number;
  /** At that beam width, with half of the width of its interval of 95 % confidence. */
  recall: number;
  margin: number;
  /** Queries that it was measured with, those of long ago in part. */
  samples: number;
  /** False where no beam width reaches the target. */
  held: boolean;
}

export interface NodeInfo {
  id: string;
  address: string;
  zone: string;
  roles: string[];
  /** joining, up, draining, down or removed. */
  state: string;
  memoryBytes: number;
  diskFreeBytes: number;
  uptimeMs: number;
  version: string;
  /** Replicas that are placed on it. */
  replicaCount: number;
}

export interface ReplicaInfo {
  node: string;
  /** joining (it follows the log and is not asked yet), active, or leaving (asked only where no active one can answer). */
  placement: string;
  /** When it came into this placement. */
  placedAt?: Date | undefined;
  /** initializing, catching_up, active, stale or removing. */
  state: string;
  appliedSequence: number;
  /** Records behind the log; absent where the log cannot be reached. */
  lag?: number | undefined;
  pointCount: number;
  memoryBytes: number;
  diskBytes: number;
  /** Content digest at `appliedSequence`, hexadecimal. */
  digest: string;
  /** Why the replica is stale, or what it is doing; "" where there is nothing to tell. */
  fault: string;
  /** Bytes that have come, and about how many there are, while it copies another replica. */
  copiedBytes: number;
  copyBytes: number;
  /** Reads a second, as an average over some ten seconds. */
  readsPerSecond: number;
  /** Id of the master key that its points are encrypted with on the disk; "" where they are not encrypted. */
  masterKey: string;
  /** Whether points are left that are encrypted with another key, or not at all: they are rewritten in the background. */
  encrypting: boolean;
}

export interface ShardInfo {
  collection: string;
  /** Its id, never used again in its collection. */
  shard: number;
  /** preparing (it owns no hash slot yet), active, or sealed (its slots are another shard's by now). */
  state: string;
  /** Epoch of the collection in which the shard got its slots and its state. */
  epoch: number;
  /** Hash slots, inclusive. */
  slots: { first: number; last: number };
  /** Last sequence of the shard's log; absent where the log cannot be reached. */
  logSequence?: number | undefined;
  /** First sequence that the log still holds: what was before has been trimmed. */
  logFirstSequence?: number | undefined;
  /** Size of the log. */
  logBytes?: number | undefined;
  replicas: ReplicaInfo[];
}

export interface ClusterInfo {
  cluster: string;
  version: string;
  /** "embedded" or "jetstream". */
  logKind: string;
  logAvailable: boolean;
  /** Node that holds the coordinator's lease; "" for none. */
  coordinator: string;
  nodes: NodeInfo[];
  shards: ShardInfo[];
}

/** A query that took long in the router that was asked. */
export interface SlowQueryInfo {
  endedAt: Date | undefined;
  /** Id of the router. */
  node: string;
  /** query, query_groups, search_matrix, scroll, count, facet or get. */
  kind: string;
  collection: string;
  tookUs: number;
  /** What was asked for, without vectors, ids and values of payloads. */
  shape: string;
  /** "" where the query was answered. */
  errorCode: string;
}

export interface SlowQueries {
  /** Newest first. */
  queries: SlowQueryInfo[];
  /** Slow queries that were not kept, because there were too many at once. */
  skipped: number;
  /** From so many milliseconds on a query is slow; 0: none are kept. */
  thresholdMs: number;
}

/** Something that the cluster does in steps, each of which outlives a crash of who does it. */
export interface OperationInfo {
  id: string;
  /** create_collection, delete_collection, change_schema, backup_collection, restore_collection, move_replica, promote_generation, split_shard, merge_shards; newer servers may have more. */
  kind: string;
  /** running, cancelling (what was done is being undone), done, failed or cancelled. */
  state: string;
  /** What is to be done next, or was done last. */
  step: string;
  /** Name of the collection that it is about, by now perhaps another one's. */
  collection: string;
  collectionId: string;
  /** Id of the shard, where it is about one. */
  shard?: number | undefined;
  createdAt: Date | undefined;
  updatedAt: Date | undefined;
  /** Attempts of this step that have failed. */
  attempts: number;
  /** Code of why the last attempt failed, or the operation has; "" for no failure. */
  errorCode: string;
  error: string;
  /** Of what moves data: how far it is. */
  progress?: OperationProgress | undefined;
  /** Of `move_replica`. */
  move?: MoveInfo | undefined;
  /** Of `split_shard` and `merge_shards`. */
  resharding?: ReshardingInfo | undefined;
}

export interface OperationProgress {
  points: number;
  /** 0 where it is not known. */
  totalPoints: number;
  /** Written or read in this attempt. */
  bytes: number;
}

/** A replica that is moved from one node to another, added (`from` is ""), or removed (`to` is ""). */
export interface MoveInfo {
  from: string;
  to: string;
  /** requested, replicas (the collection asks for more or fewer), repair, drain or rebalance. */
  reason: string;
  /** Bytes that have come, and about how many there are, while the new replica is being filled. */
  copiedBytes: number;
  totalBytes: number;
  /** Records that it has still to apply; absent where that is not known. */
  lag?: number | undefined;
}

/** Hash slots that go from some shards to others. */
export interface ReshardingInfo {
  /** Ids of the shards that have them before. */
  from: number[];
  /** Ids of the shards that get them; empty before these are made. */
  to: number[];
  /** requested, or size (a shard has grown beyond the setting). */
  reason: string;
  /** Bytes of the old shards that have come, and about how many there are (0: not known), for all replicas of the new ones, while these are being filled. */
  copiedBytes: number;
  totalBytes: number;
  /** Records that the slowest of them has still to apply; absent where that is not known. */
  lag?: number | undefined;
  /** Vectors that are not in their indexes yet. */
  unindexedVectorCount: number;
}

/** A shard that is to be split. */
export interface SplitRequest {
  collection: string;
  /** Its id. */
  shard: number;
  /** Number of the new shards, 2 to 16; default 2. */
  into?: number;
}

/** Shards that are to be merged into one. */
export interface MergeRequest {
  collection: string;
  /** Their ids, 2 to 16, in any order. Their hash slots must be next to each other. */
  shards: readonly number[];
}

/** A value of a partition key that is to have a shard of its own. */
export interface IsolateRequest {
  collection: string;
  partition: PartitionValue;
}

/** What holds for the whole cluster. */
export interface ClusterSettings {
  /** A node that is away for so many milliseconds has its replicas rebuilt on others; 0: never. */
  repairAfterMs: number;
  /** Replicas that are moved, added or rebuilt at once. */
  movesAtOnce: number;
  /** What each node takes of copies, in bytes a second; 0: as much as it can. */
  copyBytesPerSecond: number;
  /** 1: the cluster balances its nodes by itself; 0: when it is told to. */
  autoRebalance: number;
  /** 1: no move that balances nodes begins; those under way go on. */
  rebalancePaused: number;
  /** Nothing is moved while the most loaded node has at most so many hundredths more than the mean. */
  rebalanceThresholdPercent: number;
  /** Nothing is moved while the most and the least loaded node differ by less, in bytes. */
  rebalanceMinBytes: number;
  /** Records of a log are kept for so many milliseconds after they were written; 0: no longer than replicas need them. */
  logRetentionMs: number;
  /** Of each shard's log, about so many bytes are kept at most because of `logRetentionMs`. */
  logRetentionBytes: number;
  /** So many of the latest records of each log are always kept. */
  logRetentionRecords: number;
  /** A replica that is away or has no content yet, and an operation that reads the log, keep records for so many milliseconds at most. */
  logHoldMs: number;
  /** Replicas flush what they have applied to the disk every so many milliseconds at least; a log is trimmed up to there at most. */
  replicaFlushMs: number;
  /** A shard whose replicas have more bytes is split in two; 0: none is split by itself. */
  splitShardBytes: number;
  /** Neighbouring shards that were one before and have at most so many bytes together are merged; 0: none is merged by itself. */
  mergeShardBytes: number;
}

/** A cluster that follows, or has followed, another one. */
export interface StandbyInfo {
  /** Name of the cluster that is followed. */
  primary: string;
  /** "following": it takes no changes of its own; "promoting"; "promoted": it is a cluster of its own for good. */
  phase: string;
  since: Date | undefined;
  /** Whether the primary answered when this was told. */
  reachable: boolean;
  /** What is wrong with following as a whole; "" where nothing is. */
  reason: string;
  /** Collections that are here and not in the primary, where nobody is known to have deleted them. */
  orphans: string[];
  /** When the rest was told. */
  toldAt: Date | undefined;
  /** Records of all logs that are not here yet, as far as is known. */
  lag: number;
  /** All that the primary had so many milliseconds ago is here; undefined where that is not known of each log. */
  lagMs?: number | undefined;
  logs: FollowedLogInfo[];
}

/** How far the log of one shard is. */
export interface FollowedLogInfo {
  collection: string;
  shard: number;
  /** following, preparing (others have its slots yet), copying (no replica has what was before yet), sealed (its slots go to other shards), waiting or failed. */
  state: string;
  /** The last record that is here, and in the primary as far as is known. */
  sequence: number;
  primarySequence: number;
  lag: number;
  lagMs?: number | undefined;
  /** Why it waits, or has failed. */
  reason: string;
}

/** Moves that make the nodes equally loaded. */
export interface RebalancePlan {
  /** Empty where they are so already. */
  moves: { collection: string; shard: number; from: string; to: string; sizeBytes: number }[];
  /** Copied by all of them. */
  sizeBytes: number;
  /** About how long they take, by the settings. */
  expectedMs: number;
  /** What the replicas of each node take, before and after, and how often they are read. */
  nodes: { node: string; sizeBytes: number; plannedBytes: number; readsPerSecond: number }[];
  /** Ids of the operations that have begun. */
  operations: string[];
}

/** Which replica of a shard is moved, and where to: without `from` one is added, without `to` one is removed. */
export interface MoveRequest {
  collection: string;
  shard: number;
  /** Node ids. */
  from?: string;
  to?: string;
}
