import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createIndex, type SearchOptions, type VectorIndex } from "./index.js";
import { offeredRemovals } from "./testing.js";
import { clustered, range, rowOf, seededRandom } from "./testing/data.js";

const dimension = 32;
const count = 6000;
const rows = clustered(1, count, dimension);
/** Near no row but the versions of the point that the tests overwrite. */
const query = new Float32Array(dimension).fill(9);
const slotsMax = 100_000;

function near(version: number): Float32Array {
  return query.map((x, i) => x + (i === version % dimension ? 0.01 : 0));
}

async function filled(graphThreshold: number): Promise<VectorIndex> {
  const index = createIndex({
    dimension,
    metric: "l2",
    datatype: "f32",
    m: 16,
    efConstruction: 60,
    graphThreshold,
    tailRowsMax: slotsMax,
  });
  await index.add(range(0, count), rows);
  await index.add(Uint32Array.of(count), near(0));
  await index.flush();
  return index;
}

const everything = new Uint8Array(slotsMax / 8).fill(0xff);
const ways: [string, number, Partial<SearchOptions>][] = [
  ["graph", 1000, {}],
  ["graph with a filter", 1000, { filter: everything }],
  ["scan", slotsMax, {}],
  ["scan with a filter", slotsMax, { filter: everything }],
  ["listed slots", slotsMax, { slots: range(count - 500, count + 20_000) }],
];

describe("a point that is overwritten again and again is in every answer", () => {
  test.each(ways)("%s", async (_name, threshold, how) => {
    const index = await filled(threshold);
    let version = count;
    const missed: string[] = [];
    for (let round = 0; round < 30; round++) {
      // In some rounds the newest version is in the graph, in others it waits for it.
      if (round % 2 === 0) await index.flush();
      const oldest = version;
      const searches = Array.from({ length: 40 }, () => index.search(query, { k: 3, ef: 64, ...how }));
      // From here on the searches run beside the loop.
      await setImmediate();
      for (let i = 0; i < 200; i++) {
        await index.add(Uint32Array.of(version + 1), near(version + 1));
        index.remove(Uint32Array.of(version++));
      }
      for (const { slots, plan } of await Promise.all(searches)) {
        const found = [...slots].filter((slot) => slot >= oldest && slot <= version);
        if (found.length === 0 || new Set(slots).size !== slots.length) missed.push(`${plan}: ${slots.join()}`);
      }
    }
    expect(missed).toEqual([]);
    await index.close();
  });

  test.each(ways)("%s, while more rows go than are remembered", async (_name, threshold, how) => {
    const index = await filled(threshold);
    let version = count;
    const missed: string[] = [];
    // Far from the query; 5000 go at a time.
    const others = clustered(2, 5000, dimension);
    for (let round = 0; round < 8; round++) {
      const base = 50_000 + round * 5000;
      await index.add(range(base, base + 5000), others);
      const oldest = version;
      const searches = Array.from({ length: 100 }, () => index.search(query, { k: 3, ef: 64, ...how }));
      await setImmediate();
      for (let i = 0; i < 50; i++) {
        await index.add(Uint32Array.of(version + 1), near(version + 1));
        index.remove(Uint32Array.of(version++));
        index.remove(range(base + i * 100, base + i * 100 + 100));
      }
      for (const { slots, plan } of await Promise.all(searches)) {
        const found = [...slots].filter((slot) => slot >= oldest && slot <= version);
        if (found.length === 0 || new Set(slots).size !== slots.length) missed.push(`${plan}: ${slots.join()}`);
      }
    }
    expect(missed).toEqual([]);
    await index.close();
  });
});

test("a slot that is given to another vector at once shows one of the two, or none, but never twice", async () => {
  const index = await filled(1000);
  for (let round = 0; round < 20; round++) {
    const searches = Array.from({ length: 40 }, () => index.search(query, { k: 5, ef: 64 }));
    await setImmediate();
    for (let i = 0; i < 100; i++) {
      index.remove(Uint32Array.of(count));
      await index.add(Uint32Array.of(count), near(i));
    }
    for (const { slots } of await Promise.all(searches)) expect(new Set(slots).size).toBe(slots.length);
  }
  index.remove(Uint32Array.of(count));
  const after = await index.search(query, { k: 5, ef: 64 });
  expect(after.slots.includes(count)).toBe(false);
  expect(after.slots.length).toBe(5);
  expect(index.get(5)).toEqual(rowOf(rows, dimension, 5));
  await index.close();
});

test.each([3_000, 40_000])("a removal of %i rows is seen whole or not at all", async (gone) => {
  const index = createIndex({
    dimension: 4,
    metric: "l2",
    datatype: "f32",
    m: 8,
    efConstruction: 64,
    graphThreshold: 1e6,
  });
  const matrix = new Float32Array((gone + 1) * 4);
  for (let row = 0; row <= gone; row++) matrix[row * 4] = row + 1;
  await index.add(range(0, gone + 1), matrix);
  // The first and the last of those that go, and the one that stays.
  const slots = Uint32Array.of(0, gone - 1, gone);
  const found = new Map<number, number>();
  for (let round = 0; round < 10; round++) {
    const searches = Array.from({ length: 4_000 }, () => index.search(new Float32Array(4), { k: 1, ef: 8, slots }));
    // From here on the searches run beside the loop, and the removal is somewhere among them.
    await setImmediate();
    index.remove(range(0, gone));
    for (const result of await Promise.all(searches)) {
      const slot = result.slots[0] as number;
      found.set(slot, (found.get(slot) ?? 0) + 1);
    }
    await index.add(range(0, gone), matrix.subarray(0, gone * 4));
  }
  expect(found.get(gone - 1)).toBeUndefined();
  await index.close();
});

describe("what a search does about rows that are removed beside it", () => {
  /** Removed rows, some of which carry the slot of another one, and what the search has found, of which some are among them. */
  function removals(seed: number, removed: number, found: number): { slots: Uint32Array; hits: Uint32Array } {
    const random = seededRandom(seed);
    const some = (length: number): Uint32Array =>
      Uint32Array.from({ length }, () => Math.floor(random() * 4 * removed));
    return { slots: some(removed), hits: some(found) };
  }

  test("each slot is offered once, unless it is found already", () => {
    for (let seed = 0; seed < 50; seed++) {
      const { slots, hits } = removals(seed, 1 + seed * 3, seed * 7);
      const hit = new Set(hits);
      const right = new Set([...slots].filter((slot) => !hit.has(slot)));
      expect([...offeredRemovals(slots, hits).offered]).toEqual([...right].sort((a, b) => a - b));
    }
  });

  test("four times as many removals are four times the work", () => {
    const work = (removed: number): number => {
      const { slots, hits } = removals(1, removed, 10_000);
      return offeredRemovals(slots, hits).comparisons - offeredRemovals(new Uint32Array(), hits).comparisons;
    };
    // 4,096 are remembered at the most. Each looked for among all others would be 16 times the work, and millions.
    expect(work(4_000) / work(1_000)).toBeLessThan(5.5);
    expect(work(4_000)).toBeLessThan(4_000 * 60);
  });
});
