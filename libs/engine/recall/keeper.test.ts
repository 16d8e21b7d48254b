/** Recall that is asked for, held on a graph of the native library: without filters, with those of 10 and 1 %, and while the data change. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { createIndex, type VectorIndex } from "../../ann/index.js";
import { SeededRandom, systemClock } from "../../base/index.js";
import type { Filter } from "../../model/index.js";
import { RecallKeeper, type RecallKeeperOptions } from "./keeper.js";

const dimension = 48;
const k = 10;
const random = new SeededRandom(17);
const stop = new AbortController();
let index: VectorIndex;
let count = 0;
const masks = new Map<Filter, Uint8Array>();

beforeAll(async () => {
  // Few links, so that narrow beams miss much.
  index = createIndex({ dimension, metric: "l2", datatype: "f32", m: 6, efConstruction: 32, graphThreshold: 1000 });
  await add(6_000, 0);
});
afterAll(async () => {
  stop.abort(new Error("the test ends"));
  await index.close();
});

function noise(size: number, offset: number): Float32Array {
  return Float32Array.from({ length: size * dimension }, () => random.gaussian() + offset);
}

async function add(rows: number, offset: number): Promise<void> {
  await index.add(
    Uint32Array.from({ length: rows }, (_, i) => count + i),
    noise(rows, offset),
  );
  count += rows;
  await index.flush();
}

/** Lets one slot of `every` pass. */
function filterOf(every: number): Filter {
  const filter: Filter = { must: [], should: [], mustNot: [] };
  const mask = new Uint8Array(Math.ceil(count / 8));
  for (let slot = 0; slot < count; slot += every) mask[slot >> 3] = (mask[slot >> 3] as number) | (1 << (slot & 7));
  masks.set(filter, mask);
  return filter;
}

function keeperOf(told: string[], options: Partial<RecallKeeperOptions> = {}): RecallKeeper {
  return new RecallKeeper({
    // Measured times are real, and pauses are not waited for.
    clock: { ...systemClock, setTimer: (callback) => systemClock.setTimer(callback, 0) },
    indexOf: () => ({ search: (query, how) => index.search(query, how), rowCount: count }),
    maskOf: (filter) => Promise.resolve(masks.get(filter) as Uint8Array),
    onError: (error) => {
      throw error as Error;
    },
    onUnheld: (message) => told.push(message),
    signal: stop.signal,
    ...options,
  });
}

interface Kind {
  target: number;
  filter?: Filter;
  every?: number;
  offset?: number;
}

/** The mean of what the searches find with the widths that are chosen for them. */
async function meanRecall(keeper: RecallKeeper, queries: number, { target, filter, every = 1, offset = 0 }: Kind) {
  let sum = 0;
  let widths = 0;
  const mask = filter && masks.get(filter);
  for (let i = 0; i < queries; i++) {
    const query = noise(1, offset);
    const allowed = { count: Math.floor(count / every), of: count };
    const { ef } = keeper.choose({ ...{ field: "", query, k, filter, allowed, target } });
    const scope = { k, ...(mask && { filter: mask }) };
    const found = await index.search(query, { ...scope, ef });
    const exact = await index.search(query, { ...scope, ef: 1, exact: true });
    const wanted = new Set(exact.slots);
    sum += found.slots.filter((slot) => wanted.has(slot)).length / k;
    widths += ef;
    if (i % 4 === 3) await keeper.settled();
  }
  await keeper.settled();
  return { recall: sum / queries, ef: widths / queries };
}

test.each([0.8, 0.99])("a recall of %d is held within 0.01, also with filters", async (target) => {
  const told: string[] = [];
  const keeper = keeperOf(told);
  await meanRecall(keeper, 80, { target });
  const { recall, ef } = await meanRecall(keeper, 200, { target });
  expect(recall).toBeGreaterThan(target - 0.01);
  // Not held by width alone.
  if (target === 0.8) expect(recall).toBeLessThan(0.9);
  for (const every of [10, 100]) {
    const filter = filterOf(every);
    await meanRecall(keeper, 80, { target, filter, every });
    const filtered = await meanRecall(keeper, 100, { target, filter, every });
    expect(filtered.recall, `1 of ${every}`).toBeGreaterThan(target - 0.01);
  }
  const status = keeper.status();
  expect(status.map(({ share }) => share)).toEqual([1, 0.1, 0.01]);
  for (const each of status) {
    expect(each).toMatchObject({ field: "", k: 10, target, isHeld: true });
    expect(each.samples).toBeGreaterThanOrEqual(60);
    expect(each.recall).toBeGreaterThan(target - 0.01);
    expect(each.margin).toBeLessThan(0.03);
  }
  expect(Math.abs((status[0]?.ef ?? 0) - ef)).toBeLessThan(0.5 * ef);
  expect(told).toEqual([]);
});

test("it is held again after the data have changed", async () => {
  const keeper = keeperOf([]);
  const target = 0.95;
  await meanRecall(keeper, 100, { target });
  await add(6_000, 1.5);
  const offset = 1.5;
  await meanRecall(keeper, 100, { target, offset });
  const { recall } = await meanRecall(keeper, 200, { target, offset });
  // A graph is never the same twice, and 200 queries are a sample: by chance it is a little more than 0.01 below.
  expect(recall).toBeGreaterThan(target - 0.02);
});

test("one that cannot be held is told once, and answered with the widest beam", async () => {
  const told: string[] = [];
  // Every second row is nowhere in the graph.
  const lossy: RecallKeeperOptions["indexOf"] = () => ({
    rowCount: count,
    search: async (query, how) => {
      const { slots, distances, ...rest } = await index.search(query, how);
      if (how.exact) return { slots, distances, ...rest };
      const kept = Array.from(slots.keys()).filter((i) => (slots[i] as number) % 2 === 0);
      const pick = <T>(list: ArrayLike<T>): T[] => kept.map((i) => list[i] as T);
      return { ...rest, slots: Uint32Array.from(pick(slots)), distances: Float32Array.from(pick(distances)) };
    },
  });
  const keeper = keeperOf(told, { indexOf: lossy });
  const query = noise(1, 0);
  const search = { field: "title", query, k, filter: undefined, allowed: { count, of: count }, target: 0.99 };
  for (let i = 0; i < 50; i++) {
    keeper.choose({ ...search, query: noise(1, 0) });
    await keeper.settled();
  }
  expect(keeper.choose(search)).toMatchObject({ ef: 8_192, canHold: false });
  expect(told).toEqual([
    expect.stringMatching(
      /^recall 0\.99 of the vector field "title" with up to 10 results cannot be held: .* gives 0\.\d/,
    ),
  ]);
  expect(keeper.status()[0]).toMatchObject({ isHeld: false, target: 0.99 });
});

test("it is told when wider beams are chosen than before, and not while they stay as they are", async () => {
  // Below this width the best of the results is missed.
  let needed = 16;
  const found = { computed: 3, plan: "graph", queueUs: 0, searchUs: 0 } as const;
  const narrow: RecallKeeperOptions["indexOf"] = () => ({
    rowCount: 3,
    search: (_, { ef = 0, exact }) => {
      const from = exact || ef >= needed ? 1 : 2;
      const slots = Uint32Array.of(...[1, 2, 3].slice(from - 1));
      return Promise.resolve({ ...found, slots, distances: Float32Array.from(slots) });
    },
  });
  const keeper = keeperOf([], { indexOf: narrow });
  const search = { field: "", query: noise(1, 0), k: 3, filter: undefined, allowed: { count: 3, of: 3 } };
  const learn = async (queries: number): Promise<number> => {
    for (let i = 0; i < queries; i++) {
      keeper.choose({ ...search, target: 0.9 });
      await keeper.settled();
    }
    return keeper.choose({ ...search, target: 0.9 }).ef;
  };
  expect(await learn(10)).toBe(16);
  const before = keeper.widenings;
  await learn(10);
  expect(keeper.widenings).toBe(before);
  needed = 100;
  expect(await learn(10)).toBeGreaterThan(16);
  expect(keeper.widenings).toBeGreaterThan(before);
  // Of any number of recalls only some are told apart; what is not followed any more counts as wider.
  const followed = keeper.widenings;
  for (let i = 0; i < 20; i++) keeper.choose({ ...search, target: 0.5 + i / 100 });
  expect(keeper.widenings).toBeGreaterThan(followed);
});
