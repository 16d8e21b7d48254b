import { expect, test } from "vitest";
import { creationIdOf, type NewOperation } from "../../../libs/cluster/index.js";
import { pb } from "../../../libs/wire/index.js";
import { call, FakeNode, routed } from "../testing/router.js";
import { Collections } from "./collections.js";
import { OperationsApi } from "./operations.js";

const creation = (id: string): NewOperation<"create_collection"> => ({
  id: creationIdOf(id),
  kind: "create_collection",
  subject: { collectionId: id, collection: "films" },
  step: "place",
  data: { shards: [0] },
});

async function given() {
  const router = await routed([new FakeNode("n1")]);
  const { operations, moves, resharding, collectionsOptions } = router;
  return { ...router, api: new OperationsApi(operations, moves, resharding, collectionsOptions.outages) };
}

test("an operation is shown as it is in the catalog, with the error of its last attempt", async () => {
  const { api, operations, close } = await given();
  const begun = await operations.create(creation("a"));
  await operations.advance(begun, { attempts: 2, error: { code: "DISK_FULL", message: "no room" } });
  const { operation } = await api.get({ id: "create-a" }, call);
  expect(operation).toMatchObject({
    id: "create-a",
    kind: "create_collection",
    state: "running",
    step: "place",
    collection: "films",
    collectionId: "a",
    shard: undefined,
    createdAt: new Date(begun.value.createdAtMs),
    attempts: 2,
    errorCode: "DISK_FULL",
    error: "no room",
  });
  expect(await api.list()).toEqual({ operations: [operation] });
  expect(await api.cancel({ id: "create-a" }, call)).toMatchObject({
    operation: { state: "cancelling", errorCode: "" },
  });
  close();
});

test("one that the view has not heard of is found in the catalog", async () => {
  const { api, operations, catalog, close } = await given();
  const { value } = await operations.create(creation("a"));
  for (const id of ["get-b", "cancel-b"]) {
    await catalog.quiet(() => catalog.put(`operations.${id}`, JSON.stringify({ ...value, id })));
  }
  expect(await api.get({ id: "get-b" }, call)).toMatchObject({ operation: { id: "get-b" } });
  expect(await api.cancel({ id: "cancel-b" }, call)).toMatchObject({
    operation: { id: "cancel-b", state: "cancelling" },
  });
  close();
});

test.each(["", "nothing", "a.b", "ä", "x".repeat(1_000)])("there is no operation %j", async (id) => {
  const { api, close } = await given();
  await expect(api.get({ id }, call)).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(api.cancel({ id }, call)).rejects.toMatchObject({ code: "NOT_FOUND" });
  close();
});

test("a creation that does not come to its end in time says why", async () => {
  const { collectionsOptions, operations, view, close } = await given();
  const collections = new Collections({ ...collectionsOptions, logKind: "embedded" });
  const request = (name: string) =>
    pb.CreateCollectionRequest.fromPartial({ name, vectors: [{ dimension: 2, metric: pb.Metric.L2 }] });
  const end = async (name: string, before: (id: string) => Promise<void>): Promise<unknown> => {
    const abort = new AbortController();
    const created = collections
      .create(request(name), { ...call, signal: abort.signal })
      .catch((error: unknown) => error);
    await view.until(name, (record) => record !== undefined);
    await before(view.get(name)?.value.id ?? "");
    abort.abort();
    return created;
  };
  expect(await end("x", () => Promise.resolve())).toMatchObject({
    code: "CANCELLED",
    message: expect.stringMatching(/"x" is registered.*no coordinator has begun/) as string,
  });
  const failing = await end("y", async (id) => {
    const begun = await operations.create(creation(id));
    await operations.advance(begun, { attempts: 1, error: { code: "INVALID_CONFIG", message: "no such log" } });
  });
  expect(failing).toMatchObject({ message: expect.stringMatching(/1 × 1 replicas.*: no such log$/) as string });
  close();
});
