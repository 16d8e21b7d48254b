import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KithError, systemClock, systemRuntime } from "../../libs/base/index.js";
import { eventually, ShiftedClock } from "../../libs/base/testing.js";
import { collectionsView } from "../../libs/cluster/index.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import type { Replica } from "../../libs/engine/index.js";
import { given, upsert, World } from "../../libs/engine/testing.js";
import { type Log, openJetStreamLog } from "../../libs/log/index.js";
import { FakeLog } from "../../libs/log/testing.js";
import { type Collection, idFromNum, type ReplicaStatus } from "../../libs/model/index.js";
import { connectNats } from "../../libs/nats/index.js";
import { testNatsServer } from "../../libs/nats-server/testing.js";
import { newShards } from "../../libs/sharding/index.js";
import { noTrace, silentLogger } from "../../libs/telemetry/index.js";
import { encodeRecord } from "../../libs/wire/index.js";
import { findLoss, LogMender } from "./log-mender.js";

const call = { trace: noTrace };
const state = { firstSequence: 1, lastSequence: 30, incarnation: "i", sizeBytes: 9 };
const replica = (appliedSequence: number, changes: Partial<ReplicaStatus> = {}): ReplicaStatus =>
  ({ appliedSequence, incarnation: "i", lastChecksum: 7, newestAppendedAtMs: 5, ...changes }) as ReplicaStatus;
const checksum = async (): Promise<number> => 7;

describe("a log is found", () => {
  test.each([
    ["well", state, [replica(30), replica(20)]],
    ["well where nobody has read it", state, [replica(0, { incarnation: "" })]],
    [
      "well where a replica has applied records of it, though another one knows another log",
      state,
      [replica(3), replica(90, { incarnation: "before" })],
    ],
    [
      "well where one is behind what was trimmed, and another one is not",
      { ...state, firstSequence: 20 },
      [replica(30), replica(5)],
    ],
    [
      "well where it was mended, and the replica has not seen that yet",
      { ...state, incarnation: "new", firstSequence: 31, continues: { incarnation: "i", sequence: 30, first: 31 } },
      [replica(30)],
    ],
  ])("%s", async (_, log, replicas) => {
    expect(await findLoss(log, replicas, checksum)).toBeUndefined();
  });

  test.each([
    ["gone", undefined, [replica(20), replica(30)], { sequence: 30, first: 31 }],
    ["put back", { ...state, lastSequence: 25 }, [replica(20), replica(30)], { sequence: 30, first: 31 }],
    [
      "another one, of a replica that has not read it too",
      state,
      [replica(50, { incarnation: "before" }), replica(0)],
      { sequence: 50, first: 51 },
    ],
    ["another one, which is longer", state, [replica(12, { incarnation: "before" })], { sequence: 12, first: 31 }],
    [
      "with a hole before all replicas",
      { ...state, firstSequence: 22 },
      [replica(20), replica(12)],
      { sequence: 20, first: 22 },
    ],
  ])("%s", async (_, log, replicas, expected) => {
    expect((await findLoss(log, replicas, checksum))?.continuation).toMatchObject(expected);
  });

  test("put back and gone on, by another record in the place of the last one", async () => {
    const loss = await findLoss(state, [replica(28)], async () => 8);
    expect(loss).toMatchObject({ carriesSinceMs: 5, continuation: { sequence: 28, checksum: 7, first: 31 } });
    // What it does not hold, or cannot read, is no proof.
    expect(await findLoss(state, [replica(28)], async () => undefined)).toBeUndefined();
  });
});

const adapters: [string, () => Promise<{ log: Log; close: () => Promise<void> }>][] = [
  ["embedded", async () => ({ log: await FakeLog.open(), close: async () => undefined })],
  [
    "jetstream",
    async () => {
      const server = await testNatsServer();
      const nats = await connectNats({ ...systemRuntime, servers: server.url });
      const log = await openJetStreamLog({ nats, cluster: "mend", ...systemRuntime });
      const close = async (): Promise<void> => {
        await nats.close();
        await server.dispose();
      };
      return { log, close };
    },
  ],
];

describe.each(adapters)("with the %s log", (_, open) => {
  let world: World;
  let catalog: FakeCatalog;
  let clock: ShiftedClock;
  let replicas: Map<string, Replica>;
  let mender: LogMender;
  let record: Collection;
  let closers: (() => Promise<void>)[];

  beforeEach(async () => {
    closers = [];
    world = await World.make();
    const opened = await open();
    await world.log.close();
    world.log = opened.log;
    await world.log.create(world.logName);
    clock = new ShiftedClock(systemClock);
    catalog = await FakeCatalog.open();
    const [shard] = newShards(1);
    if (shard === undefined) throw new Error("there is no shard");
    record = {
      ...world.collection,
      shards: [{ ...shard, replicas: ["a", "b"].map((node) => ({ node, state: "active", sinceMs: 0 })) }],
    };
    await catalog.create("collections.things", JSON.stringify(record));
    const collections = collectionsView(catalog);
    await collections.start();
    replicas = new Map();
    for (const name of ["a", "b"]) await start(name);
    mender = new LogMender({
      ...{ collections, log: world.log, clock, logger: silentLogger, isHolder: () => true },
      statusOf: async (node) => {
        const found = replicas.get(node);
        if (found === undefined) throw new KithError("SHARD_UNAVAILABLE", `node ${node} is away`);
        return found.status();
      },
    });
    closers.push(
      () => collections.close(),
      () => catalog.close(),
      () => world.end(),
      opened.close,
    );
  });
  afterEach(async () => {
    for (const close of closers) await close();
  });

  async function start(name: string): Promise<void> {
    const other = name === "a" ? "b" : "a";
    const peers = {
      fetch: async (wanted: Parameters<typeof given>[1]) => {
        const peer = replicas.get(other);
        if (peer === undefined) throw new KithError("SHARD_UNAVAILABLE", `node ${other} is away`);
        return { ...(await given(peer, wanted)), from: other };
      },
    };
    replicas.set(name, await world.open({ name, peers }));
  }

  /** Writes one point a record, with ids and times from `from` on. */
  async function write(from: number, count: number): Promise<void> {
    for (let id = from; id < from + count; id++) {
      const data = encodeRecord({
        epoch: 1,
        appendedAtMs: 1_000 + id,
        operations: [upsert([{ id, vector: [id, 0, 0, 0] }])],
      });
      await world.log.append(world.logName, data, { messageId: randomUUID() });
    }
  }

  async function expectAll(count: number): Promise<void> {
    const { lastSequence } = await world.log.state(world.logName);
    await eventually(async () => {
      for (const [name, each] of replicas) {
        expect(each.status(), name).toMatchObject({
          state: "active",
          appliedSequence: lastSequence,
          pointCount: count,
          fault: "",
        });
        const ids = Array.from({ length: count }, (_id, i) => idFromNum(i));
        const { points } = await each.read(
          "get",
          { ids, select: { payload: false, vectors: [] }, minSequence: 0 },
          call,
        );
        expect(points.length, name).toBe(count);
      }
    }, 15_000);
    expect(new Set([...replicas.values()].map((each) => each.status().digest)).size).toBe(1);
  }

  /** Looks until the log is mended, and replicas have gone on. */
  async function mend(): Promise<void> {
    const shard = record.shards[0];
    if (shard === undefined) throw new Error("there is no shard");
    await mender.look(record, shard);
    expect(mender.doubts).toBe(true);
    clock.pass(10_000);
    await mender.look(record, shard);
    expect(mender.doubts).toBe(false);
  }

  test("a log that was deleted goes on, above all that replicas have", async () => {
    await write(0, 20);
    await expectAll(20);
    await world.log.remove(world.logName);
    await mend();
    expect(await world.log.state(world.logName)).toMatchObject({ firstSequence: 21, lastSequence: 20 });
    await write(20, 5);
    await expectAll(25);
  });

  test("a log that was made anew goes on, with what was written to it meanwhile, and a replica that was behind copies the other one", async () => {
    await write(0, 10);
    await expectAll(10);
    await replicas.get("b")?.close();
    replicas.delete("b");
    await write(10, 10);
    await expectAll(20);
    await world.log.remove(world.logName);
    await world.log.create(world.logName);
    await write(20, 30);
    await start("b");
    await eventually(
      () => expect([...replicas.values()].map((each) => each.state)).toEqual(["stale", "stale"]),
      10_000,
    );
    await mend();
    // Behind what the new one had come to, whose tokens are in use.
    expect((await world.log.state(world.logName)).firstSequence).toBe(31);
    await expectAll(50);
    await write(50, 5);
    await expectAll(55);
    // The same after a restart.
    for (const name of ["a", "b"]) {
      await replicas.get(name)?.close();
      await start(name);
    }
    await expectAll(55);
  });

  test("records that were lost before all replicas had them are passed over, and those behind them are applied", async () => {
    await write(0, 10);
    await expectAll(10);
    for (const each of replicas.values()) await each.close();
    await write(90, 5);
    await write(10, 5);
    await world.log.trim(world.logName, 15);
    for (const name of ["a", "b"]) await start(name);
    await eventually(
      () => expect([...replicas.values()].map((each) => each.state)).toEqual(["stale", "stale"]),
      10_000,
    );
    await mend();
    await expectAll(15);
    await write(15, 5);
    await expectAll(20);
  });

  test("a log is not touched while a replica cannot be asked, for a minute, and not when its collection was deleted", async () => {
    await write(0, 10);
    await expectAll(10);
    await replicas.get("b")?.close();
    replicas.delete("b");
    await world.log.remove(world.logName);
    const [shard] = record.shards;
    if (shard === undefined) throw new Error("there is no shard");
    await mender.look(record, shard);
    clock.pass(20_000);
    await mender.look(record, shard);
    expect(mender.doubts).toBe(false);
    await expect(world.log.state(world.logName)).rejects.toMatchObject({ code: "NOT_FOUND" });
    clock.pass(50_000);
    await mender.look(record, shard);
    expect(mender.doubts).toBe(true);
    clock.pass(10_000);
    const entry = await catalog.get("collections.things");
    if (entry === undefined) throw new Error("there is no record");
    await catalog.update("collections.things", JSON.stringify({ ...record, state: "deleting" }), entry.revision);
    await eventually(async () => {
      await mender.look(record, shard);
      await expect(world.log.state(world.logName)).rejects.toMatchObject({ code: "NOT_FOUND" });
    });
  });
});
