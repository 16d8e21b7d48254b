import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BackupLocations } from "../../libs/backup/index.js";
import { KithError, systemClock, systemRandom } from "../../libs/base/index.js";
import { eventually, FastClock, ShiftedClock } from "../../libs/base/testing.js";
import { FakeCatalog } from "../../libs/catalog/testing.js";
import {
  collectionsView,
  type Lease,
  type NodeRecord,
  NodesView,
  type OperationRecord,
  Operations,
  type ReplicaMove,
  SettingsView,
} from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import { type Collection, parseCollection, type ReplicaPlacement, type ReplicaStatus } from "../../libs/model/index.js";
import { newShards } from "../../libs/sharding/index.js";
import { silentLogger } from "../../libs/telemetry/index.js";
import { Coordinator } from "./index.js";

let catalog: FakeCatalog;
let clock: ShiftedClock;
/** What each node says of its replica; missing: it cannot be asked. */
let states: Map<string, ReplicaStatus["state"]>;
let isHeld: boolean;
let closers: (() => Promise<void>)[];
/** Nodes whose records are renewed, with their zones. */
let up: Map<string, string>;

/** What coordinators wait for comes so many times as soon. */
const rate = 4;
const renewEveryMs = 1_000;

beforeEach(async () => {
  catalog = await FakeCatalog.open();
  clock = new ShiftedClock(new FastClock(systemClock, rate));
  states = new Map();
  isHeld = true;
  closers = [];
  up = new Map();
  const renewing = clock.every(() => {
    for (const [id, zone] of up) void addNode(id, zone);
  }, renewEveryMs);
  closers.push(async () => renewing.close());
  for (const id of ["a", "b", "c"]) await addNode(id, id === "c" ? "z2" : "z1");
});
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  await catalog.close();
});

async function addNode(id: string, zone: string): Promise<void> {
  up.set(id, zone);
  const record: NodeRecord = {
    ...{ id, zone, linkAddress: "", address: "", roles: ["shard"], state: "up", startedAtMs: 0, version: "" },
    ...{ memoryBytes: 0, diskFreeBytes: 0, heartbeat: 0 },
  };
  await catalog.put(`nodes.${id}`, JSON.stringify(record));
}

function placement(node: string, state: ReplicaPlacement["state"] = "active", operation?: string): ReplicaPlacement {
  return { node, state, sinceMs: 0, ...(operation !== undefined && { operation }) };
}

async function removeNode(id: string): Promise<void> {
  up.delete(id);
  await catalog.remove(`nodes.${id}`);
}

/** Time in which a coordinator does something, or would. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimer(resolve, ms));
}

async function put(replicas: ReplicaPlacement[], replicationFactor = replicas.length): Promise<void> {
  const [shard] = newShards(1);
  if (shard === undefined) return;
  const record: Collection = {
    ...{ id: "one", name: "things", replicationFactor, epoch: 1, createdAtMs: 0, labels: {}, state: "ready" },
    ...{ nextShard: 1, payloadIndexes: [], schemaVersion: 1, shards: [{ ...shard, replicas }] },
    fields: [{ name: "", dimension: 4, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
  };
  await catalog.put("collections.things", JSON.stringify(record));
}

async function replicas(): Promise<string[]> {
  const entry = await catalog.get("collections.things");
  const { shards = [] } = entry === undefined ? {} : parseCollection(entry.value);
  return (shards[0]?.replicas ?? []).map(({ node, state }) => `${node} ${state}`);
}

async function operations(): Promise<OperationRecord[]> {
  return (await catalog.list("operations")).map(({ value }) => JSON.parse(value) as OperationRecord);
}

async function coordinate() {
  const collections = collectionsView(catalog);
  const all = new Operations(catalog, clock);
  const nodes = new NodesView(catalog, clock);
  const settings = new SettingsView(catalog);
  await Promise.all([collections.start(), all.start(), nodes.start(), settings.start()]);
  const lease = {
    get held() {
      return isHeld;
    },
    tick: async () => isHeld,
    release: async () => undefined,
  } as Lease;
  const log = { state: async () => ({ firstSequence: 1, lastSequence: 0, incarnation: "", sizeBytes: 0 }) } as Pick<
    Log,
    "state"
  > as Log;
  const backups = {
    locations: new BackupLocations({}, systemRandom),
    run: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "no node works here")),
  };
  const coordinator = new Coordinator({
    ...{ lease, collections, operations: all, nodes, settings, log, backups, clock, random: systemRandom },
    logger: silentLogger,
    trialOf: () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "no node tries anything here")),
    statusOf: async (node) => {
      const state = states.get(node);
      if (state === undefined) throw new KithError("SHARD_UNAVAILABLE", `node ${node} cannot be asked`);
      const counts = {
        appliedSequence: 0,
        indexedVectorCount: 0,
        unindexedVectorCount: 0,
        memoryBytes: 0,
        diskBytes: 0,
      };
      return { state, ...counts } as ReplicaStatus;
    },
  });
  coordinator.start();
  const close = async (): Promise<void> => {
    await coordinator.close();
    await Promise.all([collections.close(), all.close(), nodes.close(), settings.close()]);
  };
  closers.push(close);
  return { operations: all, settings, nodes };
}

type Step = "join" | "copy" | "switch" | "drop";

/** A move that another coordinator has left at a step. */
async function left(step: Step, data: ReplicaMove, state: "running" | "cancelling" = "running"): Promise<void> {
  const record = {
    ...{
      version: 1,
      id: "move-1",
      kind: "move_replica",
      state,
      step,
      data,
      attempts: 0,
      createdAtMs: 0,
      updatedAtMs: 0,
    },
    subject: { collectionId: "one", collection: "things", shard: 0 },
  };
  await catalog.put("operations.move-1", JSON.stringify(record));
}

/** Resolves with the state in which the move has ended. */
function ended(): Promise<string> {
  return eventually(async () => {
    const [move] = await operations();
    expect(["done", "failed", "cancelled"]).toContain(move?.state);
    return move?.state ?? "";
  }, 10_000);
}

const move: ReplicaMove = { from: "a", to: "c", reason: "requested" };
/** What a coordinator finds at each step, before it has taken it and after it has, and died before it was written down. */
const found: [Step, "before" | "after", ReplicaPlacement[]][] = [
  ["join", "before", [placement("a"), placement("b")]],
  ["join", "after", [placement("a"), placement("b"), placement("c", "joining", "move-1")]],
  ["copy", "before", [placement("a"), placement("b"), placement("c", "joining", "move-1")]],
  ["switch", "before", [placement("a"), placement("b"), placement("c", "joining", "move-1")]],
  ["switch", "after", [placement("a", "leaving", "move-1"), placement("b"), placement("c")]],
  ["drop", "before", [placement("a", "leaving", "move-1"), placement("b"), placement("c")]],
  ["drop", "after", [placement("b"), placement("c")]],
];

describe("a move that a coordinator has left behind", () => {
  beforeEach(() => {
    states = new Map(["a", "b", "c"].map((node) => [node, "active"]));
  });

  test.each(found)("at the step %s, %s it was taken, is brought to its end", async (step, _, present) => {
    await put(present, 2);
    await left(step, move);
    await coordinate();
    expect(await ended()).toBe("done");
    expect(await replicas()).toEqual(["b active", "c active"]);
  });

  test.each(found)("at the step %s, %s it was taken, is undone", async (step, taken, present) => {
    await put(present, 2);
    await left(step, move, "cancelling");
    await coordinate();
    const isTooLate = step === "drop" && taken === "after";
    expect(await ended()).toBe(isTooLate ? "done" : "cancelled");
    expect(await replicas()).toEqual(isTooLate ? ["b active", "c active"] : ["a active", "b active"]);
  });

  test("ends as done where what it has left does not answer any more", async () => {
    states.delete("a");
    await put([placement("a", "leaving", "move-1"), placement("b"), placement("c")], 2);
    await left("drop", move, "cancelling");
    await coordinate();
    expect(await ended()).toBe("done");
    expect(await replicas()).toEqual(["b active", "c active"]);
  });
});

test("a replica that has not caught up is waited for, and nothing is written meanwhile", async () => {
  await put([placement("a")]);
  states.set("a", "active").set("c", "catching_up");
  await left("join", move);
  await coordinate();
  await eventually(async () => expect(await replicas()).toEqual(["a active", "c joining"]));
  const { revision } = (await eventually(() => catalog.get("operations.move-1"))) ?? { revision: 0 };
  await eventually(async () => expect((await operations())[0]?.step).toBe("copy"));
  const before = (await catalog.get("operations.move-1"))?.revision ?? revision;
  await pause(1_200);
  expect((await catalog.get("operations.move-1"))?.revision).toBe(before);
  states.set("c", "active");
  expect(await ended()).toBe("done");
});

test("the last active replica stays: one that cannot be asked is no other one", async () => {
  await put([placement("a"), placement("b")], 1);
  states.set("a", "active");
  await left("switch", { from: "a", reason: "requested" });
  await coordinate();
  await pause(1_200);
  expect(await replicas()).toEqual(["a active", "b active"]);
  states.set("b", "active");
  expect(await ended()).toBe("done");
  expect(await replicas()).toEqual(["b active"]);
});

test("of two moves of one shard the second waits, and is refused where the first has taken its ground", async () => {
  await put([placement("a"), placement("c", "joining", "other")], 1);
  await left("join", move);
  const other = { ...((await operations())[0] as OperationRecord), id: "other", step: "copy", createdAtMs: 1 };
  await catalog.put("operations.other", JSON.stringify(other));
  states.set("a", "active").set("c", "active");
  await coordinate();
  await eventually(async () => {
    const all = await operations();
    expect(all.map(({ id, state }) => [id, state]).sort()).toEqual([
      ["move-1", "failed"],
      ["other", "done"],
    ]);
  }, 10_000);
  expect(await replicas()).toEqual(["c active"]);
});

test("a target that is away for a minute is given up", async () => {
  await put([placement("a"), placement("c", "joining", "move-1")], 1);
  await left("copy", move);
  states.set("a", "active");
  await removeNode("c");
  await coordinate();
  await pause(700);
  clock.pass(61_000);
  for (const id of ["a", "b"]) await addNode(id, "z1");
  expect(await ended()).toBe("cancelled");
  expect(await replicas()).toEqual(["a active"]);
});

test("a placement whose operation is lost is cleared away", async () => {
  await put([placement("a", "leaving", "lost"), placement("c", "joining", "lost")], 1);
  await coordinate();
  await pause(300);
  clock.pass(11_000);
  for (const id of ["a", "b", "c"]) await addNode(id, "z1");
  await eventually(async () => expect(await replicas()).toEqual(["a active"]), 10_000);
});

test("a new replica goes into a zone without one, and the surplus one leaves a zone that has two", async () => {
  for (const node of ["a", "b", "c"]) states.set(node, "active");
  await put([placement("a")], 2);
  await coordinate();
  await eventually(async () => expect(await replicas()).toEqual(["a active", "c active"]), 10_000);
  await put([placement("a"), placement("b"), placement("c")], 2);
  await eventually(async () => expect(await replicas()).toContain("c active"), 10_000);
  await eventually(async () => expect(await replicas()).toHaveLength(2), 10_000);
  expect(await replicas()).toContain("c active");
});

test("as many moves go on at once as the settings say, the oldest first", async () => {
  await catalog.put("settings.cluster", JSON.stringify({ movesAtOnce: 1 }));
  await put([placement("a")]);
  states.set("a", "active").set("c", "catching_up");
  await left("copy", move);
  await put([placement("a"), placement("c", "joining", "move-1")], 1);
  const second = parseCollection((await catalog.get("collections.things"))?.value ?? "");
  const others = {
    ...second,
    id: "two",
    name: "others",
    shards: newShards(1).map((s) => ({ ...s, replicas: [placement("b")] })),
  };
  await catalog.put("collections.others", JSON.stringify(others));
  const waiting = {
    ...((await operations())[0] as OperationRecord),
    ...{ id: "second", step: "join", createdAtMs: 1, data: { from: "b", to: "c", reason: "requested" } },
    subject: { collectionId: "two", collection: "others", shard: 0 },
  };
  await catalog.put("operations.second", JSON.stringify(waiting));
  await coordinate();
  await pause(1_500);
  const stepOf = async (id: string) => (await operations()).find((each) => each.id === id)?.step;
  expect(await stepOf("second")).toBe("join");
  states.set("c", "active").set("b", "active");
  await eventually(
    async () => expect((await operations()).map(({ state }) => state)).toEqual(["done", "done"]),
    15_000,
  );
});

test("settings out of their bounds are refused, and those of a newer version count as not set", async () => {
  const { settings } = await coordinate();
  await expect(settings.change({ movesAtOnce: 0 })).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
  await settings.change({ movesAtOnce: 4 });
  await settings.change({ repairAfterMs: 1_000 });
  expect(settings.current).toMatchObject({ movesAtOnce: 4, repairAfterMs: 1_000 });
  await catalog.put("settings.cluster", JSON.stringify({ movesAtOnce: 1_000_000 }));
  await eventually(() => expect(settings.current).toMatchObject({ movesAtOnce: 2, repairAfterMs: 300_000 }));
});
describe("nodes that are not equally loaded", () => {
  /** Four shards on one of two nodes. */
  beforeEach(async () => {
    await removeNode("c");
    for (const node of ["a", "b"]) states.set(node, "active");
    await put([placement("a")], 1);
    const record = parseCollection((await catalog.get("collections.things"))?.value ?? "");
    const shards = newShards(4).map((shard) => ({ ...shard, replicas: [placement("a")] }));
    await catalog.put("collections.things", JSON.stringify({ ...record, nextShard: 4, shards }));
  });

  async function nodesOfShards(): Promise<string[]> {
    const { shards } = parseCollection((await catalog.get("collections.things"))?.value ?? "");
    return shards.flatMap(({ replicas: placed }) => placed.map(({ node }) => node)).sort();
  }

  /** Lets time pass while both nodes renew their records. */
  async function passing(ms: number): Promise<void> {
    // In steps in which no node counts as down.
    for (let i = 0; i < 4; i++) {
      clock.pass(ms / 4);
      for (const id of ["a", "b"]) await addNode(id, "z1");
    }
    await pause(1_200);
  }

  test("are balanced by themselves, after two looks at them", { timeout: 20_000 }, async () => {
    await catalog.put("settings.cluster", JSON.stringify({ rebalanceMinBytes: 0 }));
    await coordinate();
    await passing(16_000);
    expect(await operations()).toEqual([]);
    await passing(16_000);
    await eventually(async () => expect(await nodesOfShards()).toEqual(["a", "a", "b", "b"]), 15_000);
    expect((await operations()).map(({ state }) => state)).toEqual(["done", "done"]);
  });

  test.each([
    ["where that is off", { rebalanceMinBytes: 0, autoRebalance: 0 }],
    ["while it is paused", { rebalanceMinBytes: 0, rebalancePaused: 1 }],
    ["where the difference is small", {}],
  ])("stay as they are %s", { timeout: 20_000 }, async (_, settings) => {
    await catalog.put("settings.cluster", JSON.stringify(settings));
    await coordinate();
    for (let i = 0; i < 3; i++) await passing(16_000);
    expect(await operations()).toEqual([]);
    expect(await nodesOfShards()).toEqual(["a", "a", "a", "a"]);
  });
});
