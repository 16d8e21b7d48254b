import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KithError, systemClock } from "../../libs/base/index.js";
import { eventually, ShiftedClock } from "../../libs/base/testing.js";
import type { ClusterSettings, OperationRecord, Operations } from "../../libs/cluster/index.js";
import { collectionsView, FollowersView } from "../../libs/cluster/index.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import { FakeLog } from "../../libs/log/testing.js";
import type { Collection, ReplicaStatus } from "../../libs/model/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { encodeRecord } from "../../libs/wire/index.js";
import { LogKeeper } from "./log-keeper.js";
import { beginOfRetention } from "./log-retention.js";

const name = { collectionId: "one", shard: 0 };
const hourMs = 3_600_000;
let catalog: FakeCatalog;
let log: FakeLog;
let clock: ShiftedClock;
let settings: ClusterSettings;
let operations: OperationRecord[];
/** What each node says of its replica; missing: it cannot be asked. */
let said: Map<string, Partial<ReplicaStatus>>;
let isHolder: boolean;
let incarnation: string;
let closers: (() => Promise<void>)[];

beforeEach(async () => {
  catalog = await FakeCatalog.open();
  log = await FakeLog.open();
  clock = new ShiftedClock(systemClock);
  settings = { logRetentionMs: 0, logRetentionBytes: 0, logRetentionRecords: 1, logHoldMs: hourMs } as ClusterSettings;
  settings.replicaFlushMs = 1_000;
  operations = [];
  said = new Map();
  isHolder = true;
  ({ incarnation } = await log.create(name));
  closers = [];
  await append(100, clock.nowMs() - 2 * hourMs);
});
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  await log.close();
  await catalog.close();
});

async function append(count: number, appendedAtMs: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { lastSequence } = await log.state(name);
    const record = encodeRecord({ epoch: 1, appendedAtMs, operations: [] });
    await log.append(name, record, { messageId: `m${lastSequence + 1}` });
  }
}

function says(node: string, durableSequence: number, state: ReplicaStatus["state"] = "active"): void {
  said.set(node, { state, durableSequence, incarnation });
}

async function keeper(nodes: string[], followers?: FollowersView): Promise<LogKeeper> {
  const [shard] = newShards(1);
  if (shard === undefined) throw new Error("there is no shard");
  const record: Collection = {
    ...{ id: "one", name: "things", replicationFactor: 1, epoch: 1, createdAtMs: 0, labels: {}, state: "ready" },
    ...{ nextShard: 1, payloadIndexes: [], schemaVersion: 1 },
    shards: [{ ...shard, replicas: nodes.map((node) => ({ node, state: "active", sinceMs: 0 })) }],
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
  };
  await catalog.put("collections.things", JSON.stringify(record));
  const collections = collectionsView(catalog);
  await collections.start();
  closers.push(() => collections.close());
  const made = new LogKeeper({
    ...{ collections, log, clock, followers, logger: silentLogger },
    operations: { list: () => operations } as Pick<Operations, "list"> as Operations,
    settings: () => settings,
    isHolder: () => isHolder,
    statusOf: async (node) => {
      const status = said.get(node);
      if (status === undefined) throw new KithError("SHARD_UNAVAILABLE", `node ${node} cannot be asked`);
      return status as ReplicaStatus;
    },
  });
  closers.push(() => made.close());
  return made;
}

/** The log's first sequence after it was looked at. */
async function afterLook(logs: LogKeeper, shiftMs = 1_000): Promise<number> {
  clock.pass(shiftMs);
  logs.look();
  await logs.close();
  return (await log.state(name)).firstSequence;
}

describe("a log is trimmed", () => {
  test("to what the last of its replicas has flushed, and no further", async () => {
    says("a", 80);
    says("b", 60);
    const logs = await keeper(["a", "b"]);
    expect(await afterLook(logs)).toBe(61);
    says("b", 100);
    expect(await afterLook(logs)).toBe(81);
    says("a", 100);
    // The last record stays: by it replicas know their log.
    expect(await afterLook(logs)).toBe(100);
  });

  test("to what a cluster has read that follows this one, while it is there and for some time after", async () => {
    says("a", 100);
    const followers = new FollowersView(catalog, clock);
    await followers.start();
    closers.push(() => followers.close());
    const logs = await keeper(["a"], followers);
    await followers.tell("there", [{ ...name, sequence: 40 }]);
    expect(await afterLook(logs)).toBe(41);
    // It is away from here on.
    expect(await afterLook(logs, hourMs / 2)).toBe(41);
    expect(await afterLook(logs, hourMs / 3)).toBe(41);
    await followers.tell("there", [{ ...name, sequence: 60 }]);
    expect(await afterLook(logs)).toBe(61);
    expect(await afterLook(logs, hourMs)).toBe(61);
    expect(await afterLook(logs, hourMs)).toBe(100);
  });

  test("past a replica that is away only when it has been so for long, and one that comes back in time is waited for", async () => {
    says("a", 100);
    says("b", 40);
    const logs = await keeper(["a", "b"]);
    said.delete("b");
    // Nobody knows what it has.
    expect(await afterLook(logs)).toBe(1);
    expect(await afterLook(logs, hourMs / 2)).toBe(1);
    says("b", 40);
    expect(await afterLook(logs)).toBe(41);
    said.delete("b");
    expect(await afterLook(logs)).toBe(41);
    expect(await afterLook(logs, hourMs - 10_000)).toBe(41);
    expect(await afterLook(logs, 20_000)).toBe(100);
  });

  test.each(["catching_up", "stale"] as const)("as if a replica were away that is %s", async (state) => {
    says("a", 100);
    says("b", 30, state);
    const logs = await keeper(["a", "b"]);
    expect(await afterLook(logs)).toBe(31);
    expect(await afterLook(logs, hourMs + 1_000)).toBe(100);
  });

  test("never where no active replica has flushed it", async () => {
    says("a", 100, "stale");
    const logs = await keeper(["a", "b"]);
    expect(await afterLook(logs)).toBe(1);
    expect(await afterLook(logs, 10 * hourMs)).toBe(1);
    // One that follows another log says nothing of this one.
    said.set("a", { state: "active", durableSequence: 100, incarnation: "another" });
    expect(await afterLook(logs)).toBe(1);
  });

  test("not while a backup of its collection is under way, but for how long it may hold logs back", async () => {
    says("a", 100);
    operations = [
      { id: "b1", kind: "backup_collection", state: "running", subject: { collectionId: "one", collection: "things" } },
    ] as OperationRecord[];
    const logs = await keeper(["a"]);
    expect(await afterLook(logs)).toBe(1);
    expect(await afterLook(logs, hourMs + 1_000)).toBe(100);
  });

  test("when the backup of its collection has ended, while another collection's goes on", async () => {
    says("a", 100);
    const subject = { collectionId: "one", collection: "things" };
    operations = [
      { id: "b1", kind: "backup_collection", state: "done", subject },
      { id: "b2", kind: "backup_collection", state: "running", subject: { ...subject, collectionId: "two" } },
      { id: "m1", kind: "move_replica", state: "running", subject },
    ] as OperationRecord[];
    expect(await afterLook(await keeper(["a"]))).toBe(100);
  });

  test("by the coordinator alone, and not while the log is away", async () => {
    says("a", 100);
    const logs = await keeper(["a"]);
    isHolder = false;
    expect(await afterLook(logs)).toBe(1);
    isHolder = true;
    log.available = false;
    clock.pass(1_000);
    logs.look();
    await logs.close();
    log.available = true;
    expect(await afterLook(logs)).toBe(100);
  });
});

describe("the retention keeps", () => {
  const begin = async (changes: Partial<ClusterSettings>): Promise<number> =>
    beginOfRetention(log, name, await log.state(name), { ...settings, ...changes }, clock.nowMs());
  const everything = { logRetentionMs: 10 * hourMs, logRetentionBytes: 2 ** 40, logRetentionRecords: 1 };

  test("records that are young enough", async () => {
    await append(50, clock.nowMs());
    expect(await begin(everything)).toBe(1);
    expect(await begin({ ...everything, logRetentionMs: hourMs })).toBe(101);
    expect(await begin({ ...everything, logRetentionMs: 0 })).toBe(150);
  });

  test("about so many bytes of them", async () => {
    const { sizeBytes } = await log.state(name);
    expect(await begin({ ...everything, logRetentionBytes: sizeBytes })).toBe(1);
    expect(await begin({ ...everything, logRetentionBytes: sizeBytes / 4 })).toBe(76);
  });

  test("the latest ones whatever their age and size, and those that cannot be read", async () => {
    const nothing = { logRetentionMs: 0, logRetentionBytes: 0 };
    expect(await begin({ ...nothing, logRetentionRecords: 30 })).toBe(71);
    expect(await begin({ ...nothing, logRetentionRecords: 1_000 })).toBe(1);
    await log.append(name, Buffer.from("no record"), { messageId: "x" });
    await append(3, clock.nowMs() - 2 * hourMs);
    await eventually(async () => expect((await log.state(name)).lastSequence).toBe(104));
    await log.trim(name, 100);
    expect(await begin({ ...everything, logRetentionMs: hourMs })).toBe(101);
  });
});
