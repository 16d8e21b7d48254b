import type { GroundTruth } from "../../libs/datasets/index.js";
import { type BenchData, distance, type MetricName, rowOf } from "./data.js";

/** Of equal distance, up to the rounding of f32 sums in another order. */
const tieTolerance = 1e-6;

/**
 * Recall@k by the usual definition, with ties: a found row counts if it is among the true k nearest, or (where the base is
 * at hand) exactly as near as the k-th of them. In data of small integers many rows are equally far, and which of them is
 * "the" k-th is chance. A row that was found twice counts once.
 */
export function recallWithTies(
  truth: GroundTruth,
  k: number,
  found: readonly (readonly number[])[],
  data: BenchData,
  metric: MetricName,
): number {
  const depth = Math.min(k, truth.k);
  let hits = 0;
  found.forEach((rows, query) => {
    const expected = truth.ids.subarray(query * truth.k, query * truth.k + depth);
    const wanted = new Set(expected);
    const last = expected.at(-1);
    for (const row of new Set(rows.slice(0, depth))) {
      if (wanted.has(row)) hits++;
      else if (last !== undefined && isTie(data, metric, query, last, row)) hits++;
    }
  });
  return found.length === 0 || depth === 0 ? 1 : hits / (found.length * depth);
}

function isTie(data: BenchData, metric: MetricName, query: number, last: number, row: number): boolean {
  if (data.base === undefined || row >= data.base.rowCount || last >= data.base.rowCount) return false;
  const q = rowOf(data.queries, query);
  const limit = distance(metric, q, rowOf(data.base, last));
  return distance(metric, q, rowOf(data.base, row)) <= limit + Math.abs(limit) * tieTolerance;
}
