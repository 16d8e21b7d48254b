import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { deferred, type ErrorCode, KithError, limits, systemRuntime } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { type Catalog, openEmbeddedCatalog } from "../../libs/catalog/index.js";
import {
  type CollectionsView,
  collectionsView,
  isLive,
  type Lease,
  type NodeRecord,
  NodesView,
  type OperationRecord,
  Operations,
  SettingsView,
} from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import { type Collection, parseCollection, type ReplicaStatus, type ShardId } from "../../libs/model/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { decodeRecord } from "../../libs/wire/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { BackupLocations } from "../../libs/backup/index.js";
import { Coordinator } from "./index.js";

function record(id: string, state: Collection["state"], name = "things"): Collection {
  return {
    id,
    name,
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
    replicationFactor: 1,
    epoch: 1,
    createdAtMs: 0,
    labels: {},
    state,
    nextShard: 2,
    payloadIndexes: [],
    schemaVersion: 1,
    shards: newShards(2),
  };
}

function node(id: string): NodeRecord {
  return {
    id,
    linkAddress: "",
    address: "",
    zone: "",
    roles: ["shard"],
    state: "up",
    startedAtMs: 0,
    version: "",
    memoryBytes: 0,
    diskFreeBytes: 0,
    heartbeat: 0,
  };
}

/** A catalog, and what coordinators work on: `logs` has the collection's id and the shard of each log. */
let directory: string;
let catalog: Catalog;
let logs: Set<string>;
/** Records that were appended, with the shard of each. */
let appended: { shard: number; data: Uint8Array }[];
let held: boolean;
let warnings: string[];
/** Called before a log is made or removed. */
let onLog: (collectionId: string) => Promise<void>;
let closers: (() => Promise<void>)[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-coordinator-"));
  catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
  await catalog.create("nodes.n1", JSON.stringify(node("n1")));
  logs = new Set();
  appended = [];
  held = true;
  warnings = [];
  onLog = async () => undefined;
  closers = [];
});
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  await catalog.close();
  await rm(directory, { recursive: true, force: true });
});

const log = {
  create: async ({ collectionId, shard }) => {
    await onLog(collectionId);
    logs.add(`${collectionId}/${shard}`);
    return { firstSequence: 1, lastSequence: 0, incarnation: "", sizeBytes: 0 };
  },
  remove: async ({ collectionId, shard }) => {
    logs.delete(`${collectionId}/${shard}`);
    await onLog(collectionId);
  },
  append: async ({ collectionId, shard }, data) => {
    await onLog(collectionId);
    appended.push({ shard, data });
    return { sequence: appended.length, duplicate: false };
  },
} as Pick<Log, "create" | "remove" | "append"> as Log;

/** What each replica says of itself, by node and shard. */
const statuses = new Map<string, Partial<ReplicaStatus>>();
const statusOf = async (id: string, { shard }: ShardId): Promise<ReplicaStatus> => {
  const status = statuses.get(`${id}/${shard}`);
  if (status === undefined) throw new KithError("SHARD_UNAVAILABLE", `node ${id} cannot be asked`);
  return { indexedVectorCount: 0, unindexedVectorCount: 0, appliedSequence: 0, ...status } as ReplicaStatus;
};

interface Running {
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  close: () => Promise<void>;
}

/** Starts a coordinator. `isDeaf`: what it sees of the catalog stays what it is now, but for what it changes itself. */
async function coordinate(own: Catalog = catalog, isDeaf = false): Promise<Running> {
  const seen = isDeaf ? deaf(own) : own;
  const collections = collectionsView(seen);
  const operations = new Operations(seen, systemRuntime.clock);
  const nodes = new NodesView(seen, systemRuntime.clock);
  const settings = new SettingsView(seen);
  await Promise.all([collections.start(), operations.start(), nodes.start(), settings.start()]);
  const lease = {
    get held() {
      return held;
    },
    tick: async () => held,
    release: async () => undefined,
  } as Lease;
  const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
  const backups = {
    locations: new BackupLocations({}, systemRuntime.random),
    run: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "no node works here")),
  };
  const coordinator = new Coordinator({
    ...{ lease, collections, operations, nodes, settings, log, backups, logger, statusOf },
    trialOf: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "no node tries anything here")),
    ...systemRuntime,
  });
  coordinator.start();
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (!isOpen) return;
    isOpen = false;
    await coordinator.close();
    await Promise.all([collections.close(), operations.close(), nodes.close(), settings.close()]);
  };
  closers.push(close);
  return { collections, operations, nodes, close };
}

function deaf(own: Catalog): Catalog {
  const watch: Catalog["watch"] = (prefix, handlers) => {
    let isReady = false;
    return own.watch(prefix, {
      onChange: (change) => {
        if (!isReady) handlers.onChange(change);
      },
      onReady: () => {
        isReady = true;
        handlers.onReady?.();
      },
    });
  };
  return proxied(own, { watch });
}

function proxied(own: Catalog, change: Partial<Catalog>): Catalog {
  return new Proxy(own, {
    get: (target, name) => {
      const value: unknown = Reflect.get(name in change ? change : target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

const put = (...records: Collection[]): Promise<unknown> =>
  Promise.all(records.map((each) => catalog.create(`collections.${each.name}`, JSON.stringify(each))));

async function present(name = "things"): Promise<Collection | undefined> {
  const entry = await catalog.get(`collections.${name}`);
  return entry && parseCollection(entry.value);
}

async function operations(): Promise<OperationRecord[]> {
  return (await catalog.list("operations")).map(({ value }) => JSON.parse(value) as OperationRecord);
}

/** Resolves with all operations when there are so many, and all have ended. */
const ended = (count = 1): Promise<OperationRecord[]> =>
  eventually(async () => {
    const all = await operations();
    expect(all.filter((each) => !isLive(each))).toHaveLength(count);
    return all;
  });

/** What somebody else does to the present entry. */
async function another(change: "deletes" | "makes anew" | "marks"): Promise<void> {
  const entry = await catalog.get("collections.things");
  if (entry === undefined) return;
  if (change === "marks") {
    const marked = { ...parseCollection(entry.value), state: "deleting" };
    await catalog.update(entry.key, JSON.stringify(marked), entry.revision);
    return;
  }
  await catalog.delete(entry.key, entry.revision);
  if (change === "makes anew") await put(record("new", "ready"));
}

/** Once. */
function whileWorking(act: () => Promise<void>): void {
  onLog = async () => {
    onLog = async () => undefined;
    await act();
  };
}

describe("a collection that is to be created", () => {
  test("is placed and gets its logs, by an operation that can be looked at afterwards", async () => {
    await put(record("one", "creating"));
    await coordinate();
    const [operation] = await ended();
    const replicas = [{ node: "n1", state: "active", sinceMs: expect.any(Number) as number }];
    expect(await present()).toMatchObject({ id: "one", state: "ready", shards: [{ replicas }, { replicas }] });
    expect([...logs].sort()).toEqual(["one/0", "one/1"]);
    expect(operation).toMatchObject({
      version: 1,
      id: "create-one",
      kind: "create_collection",
      subject: { collectionId: "one", collection: "things" },
      state: "done",
      data: { shards: [0, 1] },
      attempts: 0,
    });
  });

  test("is found in a catalog of the first version, which knew no operations", async () => {
    const first = { ...record("one", "creating"), nextShard: undefined };
    const shards = first.shards.map(({ shard, firstSlot, lastSlot }) => ({ shard, firstSlot, lastSlot, nodes: [] }));
    await catalog.create("collections.things", JSON.stringify({ ...first, shards }));
    await coordinate();
    await ended();
    expect(await present()).toMatchObject({
      state: "ready",
      nextShard: 2,
      shards: [{ replicas: [{ node: "n1" }] }, {}],
    });
  });

  test("is undone where it is deleted before it is ready, by its own operation", async () => {
    whileWorking(() => another("marks"));
    await put(record("one", "creating"));
    await coordinate();
    expect(await ended()).toMatchObject([{ id: "create-one", state: "cancelled" }]);
    expect(await present()).toBeUndefined();
    expect([...logs]).toEqual([]);
  });

  test.each(["deletes", "makes anew"] as const)(
    "leaves no log behind where another coordinator %s it meanwhile",
    async (change) => {
      whileWorking(() => another(change));
      await put(record("old", "creating"));
      await coordinate(catalog, true);
      expect(await ended()).toMatchObject([{ id: "create-old", state: "failed", error: { code: "NOT_FOUND" } }]);
      expect([...logs]).toEqual([]);
      expect((await present())?.id).toBe(change === "deletes" ? undefined : "new");
    },
  );

  test("leaves no log behind either where the lease is lost meanwhile", async () => {
    whileWorking(async () => {
      held = false;
      await another("deletes");
    });
    await put(record("old", "creating"));
    const { close } = await coordinate(catalog, true);
    await eventually(() => expect(held).toBe(false));
    await close();
    expect([...logs]).toEqual([]);
  });

  test("can be cancelled while it cannot be placed", async () => {
    onLog = () => Promise.reject(new KithError("INVALID_CONFIG", "no"));
    await put(record("one", "creating"));
    const { operations: all } = await coordinate();
    await eventually(() => expect(all.get("create-one")?.value.attempts).toBeGreaterThan(0));
    onLog = async () => undefined;
    await all.cancel("create-one");
    expect(await ended()).toMatchObject([{ state: "cancelled", step: "remove_record" }]);
    expect(await present()).toBeUndefined();
  });

  test("stays where it is ready by the time when it is cancelled", async () => {
    held = false;
    await put(record("one", "creating"));
    const { operations: all } = await coordinate();
    await all.create({
      id: "create-one",
      kind: "create_collection",
      subject: { collectionId: "one", collection: "things" },
      step: "place",
      data: { shards: [0, 1] },
    });
    await all.cancel("create-one");
    const entry = await catalog.get("collections.things");
    await catalog.update("collections.things", JSON.stringify(record("one", "ready")), entry?.revision ?? 0);
    held = true;
    expect(await ended()).toMatchObject([{ state: "done" }]);
    expect(await present()).toMatchObject({ state: "ready" });
  });

  test("is spread with those that are created at the same time", async () => {
    for (const id of ["n2", "n3", "n4"]) await catalog.create(`nodes.${id}`, JSON.stringify(node(id)));
    const names = Array.from({ length: 8 }, (_, i) => `c${i}`);
    await put(...names.map((name) => record(name, "creating", name)));
    await coordinate();
    await ended(8);
    const counts = new Map<string, number>();
    for (const name of names) {
      for (const { replicas } of (await present(name))?.shards ?? []) {
        for (const { node: id } of replicas) counts.set(id, (counts.get(id) ?? 0) + 1);
      }
    }
    expect([...counts.values()]).toEqual([4, 4, 4, 4]);
  });
});

describe("a collection that is to be deleted", () => {
  const give = async (state: Collection["state"] = "deleting"): Promise<void> => {
    for (const shard of [0, 1]) logs.add(`old/${shard}`);
    await put(record("old", state));
  };

  test("goes with its logs", async () => {
    await give();
    await coordinate();
    expect(await ended()).toMatchObject([{ id: "delete-old", kind: "delete_collection", state: "done" }]);
    expect(await present()).toBeUndefined();
    expect([...logs]).toEqual([]);
  });

  test("is spared under its name where another one was made anew under it", async () => {
    whileWorking(() => another("makes anew"));
    await give();
    await coordinate(catalog, true);
    await ended();
    expect(await present()).toMatchObject({ id: "new", state: "ready" });
  });

  test("stays once the lease is lost", async () => {
    whileWorking(async () => {
      held = false;
    });
    await give();
    const { close } = await coordinate();
    await eventually(() => expect(held).toBe(false));
    await close();
    expect(await present()).toMatchObject({ id: "old", state: "deleting" });
    expect(await operations()).toMatchObject([{ state: "running", step: "remove_logs" }]);
  });

  test("goes on at the step where another coordinator has left it", async () => {
    held = false;
    await give();
    const { operations: all } = await coordinate();
    await all.create({
      id: "delete-old",
      kind: "delete_collection",
      subject: { collectionId: "old", collection: "things" },
      step: "remove_record",
      data: { shards: [0, 1] },
    });
    held = true;
    await ended();
    expect(await present()).toBeUndefined();
    expect([...logs]).toEqual(["old/0", "old/1"]);
  });

  test("is deleted once more where the catalog was put back to a time before", async () => {
    await give();
    const first = await coordinate();
    await ended();
    await first.close();
    await give();
    await coordinate();
    await eventually(async () => expect(await present()).toBeUndefined());
    expect([...logs]).toEqual([]);
    expect(await ended()).toMatchObject([{ id: "delete-old", state: "done" }]);
  });

  test("makes the room that new ones need: it goes first", async () => {
    await give();
    onLog = (id) =>
      id === "new" && [...logs].some((each) => each.startsWith("old"))
        ? Promise.reject(new KithError("RESOURCE_EXHAUSTED", "no room"))
        : Promise.resolve();
    await put(record("new", "creating", "a"));
    await coordinate();
    await ended(2);
    expect([...logs].sort()).toEqual(["new/0", "new/1"]);
    expect(warnings).toEqual([]);
  });
});

test("a collection whose logs cannot be made holds up no other, and is warned of once for each reason", async () => {
  let code: ErrorCode = "INVALID_CONFIG";
  onLog = async (id) => {
    if (id === "bad") throw new KithError(code, `refused: ${code}`);
  };
  await put(record("bad", "creating", "a"), record("good", "creating", "b"));
  const { operations: all, nodes } = await coordinate();
  await eventually(async () => expect(await present("b")).toMatchObject({ state: "ready" }));
  const failedAgain = async (): Promise<void> => {
    const before = all.get("create-bad")?.value.attempts ?? 0;
    await eventually(() => expect(all.get("create-bad")?.value.attempts ?? 0).toBeGreaterThan(before));
  };
  await failedAgain();
  await failedAgain();
  expect(warnings).toEqual([expect.stringMatching(/creation of the collection "a".*refused: INVALID_CONFIG/)]);
  code = "DISK_FULL";
  await failedAgain();
  expect(warnings.slice(1)).toEqual([expect.stringMatching(/"a".*refused: DISK_FULL/)]);
  expect(all.get("create-bad")?.value.error).toEqual({ code, message: `refused: ${code}` });
  const pausedMs = performance.now();
  await failedAgain();
  // A node that comes may be what it waits for: it is tried sooner than after the pause before, and the next one would be longer.
  onLog = async () => undefined;
  const startMs = performance.now();
  await nodes.announce(node("n2"));
  await eventually(async () => expect(await present("a")).toMatchObject({ state: "ready" }));
  expect(performance.now() - startMs).toBeLessThan(startMs - pausedMs);
  expect((await ended(2)).every(({ error }) => error === undefined)).toBe(true);
});

test("a change of the schema is told when the replicas have it", async () => {
  const index = { path: "genre", kind: "keyword", isTenant: false, isPrincipal: false } as const;
  const { shards, ...rest } = record("one", "ready");
  const replicas = [{ node: "n1", state: "active", sinceMs: 0 }] as const;
  const placed = { ...rest, shards: shards.map((shard) => ({ ...shard, replicas })) };
  let asked = 0;
  statuses.set("n1/0", { schemaVersion: 2 });
  statuses.set("n1/1", {
    get schemaVersion() {
      return ++asked < 4 ? 1 : 2;
    },
  });
  await put({ ...placed, change: { version: 2, kind: "addPayloadIndex", index } } as unknown as Collection);
  await coordinate();
  await ended();
  expect((await present())?.schemaVersion).toBe(2);
  expect(asked).toBe(4);
  statuses.clear();
});

test("some operations are worked on at once, and the others after them", async () => {
  const released = deferred<void>();
  let working = 0;
  onLog = () => {
    working++;
    return released.promise;
  };
  const names = Array.from({ length: limits.operationsInFlight + 5 }, (_, i) => `c${i}`);
  await put(...names.map((name) => record(name, "creating", name)));
  await coordinate();
  const drafted = () => eventually(async () => expect(await operations()).toHaveLength(limits.operationsInFlight));
  await drafted();
  // Each of them makes two logs.
  await eventually(() => expect(working).toBe(2 * limits.operationsInFlight));
  await drafted();
  released.resolve();
  await ended(names.length);
});

test("collections wait for nodes, and are placed as soon as there are enough", async () => {
  await put({ ...record("two", "creating"), replicationFactor: 2 });
  const { operations: all, nodes } = await coordinate();
  await eventually(() => expect(all.get("create-two")?.value.error?.code).toBe("FAILED_PRECONDITION"));
  await nodes.announce(node("n2"));
  await ended();
  expect(await present()).toMatchObject({ state: "ready", shards: [{ replicas: [{}, {}] }, { replicas: [{}, {}] }] });
});

test("an operation that was forgotten meanwhile is not worked on over and over until the view hears of it", async () => {
  held = false;
  await put(record("one", "deleting"));
  const { operations: all, close } = await coordinate();
  const { revision } = await all.create({
    id: "delete-one",
    kind: "delete_collection",
    subject: { collectionId: "one", collection: "things" },
    step: "remove_logs",
    data: { shards: [0] },
  });
  await close();
  let steps = 0;
  onLog = async () => void steps++;
  await coordinate(catalog, true);
  await catalog.delete("operations.delete-one", revision);
  held = true;
  await eventually(() => expect(steps).toBe(1));
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(steps).toBe(1);
});

test("an operation of a newer release rests, and is said once", async () => {
  const newer = { version: 1, id: "x", kind: "teleport", subject: { collectionId: "c", collection: "c" } };
  await catalog.create(
    "operations.x",
    JSON.stringify({ ...newer, state: "running", step: "?", data: {}, attempts: 0 }),
  );
  await put(record("one", "creating"));
  await coordinate();
  await ended();
  expect(warnings).toEqual([expect.stringMatching(/operation x \(teleport, version 1\)/)]);
  expect((await operations()).find(({ id }) => id === "x")?.state).toBe("running");
});

test("operations that ended long ago are forgotten", async () => {
  const count = limits.endedOperations + 40;
  for (let i = 0; i < count; i++) {
    const subject = { collectionId: `c${i}`, collection: "c" };
    const old = {
      version: 1,
      id: `delete-c${i}`,
      kind: "delete_collection",
      subject,
      state: "done",
      step: "",
      data: {},
    };
    await catalog.create(
      `operations.${old.id}`,
      JSON.stringify({ ...old, createdAtMs: i, updatedAtMs: i, attempts: 0 }),
    );
  }
  await coordinate();
  const left = await eventually(async () => {
    const all = await operations();
    expect(all).toHaveLength(limits.endedOperations);
    return all;
  });
  expect(Math.min(...left.map(({ updatedAtMs }) => updatedAtMs))).toBe(40);
});

describe("a coordinator that dies at any of its writes leaves what the next one brings to its end", () => {
  const writes = ["create", "update", "delete"] as const;

  /** A catalog that takes so many writes more; `isLost`: the last one is done, and its answer is lost. */
  function dying(count: number, isLost: boolean): { own: Catalog; died: () => boolean } {
    let left = count;
    let isDead = false;
    const change: Record<string, unknown> = {};
    for (const write of writes) {
      change[write] = async (...given: unknown[]): Promise<unknown> => {
        const isLast = left-- <= 0;
        if (isLast) isDead = true;
        if (isLast && (!isLost || left < -1)) throw new KithError("CATALOG_UNAVAILABLE", "dead");
        const done: unknown = await (catalog[write] as (...args: unknown[]) => Promise<unknown>).apply(catalog, given);
        if (isLast) throw new KithError("CATALOG_UNAVAILABLE", "dead");
        return done;
      };
    }
    return { own: proxied(catalog, change), died: () => isDead };
  }

  const cases = [0, 1, 2, 3, 4, 5].flatMap((count) => [false, true].map((isLost) => ({ count, isLost })));

  async function through(count: number, isLost: boolean): Promise<void> {
    const { own, died } = dying(count, isLost);
    const first = await coordinate(own);
    await eventually(async () => expect(died() || (await operations()).some((each) => !isLive(each))).toBe(true));
    await first.close();
    await coordinate();
  }

  test.each(cases)("creating, after $count writes, of which the last is lost: $isLost", async ({ count, isLost }) => {
    await put(record("one", "creating"));
    await through(count, isLost);
    expect(await ended()).toMatchObject([{ id: "create-one", state: "done" }]);
    expect(await present()).toMatchObject({ id: "one", state: "ready", shards: [{ replicas: [{ node: "n1" }] }, {}] });
    expect([...logs].sort()).toEqual(["one/0", "one/1"]);
  });

  test.each(cases)("deleting, after $count writes, of which the last is lost: $isLost", async ({ count, isLost }) => {
    for (const shard of [0, 1]) logs.add(`one/${shard}`);
    await put(record("one", "deleting"));
    await through(count, isLost);
    expect(await ended()).toMatchObject([{ id: "delete-one", state: "done" }]);
    expect(await present()).toBeUndefined();
    expect([...logs]).toEqual([]);
  });

  test.each(cases)(
    "changing the schema, after $count writes, of which the last is lost: $isLost",
    async ({ count, isLost }) => {
      const index = { path: "genre", kind: "keyword", isTenant: false, isPrincipal: false } as const;
      await put({ ...record("one", "ready"), change: { version: 2, kind: "addPayloadIndex", index } });
      await through(count, isLost);
      expect(await ended()).toMatchObject([{ id: "schema-one-2", state: "done" }]);
      const after = await present();
      expect(after).toMatchObject({ schemaVersion: 2, payloadIndexes: [index] });
      expect(after).not.toHaveProperty("change");
      // Each log has it once or more, and as the same operation: more have no effect.
      expect(new Set(appended.map(({ shard }) => shard))).toEqual(new Set([0, 1]));
      const steps = appended.flatMap(({ data }) => decodeRecord(data).operations);
      expect(new Set(steps.map(({ operationId }) => Buffer.from(operationId).toString("hex"))).size).toBe(1);
      const change = { $case: "addPayloadIndex", value: expect.anything() as unknown };
      for (const { mutation } of steps)
        expect(mutation).toMatchObject({ $case: "changeSchema", value: { version: 2, change } });
    },
  );

  test.each(cases)("undoing, after $count writes, of which the last is lost: $isLost", async ({ count, isLost }) => {
    whileWorking(() => another("marks"));
    await put(record("one", "creating"));
    await through(count, isLost);
    expect(await ended()).toMatchObject([{ id: "create-one", state: "cancelled" }]);
    expect(await present()).toBeUndefined();
    expect([...logs]).toEqual([]);
  });
});
