/** Collections: their schema, state and figures. */
import type { CollectionState, Datatype, Metric, StrictMode, UnindexedField } from "../../model/index.js";
import type { CallOptions } from "./calls.js";
import type { PayloadIndexSpec } from "./payload-indexes.js";

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
   * scored. "i4", "binary" and product codes ("pq16", "pq32", "pq64") always do. Default: false.
   */
  originals?: boolean;
  /**
   * Begin with "f32", and pick the datatype by the data once there are 10,000 vectors, in all shards together: the one of the least memory that reaches this recall@10, 0.5 to 0.999.
   * Not beside another `datatype`, `originals` or `multivector`. In what a collection tells of itself: what is still to be picked; `choices` says what was, and why.
   */
  autoRecall?: number;
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

export interface VectorInfo
  extends Required<Omit<VectorSpec, "multivector" | "autoRecall">>,
    Pick<VectorSpec, "multivector" | "autoRecall"> {
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
