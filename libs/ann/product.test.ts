/** Product codes: what they are compared by, what they are fitted to, and what is kept of that. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { createIndex, type Datatype, type IndexOptions, loadIndex, type Metric, type VectorIndex } from "./index.js";
import { forceSimd } from "./testing.js";
import { clustered, naiveDistance, naiveSearch, range, rowOf } from "./testing/data.js";

const folder = mkdtempSync(join(tmpdir(), "kith-product-"));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => {
  forceSimd(undefined);
});

const kernels = (["portable", "avx2", "avx512", "neon"] as const).filter((name) => forceSimd(name));

function optionsOf(dimension: number, metric: Metric, datatype: Datatype): IndexOptions {
  return { dimension, metric, datatype, m: 8, efConstruction: 32, graphThreshold: 256, givenFolder: folder };
}

async function filled(options: IndexOptions, rows: Float32Array): Promise<VectorIndex> {
  const index = createIndex(options);
  await index.add(range(0, rows.length / options.dimension), rows);
  await index.flush();
  return index;
}

/** Of the ten nearest of all rows, the part that is among so many that look best by codes. */
async function foundByCodes(index: VectorIndex, metric: Metric, all: Float32Array, queries: Float32Array, k: number) {
  const { dimension } = index.options;
  const count = queries.length / dimension;
  let found = 0;
  for (let q = 0; q < count; q++) {
    const query = rowOf(queries, dimension, q);
    const { slots } = await index.search(query, { k, ef: k, exact: true, codesOnly: true });
    found += naiveSearch(metric, all, query, 10).filter(({ slot }) => slots.includes(slot)).length;
  }
  return found / (10 * count);
}

describe.each<[Datatype, number]>([
  ["pq16", 256],
  ["pq32", 512],
  ["pq64", 1_024],
])("%s", (datatype, perChunk) => {
  test.each<Metric>(["l2", "dot", "cosine"])(
    "%s: every kernel finds what is near by codes, whatever the dimension",
    async (metric) => {
      // More than the eight steps after which the kernels add up in 32 bits.
      const long = datatype === "pq16" && metric === "l2" ? [1_050] : [];
      for (const dimension of [5, 131, ...long]) {
        const count = 270;
        const rows = clustered(8, count, dimension).map((x) => 3 * x + 1);
        const query = rowOf(clustered(9, 1, dimension), dimension, 0).map((x) => 3 * x + 1);
        const answers: number[][] = [];
        for (const name of kernels) {
          forceSimd(name);
          const index = await filled(optionsOf(dimension, metric, datatype), rows);
          expect(index.stats().arenaBytes).toBe(count * Math.ceil(dimension / perChunk) * 64);
          // Scores are of the rows as their codes say them; all rows are here, in their order.
          const all = await index.search(query, { k: count, ef: 1, exact: true, codesOnly: true });
          const { slots } = await index.search(query, { k: 40, ef: 1, exact: true, codesOnly: true });
          const best = new Set(slots);
          // Tables have 256 steps: what is nearest by far more than one is found. (Cosines of codes are looked for by their distance.)
          const nearest = [...all.slots.subarray(0, metric === "cosine" ? 1 : 15)];
          expect(nearest.filter((slot) => !best.has(slot))).toEqual([]);
          answers.push([...slots]);
          await index.close();
        }
        for (const each of answers) expect(each).toEqual(answers[0]);
      }
    },
  );
});

test("centroids are the same for the same rows, and are kept in files", async () => {
  const options = optionsOf(96, "l2", "pq32");
  const rows = clustered(3, 1_000, 96);
  const query = rowOf(clustered(4, 1, 96), 96, 0);
  const byCodes = async (index: VectorIndex): Promise<number[]> => {
    const { slots, distances } = await index.search(query, { k: 30, ef: 30, exact: true, codesOnly: true });
    return [...slots, ...distances];
  };
  const [one, other] = [await filled(options, rows), await filled(options, rows)];
  const answer = await byCodes(one);
  expect(await byCodes(other)).toEqual(answer);
  await other.close();
  const saved = join(folder, "saved");
  await one.save(saved, { sequence: 1 });
  await one.close();
  const loaded = await loadIndex(saved, options);
  if (loaded === undefined) throw new Error("nothing was saved");
  expect(await byCodes(loaded.index)).toEqual(answer);
  // A row that is one of these has their code.
  await loaded.index.add(range(1_000, 1_001), rowOf(rows, 96, 7));
  const { slots } = await loaded.index.search(rowOf(rows, 96, 7), { k: 2, ef: 10, exact: true });
  expect([...slots]).toEqual([7, 1_000]);
  await loaded.index.close();
  await expect(loadIndex(saved, { ...options, datatype: "pq64" })).rejects.toMatchObject({ code: "CORRUPT_DATA" });
});

test("they are fitted again when there are many more rows", async () => {
  const dimension = 64;
  const rows = clustered(5, 2_400, dimension);
  const queries = clustered(6, 20, dimension);
  const index = await filled(optionsOf(dimension, "l2", "pq32"), rows.subarray(0, 300 * dimension));
  await index.add(range(300, 2_400), rows.subarray(300 * dimension));
  await index.flush();
  const whole = await filled(optionsOf(dimension, "l2", "pq32"), rows);
  const query = rowOf(queries, dimension, 0);
  const options = { k: 30, ef: 30, exact: true, codesOnly: true };
  const [early, late] = [await index.search(query, options), await whole.search(query, options)];
  expect([...early.distances]).toEqual([...late.distances]);
  expect(await foundByCodes(index, "l2", rows, queries, 100)).toBeGreaterThan(0.9);
  await index.close();
  await whole.close();
});

// As many as that the number of rows alone is no reason, at once and in pieces.
test.each([1_200, 260, 30])(
  "they are fitted again when rows have come that they leave much of, by %d",
  async (step) => {
    const dimension = 64;
    const [first, second] = [clustered(11, 1_200, dimension), clustered(12, 1_200, dimension).map((x) => x + 6)];
    const rows = new Float32Array(first.length + second.length);
    rows.set(first);
    rows.set(second, first.length);
    const queries = clustered(13, 20, dimension).map((x) => x + 6);
    const index = await filled(optionsOf(dimension, "l2", "pq32"), first);
    for (let from = 0; from < 1_200; from += step) {
      const to = Math.min(1_200, from + step);
      await index.add(range(1_200 + from, 1_200 + to), second.subarray(from * dimension, to * dimension));
      await index.flush();
    }
    // By the centroids of before 0.45 of them, and now 0.74.
    expect(await foundByCodes(index, "l2", rows, queries, 30)).toBeGreaterThan(0.65);
    const kept = index.get(2_000) ?? new Float32Array(0);
    expect([...kept]).toEqual([...rowOf(rows, dimension, 2_000)]);
    await index.close();
  },
);

test("rows that are all alike, and few, are found", async () => {
  const dimension = 10;
  const index = await filled(optionsOf(dimension, "l2", "pq16"), new Float32Array(400 * dimension).fill(3));
  await index.add(range(400, 401), new Float32Array(dimension).fill(5));
  const { slots, distances } = await index.search(new Float32Array(dimension).fill(6), { k: 1, ef: 10 });
  expect([slots[0], distances[0]]).toEqual([400, 10]);
  await index.close();
});

/** Rows that say little of how rows lie, or too much of one of them. */
const degenerate: [string, number, (row: number, i: number) => number][] = [
  ["fewer than a fit is made for", 255, (row, i) => Math.sin(row * 7 + i)],
  ["just as many", 256, (row, i) => Math.sin(row * 7 + i)],
  ["of three kinds, fewer than centroids", 400, (row, i) => (row % 3) + 1 + i / 10],
  ["with one component each", 400, (row, i) => (i === row % 17 ? 1 + row / 100 : 0)],
  ["with one that is a million times longer", 400, (row, i) => Math.sin(row * 7 + i) * (row === 0 ? 1e6 : 1)],
  ["close to the largest numbers", 400, (row, i) => Math.sin(row * 7 + i) * 1e17],
  ["close to the smallest ones", 400, (row, i) => Math.sin(row * 7 + i) * 1e-17],
];

describe.each<Datatype>(["pq16", "pq32", "pq64"])("%s of rows", (datatype) => {
  test.each(degenerate)("%s: what is near is found, after deletions and a load too", async (_, count, at) => {
    // No multiple of the components of a group.
    const dimension = 17;
    const rows = Float32Array.from({ length: count * dimension }, (__, n) =>
      at(Math.floor(n / dimension), n % dimension),
    );
    for (const metric of ["l2", "dot", "cosine"] as const) {
      const options = optionsOf(dimension, metric, datatype);
      let index = await filled(options, rows);
      const check = async (alive: readonly number[]): Promise<void> => {
        let [found, wanted] = [0, 0];
        for (let q = 1; q < 11; q++) {
          const query = rowOf(rows, dimension, q);
          const distance = (slot: number): number => naiveDistance(metric, query, rowOf(rows, dimension, slot));
          const truth = alive.map(distance).sort((a, b) => a - b);
          const last = truth[9] ?? 0;
          const { slots, distances } = await index.search(query, { k: 10, ef: 64 });
          for (const [i, slot] of slots.entries()) {
            const exact = distance(slot);
            expect(alive).toContain(slot);
            expect(Math.abs((distances[i] ?? 0) - exact)).toBeLessThanOrEqual(1e-4 * Math.abs(exact) + 1e-5);
            // Rows as far as the last are as good as each other.
            if (exact <= last + Math.abs(last) * 1e-5 + 1e-6) found++;
          }
          wanted += 10;
        }
        expect([metric, found / wanted]).toEqual([metric, expect.closeTo(1, 1)]);
      };
      const all = [...range(0, count)];
      await check(all);
      index.remove(Uint32Array.from(all.filter((slot) => slot % 3 !== 0)));
      const alive = all.filter((slot) => slot % 3 === 0);
      await check(alive);
      const saved = join(folder, `degenerate-${datatype}-${metric}-${count}-${at(3, 5)}`);
      await index.save(saved, { sequence: 1 });
      await index.close();
      const loaded = await loadIndex(saved, options);
      if (loaded === undefined) throw new Error("nothing was saved");
      index = loaded.index;
      await check(alive);
      await index.close();
    }
  });
});
