/** Scans of the same rows that wait for each other become one, and answer as they would alone. */
import { describe, expect, test } from "vitest";
import { createIndex, type Datatype, type SearchResult, type VectorIndex } from "./index.js";
import { companionsServed } from "./testing.js";
import { bitset, clustered, range, rowOf, seededRandom } from "./testing/data.js";

const count = 6_000;

async function filled(
  dimension: number,
  datatype: Datatype,
  slots: Uint32Array = range(0, count),
): Promise<VectorIndex> {
  const index = createIndex({
    dimension,
    metric: "l2",
    datatype,
    m: 16,
    efConstruction: 64,
    graphThreshold: 1_000_000,
  });
  await index.add(slots, clustered(1, count, dimension));
  return index;
}

const masks = [3, 4, 5].map((part) =>
  bitset(
    [...range(0, count)].filter((slot) => slot % part === 1),
    count,
  ),
);

describe.each([
  [128, "f32", "whose slots are its rows"],
  [16, "f32", "whose slots are its rows"],
  [128, "i8", "whose slots are its rows"],
  [128, "f32", "with slots in another order"],
] as const)("%i components of %s, %s", (dimension, datatype, order) => {
  test("many at once answer what each answers alone", async () => {
    const index = await filled(
      dimension,
      datatype,
      order === "with slots in another order" ? range(0, count).reverse() : undefined,
    );
    // Some are dead, so that what is alive is looked at, too.
    index.remove(range(100, 140));
    const queries = clustered(2, 40, dimension);
    const search = (i: number): Promise<SearchResult> => {
      const filter = i % 4 === 3 ? undefined : masks[i % 4];
      return index.search(rowOf(queries, dimension, i % 40), { k: 1 + (i % 20), ef: 64, exact: true, filter });
    };
    const alone: SearchResult[] = [];
    for (let i = 0; i < 160; i++) alone.push(await search(i));
    const before = companionsServed();
    const together = await Promise.all(Array.from({ length: 160 }, (_, i) => search(i)));
    expect(companionsServed() - before).toBeGreaterThan(20);
    together.forEach(({ slots, distances, computed }, i) => {
      expect([...slots], `search ${i}`).toEqual([...(alone[i] as SearchResult).slots]);
      expect([...distances]).toEqual([...(alone[i] as SearchResult).distances]);
      expect(computed).toBe((alone[i] as SearchResult).computed);
    });
    await index.close();
  });
});

test("the plan of a filter is told to all that share its scan", async () => {
  const index = createIndex({
    dimension: 32,
    metric: "l2",
    datatype: "f32",
    m: 16,
    efConstruction: 64,
    graphThreshold: 1_000,
  });
  const rows = clustered(1, count, 32);
  await index.add(range(0, count), rows);
  await index.flush();
  const filter = bitset([...range(0, 2_500)], count);
  const before = companionsServed();
  const found = await Promise.all(
    Array.from({ length: 60 }, (_, i) => index.search(rowOf(rows, 32, i), { k: 5, ef: 64, filter, explain: true })),
  );
  expect(companionsServed() - before).toBeGreaterThan(5);
  for (const { explanation } of found) {
    expect(explanation).toMatchObject({
      plan: "scan",
      visitedRows: 0,
      walkedRows: 0,
      scannedRows: 2_500,
      decision: { allowedRows: 2_500 },
    });
    expect(explanation).toEqual(found[0]?.explanation);
  }
  await index.close();
});

test("one that is cancelled leaves the others their answers", async () => {
  const index = await filled(128, "f32");
  const queries = clustered(2, 40, 128);
  const cancelled = Array.from({ length: 80 }, () => new AbortController());
  const searches = Array.from({ length: 80 }, (_, i) => {
    const signal = cancelled[i]?.signal;
    return index.search(rowOf(queries, 128, i % 40), { k: 3, ef: 64, exact: true, signal });
  });
  for (let i = 0; i < 80; i += 3) cancelled[i]?.abort();
  const settled = await Promise.allSettled(searches);
  for (let i = 0; i < settled.length; i++) {
    const result = settled[i];
    if (result?.status === "rejected") {
      expect(i % 3).toBe(0);
      expect(result.reason).toMatchObject({ code: "CANCELLED" });
      continue;
    }
    const alone = await index.search(rowOf(queries, 128, i % 40), { k: 3, ef: 64, exact: true });
    expect([...(result as PromiseFulfilledResult<SearchResult>).value.slots]).toEqual([...alone.slots]);
  }
  await index.close();
});

test("filters that differ in one slot are told apart", async () => {
  const index = await filled(16, "f32");
  const query = rowOf(clustered(2, 1, 16), 16, 0);
  const random = seededRandom(5);
  const searches: Promise<SearchResult>[] = [];
  const allowed: number[] = [];
  for (let i = 0; i < 100; i++) {
    const slot = Math.floor(random() * count);
    const mask = new Uint8Array(count / 8);
    mask[slot >> 3] = 1 << (slot & 7);
    allowed.push(slot);
    searches.push(index.search(query, { k: 5, ef: 64, exact: true, filter: mask }));
  }
  const found = await Promise.all(searches);
  expect(found.map(({ slots }) => [...slots])).toEqual(allowed.map((slot) => [slot]));
  await index.close();
});

test("while rows are overwritten each sees either the old or the new one", async () => {
  const dimension = 64;
  const index = createIndex({
    dimension,
    metric: "l2",
    datatype: "f32",
    m: 16,
    efConstruction: 64,
    graphThreshold: 1_000_000,
    tailRowsMax: 1_000_000,
  });
  const rows = clustered(1, 2_000, dimension);
  const slots = range(0, 2_000);
  await index.add(slots, rows);
  for (let round = 0; round < 30; round++) {
    const searches = Array.from({ length: 40 }, (_, i) =>
      index.search(rowOf(rows, dimension, i * 50), { k: 2_000, ef: 64, exact: true }),
    );
    index.remove(slots.subarray(0, 500));
    await index.add(slots.subarray(0, 500), rows.subarray(0, 500 * dimension));
    for (const found of await Promise.all(searches)) {
      const seen = new Set(found.slots);
      expect(seen.size).toBe(found.slots.length);
      // Between the removal and the addition 500 are away.
      expect([1_500, 2_000]).toContain(seen.size);
    }
  }
  await index.close();
});
