import type {
  BuildTrial,
  Filter,
  Hit,
  IdKey,
  OrderBy,
  Scorer,
  Select,
  ShardCount,
  ShardPage,
  ShardPoints,
  ShardQuery,
  ShardQueryResult,
  SparseScorer,
  SparseVector,
  StoredPoint,
} from "../model/index.js";
import type { CallContext } from "../call/index.js";
import type { ReadExplain } from "./explain.js";

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
  /** Only those that pass; missing: all. */
  filter?: Filter | undefined;
  /** Whether the answer is to tell how it came about. */
  explain?: boolean;
}

/** How many points there are. */
export interface ShardCountOf extends ShardRead {
  /** Only those that pass; missing: all. */
  filter?: Filter | undefined;
  /** An estimate will do, where it is cheaper. */
  approximate?: boolean;
  /** Whether the answer is to tell how it came about. */
  explain?: boolean;
}

/** Which points of a shard a read is about. */
export interface ShardScope extends ShardRead {
  filter: Filter | undefined;
  /** Only these, where given. */
  ids: readonly IdKey[] | undefined;
  /** All but these. */
  exclude: readonly IdKey[];
  /** Whether the answer is to tell how it came about. */
  explain?: boolean;
}

/** The best points by a scorer. */
export interface ShardSearch extends ShardScope {
  /** Name of the vector field. */
  field: string;
  scorer: Scorer;
  /** Results wanted. */
  k: number;
  /** Beam width; 0: the field's. With a recall target the widest that may be taken for it; 0: any. */
  ef: number;
  /** As in ShardQuery. */
  recallTarget?: number | undefined;
  exact: boolean;
  /** As in ShardQuery. */
  scored?: number | undefined;
  select: Select;
}

/** What a shard knows of terms: routers sum it up over the shards, so that scores are the same however points are sharded. */
export interface ShardTerms extends ShardRead {
  /** Path of the index by BM25. */
  index: string;
  /** The build of it that the terms are for; missing: the one that answers. */
  generation?: number | undefined;
  terms: readonly string[];
  /** Beginnings of terms, or terms with up to so many changes. */
  expansions: readonly { kind: "prefix" | "fuzzy"; text: string; distance: number }[];
}

export interface ShardTermCounts {
  /** Points that have a row in the index. */
  pointCount: number;
  /** Tokens of all of them, by field. */
  lengths: number[];
  /** Points that have each term. */
  counts: number[];
  /** For each expansion, terms and the points that have them: those of the most points where there are many. */
  expansions: [term: string, count: number][][];
  /** As in ShardQueryResult. */
  sequence: number;
}

/** The best points by BM25. */
export interface ShardText extends ShardScope {
  /** Path of the index. */
  index: string;
  /** The build of it that the terms are for, so that they fit while another one takes its place; missing: the one that answers. */
  generation?: number | undefined;
  /** Of a "must" one term is to be there, of a "mustNot" none. */
  clauses: readonly ("should" | "must" | "mustNot")[];
  terms: readonly { text: string; weight: number; clause: number }[];
  phrases: readonly { tokens: readonly string[]; isExcluded: boolean }[];
  /** Tokens of a point over the whole collection, by field. */
  averages: readonly number[];
  /** Results wanted. */
  k: number;
  select: Select;
}

/** Which datatypes reach a recall@10 on the vectors of a field, tried on a sample of them. */
export interface ShardTrial extends ShardRead {
  /** Name of the dense vector field. */
  field: string;
  target: number;
}

export interface ShardTrials {
  /** Vectors that were tried. */
  rows: number;
  trials: readonly BuildTrial[];
  /** As in ShardQueryResult. */
  sequence: number;
}

/** What a shard knows of the indices of a sparse field: routers sum it up over the shards, as they do for terms. */
export interface ShardIndices extends ShardRead {
  /** Name of the sparse field. */
  field: string;
  indices: readonly number[];
}

export interface ShardIndexCounts {
  /** Points that have a vector of the field. */
  pointCount: number;
  /** Points whose vector has each index. */
  counts: number[];
  /** As in ShardQueryResult. */
  sequence: number;
}

/** The best points by the dot product of sparse vectors: those that have an index in common with it. */
export interface ShardSparse extends ShardScope {
  /** Name of the sparse field. */
  field: string;
  /** As it is multiplied, with whatever its entries are weighed by. */
  vector: SparseVector;
  /**
   * Instead of `vector`, which is not looked at then: how scores are made of several products. It is about all points with a vector of the field, whether or not
   * these have an index in common with an example.
   */
  scorer?: Exclude<SparseScorer, { kind: "nearest" }> | undefined;
  /** With a scorer: all points are scored, however many there are; else of many those near to an example. */
  exact?: boolean | undefined;
  /** Results wanted. */
  k: number;
  select: Select;
}

/** A place in an order by payload: a point may stand at several values. */
export interface OrderPlace {
  value: number;
  id: IdKey;
}

/** Points in an order by payload; of those with equal values in order of id, whatever the direction. */
export interface ShardOrder extends ShardScope {
  orderBy: OrderBy;
  /** Only what comes behind this point at this value; missing: from the start. */
  after?: OrderPlace | undefined;
  limit: number;
  select: Select;
}

/** Points drawn by chance. */
export interface ShardSample extends ShardScope {
  limit: number;
  select: Select;
}

export interface ShardHits {
  /** Best first, or in the order asked; ties by id. */
  hits: Hit[];
  /** As in ShardQueryResult. */
  sequence: number;
  /** Where the request asked for it. */
  explain?: ReadExplain;
}

/** Where the request asked for it: how the answer came about. */
export interface Explained {
  explain?: ReadExplain;
}

/** How often each value of a field stands. */
export interface ShardFacet extends ShardScope {
  /** Path in the payload. */
  key: string;
  /** Counts may be estimates, where these are cheaper. */
  approximate?: boolean;
}

export interface ShardFacets {
  /** In no order. */
  counts: { value: string | number | bigint | boolean; count: number }[];
  /** As in ShardQueryResult. */
  sequence: number;
  /** Where the request asked for it. */
  explain?: ReadExplain;
}

/** What becomes of a point; "truncate": all points of the shard are deleted at once. */
export type ChangeKind = "insert" | "update" | "delete" | "truncate";

/** A place among the changes of a shard: `offset` of the changes of the record behind `sequence` are known. */
export interface ChangePlace {
  sequence: number;
  offset: number;
}

/** Only points whose vector is so near: for dot and cosine of at least this score, for l2 within this distance. */
export interface ChangeNear {
  field: string;
  vector: Float32Array;
  threshold: number;
}

/** Changes in the order of the log. */
export interface ShardChangesOf extends ShardRead {
  /** Behind this place; undefined: from now on. */
  after: ChangePlace | undefined;
  /** Changes wanted at most. */
  limit: number;
  /** Only changes of points that pass before or afterwards; missing: all. */
  filter: Filter | undefined;
  near: ChangeNear | undefined;
  /** What comes with the points. */
  select: Select;
  /** Whether what points were before is wanted. */
  before: boolean;
  /** How long to wait for the first change, in milliseconds. */
  waitMs: number;
}

export interface ShardChange {
  kind: ChangeKind;
  id: IdKey;
  /** Of the record that changed it. */
  sequence: number;
  /** Where it is known, and wanted. */
  before?: StoredPoint;
  /** Missing of a deletion, and where the point was changed again before this could be read. */
  after?: StoredPoint;
  /** Of the vector, where a near one was asked for. */
  score?: number;
}

export interface ShardChanges {
  changes: ShardChange[];
  /** Behind the last one that was looked at. */
  place: ChangePlace;
  /** As in ShardQueryResult. */
  sequence: number;
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
  scroll: { request: ShardScroll; answer: ShardPage & Explained };
  count: { request: ShardCountOf; answer: ShardCount & Explained };
  search: { request: ShardSearch; answer: ShardHits };
  order: { request: ShardOrder; answer: ShardHits };
  sample: { request: ShardSample; answer: ShardHits };
  facet: { request: ShardFacet; answer: ShardFacets };
  terms: { request: ShardTerms; answer: ShardTermCounts };
  text: { request: ShardText; answer: ShardHits };
  indices: { request: ShardIndices; answer: ShardIndexCounts };
  sparse: { request: ShardSparse; answer: ShardHits };
  /** Takes many seconds of a background thread, one after the other; nothing is tried where there are too few vectors. */
  trial: { request: ShardTrial; answer: ShardTrials };
  /** Waits for the first change; none where none came in time. TOKEN_EXPIRED where the changes behind the place are not kept any more. */
  changes: { request: ShardChangesOf; answer: ShardChanges };
}

export type ReadKind = keyof ShardReads;
export type ReadRequest<K extends ReadKind> = ShardReads[K]["request"];
export type ReadAnswer<K extends ReadKind> = ShardReads[K]["answer"];

/** One method for each kind of read: whoever can answer all of them. */
export type ReadHandlers = {
  [K in ReadKind]: (request: ReadRequest<K>, call: CallContext) => Promise<ReadAnswer<K>>;
};
