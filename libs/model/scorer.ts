/** A vector that results should be nearer to than another. */
export interface VectorPair {
  positive: Float32Array;
  negative: Float32Array;
}

/**
 * What points are scored by, as vectors. All but "nearest" combine similarities (see similarityOf of libs/query) to several examples;
 * their scores are better when higher, under every metric.
 */
export type Scorer =
  | { kind: "nearest"; vector: Float32Array }
  /** The better of the nearest positive and the nearest negative example decides: near to a negative one is bad. */
  | { kind: "bestScore"; positive: readonly Float32Array[]; negative: readonly Float32Array[] }
  /** Sum over the positive less the sum over the negative examples. */
  | { kind: "sumScores"; positive: readonly Float32Array[]; negative: readonly Float32Array[] }
  /** How many pairs are told apart rightly, then the similarity to the target. */
  | { kind: "discover"; target: Float32Array; pairs: readonly VectorPair[] }
  /** 0 where every pair is told apart rightly, below by how much where not. */
  | { kind: "context"; pairs: readonly VectorPair[] };
