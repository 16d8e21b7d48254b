import { expect, test } from "vitest";
import { systemClock } from "../../libs/base/index.js";
import { eventually, ShiftedClock } from "../../libs/base/testing.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import { collectionsView, type NewOperation, Operations, SettingsView } from "../../libs/cluster/index.js";
import type { Collection, ReplicaStatus } from "../../libs/model/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { Splitter } from "./splitter.js";

async function given(sizes: readonly number[], splitShardBytes: number) {
  const catalog = await FakeCatalog.open();
  const clock = new ShiftedClock(systemClock);
  const shards = newShards(sizes.length).map((shard) => {
    return { ...shard, replicas: [{ node: "a", state: "active" as const, sinceMs: 0 }] };
  });
  const record: Collection = {
    ...{ id: "one", name: "things", replicationFactor: 1, epoch: 1, createdAtMs: 0, labels: {}, state: "ready" },
    ...{ nextShard: sizes.length, payloadIndexes: [], schemaVersion: 1, shards },
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
  };
  await catalog.put("collections.things", JSON.stringify(record));
  await catalog.put("settings.cluster", JSON.stringify({ splitShardBytes }));
  const collections = collectionsView(catalog);
  const operations = new Operations(catalog, clock);
  const settings = new SettingsView(catalog);
  await Promise.all([collections.start(), operations.start(), settings.start()]);
  const splitter = new Splitter({
    ...{ collections, operations, clock, logger: silentLogger },
    settings: () => settings.current,
    statusOf: (_, { shard }) =>
      Promise.resolve({ state: "active", diskBytes: sizes[shard], memoryBytes: 1 } as unknown as ReplicaStatus),
  });
  const planned = async (): Promise<NewOperation<"split_shard">[]> => {
    clock.pass(60_000);
    splitter.plan();
    await splitter.close();
    return splitter.plan();
  };
  return { operations, planned, close: () => catalog.close() };
}

test("the largest shard that has grown beyond the setting is split, and no other one meanwhile", async () => {
  const { operations, planned, close } = await given([100, 900, 500], 400);
  const [split] = await planned();
  expect(split).toMatchObject({ kind: "split_shard", subject: { shard: 1 }, data: { reason: "size" } });
  expect(split?.data.ranges).toEqual([
    { firstSlot: 5461, lastSlot: 8190 },
    { firstSlot: 8191, lastSlot: 10_921 },
  ]);
  if (split === undefined) return;
  const begun = await operations.create(split);
  expect(await planned()).toEqual([]);
  // It was undone: it is left alone for some time, and the next one has its turn.
  await operations.advance(begun, { attempts: 0, state: "cancelled" });
  await eventually(async () => expect(await planned()).toMatchObject([{ subject: { shard: 2 } }]));
  await close();
});

test.each([
  ["the setting is 0", 0],
  ["no shard is so large", 1_000],
])("nothing is split where %s", async (_, bytes) => {
  const { planned, close } = await given([100, 900], bytes);
  expect(await planned()).toEqual([]);
  await close();
});
