import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRuntime } from "../base/index.js";
import { type Catalog, openEmbeddedCatalog } from "../catalog/index.js";
import { CatalogView } from "./view.js";

let directory: string;
let catalog: Catalog;
let view: CatalogView<{ id: number }>;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-view-"));
  catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
  view = new CatalogView(catalog, "things", (json) => JSON.parse(json) as { id: number });
  await view.start();
});
afterEach(async () => {
  await view.close();
  await catalog.close();
  await rm(directory, { recursive: true, force: true });
});

/** Somebody else deletes the entry and makes it anew. */
async function remake(id: number): Promise<void> {
  const present = await catalog.get("things.a");
  if (present !== undefined) await catalog.delete("things.a", present.revision);
  await catalog.create("things.a", JSON.stringify({ id }));
}

test("deletes what the test allows, as it is in the catalog", async () => {
  await view.create("a", { id: 1 });
  expect(await view.delete("a", ({ id }) => id === 2)).toBe(false);
  expect((await catalog.get("things.a"))?.value).toBe('{"id":1}');
  expect(await view.delete("a", ({ id }) => id === 1)).toBe(true);
  expect(await catalog.get("things.a")).toBeUndefined();
  expect(view.get("a")).toBeUndefined();
  expect(await view.delete("a")).toBe(true);
});

test("a change of what the view has costs one write, and one of what it has late is made on the newest", async () => {
  await view.create("a", { id: 1 });
  const read = catalog.get.bind(catalog);
  let reads = 0;
  catalog.get = (key) => {
    reads++;
    return read(key);
  };
  const next = ({ id }: { id: number }): { id: number } | undefined => (id < 12 ? { id: id + 1 } : undefined);
  expect(await view.modifyKnown("a", next)).toEqual({ id: 2 });
  expect(reads).toBe(0);
  const watch = catalog.watch.bind(catalog);
  catalog.watch = (prefix, handlers) => watch(prefix, { ...handlers, onChange: () => undefined });
  const behind = new CatalogView(catalog, "things", (json) => JSON.parse(json) as { id: number });
  await behind.start();
  await behind.read("a");
  await view.modify("a", () => ({ id: 10 }));
  expect(await behind.modifyKnown("a", next)).toEqual({ id: 11 });
  await view.modify("a", () => ({ id: 12 }));
  expect(await behind.modifyKnown("a", next)).toEqual({ id: 12 });
  await expect(behind.modifyKnown("b", next)).rejects.toMatchObject({ code: "NOT_FOUND" });
  await behind.close();
});

test("an entry that is made anew while it is being deleted is tested again, and spared", async () => {
  await view.create("a", { id: 1 });
  const tested: number[] = [];
  const read = catalog.get.bind(catalog);
  catalog.get = async (key) => {
    const present = await read(key);
    catalog.get = read;
    await remake(2);
    return present;
  };
  const isOld = ({ id }: { id: number }): boolean => {
    tested.push(id);
    return id === 1;
  };
  expect(await view.delete("a", isOld)).toBe(false);
  expect(tested).toEqual([1, 2]);
  await expect.poll(() => view.get("a")?.value).toEqual({ id: 2 });
});

test("what the watch tells late of an entry's past does not touch the one that was made since", async () => {
  const late: (() => void)[] = [];
  const watch = catalog.watch.bind(catalog);
  catalog.watch = (prefix, handlers) =>
    watch(prefix, { ...handlers, onChange: (change) => void late.push(() => handlers.onChange(change)) });
  const behind = new CatalogView(catalog, "things", (json) => JSON.parse(json) as { id: number });
  await behind.start();
  await behind.create("a", { id: 1 });
  await behind.delete("a");
  await behind.create("a", { id: 2 });
  await expect.poll(() => late).toHaveLength(3);
  const told: unknown[] = [];
  behind.onChange((_, value) => told.push(value));
  for (const tell of late.splice(0)) tell();
  expect(told).toEqual([]);
  expect(behind.get("a")?.value).toEqual({ id: 2 });
  await view.delete("a");
  await expect.poll(() => late).toHaveLength(1);
  late[0]?.();
  expect(told).toEqual([undefined]);
  expect(behind.get("a")).toBeUndefined();
  await behind.close();
});

test("an entry of a store that was put back to an earlier state displaces the one of a higher revision", async () => {
  let handlers: Parameters<Catalog["watch"]>[1] | undefined;
  const watch = catalog.watch.bind(catalog);
  catalog.watch = (prefix, given) => {
    handlers = given;
    return watch(prefix, given);
  };
  const restored = new CatalogView(catalog, "things", (json) => JSON.parse(json) as { id: number });
  await restored.start();
  const { revision } = await restored.create("a", { id: 2 });
  const told: unknown[] = [];
  restored.onChange((_, value) => told.push(value));
  const before = { key: "things.a", value: '{"id":1}', revision: revision - 1 };
  handlers?.onChange({ kind: "put", entry: before });
  expect(told).toEqual([]);
  handlers?.onChange({ kind: "put", entry: before, reset: true });
  expect(told).toEqual([{ id: 1 }]);
  expect(restored.get("a")).toEqual({ value: { id: 1 }, revision: revision - 1 });
  await restored.close();
});

test("replaces an entry at the revision that is known, or not at all", async () => {
  const { revision } = await view.create("a", { id: 1 });
  const replaced = await view.replace("a", { id: 2 }, revision);
  expect(view.get("a")).toEqual(replaced);
  await expect(view.replace("a", { id: 3 }, revision)).rejects.toMatchObject({ code: "REVISION_MISMATCH" });
  expect((await catalog.get("things.a"))?.value).toBe('{"id":2}');
});

test("a change that was overtaken before its caller hears of it gives its own revision, not the newer one", async () => {
  const { revision } = await view.create("a", { id: 1 });
  const update = catalog.update.bind(catalog);
  catalog.update = async (...given) => {
    const entry = await update(...given);
    await update("things.a", '{"id":9}', entry.revision);
    await expect.poll(() => view.get("a")?.value).toEqual({ id: 9 });
    return entry;
  };
  const replaced = await view.replace("a", { id: 2 }, revision);
  expect(replaced.value).toEqual({ id: 2 });
  expect(replaced.revision).toBeLessThan(view.get("a")?.revision ?? 0);
  catalog.update = update;
  await expect(view.replace("a", { id: 3 }, replaced.revision)).rejects.toMatchObject({ code: "REVISION_MISMATCH" });
});

test("reads what is in the catalog, also where that is of an earlier time than what the view knows", async () => {
  const { revision } = await view.create("a", { id: 1 });
  catalog.get = () => Promise.resolve({ key: "things.a", value: '{"id":0}', revision: revision - 1 });
  expect(await view.read("a")).toEqual({ value: { id: 0 }, revision: revision - 1 });
  expect(view.get("a")?.value).toEqual({ id: 1 });
  catalog.get = () => Promise.resolve(undefined);
  expect(await view.read("a")).toBeUndefined();
});

test("refreshed, it has what its watch has not told of yet", async () => {
  const watch = catalog.watch.bind(catalog);
  catalog.watch = (prefix, handlers) => watch(prefix, { ...handlers, onChange: () => undefined });
  const behind = new CatalogView(catalog, "things", (json) => JSON.parse(json) as { id: number });
  await behind.start();
  await view.create("a", { id: 1 });
  expect(behind.names()).toEqual([]);
  await behind.refresh();
  expect(behind.get("a")?.value).toEqual({ id: 1 });
  await view.modify("a", () => ({ id: 2 }));
  await behind.refresh();
  expect(behind.get("a")?.value).toEqual({ id: 2 });
  await behind.close();
});
