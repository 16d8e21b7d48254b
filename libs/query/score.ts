import type { Metric } from "../model/index.js";
import { type Compared, fieldSimilarity } from "./similarity.js";

/** Which of two scores is better. */
export type Order = "higher" | "lower";

/** Cosine similarity and dot product are better when higher, euclidean distance when lower. */
export function orderOf(metric: Metric): Order {
  return metric === "l2" ? "lower" : "higher";
}

/**
 * The public score of an index's distance (smaller is nearer): cosine similarity, dot product, euclidean distance.
 * Rounded to f32, which is what clients get: so results that look equal are equal, and tie.
 */
export function scoreOf(metric: Metric, distance: number): number {
  // "+ 0" makes -0 of a dot product 0.
  if (metric === "cosine") return Math.fround(1 - distance);
  if (metric === "dot") return Math.fround(-distance) + 0;
  return Math.fround(Math.sqrt(Math.max(0, distance)));
}

/** Whether a result is as good as the threshold asks; always where there is none. */
export function reaches(order: Order, score: number, threshold: number | undefined): boolean {
  if (threshold === undefined) return true;
  return order === "lower" ? score <= threshold : score >= threshold;
}

/**
 * The public score of a stored vector for a query, from the components as they were given: computed in double precision and rounded to f32.
 * Both have the same dimension, or are matrices of rows of it; cosine of a vector of length 0 is 0.
 */
export function exactScore(field: Compared, query: Float32Array, stored: Float32Array): number {
  const { metric } = field;
  if (field.multivector !== undefined) {
    const value = fieldSimilarity(field, query, stored);
    return metric === "l2" ? Math.fround(Math.sqrt(Math.max(0, -value))) : Math.fround(value) + 0;
  }
  let dot = 0;
  let squares = 0;
  let queryNorm = 0;
  let storedNorm = 0;
  for (let i = 0; i < query.length; i++) {
    const a = query[i] as number;
    const b = stored[i] as number;
    dot += a * b;
    squares += (a - b) * (a - b);
    queryNorm += a * a;
    storedNorm += b * b;
  }
  if (metric === "l2") return Math.fround(Math.sqrt(squares));
  if (metric === "dot") return Math.fround(dot) + 0;
  const lengths = Math.sqrt(queryNorm) * Math.sqrt(storedNorm);
  return lengths === 0 ? 0 : Math.fround(Math.min(1, Math.max(-1, dot / lengths))) + 0;
}
