import { setImmediate as nextTurn } from "node:timers/promises";
import type { Random } from "../../../libs/base/index.js";
import { type Hit, idMapKey, type Metric } from "../../../libs/model/index.js";
import { fuse, orderOf } from "../../../libs/query/index.js";

/** What was found for a judged query, best first. */
export interface JudgedLists {
  /** Grades above 0 by `idMapKey` of the point. */
  grades: ReadonlyMap<string, number>;
  text: readonly Hit[];
  vector: readonly Hit[];
  /** By which the vectors were compared. */
  metric: Metric;
}

/** Fusions that take weights. */
export const tunedMethods = ["rrf", "relative"] as const;
export type TunedMethod = (typeof tunedMethods)[number];

export interface TunedWeight {
  method: TunedMethod;
  /** Of the text, against 1 - textWeight of the vector. */
  textWeight: number;
  /** Mean nDCG@10 of the queries that it was found on. */
  ndcg: number;
}

const depth = 10;
const steps = 20;

/**
 * nDCG of the first ten points: grades as gains, discounted by log2(rank + 1) with ranks from 1, over the same of the best order there is
 * (Järvelin and Kekäläinen 2002, as trec_eval's ndcg_cut_10 has it).
 */
export function ndcg(hits: readonly Pick<Hit, "id">[], grades: ReadonlyMap<string, number>): number {
  const gained = hits.slice(0, depth).map(({ id }) => grades.get(idMapKey(id)) ?? 0);
  const best = [...grades.values()].sort((a, b) => b - a).slice(0, depth);
  return discounted(gained) / discounted(best);
}

function discounted(gains: readonly number[]): number {
  return gains.reduce((sum, gain, rank) => sum + gain / Math.log2(rank + 2), 0);
}

/** The points that a hybrid query finds, from its two lists; without a weight both count alike. */
export function fuseLists({ text, vector, metric }: JudgedLists, method: TunedMethod, textWeight?: number): Hit[] {
  // A request carries weights as f32.
  const weights =
    textWeight === undefined ? undefined : [textWeight, 1 - textWeight].map((weight) => Math.fround(weight));
  return fuse([text, vector], { method, weights }, depth, ["higher", orderOf(metric)]);
}

/** nDCG@10 of each query by a fusion. */
export function fusedNdcg(queries: readonly JudgedLists[], method: TunedMethod, textWeight?: number): number[] {
  return queries.map((query) => ndcg(fuseLists(query, method, textWeight), query.grades));
}

/**
 * The weight of the text, of 0, 0.05, ..., 1, with the highest mean nDCG@10; of several the one nearest to 0.5, which leans least on either
 * side. Lets other work through between weights, and ends with the signal.
 */
export async function findWeight(
  queries: readonly JudgedLists[],
  method: TunedMethod,
  signal: AbortSignal,
): Promise<TunedWeight> {
  let best: TunedWeight = { method, textWeight: 0.5, ndcg: -1 };
  // From the middle outwards: 0.5, 0.55, 0.45, ...
  for (let i = 0; i <= steps; i++) {
    const away = Math.ceil(i / 2) * (i % 2 === 1 ? 1 : -1);
    const textWeight = (steps / 2 + away) / steps;
    const mean = meanOf(fusedNdcg(queries, method, textWeight));
    // Sums of other orders differ in their last digits.
    if (mean > best.ndcg + 1e-12) best = { method, textWeight, ndcg: mean };
    await nextTurn();
    signal.throwIfAborted();
  }
  return best;
}

/** Two parts of the items, by chance; the first has `share` of them, and each has one at least. */
export function splitOf<T>(items: readonly T[], share: number, random: Random): [T[], T[]] {
  const mixed = [...items];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = Math.floor(random.float() * (i + 1));
    [mixed[i], mixed[j]] = [mixed[j] as T, mixed[i] as T];
  }
  const count = Math.min(items.length - 1, Math.max(1, Math.round(items.length * share)));
  return [mixed.slice(0, count), mixed.slice(count)];
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Standard error of a mean; undefined for a single value. */
export function errorOf(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const mean = meanOf(values);
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}
