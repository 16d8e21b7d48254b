import { expect, test } from "vitest";
import { systemClock } from "../../libs/base/index.js";
import { eventually, ShiftedClock } from "../../libs/base/testing.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import {
  type ClusterSettings,
  collectionsView,
  type NewOperation,
  Operations,
  SettingsView,
} from "../../libs/cluster/index.js";
import type { Collection, ReplicaStatus, ShardOrigin } from "../../libs/model/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { Resharder } from "./resharder.js";

/** Shards of these sizes, in order of their slots; `ancestors`: of each, where it came from others. */
async function given(
  sizes: readonly number[],
  changed: Partial<ClusterSettings>,
  ancestors: readonly (readonly number[] | undefined)[] = [],
) {
  const catalog = await FakeCatalog.open();
  const clock = new ShiftedClock(systemClock);
  const shards = newShards(sizes.length).map((shard, i) => {
    const before = ancestors[i];
    const origin: ShardOrigin | undefined = before && { parents: [...before.slice(-1)], ancestors: [...before] };
    return { ...shard, replicas: [{ node: "a", state: "active" as const, sinceMs: 0 }], ...(origin && { origin }) };
  });
  const record: Collection = {
    ...{ id: "one", name: "things", replicationFactor: 1, epoch: 1, createdAtMs: 0, labels: {}, state: "ready" },
    ...{ nextShard: 100, payloadIndexes: [], schemaVersion: 1, shards },
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
  };
  await catalog.put("collections.things", JSON.stringify(record));
  await catalog.put("settings.cluster", JSON.stringify(changed));
  const collections = collectionsView(catalog);
  const operations = new Operations(catalog, clock);
  const settings = new SettingsView(catalog);
  await Promise.all([collections.start(), operations.start(), settings.start()]);
  const resharder = new Resharder({
    ...{ collections, operations, clock, logger: silentLogger },
    settings: () => settings.current,
    statusOf: (_, { shard }) =>
      Promise.resolve({ state: "active", diskBytes: sizes[shard], memoryBytes: 1 } as unknown as ReplicaStatus),
  });
  const planned = async (): Promise<NewOperation<"split_shard" | "merge_shards">[]> => {
    clock.pass(60_000);
    resharder.plan();
    await resharder.close();
    return resharder.plan();
  };
  return { operations, planned, clock, close: () => catalog.close() };
}

test("the largest shard that has grown beyond the setting is split, and no other one meanwhile", async () => {
  const { operations, planned, close } = await given([100, 900, 500], { splitShardBytes: 400 });
  const [split] = await planned();
  expect(split).toMatchObject({
    ...{ kind: "split_shard", subject: { shard: 1 } },
    data: {
      reason: "size",
      ranges: [
        { firstSlot: 5461, lastSlot: 8190 },
        { firstSlot: 8191, lastSlot: 10_921 },
      ],
    },
  });
  if (split === undefined) return;
  const begun = await operations.create(split);
  expect(await planned()).toEqual([]);
  // It was undone: it is left alone for some time, and the next one has its turn.
  await operations.advance(begun, { attempts: 0, state: "cancelled" });
  await eventually(async () => expect(await planned()).toMatchObject([{ subject: { shard: 2 } }]));
  await close();
});

test("of neighbours that were one shard before the smallest are merged, when they are at rest", async () => {
  const from = [[9], [9], [9], [8], [8]];
  const { operations, planned, clock, close } = await given([50, 60, 40, 5, 30], { mergeShardBytes: 100 }, from);
  const [merge] = await planned();
  expect(merge).toMatchObject({
    ...{ kind: "merge_shards", subject: { shard: 3 }, step: "prepare" },
    data: { reason: "size", parents: [3, 4], term: 0 },
  });
  if (merge === undefined) return;
  const begun = await operations.create(merge);
  expect(await planned()).toEqual([]);
  await operations.advance(begun, { attempts: 0, state: "cancelled" });
  await eventually(async () => expect(await planned()).toMatchObject([{ data: { parents: [1, 2] } }]));
  clock.pass(10 * 60_000);
  expect(await planned()).toMatchObject([{ data: { parents: [3, 4] } }]);
  await close();
});

test.each([
  ["splits: the setting is 0", [100, 900], {}, []],
  ["splits: no shard is so large", [100, 900], { splitShardBytes: 1_000 }, []],
  ["merges: together they are too large", [60, 60], { mergeShardBytes: 100 }, [[9], [9]]],
  ["merges: they would be split again", [60, 60], { mergeShardBytes: 1_000, splitShardBytes: 200 }, [[9], [9]]],
  ["merges: the collection was made with them", [1, 1], { mergeShardBytes: 100 }, [undefined, undefined]],
  ["merges: they were never one", [1, 1], { mergeShardBytes: 100 }, [[8], [9]]],
])("nothing is done about %s", async (_, sizes, settings, ancestors) => {
  const { planned, close } = await given(sizes, settings, ancestors);
  expect(await planned()).toEqual([]);
  await close();
});

test("no sizes let splits and merges alternate", async () => {
  const settings = { splitShardBytes: 1_000, mergeShardBytes: 2 ** 40 };
  for (const size of [400, 500, 501, 999, 1_000, 1_001, 1_200, 4_000]) {
    const whole = await given([size], settings);
    const isSplit = (await whole.planned()).length > 0;
    await whole.close();
    const halves = await given([Math.floor(size / 2), Math.ceil(size / 2)], settings, [[9], [9]]);
    const isMerged = (await halves.planned()).some(({ kind }) => kind === "merge_shards");
    await halves.close();
    expect({ size, both: isSplit && isMerged }).toEqual({ size, both: false });
    expect(isMerged).toBe(size <= 500);
  }
});
