/** Queries: options and results. */
import type { KithError } from "../../base/index.js";
import type { LookupInput, PrefetchInput, QueryExpression, TextInput } from "./expressions.js";
import type { FilterInput, Id, JsonObject, MatrixInput, SparseInput, VectorInput } from "./values.js";
import type { CallOptions, ReadConsistency } from "./calls.js";
import type { PartitionValue, Point, ScoredPoint, SelectOptions } from "./points.js";

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
  /** Mark words in the texts of the results' payloads, which need not come back: `highlights` of each. Up to 1,000 results. */
  highlight?: boolean | HighlightInput;
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

/** Which words are marked in which texts, and how. */
export interface HighlightInput {
  /** Whose words. Default: the text of the query, or the only one among its prefetches. */
  text?: string | TextInput;
  /** The index by BM25 whose fields are looked through. Default: that of the query's text, else the only one. */
  using?: string;
  /** Paths of fields of the index. Default: all of them. */
  fields?: readonly string[];
  /** Before and after what was found, up to 64 characters each. Default: "<em>" and "</em>". */
  before?: string;
  after?: string;
  /** About so many characters of a fragment, 1..10,000. Default: 160. */
  fragmentLength?: number;
  /** Fragments of a field, 1..100. Default: 3. */
  fragmentCount?: number;
  /** Characters of the texts that mean something in HTML are written as references (&lt; for <). Default: false. */
  escapeHtml?: boolean;
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
