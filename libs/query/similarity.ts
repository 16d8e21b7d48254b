import type { Metric, VectorField } from "../model/index.js";

/**
 * How alike two vectors are, for scores that are made of several comparisons: higher is nearer under every metric.
 * From an index's distance: cosine similarity, dot product, or the negative squared euclidean distance.
 */
export function similarityOf(metric: Metric, distance: number): number {
  return metric === "cosine" ? 1 - distance : -distance;
}

/** What tells how vectors of a field are compared. */
export type Compared = Pick<VectorField, "metric" | "dimension" | "multivector">;

/**
 * How alike a query is to a stored vector of the field, or to a stored matrix: the sum, over the rows of the query, of the similarity to the most similar row.
 */
export function fieldSimilarity(field: Compared, query: Float32Array, stored: Float32Array): number {
  const { metric, dimension, multivector } = field;
  if (multivector === undefined) return similarity(metric, query, stored);
  let sum = 0;
  for (let row = 0; row < query.length; row += dimension) {
    let best = Number.NEGATIVE_INFINITY;
    const part = query.subarray(row, row + dimension);
    for (let at = 0; at < stored.length; at += dimension) {
      best = Math.max(best, similarity(metric, part, stored.subarray(at, at + dimension)));
    }
    sum += best;
  }
  return sum;
}

/** The same of two vectors of equal dimension. 0 for cosine where one of them has no length. */
export function similarity(metric: Metric, a: Float32Array, b: Float32Array): number {
  let sum = 0;
  if (metric === "l2") {
    for (let i = 0; i < a.length; i++) sum -= ((a[i] as number) - (b[i] as number)) ** 2;
    return sum;
  }
  let squaresA = 0;
  let squaresB = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    sum += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  if (metric === "dot") return sum;
  const lengths = Math.sqrt(squaresA * squaresB);
  return lengths === 0 ? 0 : sum / lengths;
}
