/** Generations of an index. */
import type { Bm25Options, Datatype } from "../../model/index.js";
import type { Bm25Input } from "../bm25.js";
import type { CallOptions } from "./calls.js";
import type { CollectionInfo } from "./collections.js";

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
