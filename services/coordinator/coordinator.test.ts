import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type Deferred,
  deferred,
  type ErrorCode,
  KithError,
  systemClock,
  systemRuntime,
} from "../../libs/base/index.js";
import { type Catalog, openEmbeddedCatalog } from "../../libs/catalog/index.js";
import { type CatalogView, collectionsView, type Lease, type NodeRecord, NodesView } from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import type { Collection } from "../../libs/model/index.js";
import { type Logger, silentLogger } from "../../libs/telemetry/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { Coordinator } from "./index.js";

const key = "collections.things";

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
    nextShard: 1,
    shards: newShards(1),
  };
}

const node: NodeRecord = {
  id: "n1",
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

/** One coordinator whose view of the collections stays what it was at the start, and what happens while it works on the log. */
let directory: string;
let catalog: Catalog;
let collections: CatalogView<Collection>;
let nodes: NodesView;
let held: boolean;
let logs: Set<string>;
let onLog: () => Promise<void>;
let worked: Deferred<void>;
let coordinator: Coordinator;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-coordinator-"));
  catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
  held = true;
  logs = new Set();
  worked = deferred();
  onLog = async () => undefined;
  nodes = new NodesView(catalog, systemClock);
  await nodes.start();
  await nodes.announce(node);
});
afterEach(async () => {
  await coordinator.close();
  await collections.close();
  await nodes.close();
  await catalog.close();
  await rm(directory, { recursive: true, force: true });
});

async function coordinate(present: Collection): Promise<void> {
  await catalog.create(key, JSON.stringify(present));
  const watch = catalog.watch.bind(catalog);
  let isReady = false;
  catalog.watch = (prefix, handlers) =>
    watch(prefix, {
      onChange: (change) => {
        if (!isReady) handlers.onChange(change);
      },
      onReady: () => {
        isReady = true;
        handlers.onReady?.();
      },
    });
  collections = collectionsView(catalog);
  await collections.start();
  const log = {
    create: async ({ collectionId }) => {
      await onLog();
      logs.add(collectionId);
      worked.resolve();
      return { firstSequence: 1, lastSequence: 0, incarnation: "", sizeBytes: 0 };
    },
    remove: async ({ collectionId }) => {
      logs.delete(collectionId);
      await onLog();
      worked.resolve();
    },
  } as Pick<Log, "create" | "remove"> as Log;
  begin(log, silentLogger);
  await worked.promise;
  // Ends after the step in hand.
  await coordinator.close();
}

function begin(log: Log, logger: Logger): void {
  const lease = {
    get held() {
      return held;
    },
    tick: async () => held,
    release: async () => undefined,
  } as Lease;
  coordinator = new Coordinator({ lease, collections, nodes, log, clock: systemClock, logger });
  coordinator.start();
}

/** One coordinator over all that happens to these collections, with a log that refuses to be made as `refusal` says. */
async function coordinateAll(records: Collection[], refusal: (id: string) => ErrorCode | undefined): Promise<string[]> {
  const warnings: string[] = [];
  for (const each of records) await catalog.create(`collections.${each.name}`, JSON.stringify(each));
  collections = collectionsView(catalog);
  await collections.start();
  const log = {
    create: async ({ collectionId }) => {
      const code = refusal(collectionId);
      if (code !== undefined) throw new KithError(code, `refused: ${code}`);
      logs.add(collectionId);
      return { firstSequence: 1, lastSequence: 0, incarnation: "", sizeBytes: 0 };
    },
    remove: async ({ collectionId }) => void logs.delete(collectionId),
  } as Pick<Log, "create" | "remove"> as Log;
  begin(log, { ...silentLogger, warn: (message) => void warnings.push(message) });
  return warnings;
}

const isReady = (value: Collection | undefined): boolean => value?.state === "ready";

/** What another coordinator does to the present entry. */
async function another(change: "deletes" | "makes anew"): Promise<void> {
  const present = await catalog.get(key);
  if (present === undefined) return;
  await catalog.delete(key, present.revision);
  if (change === "makes anew") await catalog.create(key, JSON.stringify(record("new", "ready")));
}

const present = async (): Promise<Collection | undefined> => {
  const entry = await catalog.get(key);
  return entry && (JSON.parse(entry.value) as Collection);
};

test("places a new collection", async () => {
  await coordinate(record("old", "creating"));
  expect(await present()).toMatchObject({
    id: "old",
    state: "ready",
    shards: [{ replicas: [{ node: "n1", state: "active" }] }],
  });
  expect([...logs]).toEqual(["old"]);
});

test("deletes a collection with its logs", async () => {
  logs.add("old");
  await coordinate(record("old", "deleting"));
  expect(await present()).toBeUndefined();
  expect([...logs]).toEqual([]);
});

test("spares a collection that was made anew under the name of the deleted one", async () => {
  onLog = () => another("makes anew");
  await coordinate(record("old", "deleting"));
  expect(await present()).toMatchObject({ id: "new", state: "ready" });
});

test("deletes nothing once it has lost the lease", async () => {
  onLog = async () => {
    held = false;
  };
  await coordinate(record("old", "deleting"));
  expect(await present()).toMatchObject({ id: "old", state: "deleting" });
});

test.each(["deletes", "makes anew"] as const)(
  "leaves no log behind where another one %s the collection while it is being placed",
  async (change) => {
    onLog = () => another(change);
    await coordinate(record("old", "creating"));
    expect([...logs]).toEqual([]);
    expect((await present())?.id).toBe(change === "deletes" ? undefined : "new");
  },
);

test("clears what is being deleted first: it makes the room that the new one needs", async () => {
  logs.add("old");
  const records = [record("new", "creating", "a"), record("old", "deleting", "b")];
  const warnings = await coordinateAll(records, () => (logs.size > 0 ? "RESOURCE_EXHAUSTED" : undefined));
  await collections.until("a", isReady);
  expect([...logs]).toEqual(["new"]);
  expect(warnings).toEqual([]);
});

test("a collection whose logs cannot be made holds up no other, and is warned of once", async () => {
  let code: ErrorCode = "INVALID_CONFIG";
  let refused = 0;
  const records = [record("bad", "creating", "a"), record("good", "creating", "b")];
  const warnings = await coordinateAll(records, (id) => {
    if (id !== "bad") return undefined;
    refused++;
    return code;
  });
  await collections.until("b", isReady);
  /** Every change of a node wakes the coordinator. */
  const step = async (): Promise<void> => {
    const before = refused;
    await expect
      .poll(async () => {
        await nodes.announce(node);
        return refused;
      })
      .toBeGreaterThan(before);
  };
  for (let steps = 0; steps < 3; steps++) await step();
  expect(warnings).toEqual([expect.stringMatching(/"a".*refused: INVALID_CONFIG/)]);
  code = "DISK_FULL";
  // Once more, so that the step that was refused anew is over.
  for (let steps = 0; steps < 2; steps++) await step();
  expect(warnings.slice(1)).toEqual([expect.stringMatching(/"a".*refused: DISK_FULL/)]);
});
