import { afterEach, describe, expect, test } from "vitest";
import { createIndex, type IndexOptions, type Metric, type Datatype } from "./index.js";
import { forceSimd, nativeCrc32c } from "./testing.js";
import { clustered, naiveDistance, naiveSearch, range, rowOf } from "./testing/data.js";

const metrics: Metric[] = ["cosine", "dot", "l2"];
type Rounded = Extract<Datatype, "f32" | "f16" | "bf16" | "i8">;
const datatypes: Rounded[] = ["f32", "f16", "bf16", "i8"];
const dimensions = [1, 3, 7, 100, 129, 1536];
const kernels = (["portable", "avx2", "avx512", "neon"] as const).filter((name) => forceSimd(name));

afterEach(() => {
  forceSimd(undefined);
});

function optionsOf(dimension: number, metric: Metric, datatype: Datatype): IndexOptions {
  return { dimension, metric, datatype, m: 16, efConstruction: 64, graphThreshold: 1_000_000 };
}

/**
 * How far a distance may lie from the true one. A stored number differs from the given one by at most half a step:
 * relative 2^-24 (f32), 2^-11 (f16), 2^-8 (bf16), and an absolute step of range/127 for i8. By Cauchy-Schwarz a dot
 * product moves by at most |a||δb| + |b||δa| + |δa||δb|, and |a−b|² by at most 2|a−b||δ| + |δ|², |δ| = |δa| + |δb|.
 */
function tolerance(
  metric: Metric,
  datatype: Rounded,
  dimension: number,
  facts: { largest: number; normA: number; normB: number; l2: number },
): number {
  const [normA, normB] = metric === "cosine" ? [1, 1] : [facts.normA, facts.normB];
  const relative = { f32: 2 ** -24, f16: 2 ** -11, bf16: 2 ** -8, i8: 0 }[datatype];
  // i8 clips the rarest values where that makes the mean error smaller; a factor of 4 covers the clipped ones.
  const step = datatype === "i8" ? (4 * (metric === "cosine" ? 1 : facts.largest)) / 127 : 0;
  // f32 sums of n products are off by about sqrt(n) units in the last place of the sum's terms.
  const summing = 2 ** -22 * Math.sqrt(dimension) * (metric === "l2" ? (normA + normB) ** 2 : normA * normB);
  const errorA = relative * normA + (step / 2) * Math.sqrt(dimension);
  const errorB = relative * normB + (step / 2) * Math.sqrt(dimension);
  if (metric === "l2") {
    const error = errorA + errorB;
    return 2 * Math.sqrt(facts.l2) * error + error ** 2 + summing;
  }
  return normA * errorB + normB * errorA + errorA * errorB + summing + 2 ** -23;
}

function norm(vector: Float32Array): number {
  return Math.sqrt(-naiveDistance("dot", vector, vector));
}

describe.each(dimensions)("dimension %i", (dimension) => {
  const count = dimension > 1000 ? 40 : 200;
  const queryCount = 3;
  // A shifted centre and a scale far from 1: nothing here has unit length.
  const rows = clustered(1, count, dimension).map((x) => 3 * x + 1);
  const queries = clustered(2, queryCount, dimension).map((x) => 3 * x + 1);
  const largest = Math.max(...rows.map(Math.abs));
  const pairs = Array.from({ length: queryCount }, (_, q) =>
    Array.from({ length: count }, (_, slot) => {
      const query = rowOf(queries, dimension, q);
      const row = rowOf(rows, dimension, slot);
      const [cosine, dot, l2] = metrics.map((metric) => naiveDistance(metric, query, row)) as [number, number, number];
      return { cosine, dot, l2, largest, normA: norm(query), normB: norm(row) };
    }),
  );

  test.each(metrics.flatMap((metric) => datatypes.map((datatype) => [metric, datatype] as const)))(
    "%s over %s: every kernel gives the true distances, nearest first",
    async (metric, datatype) => {
      for (const name of kernels) {
        forceSimd(name);
        const index = createIndex(optionsOf(dimension, metric, datatype));
        expect(index.stats().simd).toBe(name);
        await index.add(range(0, count), rows);
        for (let q = 0; q < queryCount; q++) {
          const found = await index.search(rowOf(queries, dimension, q), { k: count, ef: 1, exact: true });
          expect([...found.slots].sort((a, b) => a - b)).toEqual([...range(0, count)]);
          expect([...found.distances]).toEqual([...found.distances].sort((a, b) => a - b));
          expect(found.computed).toBe(count);
          // How many times its tolerance the worst distance is off.
          let worst = 0;
          for (const [i, slot] of found.slots.entries()) {
            const pair = pairs[q]?.[slot];
            if (pair === undefined) throw new Error(`slot ${slot} was never added`);
            const error = Math.abs((found.distances[i] ?? Number.NaN) - pair[metric]);
            worst = Math.max(worst, error / tolerance(metric, datatype, dimension, pair));
          }
          expect(worst).toBeLessThanOrEqual(1);
        }
        await index.close();
      }
    },
  );
});

test.each(metrics)("%s over f32: the ten nearest are those of a full sort", async (metric) => {
  const dimension = 33;
  const rows = clustered(3, 2000, dimension);
  const index = createIndex(optionsOf(dimension, metric, "f32"));
  await index.add(range(0, 2000), rows);
  for (let q = 0; q < 20; q++) {
    const query = rowOf(clustered(4 + q, 1, dimension), dimension, 0);
    const found = await index.search(query, { k: 10, ef: 10, exact: true });
    expect([...found.slots]).toEqual(naiveSearch(metric, rows, query, 10).map((hit) => hit.slot));
  }
  await index.close();
});

test.each(datatypes)(
  "%s: a stored vector comes back as it is kept, and what is kept is at distance 0 from itself",
  async (datatype) => {
    const dimension = 19;
    const rows = clustered(5, 400, dimension);
    const index = createIndex(optionsOf(dimension, "l2", datatype));
    await index.add(range(0, 400), rows);
    const relative = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8, i8: 0 }[datatype];
    for (let slot = 0; slot < 400; slot++) {
      const stored = index.get(slot);
      expect(stored).toBeDefined();
      for (let i = 0; i < dimension; i++) {
        const given = rows[slot * dimension + i] ?? 0;
        const step = datatype === "i8" ? 0.2 : relative * Math.abs(given);
        expect(Math.abs((stored?.[i] ?? Number.NaN) - given)).toBeLessThanOrEqual(step);
      }
      const found = await index.search(stored ?? new Float32Array(dimension), { k: 1, ef: 1 });
      expect([found.slots[0], found.distances[0]]).toEqual([slot, 0]);
      // By what was given it is found too, as far from it as was rounded off.
      const given = rowOf(rows, dimension, slot);
      const { slots, distances } = await index.search(given, { k: 1, ef: 1 });
      expect(slots[0]).toBe(slot);
      expect(distances[0]).toBeCloseTo(naiveDistance("l2", given, stored ?? given), 10);
    }
    expect(index.get(400)).toBeUndefined();
    await index.close();
  },
);

test("binary: every kernel gives what codes and query are, whatever the dimension", async () => {
  for (const dimension of [5, 64, 511, 513, 1_030]) {
    const count = 600;
    const rows = clustered(8, count, dimension);
    const query = rowOf(clustered(9, 1, dimension), dimension, 0);
    const found = [];
    for (const name of kernels) {
      forceSimd(name);
      const index = createIndex({ ...optionsOf(dimension, "cosine", "binary"), graphThreshold: 256 });
      await index.add(range(0, count), rows);
      await index.flush();
      expect(index.stats().arenaBytes).toBe(count * Math.ceil(dimension / 512) * 64);
      const { slots, distances } = await index.search(query, { k: 20, ef: 20, exact: true });
      found.push([...slots]);
      // A score is that of the row as its bits say it: means, and as far from them as components are on the average.
      for (const [i, slot] of slots.entries()) {
        const kept = index.get(slot) ?? new Float32Array(dimension);
        expect(distances[i]).toBeCloseTo(naiveDistance("cosine", query, kept), 5);
      }
      await index.close();
    }
    for (const each of found) expect(each).toEqual(found[0]);
  }
});

test.each(metrics)("i4, %s: every kernel gives what codes and query are, whatever the dimension", async (metric) => {
  for (const dimension of [5, 127, 300]) {
    const count = 400;
    const rows = clustered(8, count, dimension).map((x) => 3 * x + 1);
    const query = rowOf(clustered(9, 1, dimension), dimension, 0).map((x) => 3 * x + 1);
    const found: number[][] = [];
    for (const name of kernels) {
      forceSimd(name);
      const index = createIndex({ ...optionsOf(dimension, metric, "i4"), graphThreshold: 256 });
      await index.add(range(0, count), rows);
      await index.flush();
      expect(index.stats().arenaBytes).toBe(count * Math.ceil(dimension / 128) * 64);
      const { slots, distances } = await index.search(query, { k: 20, ef: 20, exact: true });
      found.push([...slots]);
      const kept = Array.from(range(0, count), (slot) => index.get(slot) ?? new Float32Array(dimension));
      for (const [i, slot] of slots.entries()) {
        const distance = naiveDistance(metric, query, kept[slot] ?? query);
        expect(Math.abs((distances[i] ?? 0) - distance)).toBeLessThan(1e-5 * (1 + Math.abs(distance)));
      }
      // Most of what the codes as they are kept would find, though the query is rounded too.
      const wanted = kept.map((row, slot) => ({ slot, distance: naiveDistance(metric, query, row) }));
      const best = wanted.sort((a, b) => a.distance - b.distance).slice(0, 10);
      expect(best.filter(({ slot }) => slots.includes(slot)).length).toBeGreaterThanOrEqual(9);
      await index.close();
    }
    for (const each of found) expect(each).toEqual(found[0]);
  }
});

test("i8 is calibrated on the data: offsets and scales far from unit length cost no recall", async () => {
  const dimension = 64;
  for (const [scale, offset] of [
    [1e-3, 0],
    [1e4, 0],
    [1, 500],
  ] as const) {
    const rows = clustered(6, 1000, dimension).map((x) => scale * x + offset);
    const index = createIndex(optionsOf(dimension, "l2", "i8"));
    // In parts, each reaching further than the last, so that the scale must follow.
    for (let part = 0; part < 10; part++) {
      await index.add(
        range(part * 100, (part + 1) * 100),
        rows.subarray(part * 100 * dimension, (part + 1) * 100 * dimension),
      );
    }
    let found = 0;
    for (let q = 0; q < 20; q++) {
      const query = rowOf(rows, dimension, q * 50);
      const wanted = new Set(naiveSearch("l2", rows, query, 10).map((hit) => hit.slot));
      const { slots } = await index.search(query, { k: 10, ef: 10, exact: true });
      found += slots.filter((slot) => wanted.has(slot)).length;
    }
    expect(found / 200).toBeGreaterThanOrEqual(0.95);
    await index.close();
  }
});

test("the addon's CRC-32C agrees with its published vector", () => {
  expect(nativeCrc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
  expect(nativeCrc32c(bytes)).not.toBe(nativeCrc32c(bytes.with(57, 0)));
});
