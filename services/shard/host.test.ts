import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createIndex, loadIndex } from "../../libs/ann/index.js";
import { deferred, KithError, systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { type Catalog, openEmbeddedCatalog } from "../../libs/catalog/index.js";
import { type CollectionsView, collectionsView } from "../../libs/cluster/index.js";
import { type Log, openEmbeddedLog } from "../../libs/log/index.js";
import type { Collection, ReplicaPlacement, ReplicaPlacementState, ShardPlacement } from "../../libs/model/index.js";
import { createLogger, noTrace } from "../../libs/telemetry/index.js";
import { freshOpensMax, opensMax } from "./opener.js";
import { type FetchSnapshot, ShardHost } from "./index.js";
import { PlacedPeers } from "./peers.js";

const call = { trace: noTrace };
const id = "c1";

/** With one shard for each list of nodes; their ids count from `firstShard`. */
function record(
  name = "things",
  collectionId = id,
  nodes: string[][] = [["here"]],
  firstShard = 0,
  state: ReplicaPlacementState = "active",
): Collection {
  return {
    id: collectionId,
    name,
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
    replicationFactor: 1,
    epoch: 1,
    createdAtMs: 0,
    labels: {},
    state: "ready",
    nextShard: firstShard + nodes.length,
    payloadIndexes: [],
    schemaVersion: 1,
    shards: nodes.map((placed, i) => ({
      shard: firstShard + i,
      firstSlot: 0,
      lastSlot: 16_383,
      epoch: 1,
      state: "active",
      replicas: placed.map((node) => ({ node, state, sinceMs: 0 })),
    })),
  };
}

let data: string;
let log: Log;
let catalog: Catalog;
let collections: CollectionsView;
let host: ShardHost;
let lines: string[];
/** What loading an index waits for. */
let loading: () => Promise<void>;

beforeEach(async () => {
  data = await mkdtemp(join(tmpdir(), "kith-host-"));
  log = await openEmbeddedLog({ directory: join(data, "log"), ...systemRuntime });
  catalog = await openEmbeddedCatalog({ directory: join(data, "catalog"), ...systemRuntime });
  collections = collectionsView(catalog);
  await collections.start();
  lines = [];
  loading = () => Promise.resolve();
  host = makeHost();
});

function makeHost(fetchSnapshot?: FetchSnapshot): ShardHost {
  return new ShardHost({
    nodeId: "here",
    data,
    collections,
    log,
    ...systemRuntime,
    indexes: {
      create: createIndex,
      load: async (...index) => {
        await loading();
        return loadIndex(...index);
      },
    },
    logger: createLogger({ level: "info", nodeId: "here", write: (line) => void lines.push(line) }),
    ...(fetchSnapshot && { fetchSnapshot }),
  });
}

afterEach(async () => {
  await host.close();
  await collections.close();
  await catalog.close();
  await log.close();
  await rm(data, { recursive: true, force: true });
});

/** Starts the host with one collection, all of whose replicas are open. */
async function hosting(present: Collection): Promise<void> {
  for (const { shard } of present.shards) await log.create({ collectionId: present.id, shard });
  await collections.create(present.name, present);
  await host.start();
  await host.settled();
}

function filesOf(folder: string): Promise<string[]> {
  return readdir(join(data, folder), { recursive: true }).catch(() => []);
}

test("a deleted collection's replicas are deleted, and leave nothing behind", async () => {
  await hosting(record());
  await collections.modify("things", (present) => ({ ...present, state: "deleting" }));
  await collections.delete("things");
  await eventually(async () => expect(await filesOf("replicas")).toEqual([]));
  expect(await filesOf("orphans")).toEqual([]);
});

test("a replica that is placed elsewhere is deleted, the others stay", async () => {
  await hosting(record("things", id, [["here"], ["here"]]));
  await collections.modify("things", (present) => ({
    ...present,
    shards: record("things", id, [["here"], ["there"]]).shards,
  }));
  await eventually(async () => expect(await readdir(join(data, "replicas", id))).toEqual(["0"]));
  expect(await filesOf("orphans")).toEqual([]);
});

test("a change of one collection looks at no other one", async () => {
  const count = 12;
  for (let i = 0; i < count; i++) {
    await log.create({ collectionId: `id${i}`, shard: 0 });
    await collections.create(`c${i}`, record(`c${i}`, `id${i}`));
  }
  await host.start();
  await host.settled();
  const all = vi.spyOn(collections, "values");
  const one = vi.spyOn(collections, "get");
  try {
    await log.create({ collectionId: "new", shard: 0 });
    await collections.create("new", record("new", "new"));
    await eventually(async () => expect(await readdir(join(data, "replicas"))).toContain("new"));
    await collections.modify("c3", (present) => ({ ...present, state: "deleting" }));
    await eventually(async () => expect(await readdir(join(data, "replicas"))).not.toContain("id3"));
    expect(all).not.toHaveBeenCalled();
    expect(new Set(one.mock.calls.map(([name]) => name))).toEqual(new Set(["new", "c3"]));
  } finally {
    vi.restoreAllMocks();
  }
});

test("shards are hosted by their ids, whichever of them remain", async () => {
  await hosting(record("things", id, [["here"], ["here"]], 3));
  const ids = async () => (await readdir(join(data, "replicas", id))).sort();
  expect(await ids()).toEqual(["3", "4"]);
  await collections.modify("things", (present) => ({
    ...present,
    shards: present.shards.filter(({ shard }) => shard === 4),
  }));
  await eventually(async () => expect(await ids()).toEqual(["4"]));
  const counted = await host.read("count", { collectionId: id, shard: 4 }, { minSequence: 0 }, call);
  expect(counted).toEqual({ count: 0, sequence: 0 });
});

test.each(["joining", "leaving"] as const)("a replica that is %s follows its log", async (state) => {
  await hosting(record("things", id, [["here"]], 3, state));
  await eventually(async () => {
    expect(await host.status({ collectionId: id, shard: 3 }, 0, call)).toMatchObject({ state: "active" });
  });
});

test("a collection that the catalog has merely lost is moved aside whole, with an alarm", async () => {
  await hosting(record("things", id, [["here"], ["here"]]));
  await collections.delete("things");
  await eventually(() => expect(lines.filter((line) => line.includes('"alarm":"catalog_lost"'))).toHaveLength(2));
  // The folder of the collection goes after the last alarm.
  await eventually(async () => expect(await filesOf("replicas")).toEqual([]));
  const kept = await filesOf("orphans");
  for (const shard of [0, 1]) expect(kept.some((path) => path.endsWith(`/${shard}/db/CURRENT`))).toBe(true);
});

test("a lost collection whose name was given to a new one is moved aside too", async () => {
  await hosting(record());
  const lost = await catalog.get("collections.things");
  await log.create({ collectionId: "c2", shard: 0 });
  await catalog.update("collections.things", JSON.stringify(record("things", "c2")), lost?.revision ?? 0);
  await eventually(async () => expect(await readdir(join(data, "replicas"))).toEqual(["c2"]));
  expect((await filesOf("orphans")).some((path) => path.endsWith("/db/CURRENT"))).toBe(true);
});

test("what was being deleted while the host was down is deleted when it starts", async () => {
  const replica = join(data, "replicas", id, "0");
  await mkdir(replica, { recursive: true });
  await writeFile(join(replica, "file"), "");
  await collections.create("things", { ...record(), state: "deleting" });
  await host.start();
  expect(await filesOf("replicas")).toEqual([]);
  expect(await filesOf("orphans")).toEqual([]);
});

test("a replica that cannot be opened does not hold up the others, and is opened as soon as it can be", async () => {
  const folder = join(data, "replicas", id);
  await mkdir(folder, { recursive: true });
  // A file where the replica's folder should be: for root too there is no way in.
  await writeFile(join(folder, "1"), "");
  await hosting(record("things", id, [["here"], ["here"]]));
  await eventually(async () => {
    expect(await host.read("count", { collectionId: id, shard: 0 }, { minSequence: 0 }, call)).toEqual({
      count: 0,
      sequence: 0,
    });
  });
  await expect(host.read("count", { collectionId: id, shard: 1 }, { minSequence: 0 }, call)).rejects.toMatchObject({
    code: "SHARD_UNAVAILABLE",
    retryAfterMs: 100,
    message: 'node here is still opening shard 1 of "things"',
  });
  await rm(join(folder, "1"));
  await eventually(
    async () => void (await host.read("count", { collectionId: id, shard: 1 }, { minSequence: 0 }, call)),
  );
});

test("a replica that cannot be opened does not hold up the deletion of its collection", async () => {
  const folder = join(data, "replicas", id);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "0"), "");
  await hosting(record());
  await collections.modify("things", (present) => ({ ...present, state: "deleting" }));
  await eventually(async () => expect(await filesOf("replicas")).toEqual([]));
});

test.each([
  ["a few replicas are opened at once, the others after them", opensMax, true],
  ["more where nothing is on the disk yet", freshOpensMax, false],
])("%s", async (_, max, areThere) => {
  const opened = deferred<void>();
  let loadingCount = 0;
  loading = () => {
    loadingCount++;
    return opened.promise;
  };
  const folder = join(data, "replicas", id);
  const shards = max + 2;
  if (areThere) for (let shard = 0; shard < shards; shard++) await mkdir(join(folder, `${shard}`), { recursive: true });
  const settled = hosting(record("things", id, new Array<string[]>(shards).fill(["here"])));
  await eventually(() => expect(loadingCount).toBeGreaterThanOrEqual(max));
  // The store is among the first things that opening a replica makes.
  const begun = (await readdir(folder, { recursive: true })).filter((path) => path.endsWith("db"));
  expect(begun).toHaveLength(max);
  opened.resolve();
  await settled;
  expect(loadingCount).toBe(shards);
  await eventually(() => host.read("count", { collectionId: id, shard: shards - 1 }, { minSequence: 0 }, call));
});

test("replicas that cannot be opened leave their places to the others while they wait", async () => {
  const folder = join(data, "replicas", id);
  await mkdir(folder, { recursive: true });
  for (let shard = 0; shard < opensMax; shard++) await writeFile(join(folder, String(shard)), "");
  await hosting(record("things", id, new Array<string[]>(opensMax + 1).fill(["here"])));
  await eventually(() => host.read("count", { collectionId: id, shard: opensMax }, { minSequence: 0 }, call));
});

test("the host closes while replicas wait to be opened", async () => {
  const opened = deferred<void>();
  loading = () => opened.promise;
  const present = record("things", id, new Array<string[]>(freshOpensMax + 1).fill(["here"]));
  for (const { shard } of present.shards) await log.create({ collectionId: id, shard });
  await collections.create("things", present);
  await host.start();
  const closed = host.close();
  opened.resolve();
  await closed;
  expect(await readdir(join(data, "replicas", id))).not.toContain(String(freshOpensMax));
});

test("two snapshots are given out at once; a third waits until one is closed", async () => {
  await hosting(record());
  const name = { collectionId: id, shard: 0 };
  const { incarnation } = await log.state(name);
  const wanted = { incarnation, minSequence: 0 };
  await eventually(async () => (await host.snapshot(name, wanted)).close());
  await expect(host.snapshot(name, { incarnation, minSequence: 9 })).rejects.toMatchObject({
    code: "SHARD_UNAVAILABLE",
  });
  const open = [await host.snapshot(name, wanted), await host.snapshot(name, wanted)];
  const refused = { code: "RESOURCE_EXHAUSTED", details: { limit: 2 } };
  await expect(host.snapshot(name, wanted)).rejects.toMatchObject(refused);
  await open[0]?.close();
  await open[0]?.close();
  open[0] = await host.snapshot(name, wanted);
  await expect(host.snapshot(name, wanted)).rejects.toMatchObject(refused);
  for (const snapshot of open) await snapshot.close();
});

test("nodes whose replica is joining are asked for a copy after the others", async () => {
  const asked: string[] = [];
  const peers = ["new", "a", "b"].map(
    (node): ReplicaPlacement => ({ node, state: node === "new" ? "joining" : "active", sinceMs: 0 }),
  );
  const placed = record("things", id, [["here"]], 3);
  const [shard] = placed.shards as [ShardPlacement];
  await collections.create("things", { ...placed, shards: [{ ...shard, replicas: [...shard.replicas, ...peers] }] });
  const fetcher = new PlacedPeers("here", { collectionId: id, shard: 3 }, collections, (node) => {
    asked.push(node);
    return Promise.reject(new KithError("SHARD_UNAVAILABLE", "none"));
  });
  const wanted = { incarnation: "", minSequence: 0 };
  for (let i = 0; i < 2; i++) {
    await expect(fetcher.fetch(wanted, new AbortController().signal)).rejects.toMatchObject({
      code: "SHARD_UNAVAILABLE",
    });
  }
  expect(asked).toEqual(["a", "b", "new", "b", "a", "new"]);
});

test("a replica behind its log asks the other nodes of its shard in turn, and says what each answers", async () => {
  const asked: string[] = [];
  await host.close();
  host = makeHost((node, { shard }, { minSequence }) => {
    asked.push(`${node}/${shard}/${minSequence}`);
    return Promise.reject(new KithError("SHARD_UNAVAILABLE", `${node} has none`));
  });
  const name = { collectionId: id, shard: 0 };
  await log.create(name);
  for (let n = 0; n < 3; n++) await log.append(name, Buffer.from("x"), { messageId: String(n) });
  await log.trim(name, 2);
  await hosting(record("things", id, [["here", "a", "b"]]));
  await eventually(async () => {
    const { state, fault } = await host.status(name, 0, call);
    expect(state).toBe("stale");
    expect(fault).toMatch(/no copy of another replica yet: b: b has none; a: a has none$/);
  });
  expect(asked.slice(0, 4)).toEqual(["a/0/2", "b/0/2", "b/0/2", "a/0/2"]);
});
