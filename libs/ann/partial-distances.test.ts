/** Scans that drop rows by a part of their distance find what a naive scan finds: the same slots in the same order, whatever the kernels. */
import { afterEach, describe, expect, test } from "vitest";
import { createIndex, type Metric } from "./index.js";
import { forceSimd } from "./testing.js";
import { bitset, naiveSearch, range, rowOf, seededRandom } from "./testing/data.js";

const kernels = (["portable", "avx2", "avx512", "neon"] as const).filter((name) => forceSimd(name));
const count = 2_600;

afterEach(() => {
  forceSimd(undefined);
});

/**
 * Whole numbers, so that every sum is exact and rows that are as far as each other really tie: components of very different spread, and a third of the rows copies of others.
 * `spread` 0 has them all alike, where no part tells anything.
 */
function wholeRows(dimension: number, spread: number, seed: number): Float32Array {
  const random = seededRandom(seed);
  const rows = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++) {
    const copied = row > 0 && random() < 1 / 3 ? Math.floor(random() * row) : -1;
    for (let i = 0; i < dimension; i++) {
      const most = spread === 0 ? 4 : Math.max(2, spread * (Math.floor(i / 16) % 3 === 1 ? 1 : 0.1));
      rows[row * dimension + i] = copied >= 0 ? (rows[copied * dimension + i] as number) : Math.floor(random() * most);
    }
  }
  return rows;
}

async function expectNaive(
  setup: { metric: Metric; datatype: "f32" | "f16" | "bf16"; rows: Float32Array; dimension: number },
  ks: readonly number[],
): Promise<void> {
  const { metric, datatype, rows, dimension } = setup;
  const allowed = (slot: number): boolean => slot % 5 !== 1;
  const masks = [undefined, bitset([...range(0, count)].filter(allowed), count)];
  for (const name of kernels) {
    forceSimd(name);
    const index = createIndex({ dimension, metric, datatype, m: 16, efConstruction: 64, graphThreshold: 1_000_000 });
    await index.add(range(0, count), rows);
    // Near to one row and far from most, and as far from all as the corner is.
    for (const query of [rowOf(rows, dimension, 77).map((x) => x + 1), new Float32Array(dimension).fill(15)]) {
      for (const filter of masks) {
        const wanted = naiveSearch(metric, rows, query, count, filter && allowed);
        for (const k of ks) {
          const found = await index.search(query, { k, ef: k, exact: true, filter });
          expect([...found.slots], `${name}, k ${k}`).toEqual(wanted.slice(0, k).map((hit) => hit.slot));
          expect([...found.distances]).toEqual(wanted.slice(0, k).map((hit) => hit.distance));
          expect(found.computed).toBe(wanted.length);
        }
      }
    }
    await index.close();
  }
}

describe.each([
  [128, "f32", 16],
  [128, "f32", 0],
  [400, "f32", 16],
  [512, "f16", 16],
  [320, "bf16", 16],
] as const)("%i components of %s, spread %i", (dimension, datatype, spread) => {
  test("the nearest are those of a naive scan, copies and ties in the order of their slots", async () => {
    await expectNaive(
      { metric: "l2", datatype, dimension, rows: wholeRows(dimension, spread, dimension) },
      [1, 10, 300],
    );
  });
});

test("a dot product, which may shrink again, is measured in full", async () => {
  await expectNaive({ metric: "dot", datatype: "f32", dimension: 128, rows: wholeRows(128, 16, 5) }, [10]);
});

test("copies of rows whose sums are rounded come in the order of their slots, wherever in a block they are", async () => {
  const dimension = 128;
  const random = seededRandom(9);
  const distinct = Array.from({ length: 40 }, () => Float32Array.from({ length: dimension }, random));
  const rows = new Float32Array(count * dimension);
  for (let row = 0; row < count; row++) rows.set(distinct[row % 40] as Float32Array, row * dimension);
  for (const name of kernels) {
    forceSimd(name);
    const index = createIndex({ dimension, metric: "l2", datatype: "f32", m: 16, efConstruction: 64 });
    await index.add(range(0, count), rows);
    for (const row of [...distinct.keys()]) {
      const query = (distinct[row] as Float32Array).map((x) => x + 0.25 * random());
      // The last row is a copy, and in most scans no whole step of a kernel.
      const filter = bitset(range(0, row + 40 * 60 + 1), count);
      const found = await index.search(query, { k: 10, ef: 10, exact: true, filter });
      expect([...found.slots], name).toEqual(Array.from({ length: 10 }, (_, i) => row + 40 * i));
    }
    await index.close();
  }
});

test("rows whose distance is beyond f32 are found too", async () => {
  const dimension = 128;
  const rows = Float32Array.from({ length: count * dimension }, (_, i) => (i % dimension === 3 ? 7e17 : -7e17));
  const index = createIndex({ dimension, metric: "l2", datatype: "f32", m: 16, efConstruction: 64 });
  await index.add(range(0, count), rows);
  const found = await index.search(new Float32Array(dimension).fill(7e17), { k: 700, ef: 700, exact: true });
  expect([...found.slots]).toEqual([...range(0, 700)]);
  await index.close();
});
