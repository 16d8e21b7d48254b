/** Scores are those of the query as it was given and the row as it is kept, whatever the datatype. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createIndex, loadIndex, type Datatype, type IndexOptions, type LoadedIndex, type Metric } from "./index.js";
import { gaussian, naiveDistance, naiveSearch, range, recall, rowOf, seededRandom } from "./testing/data.js";

function optionsOf(dimension: number, metric: Metric, datatype: Datatype): IndexOptions {
  return { dimension, metric, datatype, m: 16, efConstruction: 100 };
}

test("i8: the distance of a far query is its own, not that of a clipped one", async () => {
  const dimension = 64;
  const random = seededRandom(1);
  const rows = Float32Array.from({ length: 5000 * dimension }, () => gaussian(random));
  const index = createIndex(optionsOf(dimension, "l2", "i8"));
  await index.add(range(0, 5000), rows);
  await index.flush();
  for (const factor of [1, 8, 100]) {
    const query = Float32Array.from({ length: dimension }, () => factor * gaussian(random));
    const { slots, distances } = await index.search(query, { k: 10, ef: 128 });
    for (const [i, slot] of slots.entries()) {
      const wanted = naiveDistance("l2", query, rowOf(rows, dimension, slot));
      expect(Math.abs((distances[i] ?? 0) - wanted) / wanted).toBeLessThan(0.02);
    }
  }
  await index.close();
});

test.each(["f32", "f16", "bf16", "i8"] as const)("%s: a cosine distance lies in 0..2", async (datatype) => {
  const dimension = 48;
  const random = seededRandom(2);
  const rows = Float32Array.from({ length: 500 * dimension }, () => gaussian(random));
  const index = createIndex(optionsOf(dimension, "cosine", datatype));
  await index.add(range(0, 500), rows);
  for (let slot = 0; slot < 500; slot += 7) {
    const own = rowOf(rows, dimension, slot);
    for (const query of [own, own.map((x) => -x)]) {
      const { distances } = await index.search(query, { k: 500, ef: 10, exact: true });
      expect(Math.min(...distances)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...distances)).toBeLessThanOrEqual(2);
    }
  }
  await index.close();
});

test.each(["l2", "dot"] as const)(
  "f16 %s: rows beyond f16 keep their own distances, also after a load",
  async (metric) => {
    const options = { ...optionsOf(3, metric, "f16"), graphThreshold: 1 };
    const directory = await mkdtemp(join(tmpdir(), "kith-ann-"));
    const rows = Float32Array.of(1, 2, 3, 70_000, 0, 1, 1e6, 0, 2, -65_504, 1, 0);
    let index = createIndex(options);
    await index.add(range(0, 4), rows);
    await index.flush();
    for (let round = 0; round < 2; round++) {
      for (let slot = 0; slot < 4; slot++) {
        const query = rowOf(rows, 3, slot);
        const { slots, distances } = await index.search(query, { k: 4, ef: 4 });
        expect([...slots]).toEqual(naiveSearch(metric, rows, query, 4).map((hit) => hit.slot));
        for (const [i, found] of slots.entries()) {
          expect(distances[i]).toBe(Math.fround(naiveDistance(metric, query, rowOf(rows, 3, found))));
        }
      }
      await index.save(directory, { sequence: 1 });
      await index.close();
      const loaded = await loadIndex(directory, options);
      index = (loaded as LoadedIndex).index;
    }
    await index.close();
    await rm(directory, { recursive: true });
  },
);

test("distances to rows of any length are numbers, and queries that are too long are refused", async () => {
  for (const datatype of ["f32", "bf16", "i8"] as const) {
    for (const metric of ["l2", "dot"] as const) {
      const index = createIndex(optionsOf(2, metric, datatype));
      await index.add(range(0, 4), Float32Array.of(8e18, 0, 3e38, 0, 1, 1, -3e38, 3e38));
      const { distances } = await index.search(Float32Array.of(-8e18, 0), { k: 4, ef: 4 });
      expect(distances).toHaveLength(4);
      expect([...distances].every(Number.isFinite)).toBe(true);
      await expect(index.search(Float32Array.of(1e20, 0), { k: 1, ef: 1 })).rejects.toMatchObject({
        code: "VECTOR_OUT_OF_RANGE",
      });
      await index.close();
    }
  }
});

const dimension = 64;
const count = 6000;

/** Rows or queries of 64 components; the second half of the rows, and every other query, is the late one. */
function drifting(kind: string, seed: number, rows: number, areQueries: boolean): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length: rows * dimension }, (_, at) => {
    const row = Math.floor(at / dimension);
    const component = at % dimension;
    const isLate = areQueries ? row % 2 === 1 : row >= rows / 2;
    const value = gaussian(random);
    if (kind === "one early row 1000 times longer" && !areQueries && row === 5) return 1000 * value;
    if (kind === "one component of 3000" && !areQueries && row === 5 && component === 3) return 3000;
    if (kind === "one component 300 times larger" && component === 7) return 300 * value;
    if (kind === "later rows 8 times longer" && isLate) return 8 * value;
    if (kind === "one component of later rows 300 times larger" && isLate && component === 7) return 300 * value;
    if (kind === "later rows shifted by 30" && isLate) return value + 30;
    return kind === "later rows shifted by 10" && isLate ? value + 10 : value;
  });
}

test.each([
  ["l2", "stationary"],
  ["l2", "one early row 1000 times longer"],
  ["l2", "one component of 3000"],
  ["l2", "one component 300 times larger"],
  ["l2", "later rows 8 times longer"],
  ["l2", "later rows shifted by 10"],
  ["dot", "later rows 8 times longer"],
  ["cosine", "later rows shifted by 10"],
  // The half of the rows that is fine by i16 codes must not hide the other one, which is not: it is f32 then.
  ["cosine", "later rows shifted by 30"],
  ["cosine", "one component of later rows 300 times larger"],
] as const)("i8 %s, %s: the codes find what f32 finds", async (metric, kind) => {
  const rows = drifting(kind, 1, count, false);
  const queries = drifting(kind, 2, 40, true);
  const index = createIndex(optionsOf(dimension, metric, "i8"));
  for (let from = 0; from < count; from += 100) {
    await index.add(range(from, from + 100), rows.subarray(from * dimension, (from + 100) * dimension));
  }
  await index.flush();
  const sums = { early: 0, late: 0 };
  for (let q = 0; q < 40; q++) {
    const query = rowOf(queries, dimension, q);
    const wanted = naiveSearch(metric, rows, query, 10).map((hit) => hit.slot);
    const found = recall(wanted, (await index.search(query, { k: 10, ef: 10, exact: true })).slots);
    sums[q % 2 === 1 ? "late" : "early"] += found / 20;
  }
  expect(sums.early).toBeGreaterThanOrEqual(0.93);
  expect(sums.late).toBeGreaterThanOrEqual(0.93);
  await index.close();
});

test("dot finds the longest rows where lengths differ by far", async () => {
  const random = seededRandom(7);
  const rows = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++) {
    const length = Math.exp(gaussian(random));
    for (let i = 0; i < dimension; i++) rows[row * dimension + i] = length * gaussian(random);
  }
  const index = createIndex({ ...optionsOf(dimension, "dot", "f32"), graphThreshold: 1000 });
  await index.add(range(0, count), rows);
  await index.flush();
  let sum = 0;
  for (let q = 0; q < 40; q++) {
    const query = Float32Array.from({ length: dimension }, () => gaussian(random));
    const wanted = naiveSearch("dot", rows, query, 10).map((hit) => hit.slot);
    sum += recall(wanted, (await index.search(query, { k: 10, ef: 64 })).slots);
  }
  expect(sum / 40).toBeGreaterThanOrEqual(0.95);
  await index.close();
});

test("dot finds the rows that are longest by one component", async () => {
  const kind = "one component 300 times larger";
  const rows = drifting(kind, 3, count, false);
  const queries = drifting(kind, 4, 40, true);
  const index = createIndex({ ...optionsOf(dimension, "dot", "f32"), graphThreshold: 1000 });
  await index.add(range(0, count), rows);
  await index.flush();
  let sum = 0;
  for (let q = 0; q < 40; q++) {
    const query = rowOf(queries, dimension, q);
    const wanted = naiveSearch("dot", rows, query, 10).map((hit) => hit.slot);
    sum += recall(wanted, (await index.search(query, { k: 10, ef: 16 })).slots);
  }
  // Where the longest rows were not linked with each other it was 0.92.
  expect(sum / 40).toBeGreaterThanOrEqual(0.98);
  await index.close();
});
