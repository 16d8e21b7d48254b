import type { KithError } from "../base/index.js";
import type { CollectionState, Metric, Datatype } from "../model/index.js";

/**
 * The id of a point. A number must be a whole, non-negative one that a double holds exactly; up to 2^64 - 1 as a bigint.
 * A string in the 8-4-4-4-12 form is a UUID, any other is a name of 1 to 256 bytes. `1` and `"1"` are different ids.
 * The server's ids come back as a number where that is exact, else as a bigint or a string.
 */
export type Id = number | bigint | string;

/** One vector: any array of numbers; a Float32Array is sent without conversion. */
export type VectorInput = readonly number[] | Float32Array;

/** A payload is a JSON object. */
export type JsonObject = Record<string, unknown>;

/** What a write takes: `vector` for the unnamed vector of a collection, `vectors` by name otherwise. */
export interface PointInput<P = JsonObject> {
  id: Id;
  vector?: VectorInput;
  vectors?: Readonly<Record<string, VectorInput>>;
  payload?: P;
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
}

export interface ScoredPoint<P = JsonObject> extends Point<P> {
  /** Cosine similarity or dot product (higher is nearer), or euclidean distance (lower is nearer). */
  score: number;
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
  token: Token;
}

export interface SelectOptions {
  /** Return payloads. Default: true. */
  withPayload?: boolean;
  /** Return all vectors (true) or the named ones; "" is the unnamed one. Default: none. */
  withVectors?: boolean | readonly string[];
}

export interface ReadOptions extends CallOptions, SelectOptions {
  consistency?: ReadConsistency;
}

/**
 * Which points a read is about: the textual form (`year > 1990 and genre in (drama, crime)`) or the JSON form
 * (`{ must: [{ key: "year", range: { gt: 1990 } }] }`); see docs/filters.md.
 */
export type FilterInput = string | JsonObject;

export interface QueryInput extends SelectOptions {
  /** The query vector. Either this or `point`. */
  vector?: VectorInput;
  /** Use the stored vector of this point; the point itself is left out of the results. */
  point?: Id;
  /** Results wanted, 1..10 000. Default: 10. */
  limit?: number;
  /** Results to leave out at the beginning. Default: 0. */
  offset?: number;
  /** Only points that pass. */
  filter?: FilterInput;
  /** Name of the vector field. Default: the unnamed one. */
  using?: string;
  /** Beam width of the search: more is slower and finds more. Default: the collection's. */
  ef?: number;
  /** Scan every vector instead of the graph. */
  exact?: boolean;
  /** Leave out results worse than this score. */
  scoreThreshold?: number;
  consistency?: ReadConsistency;
  /** Answer with what the reachable shards have, naming the missing hash slots, instead of failing. */
  allowPartial?: boolean;
  /** Return the timed steps of the query. */
  trace?: boolean;
}

export interface QueryOptions extends QueryInput, CallOptions {}

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
  /** The server's time, in microseconds. */
  tookUs: number;
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
}

export interface CreateOptions extends CallOptions {
  /** One spec for a single unnamed vector, or specs by name. */
  vectors: VectorSpec | Readonly<Record<string, VectorSpec>>;
  /** Default: 1. */
  shards?: number;
  /** Replicas of each shard. Default: the cluster's. */
  replicas?: number;
  labels?: Readonly<Record<string, string>>;
}

export interface UpdateOptions extends CallOptions {
  /** New default beam width: of the unnamed vector, or by name. */
  efSearch?: number | Readonly<Record<string, number>>;
  /** Labels to set; an empty value removes the label. */
  labels?: Readonly<Record<string, string>>;
}

export interface VectorInfo extends Required<VectorSpec> {
  /** "" for the unnamed vector. */
  name: string;
}

export interface CollectionInfo {
  id: string;
  name: string;
  vectors: VectorInfo[];
  shards: number;
  replicas: number;
  epoch: number;
  createdAt: Date | undefined;
  labels: Record<string, string>;
  state: CollectionState;
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
  /** Why the replica is stale; "" where it is not. */
  fault: string;
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

/** Something that the cluster does in steps, each of which outlives a crash of who does it. */
export interface OperationInfo {
  id: string;
  /** create_collection, delete_collection; newer servers may have more. */
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
}
