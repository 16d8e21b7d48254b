import { deserialize, serialize } from "node:v8";
import { afterEach, expect, test } from "vitest";
import { systemClock } from "../../base/index.js";
import { ShiftedClock } from "../../base/testing.js";
import type { RecallStatus, ShardQuery } from "../../model/index.js";
import { ExactIndex, exactIndexes } from "../testing/exact-index.fixture.js";
import {
  active,
  call,
  collectionOf,
  eventually,
  everything,
  field,
  operationOf,
  remove,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";
import type { SearchOptions, SearchResult } from "../../ann/index.js";
import type { Replica } from "../index.js";

/** Answers that are kept are those that would be given. */

let world: World;
let clock: ShiftedClock;
let searches = 0;
afterEach(async () => {
  ExactIndex.duringSearch = undefined;
  await world.end();
});

async function start(answerCacheBytes: number): Promise<Replica> {
  searches = 0;
  world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
  clock = new ShiftedClock(systemClock);
  const replica = await active(await world.open({ clock, tuning: { answerCacheBytes } }));
  ExactIndex.duringSearch = () => {
    searches++;
    return Promise.resolve();
  };
  return replica;
}

const near: ShardQuery = {
  ...{ field: "", vector: new Float32Array(4), k: 3, ef: 64, exact: false, select: everything, minSequence: 0 },
};
const payloadOf = (id: number, round = 0): object => ({ id, round });

async function write(replica: Replica, ids: number[], round = 0): Promise<number> {
  const items = ids.map((id) => ({ id, vector: [id, 0, 0, 0], payload: payloadOf(id, round) }));
  const sequence = await world.append([upsert(items)]);
  await replica.wait(sequence, [], call);
  return sequence;
}

/** How many searches a query took. */
async function searchesOf(replica: Replica, query: ShardQuery): Promise<number> {
  const before = searches;
  await replica.read("query", query, call);
  return searches - before;
}

/** Until the answer is kept: what was written may not be over yet, and what goes on beside may end what was kept. */
function kept(replica: Replica, query: ShardQuery): Promise<unknown> {
  return eventually("the answer is kept", async () => (await searchesOf(replica, query)) === 0);
}

test("the same request is answered once, until something is applied", async () => {
  const replica = await start(1_000_000);
  const first = await write(replica, [1, 2, 3, 4]);
  const answer = await replica.read("query", near, call);
  expect(answer.sequence).toBe(first);
  // What is done to an answer is not done to the next one.
  const expected: unknown = deserialize(serialize(answer));
  answer.hits.splice(0, 2);
  for (const hit of answer.hits) hit.payload.fill(0);
  await kept(replica, near);
  expect(await replica.read("query", near, call)).toEqual(expected);
  await kept(replica, { ...near, minSequence: first });
  expect(await replica.read("query", { ...near, minSequence: first }, call)).toEqual(expected);
  expect(replica.status().memoryBytes).toBeGreaterThan(0);

  // Another request is another one.
  for (const other of [{ k: 2 }, { vector: Float32Array.of(1, 0, 0, 0) }, { exact: true }, { ef: 65 }]) {
    expect(await searchesOf(replica, { ...near, ...other })).toBeGreaterThan(0);
  }

  const second = await write(replica, [1], 2);
  const later = await replica.read("query", near, call);
  expect(later.sequence).toBe(second);
  expect(later.hits.map(({ payload }) => Buffer.from(payload).toString())).toContain(JSON.stringify(payloadOf(1, 2)));
  await replica.wait(await world.append([remove([1])]), [], call);
  expect((await replica.read("query", near, call)).hits.map(({ score }) => score)).toEqual([2, 3, 4]);
});

test("an answer without explanation is not given where one is asked for, and samples are drawn each time", async () => {
  const replica = await start(1_000_000);
  await write(replica, [1, 2, 3, 4]);
  const scope = { filter: undefined, ids: undefined, exclude: [], minSequence: 0 };
  const count = { filter: undefined, minSequence: 0 };
  expect((await replica.read("count", count, call)).count).toBe(4);
  expect((await replica.read("count", { ...count, explain: true }, call)).explain).toBeDefined();
  const drawn = new Set<string>();
  for (let i = 0; i < 40; i++) {
    const { hits } = await replica.read("sample", { ...scope, limit: 1, select: everything }, call);
    drawn.add(hits.map(({ id }) => Buffer.from(id).toString("hex")).join());
  }
  expect(drawn.size).toBeGreaterThan(1);
});

test("what was written while a search ran is in the next answer", async () => {
  const replica = await start(1_000_000);
  await write(replica, [1, 2]);
  let written: Promise<number> | undefined;
  ExactIndex.duringSearch = async () => {
    written ??= write(replica, [0]);
    await written;
  };
  await replica.read("query", near, call);
  const { hits } = await replica.read("query", near, call);
  expect(hits.map(({ score }) => score)).toEqual([0, 1, 2]);
});

/** Below a beam width it misses the best result, in answers, which ask for one row more than is wanted, and in what is measured. */
class NarrowIndex extends ExactIndex {
  static needed = { inAnswers: 0, inMeasures: 0 };

  override async search(query: Float32Array, how: SearchOptions): Promise<SearchResult> {
    const found = await super.search(query, how);
    const { inAnswers, inMeasures } = NarrowIndex.needed;
    if (how.exact || (how.ef ?? 0) >= (how.k > near.k ? inAnswers : inMeasures)) return found;
    return { ...found, slots: found.slots.slice(1), distances: found.distances.slice(1) };
  }
}

test("an answer to a recall target is not given again once a wider beam is known to be needed", async () => {
  NarrowIndex.needed = { inAnswers: 0, inMeasures: 0 };
  const indexes = {
    ...exactIndexes,
    create: (options: ConstructorParameters<typeof ExactIndex>[0]) => new NarrowIndex(options),
  };
  world = await World.make({ collection: collectionOf(field()), indexes });
  const replica = await active(await world.open({ tuning: { answerCacheBytes: 1_000_000 } }));
  await write(replica, [1, 2, 3, 4]);
  const targeted = { ...near, ef: 0, recallTarget: 0.9 };
  const scores = async (query: ShardQuery): Promise<number[]> =>
    (await replica.read("query", query, call)).hits.map(({ score }) => score);
  let asked = 0;
  /** Others, of which some are measured. */
  const learn = async (): Promise<RecallStatus | undefined> => {
    await scores({ ...targeted, vector: Float32Array.of(0, ++asked / 1000, 0, 0) });
    return replica.status().recalls?.[0];
  };
  await eventually("narrow beams are known to do", async () => ((await learn())?.ef ?? 0) === 16);
  NarrowIndex.needed.inAnswers = 40;
  expect(await scores(targeted)).toEqual([2, 3, 4]);
  expect(await scores(targeted)).toEqual([2, 3, 4]);
  NarrowIndex.needed.inMeasures = 40;
  await eventually("wider beams are known to be needed", async () => ((await learn())?.ef ?? 0) > 40);
  expect(await scores(targeted)).toEqual([1, 2, 3]);
});

test("a point that has expired is in no answer any more", async () => {
  const replica = await start(1_000_000);
  await write(replica, [1, 2]);
  const expiresAtMs = clock.nowMs() + 60_000;
  const expiry = { target: target({ ids: [0] }), expiresAtMs };
  await write(replica, [0]);
  await replica.wait(await world.append([operationOf({ $case: "setExpiry", value: expiry })]), [], call);
  const all = { ...near, k: 9 };
  expect((await replica.read("query", all, call)).hits).toHaveLength(3);
  clock.pass(61_000);
  expect((await replica.read("query", all, call)).hits).toHaveLength(2);
});

test("answers take no more memory than they may, and none by default", async () => {
  const replica = await start(2_000);
  await write(replica, [1, 2, 3, 4]);
  const before = replica.status().memoryBytes;
  for (let k = 1; k <= 40; k++) expect(await searchesOf(replica, { ...near, ef: 64 + k })).toBeGreaterThan(0);
  expect(replica.status().memoryBytes - before).toBeLessThanOrEqual(2_000 + 4 * 200);
  await world.end();
  const plain = await start(0);
  await write(plain, [1, 2, 3, 4]);
  for (let i = 0; i < 20; i++) expect(await searchesOf(plain, near)).toBeGreaterThan(0);
});
