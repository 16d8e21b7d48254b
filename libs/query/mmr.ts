import type { Hit } from "../model/index.js";

/** A result with the vector that it was found by. */
export interface Candidate<V> {
  hit: Hit;
  vector: V;
}

/** How alike a vector that is looked for, and one that is stored, are: higher is nearer. */
type Similarity<V> = (query: V, stored: V) => number;

/**
 * Maximal marginal relevance (Carbonell, Goldstein 1998): picks one candidate after the other, each the best by
 *
 *     (1 - diversity) * similarity to the query - diversity * highest similarity to those picked before
 *
 * The first is the most similar to the query. `candidates` come best first, and the earlier wins a tie; hits keep their scores.
 *
 * Yields after each pick: thousands of candidates take seconds.
 *
 * @param diversity 0 (only the query counts) to 1
 */
export function* diversify<V>(
  candidates: readonly Candidate<V>[],
  query: V,
  similarity: Similarity<V>,
  diversity: number,
  limit: number,
): Generator<void, Hit[]> {
  const relevance = candidates.map(({ vector }) => similarity(query, vector));
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
    const { hit, vector } = candidates[best] as Candidate<V>;
    picked.push(hit);
    for (const at of pending) {
      const likeness = similarity((candidates[at] as Candidate<V>).vector, vector);
      if (likeness > (nearestPicked[at] as number)) nearestPicked[at] = likeness;
    }
    yield;
  }
  return picked;
}

function marginal(relevance: number, likeness: number, diversity: number): number {
  return (1 - diversity) * relevance - diversity * likeness;
}
