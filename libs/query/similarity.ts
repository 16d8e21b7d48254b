import type { Metric } from "../model/index.js";

/**
 * How alike two vectors are, for scores that are made of several comparisons: higher is nearer under every metric.
 * From an index's distance: cosine similarity, dot product, or the negative squared euclidean distance.
 */
export function similarityOf(metric: Metric, distance: number): number {
  return metric === "cosine" ? 1 - distance : -distance;
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
