import { expect, test } from "vitest";
import { systemRuntime } from "../../../libs/base/index.js";
import { collectionsView } from "../../../libs/cluster/index.js";
import { createLogger } from "../../../libs/telemetry/index.js";
import { RoutingTable } from "./routing-table.js";
import { call, collectionRecord, FakeCatalog, FakeLog, FakeNode } from "../testing/router.js";

async function withDirectory(
  nodes: FakeNode[],
  check: (routingTable: RoutingTable, catalog: FakeCatalog, errors: string[]) => Promise<void>,
): Promise<void> {
  const ids = nodes.map(({ id }) => id);
  const catalog = new FakeCatalog();
  catalog.put("collections.c", JSON.stringify(collectionRecord("c", ids)));
  const collections = collectionsView(catalog);
  await collections.start();
  const errors: string[] = [];
  const routingTable = new RoutingTable({
    collections,
    log: new FakeLog(),
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
  catalog.put("collections.c", JSON.stringify({ ...record, labels }));
  await expect.poll(() => asked).toBeGreaterThanOrEqual(nodes.length);
}

test("a change that moves nothing keeps what is known of a shard's replicas", async () => {
  const nodes = [new FakeNode("a"), new FakeNode("b")];
  await withDirectory(nodes, async (routingTable, catalog) => {
    const [before] = routingTable.resolve("c").shards;
    await poll(nodes, catalog, { changed: "yes" });
    expect(routingTable.resolve("c").record.labels).toEqual({ changed: "yes" });
    expect(routingTable.resolve("c").shards[0]).toBe(before);
    catalog.put("collections.c", JSON.stringify(collectionRecord("c", ["b", "a"])));
    expect(routingTable.resolve("c").shards[0]?.replicas).toEqual([before?.replicas[1], before?.replicas[0]]);
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
    const [old] = routingTable.resolve("c").lanes;
    const write = (lane: typeof old) =>
      lane?.write({ operationId: new Uint8Array(16), traceparent: "", mutation: undefined }, 1, "log", call);
    // Queued, and not appended before the collection is gone.
    const queued = write(old)?.catch((error: unknown) => error);
    catalog.put("collections.c", JSON.stringify({ ...collectionRecord("c", ["a"]), id: "c2" }));
    expect(await queued).toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    await expect(write(old)).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
    expect(await write(routingTable.resolve("c").lanes[0])).toMatchObject({ sequence: 1 });
  });
});
