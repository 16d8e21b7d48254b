import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PointStore } from "../../storage/index.js";
import { parseFilter } from "../../filter/index.js";
import type { ShardChanges, ShardChangesOf } from "../../shard-api/index.js";
import { filterToWire, pb } from "../../wire/index.js";
import { encodeChanges } from "../apply/change-feed.js";
import type { OpenReplica } from "../replica/open-replica.js";
import type { Replica } from "../index.js";
import { ChangesReader } from "./changes-reader.js";
import type { Hydrator } from "./hydrator.js";
import {
  active,
  call,
  collectionOf,
  everything,
  field,
  operationOf,
  remove,
  target,
  upsert,
  World,
} from "../testing/harness.fixture.js";

let world: World;

beforeEach(async () => {
  world = await World.make({ collection: collectionOf(field("", 2)) });
});
afterEach(() => world.end());

const points = (...ids: number[]): ReturnType<typeof upsert> =>
  upsert(ids.map((id) => ({ id, vector: [id, 1], payload: { n: id } })));

const wanted: Omit<ShardChangesOf, "after"> = {
  ...{ limit: 1_000, filter: undefined, near: undefined, select: everything },
  ...{ before: false, waitMs: 0, minSequence: 0 },
};

/** All changes behind a sequence, as "kind id sequence", with a "?" where the content is not known any more. */
async function changesOf(replica: Replica, after: number, options: Partial<ShardChangesOf> = {}): Promise<string[]> {
  const texts: string[] = [];
  let place = { sequence: after, offset: 0 };
  for (;;) {
    const answer: ShardChanges = await replica.read("changes", { ...wanted, ...options, after: place }, call);
    for (const { kind, id, sequence, after: now } of answer.changes) {
      const isKnown = now !== undefined || kind === "delete" || kind === "truncate";
      const number = id.length === 0 ? "-" : Buffer.from(id).readUInt8(id.length - 1);
      texts.push(`${kind} ${number} ${sequence}${isKnown ? "" : "?"}`);
    }
    const isEnd = answer.place.sequence === place.sequence && answer.place.offset === place.offset;
    place = answer.place;
    if (isEnd) return texts;
  }
}

test("who comes late is told from the store: each change, and what points are where they are still that", async () => {
  const replica = await active(await world.open());
  await world.append([points(1, 2, 3)]);
  await world.append([points(2, 4), points(2)]);
  const last = await world.append([remove([1, 9])]);
  await replica.wait(last, [], call);
  const expected = ["insert 1 1?", "insert 2 1?", "insert 3 1", "update 2 2", "insert 4 2", "delete 1 3"];
  expect(await changesOf(replica, 0)).toEqual(expected);
  expect(await changesOf(replica, 0, { limit: 1 })).toEqual(expected);
  expect(await changesOf(replica, 2)).toEqual(["delete 1 3"]);
  // What is not known to fail passes: the deletion.
  expect(await changesOf(replica, 0, { filter: parseFilter("n = 4") })).toEqual(["insert 4 2", "delete 1 3"]);
  await replica.close();
  const again = await active(await world.open());
  expect(await changesOf(again, 0)).toEqual(expected);
});

test("a place within a record is gone on with, from memory and from the store alike", async () => {
  const replica = await active(await world.open());
  await replica.read("changes", { ...wanted, after: undefined }, call);
  await replica.wait(await world.append([points(1, 2, 3, 4, 5)]), [], call);
  const first = await replica.read("changes", { ...wanted, limit: 2, after: { sequence: 0, offset: 0 } }, call);
  expect(first.place).toEqual({ sequence: 0, offset: 2 });
  const second = await replica.read("changes", { ...wanted, after: first.place }, call);
  expect([second.changes.length, second.place]).toEqual([3, { sequence: 1, offset: 0 }]);
  await replica.close();
  const again = await active(await world.open());
  const third = await again.read("changes", { ...wanted, after: first.place }, call);
  expect([third.changes.length, third.place]).toEqual([3, { sequence: 1, offset: 0 }]);
});

test("the end of all points is one change", async () => {
  const replica = await active(await world.open());
  await world.append([points(1, 2)]);
  const end = operationOf({ $case: "truncate", value: {} });
  await replica.wait(await world.append([end, points(2)]), [], call);
  expect(await changesOf(replica, 1)).toEqual(["truncate - 2", "insert 2 2"]);
});

test("changes that are not kept any more are refused, and those behind them are not", async () => {
  const replica = await active(await world.open({ tuning: { changesKept: 10 } }));
  let last = 0;
  for (let n = 0; n < 40; n++) {
    last = await world.append([points(n % 7)]);
    await replica.wait(last, [], call);
  }
  const refused = await replica
    .read("changes", { ...wanted, after: { sequence: 0, offset: 0 } }, call)
    .catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "TOKEN_EXPIRED" });
  const { keptFrom } = (refused as { details: { keptFrom: number } }).details;
  expect(keptFrom).toBeGreaterThanOrEqual(last - 20);
  expect(keptFrom).toBeLessThanOrEqual(last - 10);
  expect((await changesOf(replica, keptFrom)).length).toBe(last - keptFrom);
});

test("what a filter has chosen is told point by point", async () => {
  const replica = await active(await world.open());
  await world.append([points(1, 2, 3)]);
  const filtered = operationOf({
    $case: "remove",
    value: { target: target({ filter: pb.Filter.encode(filterToWire(parseFilter("n >= 2"))).finish() }) },
  });
  await replica.wait(await world.append([filtered]), [], call);
  expect((await changesOf(replica, 1)).sort()).toEqual(["delete 2 2", "delete 3 2"]);
});

test("a record that changed more points than are read at once is told to its end", async () => {
  const store = await PointStore.open(join(world.directory, "changes"));
  const ids = Array.from({ length: 270_000 }, (_, i) => Buffer.from(`s${i}`));
  const changes = ids.map((id) => ({ kind: "delete" as const, id }));
  const batch = store.batch();
  let part = 0;
  for (const body of encodeChanges(changes)) batch.putChanges(1, part++, body);
  batch.putChanges(2, 0, Buffer.concat([...encodeChanges(changes.slice(0, 1))]));
  await store.write(batch);
  const feed = { from: 0, recentFrom: undefined, watch: () => undefined, recent: () => undefined };
  const replica = {
    store,
    changes: feed,
    schema: { fields: [], sparse: [] },
    appliedSequence: 2,
  } as unknown as OpenReplica;
  const reader = new ChangesReader(replica, { parts: () => ({ fields: [] }) } as unknown as Hydrator);
  // Close to its end, and to the end of what is read at once: the way there is the same.
  let place = { sequence: 0, offset: 261_800 };
  const told: string[] = [];
  for (let answers = 0; place.sequence < 2 && answers < 100; answers++) {
    const answer = await reader.read({ ...wanted, after: place }, call);
    told.push(...answer.changes.map(({ id, sequence }) => `${sequence} ${Buffer.from(id).toString()}`));
    ({ place } = answer);
  }
  await store.close();
  expect(told).toEqual([...ids.slice(261_800).map((id) => `1 ${id.toString()}`), "2 s0"]);
});
