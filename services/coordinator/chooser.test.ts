/** Fields whose datatype is to be picked: when it is, by what, and what the record says afterwards. */
import { expect, test } from "vitest";
import { KithError, systemClock } from "../../libs/base/index.js";
import { ShiftedClock } from "../../libs/base/testing.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import { collectionsView } from "../../libs/cluster/index.js";
import type { BuildTrial, Collection, Datatype, ReplicaStatus, VectorField } from "../../libs/model/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { Chooser } from "./chooser.js";

const trialOf = (datatype: Datatype, vectorBytes: number, recall: number, searchUs = 10): BuildTrial => ({
  ...{ datatype, vectorBytes, recall, searchUs, ef: 64, canHold: recall >= 0.9 },
});

/** A collection of two shards with so many vectors each, and what trials come to. */
async function given(rows: readonly number[], trials: readonly BuildTrial[], change: Partial<Collection> = {}) {
  const catalog = await FakeCatalog.open();
  const clock = new ShiftedClock(systemClock);
  const shards = newShards(rows.length).map((shard) => ({
    ...shard,
    replicas: [{ node: "a", state: "active" as const, sinceMs: 0 }],
  }));
  const field: VectorField = {
    ...{ name: "", dimension: 64, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 },
    autoRecall: 0.9,
  };
  const record: Collection = {
    ...{ id: "one", name: "things", replicationFactor: 1, epoch: 1, createdAtMs: 0, labels: {}, state: "ready" },
    ...{ nextShard: 100, payloadIndexes: [], schemaVersion: 3, shards, fields: [field] },
    ...change,
  };
  await catalog.put("collections.things", JSON.stringify(record));
  const collections = collectionsView(catalog);
  await collections.start();
  const asked: unknown[] = [];
  let isAway = false;
  const chooser = new Chooser({
    ...{ collections, clock, logger: silentLogger, isHolder: () => true },
    statusOf: (_, { shard }) => {
      const generations = [{ field: "", number: 0, rowCount: rows[shard] }];
      return Promise.resolve({ state: "active", generations } as unknown as ReplicaStatus);
    },
    trialOf: (node, replica, request) => {
      asked.push([node, replica.shard, request]);
      if (isAway) return Promise.reject(new KithError("SHARD_UNAVAILABLE", "it is away"));
      return Promise.resolve({ rows: rows[replica.shard] ?? 0, trials });
    },
  });
  const after = async (ms = 60_000): Promise<Collection | undefined> => {
    clock.pass(ms);
    chooser.look();
    await chooser.idle;
    return (await collections.read("things"))?.value;
  };
  const setAway = (now: boolean): void => void (isAway = now);
  const close = async (): Promise<void> => {
    await chooser.close();
    await catalog.close();
  };
  return { after, asked, setAway, close };
}

const trials = [trialOf("f32", 400, 0.99), trialOf("i8", 200, 0.97), trialOf("i4", 150, 0.8)];

test("one is picked once there are enough vectors in all shards together, and a generation of it begun", async () => {
  const few = await given([9_000, 999], trials);
  expect((await few.after())?.fields[0]).toMatchObject({ autoRecall: 0.9 });
  expect(few.asked).toEqual([]);
  await few.close();

  const enough = await given([9_000, 1_000], trials);
  const record = await enough.after();
  expect(enough.asked).toEqual([0, 1].map((shard) => ["a", shard, { field: "", target: 0.9 }]));
  expect(record).toMatchObject({
    recallTarget: 0.9,
    change: { kind: "beginGeneration", name: "", version: 4, build: { datatype: "i8", originals: true, m: 8 } },
    fields: [{ datatype: "f32", choice: { datatype: "i8", target: 0.9, rows: 10_000, trials: { length: 3 } } }],
  });
  expect(record?.fields[0]).not.toHaveProperty("autoRecall");
  expect(record?.fields[0]?.choice?.reason).toMatch(/^the least memory \(200 bytes a vector\).*; i4 comes to 0\.8000/);
  // Once.
  await enough.after();
  expect(enough.asked).toHaveLength(2);
  await enough.close();
});

test("where none reaches the recall it stays as it is, says so, and has no target", async () => {
  const { after, close } = await given([20_000], [trialOf("f32", 400, 0.7), trialOf("i8", 200, 0.6)]);
  const record = await after();
  expect(record?.fields[0]).toMatchObject({ datatype: "f32", choice: { datatype: "f32", target: 0.9 } });
  expect(record?.fields[0]?.choice?.reason).toMatch(/no datatype reaches recall@10 of 0\.9 .* f32 comes to 0\.7000/);
  expect(record?.fields[0]).not.toHaveProperty("autoRecall");
  expect(record).not.toHaveProperty("change");
  expect(record).not.toHaveProperty("recallTarget");
  await close();
});

test("a shard that cannot be asked is asked again, and a change that is on its way is waited for", async () => {
  const { after, asked, setAway, close } = await given([20_000], trials, { recallTarget: 0.95 });
  setAway(true);
  expect((await after())?.fields[0]).toMatchObject({ autoRecall: 0.9 });
  // Trials are dear: not at once.
  setAway(false);
  expect((await after(3_000))?.fields[0]).toMatchObject({ autoRecall: 0.9 });
  expect(asked).toHaveLength(1);
  expect(await after()).toMatchObject({ recallTarget: 0.95, change: { kind: "beginGeneration" } });
  expect(asked).toHaveLength(2);
  await close();

  const busy = await given([20_000], trials, { change: { kind: "dropVector", name: "x", version: 4 } });
  expect((await busy.after())?.fields[0]).toMatchObject({ autoRecall: 0.9 });
  expect(busy.asked).toEqual([]);
  await busy.close();
});
