import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRuntime } from "../base/index.js";
import { type Catalog, openEmbeddedCatalog } from "../catalog/index.js";
import { type NewOperation, Operations, type OperationKind, type OperationState } from "./index.js";

let directory: string;
let catalog: Catalog;
let nowMs: number;
let operations: Operations;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-operations-"));
  catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
  nowMs = 1_000;
  operations = await open();
});
afterEach(async () => {
  await operations.close();
  await catalog.close();
  await rm(directory, { recursive: true, force: true });
});

async function open(): Promise<Operations> {
  const opened = new Operations(catalog, { ...systemRuntime.clock, nowMs: () => nowMs });
  await opened.start();
  return opened;
}

const creation = (id: string): NewOperation<"create_collection"> => ({
  id: `create-${id}`,
  kind: "create_collection",
  subject: { collectionId: id, collection: "films" },
  step: "place",
  data: { shards: [0] },
});
const deletion = (id: string): NewOperation<"delete_collection"> => ({
  ...creation(id),
  id: `delete-${id}`,
  kind: "delete_collection",
  step: "remove_logs",
});

async function endedAs(operation: NewOperation<OperationKind>, state: OperationState): Promise<void> {
  nowMs++;
  await operations.advance(await operations.create(operation), { state });
}

test("an operation is created once", async () => {
  await operations.create(creation("a"));
  await expect(operations.create(creation("a"))).rejects.toMatchObject({ code: "ALREADY_EXISTS" });
  expect(operations.list()).toEqual([
    { version: 1, ...creation("a"), state: "running", createdAtMs: 1_000, updatedAtMs: 1_000, attempts: 0 },
  ]);
});

test("of two who advance the same operation, the one that is behind is refused", async () => {
  const mine = await operations.create(deletion("a"));
  const other = await open();
  const theirs = await other.read("delete-a");
  nowMs = 2_000;
  const next = await operations.advance(mine, { step: "remove_record", attempts: 0 });
  expect(next.value).toMatchObject({ step: "remove_record", createdAtMs: 1_000, updatedAtMs: 2_000 });
  const late = { ...mine, revision: theirs?.revision ?? 0 };
  await expect(other.advance(late, { state: "done" })).rejects.toMatchObject({ code: "REVISION_MISMATCH" });
  expect((await operations.read("delete-a"))?.value).toEqual(next.value);
  await other.close();
});

test("who advances an operation finds out that it was cancelled, also where its own view has heard of that", async () => {
  const mine = await operations.create(creation("a"));
  const failed = await operations.advance(mine, { attempts: 1, error: { code: "DISK_FULL", message: "full" } });
  expect(await operations.cancel("create-a")).toMatchObject({ state: "cancelling", step: "place", attempts: 0 });
  expect(operations.get("create-a")?.value).not.toHaveProperty("error");
  await expect(operations.advance(failed, { state: "done" })).rejects.toMatchObject({ code: "REVISION_MISMATCH" });
  expect(await operations.cancel("create-a")).toMatchObject({ state: "cancelling" });
});

test("what cannot be cancelled says why", async () => {
  await operations.create(deletion("a"));
  await endedAs(creation("b"), "done");
  const newer = { version: 2, ...creation("c"), state: "running" };
  await catalog.create("operations.create-c", JSON.stringify(newer));
  const refusal = (id: string) => operations.cancel(id).then(String, (error: unknown) => error);
  expect(await refusal("create-x")).toMatchObject({ code: "NOT_FOUND" });
  for (const [id, why] of [
    ["delete-a", /delete-a cannot be cancelled/],
    ["create-b", /create-b has ended already: it is done/],
    ["create-c", /create-c is of a newer version/],
  ] as const) {
    expect(await refusal(id)).toMatchObject({
      code: "FAILED_PRECONDITION",
      message: expect.stringMatching(why) as string,
    });
  }
});

test("those that are live are known, and of those that ended the newest are kept", async () => {
  await operations.create(creation("live"));
  for (const id of ["a", "b", "c", "d"]) await endedAs(creation(id), id === "d" ? "cancelled" : "done");
  expect([[...operations.live()], operations.endedCount]).toEqual([["create-live"], 4]);
  await operations.prune(2);
  expect(operations.list().map(({ id }) => id)).toEqual(["create-d", "create-c", "create-live"]);
  expect((await catalog.list("operations")).map(({ key }) => key)).toEqual([
    "operations.create-c",
    "operations.create-d",
    "operations.create-live",
  ]);
});
