import type { Hit, Metric } from "../model/index.js";
import { similarity } from "./similarity.js";

/** A result with the vector that it was found by. */
export interface Candidate {
  hit: Hit;
  vector: Float32Array;
}

/**
 * Maximal marginal relevance (Carbonell, Goldstein 1998): picks one candidate after the other, each the best by
 *
 *     (1 - diversity) * similarity to the query - diversity * highest similarity to those picked before
 *
 * The first is the most similar to the query. `candidates` come best first, and the earlier wins a tie; hits keep their scores.
 *
 * @param diversity 0 (only the query counts) to 1
 */
export function diversify(
  candidates: readonly Candidate[],
  query: Float32Array,
  metric: Metric,
  diversity: number,
  limit: number,
): Hit[] {
  const relevance = candidates.map(({ vector }) => similarity(metric, query, vector));
  const nearestPicked = candidates.map(() => Number.NEGATIVE_INFINITY);
  const pending = new Set(candidates.keys());
  const picked: Hit[] = [];
  while (picked.length < limit && pending.size > 0) {
    let best = -1;
    let bestScore = Number.NEGATIVE_INFINITY;
    for (const at of pending) {
      const likeness = picked.length === 0 ? 0 : (nearestPicked[at] as number);
      const score =
        picked.length === 0 ? (relevance[at] as number) : marginal(relevance[at] as number, likeness, diversity);
      if (best === -1 || score > bestScore) {
        best = at;
        bestScore = score;
      }
    }
    pending.delete(best);
    const { hit, vector } = candidates[best] as Candidate;
    picked.push(hit);
    for (const at of pending) {
      const likeness = similarity(metric, vector, (candidates[at] as Candidate).vector);
      if (likeness > (nearestPicked[at] as number)) nearestPicked[at] = likeness;
    }
  }
  return picked;
}

function marginal(relevance: number, likeness: number, diversity: number): number {
  return (1 - diversity) * relevance - diversity * likeness;
}
