import { compareIds, type Fusion, type Hit, type IdKey, idMapKey } from "../model/index.js";
import type { Order } from "./score.js";

/** The constant of reciprocal rank fusion where none is given. */
const rrfDefaultK = 2;

/**
 * One list from several, best first (ties by id); higher scores are better then, whatever they were before. `orders`: which scores of each list
 * were, higher ones where it is left out; lower ones count as if their sign were turned. A point that is in several lists gets the sum of what each gives it:
 *
 * - rrf, reciprocal rank fusion (Cormack, Clarke, Buettcher 2009), weighted: 1 / ((rank + 1) / weight + k - 1), rank from 0
 * - dbsf, distribution-based: (score - (mean - 3 sd)) / (6 sd) with mean and sample deviation of the list; 0.5 in a list
 *   of one, or of equal scores
 * - relative: weight * (score - min) / (max - min) of the list; 1 * weight in a list of equal scores
 */
export function fuse(
  lists: readonly (readonly Hit[])[],
  fusion: Fusion,
  limit: number,
  orders: readonly Order[] = [],
): Hit[] {
  const fused = new Map<string, { hit: Hit; score: number }>();
  lists.forEach((list, n) => {
    const shares = sharesOf(list, fusion, n, orders[n] ?? "higher");
    list.forEach((hit, rank) => {
      const share = shares[rank] as number;
      const key = idMapKey(hit.id);
      const known = fused.get(key);
      if (known === undefined) fused.set(key, { hit, score: share });
      else known.score += share;
    });
  });
  const hits = Array.from(fused.values(), ({ hit, score }) => withScore(hit, score));
  return hits.sort(byScore).slice(0, limit);
}

function sharesOf(list: readonly Hit[], fusion: Fusion, n: number, order: Order): number[] {
  const scores = list.map(({ score }) => (order === "lower" ? -score : score));
  switch (fusion.method) {
    case "rrf": {
      const weight = fusion.weights?.[n] ?? 1;
      return list.map((_, rank) => (weight <= 0 ? 0 : 1 / ((rank + 1) / weight + (fusion.k ?? rrfDefaultK) - 1)));
    }
    case "dbsf":
      return byDistribution(scores);
    case "relative": {
      const weight = fusion.weights?.[n] ?? 1;
      return byRange(scores).map((share) => share * weight);
    }
  }
}

function byDistribution(scores: readonly number[]): number[] {
  const { length } = scores;
  const mean = scores.reduce((sum, score) => sum + score, 0) / length;
  const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / (length - 1);
  if (length < 2 || variance === 0) return scores.map(() => 0.5);
  const deviation = Math.sqrt(variance);
  return scores.map((score) => (score - (mean - 3 * deviation)) / (6 * deviation));
}

function byRange(scores: readonly number[]): number[] {
  const low = Math.min(...scores);
  const range = Math.max(...scores) - low;
  return scores.map((score) => (range === 0 ? 1 : (score - low) / range));
}

/** A copy of the hit with another score, as f32. */
export function withScore({ id, version, payload, vectors, sparse }: Hit, score: number): Hit {
  const hit: Hit = { id, score: Math.fround(score), version, payload };
  if (vectors !== undefined) hit.vectors = vectors;
  if (sparse !== undefined) hit.sparse = sparse;
  return hit;
}

/** Higher scores first, ties by id. */
export function byScore(a: { score: number; id: IdKey }, b: { score: number; id: IdKey }): number {
  return b.score - a.score || compareIds(a.id, b.id);
}
