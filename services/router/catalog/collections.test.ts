import { describe, expect, test } from "vitest";
import { deferred, type KithError, limits } from "../../../libs/base/index.js";
import type { NodeRecord } from "../../../libs/cluster/index.js";
import { pb } from "../../../libs/wire/index.js";
import { Collections } from "./collections.js";
import { OperationsApi } from "./operations.js";
import { SchemaChanges } from "./schema-changes.js";
import { call, collectionRecord, FakeNode, routed } from "../testing/router.js";

const node = (id: string, roles: string[]): Partial<NodeRecord> => ({ id, roles, state: "up" });

async function given(options: { logKind: "embedded" | "jetstream"; shardNodes: number }) {
  const replicas = new FakeNode("n1");
  const router = await routed([replicas]);
  const { catalog, clock } = router;
  await catalog.put("nodes.r", JSON.stringify(node("r", ["router"])));
  for (let i = 0; i < options.shardNodes; i++)
    await catalog.put(`nodes.s${i}`, JSON.stringify(node(`s${i}`, ["shard"])));
  const collections = new Collections({ ...router.collectionsOptions, logKind: options.logKind });
  const create = (name: string, replicationFactor: number) =>
    collections.create(
      pb.CreateCollectionRequest.fromPartial({
        name,
        vectors: [{ dimension: 2, metric: pb.Metric.L2 }],
        replicationFactor,
      }),
      call,
    );
  const { view, operations, routingTable, outages } = router.collectionsOptions;
  const schemaChanges = new SchemaChanges({ view, operations, routingTable, clock, outages });
  const operationsApi = new OperationsApi(operations, router.moves, router.resharding, outages);
  return { ...router, replicas, collections, schemaChanges, operationsApi, create, catalog, clock };
}

describe("more replicas than shard nodes", () => {
  test.each([
    { logKind: "embedded" as const, shardNodes: 1, message: /2 replicas .* 1 can take one.*cluster of several nodes/ },
    { logKind: "jetstream" as const, shardNodes: 1, message: /2 replicas .* 1 can take one.*start more/ },
  ])("are refused with a $logKind log, and nothing is written", async ({ message, ...options }) => {
    const { create, catalog, clock, close } = await given(options);
    const refused = create("x", 2).catch((error: unknown) => error);
    for (let i = 0; i < 2; i++) {
      clock.pass(3_000);
      // The node renews its key while the creation waits for others.
      await catalog.put("nodes.s0", JSON.stringify(node("s0", ["shard"])));
    }
    expect(await refused).toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringMatching(message) as string,
    });
    expect(await catalog.get("collections.x")).toBeUndefined();
    close();
  });

  test("are waited for where nodes are about to join", async () => {
    const { create, catalog, view, close } = await given({ logKind: "jetstream", shardNodes: 1 });
    const created = create("x", 2);
    await catalog.put("nodes.late", JSON.stringify(node("late", ["shard"])));
    // What the coordinator does.
    await view.until("x", (record) => record !== undefined);
    const placed = { ...view.get("x")?.value, ...collectionRecord("x", ["n1"]), id: view.get("x")?.value.id };
    await catalog.put("collections.x", JSON.stringify(placed));
    expect(await created).toMatchObject({ collection: { name: "x" } });
    close();
  });
});

test("a cluster has so many logs at most: creations and splits beyond are refused, and nothing is written", async () => {
  const { create, catalog, view, resharding, close } = await given({ logKind: "embedded", shardNodes: 1 });
  const shards = Array.from({ length: 256 }, (_, shard) => shard);
  const full = { ...collectionRecord("x", ["n1"], shards), id: "full" };
  for (let i = 0; i < limits.logsMax / 256; i++) {
    const name = `full-${i}`;
    await catalog.put(`collections.${name}`, JSON.stringify({ ...full, name, id: name }));
  }
  await view.until("full-15", (record) => record !== undefined);
  const refused = { code: "RESOURCE_EXHAUSTED", message: expect.stringContaining("4097 shards, and 1 more") as string };
  await expect(create("more", 1)).rejects.toMatchObject(refused);
  expect(await catalog.get("collections.more")).toBeUndefined();
  const split = resharding.split(pb.SplitShardRequest.fromPartial({ collection: "c", shard: 0, into: 2 }), call);
  await expect(split).rejects.toMatchObject({ code: "RESOURCE_EXHAUSTED" });
  close();
});

test("statistics name shards by their ids", async () => {
  const router = await routed([new FakeNode("n1").withPoints(7)], [7, 3]);
  const collections = new Collections({ ...router.collectionsOptions, logKind: "embedded" });
  const request = { name: "c", token: undefined };
  expect((await collections.stats(request, call)).shards.map(({ shard }) => shard)).toEqual([3, 7]);
  expect(await collections.waitIndexed(request, call)).toEqual({ indexedVectorCount: 14 });
  router.close();
});

describe("a collection that goes away", () => {
  test("while it is updated or deleted is not found, as a collection", async () => {
    const { collections, catalog, close } = await given({ logKind: "embedded", shardNodes: 1 });
    // The view has it still.
    await catalog.quiet(() => catalog.remove("collections.c"));
    const gone = { code: "COLLECTION_NOT_FOUND" };
    await expect(collections.update(pb.UpdateCollectionRequest.fromPartial({ name: "c" }), call)).rejects.toMatchObject(
      gone,
    );
    await expect(collections.delete({ name: "c" }, call)).rejects.toMatchObject(gone);
    close();
  });

  test("is not changed any more once it is being deleted or another one has its name", async () => {
    const { collections, catalog, record, close } = await given({ logKind: "embedded", shardNodes: 1 });
    for (const now of [
      { ...record, state: "deleting" },
      { ...record, id: "other" },
    ]) {
      await catalog.put("collections.c", JSON.stringify(record));
      await catalog.quiet(() => catalog.put("collections.c", JSON.stringify(now)));
      const request = pb.UpdateCollectionRequest.fromPartial({ name: "c", labels: { a: "b" } });
      await expect(collections.update(request, call)).rejects.toMatchObject({ code: "COLLECTION_NOT_FOUND" });
      expect(JSON.parse((await catalog.get("collections.c"))?.value ?? "")).toEqual(now);
    }
    close();
  });

  test("keeps its name until it is gone, and says that this will not be long", async () => {
    const { collections, catalog, record, create, close } = await given({ logKind: "embedded", shardNodes: 1 });
    await expect(create("c", 1)).rejects.toMatchObject({ code: "COLLECTION_EXISTS" });
    await catalog.put("collections.c", JSON.stringify({ ...record, state: "deleting" }));
    expect(collections.exists({ name: "c" }, call)).toEqual({ exists: false });
    await expect(create("c", 1)).rejects.toMatchObject({ code: "COLLECTION_NOT_READY", retryable: true });
    close();
  });
});

describe("a node that lacks what a new replica needs", () => {
  test.each(["RESOURCE_EXHAUSTED", "DISK_FULL"] as const)(
    "%s is told at once, and the collection is not ready",
    async (code) => {
      const { create, collections, catalog, view, replicas, close } = await given({
        logKind: "embedded",
        shardNodes: 1,
      });
      const { status } = replicas;
      replicas.status = async (...of) => {
        const known = await status(...of);
        if (of[0].collectionId === "c1") return known;
        return {
          ...known,
          state: "stale",
          schemaVersion: 0,
          fault: "it cannot be opened: Too many open files",
          faultCode: code,
        };
      };
      const created = create("x", 1).catch((error: unknown) => error);
      await view.until("x", (record) => record !== undefined);
      const { id = "" } = view.get("x")?.value ?? {};
      await catalog.put("collections.x", JSON.stringify({ ...collectionRecord("x", ["n1"]), id }));
      expect(await created).toMatchObject({
        code,
        message: expect.stringMatching(/"x" is registered, but not ready: node n1 .*Too many open files/) as string,
      });
      const states = (): unknown => collections.list(call).collections.map(({ name, state }) => [name, state]);
      expect(states()).toEqual([
        ["c", pb.CollectionState.READY],
        ["x", pb.CollectionState.CREATING],
      ]);
      expect(collections.get({ name: "x" }, call).collection?.state).toBe(pb.CollectionState.CREATING);
      // The node goes on trying.
      replicas.status = status;
      await expect.poll(states, { timeout: 5_000 }).toEqual([
        ["c", pb.CollectionState.READY],
        ["x", pb.CollectionState.READY],
      ]);
      close();
    },
  );
});

describe("while NATS is away", () => {
  test("what needs it ends as LOG_UNAVAILABLE within the time of grace, also where it waits for others", async () => {
    const { collections, schemaChanges, operationsApi, catalog, clock, create, view, close } = await given({
      logKind: "jetstream",
      shardNodes: 1,
    });
    const codeOf = (work: Promise<unknown>): Promise<unknown> =>
      work.then(
        () => "done",
        (error: KithError) => error.code,
      );
    const wait = async (): Promise<unknown[]> => {
      const index = { path: "a", kind: pb.PayloadIndexKind.KEYWORD };
      const all = [
        create("y", 1),
        collections.update(pb.UpdateCollectionRequest.fromPartial({ name: "c", labels: { a: "b" } }), call),
        collections.delete({ name: "c" }, call),
        schemaChanges.createPayloadIndex(pb.CreatePayloadIndexRequest.fromPartial({ collection: "c", index }), call),
        schemaChanges.dropPayloadIndex(pb.DropPayloadIndexRequest.fromPartial({ collection: "c", path: "a" }), call),
        schemaChanges.addVectorField(
          pb.AddVectorFieldRequest.fromPartial({
            collection: "c",
            field: { name: "more", dimension: 2, metric: pb.Metric.L2 },
          }),
          call,
        ),
        operationsApi.get({ id: "unknown" }, call),
        operationsApi.cancel({ id: "unknown" }, call),
      ].map(codeOf);
      clock.pass(2_100);
      return Promise.all(all);
    };
    // One creation is written already, and waits for the coordinator.
    const waiting = codeOf(create("x", 1));
    await view.until("x", (record) => record !== undefined);
    catalog.available = false;
    expect(new Set(await wait())).toEqual(new Set(["LOG_UNAVAILABLE"]));
    expect(await waiting).toBe("LOG_UNAVAILABLE");
    // By now it is known to be away: nothing waits any more.
    expect(await codeOf(create("z", 1))).toBe("LOG_UNAVAILABLE");
    expect(collections.list(call).collections.map(({ name }) => name)).toEqual(["c", "x"]);
    catalog.available = true;
    expect(await codeOf(collections.update(pb.UpdateCollectionRequest.fromPartial({ name: "c" }), call))).toBe("done");
    close();
  });
});

describe("a collection that is deleted while its creation is waited for", () => {
  const gone = {
    code: "COLLECTION_NOT_FOUND",
    message: expect.stringMatching(/"x" was created .*deleted again/) as string,
  };
  const begin = async () => {
    const router = await given({ logKind: "embedded", shardNodes: 1 });
    const created = router.create("x", 1).catch((error: unknown) => error);
    await router.view.until("x", (record) => record !== undefined);
    return { ...router, created, id: router.view.get("x")?.value.id ?? "" };
  };
  const ready = (id: string): string => JSON.stringify({ ...collectionRecord("x", ["n1"]), id });

  test("is reported, also where another one has its name by now", async () => {
    for (const other of [ready("another"), undefined]) {
      const { created, catalog, close } = await begin();
      if (other === undefined) await catalog.remove("collections.x");
      else await catalog.put("collections.x", other);
      expect(await created).toMatchObject(gone);
      close();
    }
  });

  test("is reported where it was placed already, and its replicas will never answer", async () => {
    const { created, catalog, id, replicas, close } = await begin();
    const asked = deferred<void>();
    replicas.state = "opening";
    const { status } = replicas;
    replicas.status = (...of) => {
      if (of[0].collectionId === id) asked.resolve();
      return status(...of);
    };
    await catalog.put("collections.x", ready(id));
    await asked.promise;
    await catalog.put("collections.x", ready("another"));
    expect(await created).toMatchObject(gone);
    close();
  });
});
