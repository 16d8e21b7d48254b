/**
 * Short searches go on beside long ones. On two cores with nothing else to do the 99th percentile is 1 to 4 ms (native/pool.h); here others may
 * run beside, so of three rounds the best counts, and the bounds are wider. In a queue they waited 150 to 230 ms.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { createIndex, type VectorIndex } from "./index.js";
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

/** Milliseconds of the 99th percentile of quick searches, one after the other, beside what `work` does. */
async function p99Beside(work: () => Promise<unknown>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round++) {
    let isDone = false;
    const working = work().finally(() => {
      isDone = true;
    });
    const waits: number[] = [];
    while (!isDone) {
      const startedAt = performance.now();
      await short.search(rowOf(shortRows, dimension, waits.length % 5_000), { k: 10, ef: 64 });
      waits.push(performance.now() - startedAt);
    }
    await working;
    waits.sort((a, b) => a - b);
    best = Math.min(best, waits[Math.floor(waits.length * 0.99)] ?? best);
  }
  return best;
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
  expect(await p99Beside(() => Promise.all(Array.from({ length: 40 }, scan)))).toBeLessThan(10);
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
  expect(await p99Beside(work)).toBeLessThan(20);
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
