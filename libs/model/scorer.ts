import type { SparseVector } from "./sparse.js";

/** A vector that results should be nearer to than another. */
export interface PairOf<V> {
  positive: V;
  negative: V;
}

/**
 * What points are scored by, as vectors. All but "nearest" combine similarities (see similarityOf of libs/query) to several examples;
 * their scores are better when higher, under every metric.
 */
export type ScorerOf<V> =
  | { kind: "nearest"; vector: V }
  /** The better of the nearest positive and the nearest negative example decides: near to a negative one is bad. */
  | { kind: "bestScore"; positive: readonly V[]; negative: readonly V[] }
  /** Sum over the positive less the sum over the negative examples. */
  | { kind: "sumScores"; positive: readonly V[]; negative: readonly V[] }
  /** How many pairs are told apart rightly, then the similarity to the target. */
  | { kind: "discover"; target: V; pairs: readonly PairOf<V>[] }
  /** 0 where every pair is told apart rightly, below by how much where not. */
  | { kind: "context"; pairs: readonly PairOf<V>[] }
  /** The sum over the examples, each times its weight. */
  | { kind: "weighted"; examples: readonly { vector: V; weight: number }[] };

export type VectorPair = PairOf<Float32Array>;
/** Of a field of vectors, or of matrices: their rows, one behind the other. */
export type Scorer = ScorerOf<Float32Array>;
/** Of a sparse field. Similarities are dot products: 0 where no index is in both. */
export type SparseScorer = ScorerOf<SparseVector>;
