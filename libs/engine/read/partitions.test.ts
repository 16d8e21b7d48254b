import { afterEach, beforeEach, expect, test } from "vitest";
import { compileFilter, filterFromJson } from "../../filter/index.js";
import { type Filter, idFromNum, type IdKey, idMapKey, partitionedId } from "../../model/index.js";
import type { Replica } from "../index.js";
import { exactIndexes } from "../testing/exact-index.fixture.js";
import { active, call, collectionOf, field, remove, upsert, World } from "../testing/harness.fixture.js";

/** Points of a partition are found by their ids, small ones by a walk and large ones slot by slot, and are those that the filter means. */

/** Beyond a seventh of all points, and a thousand, slots are asked one by one. */
const sizes = { large: 2_500, small: 60, smaller: 3, "small!": 20 };
let world: World;
let replica: Replica;
let sequence = 0;
const stored = new Map<string, { id: IdKey; free: number }>();

beforeEach(async () => {
  stored.clear();
  world = await World.make({ collection: collectionOf(field()), indexes: exactIndexes });
  replica = await active(await world.open());
  for (const [partition, count] of Object.entries(sizes)) await write(partition, 0, count);
});
afterEach(() => world.end());

async function write(partition: string, from: number, count: number): Promise<void> {
  const items = Array.from({ length: count }, (_, i) => {
    const id = partitionedId(partition, idFromNum(from + i));
    const payload = { free: (from + i) % 3 };
    stored.set(idMapKey(id), { id, ...payload });
    return { id, vector: [i, 1, 0, 0], payload };
  });
  sequence = await world.append([upsert(items)]);
  await replica.wait(sequence, [], call);
}

function passing(filter: Filter): Set<string> {
  const passes = compileFilter(filter);
  const found = [...stored].filter(([, { id, free }]) => passes({ id, payload: { free }, hasVector: () => true }));
  return new Set(found.map(([key]) => key));
}

async function check(json: object): Promise<number> {
  const filter = filterFromJson(json);
  const wanted = passing(filter);
  const scorer = { kind: "nearest", vector: Float32Array.of(1, 1, 0, 0) } as const;
  const scope = { filter, ids: undefined, exclude: [], minSequence: sequence, select: { payload: false, vectors: [] } };
  const { hits } = await replica.read("search", { ...scope, field: "", scorer, k: 5_000, ef: 0, exact: true }, call);
  expect(new Set(hits.map(({ id }) => idMapKey(id)))).toEqual(wanted);
  const { count } = await replica.read("count", { filter, minSequence: sequence, approximate: false }, call);
  expect(count).toBe(wanted.size);
  return count;
}

test("by a partition, with other conditions, and after writes", async () => {
  for (let round = 0; round < 3; round++) {
    for (const partition of [...Object.keys(sizes), "nobody"]) {
      const of = { partition };
      await check({ must: [of] });
      await check({ must: [of, { key: "free", match: { value: 1 } }] });
      await check({ must_not: [of] });
      await check({ should: [of, { key: "free", match: { value: 2 } }] });
      await check({ must: [{ has_id: [0, 1, 2, 500], partition }] });
    }
    await write("smaller", 3 + round, 1);
    await write("large", 0, 50);
    const gone = partitionedId("small", idFromNum(round));
    stored.delete(idMapKey(gone));
    sequence = await world.append([remove([gone])]);
    await replica.wait(sequence, [], call);
  }
  expect(await check({ must: [{ partition: "smaller" }] })).toBe(6);
  expect(await check({ must: [{ partition: "small" }] })).toBe(57);
  expect(await check({ must: [{ partition: "small!" }] })).toBe(20);
});

test("the same ids in two partitions are not taken for one another", async () => {
  for (const partition of ["small", "smaller", "small", "large"]) {
    expect(await check({ must: [{ has_id: [0, 1], partition }] })).toBe(2);
    expect(await check({ must_not: [{ has_id: [0, 1], partition }] })).toBe(stored.size - 2);
  }
});
