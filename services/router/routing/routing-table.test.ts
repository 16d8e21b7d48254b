import { expect, test } from "vitest";
import { systemRuntime } from "../../../libs/base/index.js";
import { FakeCatalog } from "../../../libs/catalog/testing.js";
import { collectionsView } from "../../../libs/cluster/index.js";
import { FakeLog } from "../../../libs/log/testing.js";
import { idFromNum, type ShardPlacement, type ShardState } from "../../../libs/model/index.js";
import { hashSlotOf } from "../../../libs/sharding/index.js";
import { createLogger } from "../../../libs/telemetry/index.js";
import type { ipb } from "../../../libs/wire/index.js";
import type { RoutedShard } from "./routed-shard.js";
import { RoutingTable } from "./routing-table.js";
import type { WriteLane } from "../write/write-lane.js";
import { call, collectionRecord, FakeNode } from "../testing/router.js";

async function withDirectory(
  nodes: FakeNode[],
  check: (routingTable: RoutingTable, catalog: FakeCatalog, errors: string[]) => Promise<void>,
): Promise<void> {
  const ids = nodes.map(({ id }) => id);
  const catalog = await FakeCatalog.open();
  const log = await FakeLog.open();
  for (const collectionId of ["c1", "c2"]) {
    for (const shard of [0, 3, 8]) await log.create({ collectionId, shard });
  }
  await catalog.put("collections.c", JSON.stringify(collectionRecord("c", ids)));
  const collections = collectionsView(catalog);
  await collections.start();
  const errors: string[] = [];
  const routingTable = new RoutingTable({
    collections,
    log,
    ...systemRuntime,
    zone: "",
    findNode: (id) => nodes.find((node) => node.id === id) as FakeNode,
    logger: createLogger({ level: "error", nodeId: "here", write: (line) => void errors.push(line) }),
  });
  try {
    await check(routingTable, catalog, errors);
  } finally {
    routingTable.close();
  }
}

/** Changes the catalog's entry, which has the states polled; resolves when every node was asked. */
async function poll(nodes: FakeNode[], catalog: FakeCatalog, labels: Record<string, string>): Promise<void> {
  let asked = 0;
  for (const node of nodes) {
    const { status } = node;
    node.status = (...args) => {
      asked++;
      return status(...args);
    };
  }
  const record = collectionRecord(
    "c",
    nodes.map(({ id }) => id),
  );
  await catalog.put("collections.c", JSON.stringify({ ...record, labels }));
  await expect.poll(() => asked).toBeGreaterThanOrEqual(nodes.length);
}

test("a change that moves nothing keeps what is known of a shard's replicas", async () => {
  const nodes = [new FakeNode("a"), new FakeNode("b")];
  await withDirectory(nodes, async (routingTable, catalog) => {
    const [before] = routingTable.resolve("c", call).shards;
    await poll(nodes, catalog, { changed: "yes" });
    expect(routingTable.resolve("c", call).record.labels).toEqual({ changed: "yes" });
    expect(routingTable.resolve("c", call).shards[0]).toBe(before);
    await catalog.put("collections.c", JSON.stringify(collectionRecord("c", ["b", "a"])));
    expect(routingTable.resolve("c", call).shards[0]?.replicas).toEqual([before?.replicas[1], before?.replicas[0]]);
  });
});

test("replicas that differ at the same sequence are reported once", async () => {
  const nodes = [new FakeNode("a"), new FakeNode("b")];
  const [a, b] = nodes as [FakeNode, FakeNode];
  const { status } = b;
  b.status = async (...args) => ({ ...(await status(...args)), digest: "ff" });
  a.applied = b.applied = 5;
  await withDirectory(nodes, async (_, catalog, errors) => {
    await expect.poll(() => errors).toHaveLength(1);
    expect(errors[0]).toMatch(/nodes a and b differ at sequence 5 .*stop the node.*replicas\/c1\/0/);
    await poll(nodes, catalog, { again: "1" });
    await poll(nodes, catalog, { again: "2" });
    expect(errors).toHaveLength(1);
  });
});

test("a collection that was deleted and made anew while the watch was away takes no more writes under its old id", async () => {
  const nodes = [new FakeNode("a")];
  await withDirectory(nodes, async (routingTable, catalog) => {
    const old = routingTable.resolve("c", call).laneOf(0);
    const write = (lane: WriteLane) => lane.write(operation, 1, "log", call);
    // Queued, and not appended before the collection is gone.
    const queued = write(old).catch((error: unknown) => error);
    await catalog.put("collections.c", JSON.stringify({ ...collectionRecord("c", ["a"]), id: "c2" }));
    expect(await queued).toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    await expect(write(old)).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    expect(await write(routingTable.resolve("c", call).laneOf(0))).toMatchObject({ sequence: 1 });
  });
});

test("a new collection has its own replicas asked for their state, and not those of all others; no leak of listeners is reported", async () => {
  const nodes = [new FakeNode("a")];
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.name);
  process.on("warning", onWarning);
  await withDirectory(nodes, async (routingTable, catalog) => {
    let asked = 0;
    const [node] = nodes as [FakeNode];
    const { status } = node;
    node.status = (name, minSequence, context) => {
      asked++;
      // As the link does for as long as the answer is away.
      context.signal?.addEventListener("abort", () => undefined, { once: true });
      return status(name, minSequence, context);
    };
    const count = 60;
    for (let i = 0; i < count; i++) {
      await catalog.put(`collections.n${i}`, JSON.stringify({ ...collectionRecord(`n${i}`, ["a"]), id: `n${i}` }));
    }
    await expect.poll(() => routingTable.all()).toHaveLength(count + 1);
    const all = count + 1;
    // One each, and what the regular poll of all may have asked meanwhile: quadratic would be 1,800.
    expect(asked).toBeLessThanOrEqual(4 * all);
    await routingTable.poll(routingTable.all().flatMap(({ shards }) => shards));
    expect(warnings).toEqual([]);
  }).finally(() => process.off("warning", onWarning));
});

const operation: ipb.Operation = { operationId: new Uint8Array(16), traceparent: "", mutation: undefined };

/** Placed on node "a" only, whatever the state. */
function shardOf(shard: number, firstSlot: number, lastSlot: number, state: ShardState = "active"): ShardPlacement {
  return { ...(collectionRecord("c", ["a"], [shard]).shards[0] as ShardPlacement), firstSlot, lastSlot, state };
}

test("points find their shard by its id, in whatever order the record has the shards", async () => {
  await withDirectory([new FakeNode("a")], async (routingTable, catalog) => {
    const record = collectionRecord("c", ["a"], [7, 3]);
    await catalog.put("collections.c", JSON.stringify(record));
    const collection = routingTable.resolve("c", call);
    expect(collection.shards.map(({ id }) => id.shard)).toEqual([3, 7]);
    for (let num = 0; num < 50; num++) {
      const id = idFromNum(num);
      const slot = hashSlotOf(id);
      const owner = record.shards.find(({ firstSlot, lastSlot }) => firstSlot <= slot && slot <= lastSlot);
      expect(collection.shardOf(id).id).toEqual({ collectionId: "c1", shard: owner?.shard });
    }
    expect(collection.find(0)).toBeUndefined();
    expect(collection.find(7)?.id.shard).toBe(7);
  });
});

test("a shard that passes its slots on takes no more writes; those that stay keep their lanes", async () => {
  await withDirectory([new FakeNode("a")], async (routingTable, catalog) => {
    const put = async (...shards: ShardPlacement[]): Promise<void> => {
      const record = { ...collectionRecord("c", ["a"]), nextShard: 10, shards };
      await catalog.put("collections.c", JSON.stringify(record));
    };
    await put(shardOf(3, 0, 99), shardOf(7, 100, 16_383), shardOf(8, 100, 16_383, "preparing"));
    const before = routingTable.resolve("c", call);
    expect(before.shards.map(({ id }) => id.shard)).toEqual([3, 7]);
    const [kept, lost] = [before.laneOf(3), before.laneOf(7)];
    await put(shardOf(3, 0, 99), shardOf(7, 100, 16_383, "sealed"), shardOf(8, 100, 16_383));
    const after = routingTable.resolve("c", call);
    expect(after.shards.map(({ id }) => id.shard)).toEqual([3, 8]);
    expect(after.allShards().map(({ id }) => id.shard)).toEqual([3, 7, 8]);
    expect(after.laneOf(3)).toBe(kept);
    await expect(lost.write(operation, 1, "log", call)).rejects.toMatchObject({
      code: "STALE_EPOCH",
      details: { shard: 7 },
    });
    expect(await after.laneOf(8).write(operation, 1, "log", call)).toMatchObject({ sequence: 1 });
  });
});

test("a replica's handle outlives a change of its placement, and has the new one", async () => {
  await withDirectory([new FakeNode("a")], async (routingTable, catalog) => {
    const shard = () => routingTable.resolve("c", call).shards[0] as RoutedShard;
    const [before, replica] = [shard(), shard().replicas[0]];
    const record = collectionRecord("c", ["a"]);
    const leaving = { node: "a", state: "leaving", sinceMs: 9 };
    const shards = record.shards.map((each) => ({ ...each, replicas: [leaving] }));
    await catalog.put("collections.c", JSON.stringify({ ...record, shards }));
    expect(shard()).not.toBe(before);
    expect(shard().replicas[0]).toBe(replica);
    expect(replica?.placement).toEqual(leaving);
  });
});
