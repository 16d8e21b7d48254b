import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred, KithError } from "../../base/index.js";
import type { SearchOptions } from "../../ann/index.js";
import { parseFilter } from "../../filter/index.js";
import { idFromNum } from "../../model/index.js";
import { PointStore } from "../../storage/index.js";
import { call, eventually, everything, nothing, remove, upsert, World } from "../testing/harness.fixture.js";
import { ExactIndex, exactIndexes } from "../testing/exact-index.fixture.js";

let world: World;
beforeEach(async () => {
  world = await World.make({ indexes: exactIndexes });
});
afterEach(() => world.end());

test("reads of points end with their caller", async () => {
  const replica = await world.open();
  const at = await world.append([upsert([{ id: 1, vector: [1, 0, 0, 0], payload: { a: 1 } }])]);
  await replica.read("count", { minSequence: at }, call);
  const signal = AbortSignal.abort(new KithError("DEADLINE_EXCEEDED", "too late"));
  const late = { code: "DEADLINE_EXCEEDED" };
  for (const gone of [
    { ...call, signal },
    { ...call, cancellation: signal },
  ]) {
    await expect(
      replica.read("get", { ids: [idFromNum(1)], select: everything, minSequence: at }, gone),
    ).rejects.toMatchObject(late);
    await expect(
      replica.read("scroll", { after: undefined, limit: 10, select: everything, minSequence: at }, gone),
    ).rejects.toMatchObject(late);
  }
  expect(
    (await replica.read("get", { ids: [idFromNum(1)], select: everything, minSequence: at }, call)).points,
  ).toHaveLength(1);
});

test("points that are on disk and not yet in memory are given out with the sequence that they came with", async () => {
  const gate = deferred<void>();
  let isHeld = false;
  const replica = await world.open({}, async (directory) => {
    const store = await PointStore.open(directory);
    const write = store.write.bind(store);
    store.write = async (batch, options) => {
      await write(batch, options);
      if (isHeld) await gate.promise;
    };
    return store;
  });
  const written = (value: number) => upsert([{ id: 1, vector: [value, 0, 0, 0], payload: { value } }]);
  const first = await world.append([written(1)]);
  await replica.read("count", { minSequence: first }, call);
  isHeld = true;
  const second = await world.append([written(2)]);
  const ids = [idFromNum(1)];
  const got = await eventually("the batch is on disk", async () => {
    const read = await replica.read("get", { ids, select: nothing, minSequence: first }, call);
    return read.points[0]?.version === second ? read : undefined;
  });
  const page = await replica.read("scroll", { after: undefined, limit: 10, select: nothing, minSequence: first }, call);
  const count = await replica.read("count", { minSequence: first }, call);
  gate.resolve();
  expect(page.points[0]?.version).toBe(second);
  expect([got.sequence, page.sequence]).toEqual([second, second]);
  // What memory answers is still as before, and says so.
  expect(count).toEqual({ count: 1, sequence: first });
  expect(await replica.read("count", { minSequence: second }, call)).toEqual({ count: 1, sequence: second });
});

test("a query that does not find what was deleted after it came has the sequence of the deletion", async () => {
  const gate = deferred<void>();
  let searchCount = 0;
  class LateIndex extends ExactIndex {
    override async search(query: Float32Array, options: SearchOptions): ReturnType<ExactIndex["search"]> {
      if (searchCount++ === 0) await gate.promise;
      return super.search(query, options);
    }
  }
  const replica = await world.open({ indexes: { ...exactIndexes, create: (options) => new LateIndex(options) } });
  const point = (id: number) => ({ id, vector: [id, 0, 0, 0] });
  const before = await world.append([upsert([point(1), point(2)])]);
  await replica.read("count", { minSequence: before }, call);
  const vector = new Float32Array(4);
  const asked = replica.read(
    "query",
    { field: "", vector, k: 2, ef: 8, exact: false, select: nothing, minSequence: 0 },
    call,
  );
  await eventually("the search", () => searchCount === 1);
  const deleted = await world.append([remove([1])]);
  await replica.read("count", { minSequence: deleted }, call);
  gate.resolve();
  const { hits, sequence } = await asked;
  expect(hits.map(({ id }) => [...id])).toEqual([[...idFromNum(2)]]);
  expect(sequence).toBe(deleted);
});

test("of points that are as near as the one in the last place, those with the lowest ids are returned", async () => {
  const replica = await world.open();
  // In slots of another order than ids, one nearer and one farther than all others.
  const points = Array.from({ length: 40 }, (_, i) => ({ id: 40 - i, vector: [5, 0, 0, 0], payload: { a: 1 } }));
  points.push(
    { id: 90, vector: [1, 0, 0, 0], payload: { a: 1 } },
    { id: 1000, vector: [9, 0, 0, 0], payload: { a: 1 } },
  );
  const minSequence = await world.append([upsert(points)]);
  const common = { field: "", k: 5, ef: 8, exact: true, select: everything, minSequence };
  const vector = new Float32Array(4);
  const wanted = [90, 1, 2, 3, 4].map((id) => [...idFromNum(id)]);
  const plain = await replica.read("query", { ...common, vector }, call);
  expect(plain.hits.map(({ id }) => [...id])).toEqual(wanted);
  const scorer = { kind: "nearest", vector } as const;
  const filter = parseFilter("a = 1");
  const filtered = await replica.read("search", { ...common, scorer, filter, ids: undefined, exclude: [] }, call);
  expect(filtered.hits.map(({ id }) => [...id])).toEqual(wanted);
});
