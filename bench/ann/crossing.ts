import { createIndex, type IndexOptions, type VectorIndex } from "../../libs/ann/index.js";
import { rowOf, type Matrix } from "../lib/data.js";
import { spreadOf } from "../lib/repeat.js";
import { formatTable } from "../lib/table.js";

export interface CrossingPoint {
  rows: number;
  /** Median time of one search inside the pool's thread, in microseconds. */
  scanUs: number;
  graphUs: number[];
}

const sizes = [500, 1000, 2000, 3000, 4000, 6000, 8000, 12_000, 16_000, 24_000, 32_000];

/** Scan and graph over growing parts of the data: where their lines cross is the default of `graphThreshold`. */
export async function measureCrossing(
  options: IndexOptions,
  base: Matrix,
  queries: Matrix,
  plan: { k: number; ef: number[] },
): Promise<{ text: string; points: CrossingPoint[] }> {
  const points: CrossingPoint[] = [];
  const index = createIndex({ ...options, graphThreshold: 1 });
  let filled = 0;
  for (const rows of sizes.filter((size) => size <= base.rowCount)) {
    const slots = Uint32Array.from({ length: rows - filled }, (_, i) => filled + i);
    await index.add(slots, base.values.subarray(filled * base.dimension, rows * base.dimension));
    await index.flush();
    filled = rows;
    const scanUs = await medianUs(index, queries, { k: plan.k, ef: plan.k, exact: true });
    const graphUs: number[] = [];
    for (const ef of plan.ef) graphUs.push(await medianUs(index, queries, { k: plan.k, ef }));
    points.push({ rows, scanUs, graphUs });
  }
  await index.close();
  const text = formatTable(
    [{ title: "rows" }, { title: "scan µs" }, ...plan.ef.map((ef) => ({ title: `graph ef ${ef} µs` }))],
    points.map((point) => [point.rows, point.scanUs, ...point.graphUs].map(String)),
  );
  return { text, points };
}

async function medianUs(
  index: VectorIndex,
  queries: Matrix,
  search: { k: number; ef: number; exact?: boolean },
): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 600; i++) {
    const { searchUs } = await index.search(rowOf(queries, i % queries.rowCount), search);
    // The first ones warm the caches.
    if (i >= 100) times.push(searchUs);
  }
  return spreadOf(times).median;
}
