/**
 * Short searches go on beside long ones. On two cores with nothing else to do the 99th percentile is 1 to 4 ms (native/pool.h); in a queue they
 * waited 150 to 230 ms. Counted here, because time says nothing on a machine that does other things too.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { createIndex, type VectorIndex } from "./index.js";
import { companionsServed } from "./testing.js";
import { clustered, range, rowOf } from "./testing/data.js";

const dimension = 64;
const shortRows = clustered(1, 5_000, dimension);
let short: VectorIndex;

beforeAll(async () => {
  short = createIndex({ dimension, metric: "l2", datatype: "f32", m: 16, efConstruction: 64, graphThreshold: 1_000 });
  await short.add(range(0, 5_000), shortRows);
  await short.flush();
});
afterAll(() => short.close());

/** How many quick searches, one after the other, are answered while `work` is done. In a queue it would be one or two: each waits for all of it. */
async function answeredBeside(work: () => Promise<unknown>): Promise<number> {
  let isDone = false;
  const working = work().finally(() => {
    isDone = true;
  });
  let count = 0;
  for (; !isDone; count++) await short.search(rowOf(shortRows, dimension, count % 5_000), { k: 10, ef: 64 });
  await working;
  return count;
}

test("beside 40 exact scans of 400,000 rows", async () => {
  const scanned = createIndex({
    ...{ dimension, metric: "l2", datatype: "f32", m: 16, efConstruction: 64 },
    ...{ graphThreshold: 1_000_000, tailRowsMax: 1_000_000 },
  });
  const rows = clustered(2, 50_000, dimension);
  for (let from = 0; from < 400_000; from += 50_000) await scanned.add(range(from, from + 50_000), rows);
  const query = rowOf(rows, dimension, 7);
  const scan = async (): Promise<void> => {
    const { slots, computed } = await scanned.search(query, { k: 8, ef: 10, exact: true });
    expect([...slots]).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((copy) => copy * 50_000 + 7));
    expect(computed).toBe(400_000);
  };
  expect(await answeredBeside(() => Promise.all(Array.from({ length: 40 }, scan)))).toBeGreaterThan(20);
  // None of these can share a scan with another one: each has a filter and a beam width of its own.
  const differentScan = async (i: number): Promise<void> => {
    const filter = new Uint8Array(400_000 / 8).fill(255);
    filter[i] = 0;
    const own = 1_000 + i;
    const search = { k: 8, ef: 10 + i, exact: true, filter };
    const { slots, computed } = await scanned.search(rowOf(rows, dimension, own), search);
    expect([...slots]).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((copy) => copy * 50_000 + own));
    expect(computed).toBe(400_000 - 8);
  };
  const before = companionsServed();
  // More than one for each of them, where a queue would give one or two for all.
  expect(await answeredBeside(() => Promise.all(Array.from(range(0, 40), differentScan)))).toBeGreaterThan(40);
  expect(companionsServed()).toBe(before);
  await scanned.close();
});

test("beside the widest walks through a graph that grows", async () => {
  const grown = createIndex({
    dimension,
    metric: "l2",
    datatype: "f32",
    m: 16,
    efConstruction: 64,
    graphThreshold: 100,
  });
  const rows = clustered(3, 20_000, dimension);
  await grown.add(range(0, 8_000), rows.subarray(0, 8_000 * dimension));
  await grown.flush();
  let at = 8_000;
  const work = async (): Promise<void> => {
    const end = at + 4_000;
    const walks = Array.from({ length: 40 }, (_, i) =>
      grown.search(rowOf(rows, dimension, i), { k: 10, ef: 8_000 }).then(({ slots }) => expect(slots[0]).toBe(i)),
    );
    for (; at < end; at += 500)
      await grown.add(range(at, at + 500), rows.subarray(at * dimension, (at + 500) * dimension));
    await Promise.all(walks);
  };
  expect(await answeredBeside(work)).toBeGreaterThan(20);
  await grown.close();
});

test("long searches come to their end while short ones keep coming", async () => {
  const rows = clustered(4, 200_000, dimension);
  const scanned = createIndex({
    ...{ dimension, metric: "l2", datatype: "f32", m: 16, efConstruction: 64 },
    ...{ graphThreshold: 1_000_000, tailRowsMax: 1_000_000 },
  });
  await scanned.add(range(0, 200_000), rows);
  let isDone = false;
  const flood = Array.from({ length: 64 }, async () => {
    while (!isDone) await short.search(rowOf(shortRows, dimension, 1), { k: 10, ef: 256 });
  });
  for (let i = 0; i < 10; i++) {
    const { slots } = await scanned.search(rowOf(rows, dimension, i), { k: 1, ef: 1, exact: true });
    expect(slots[0]).toBe(i);
  }
  isDone = true;
  await Promise.all(flood);
  await scanned.close();
});
