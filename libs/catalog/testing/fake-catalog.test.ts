import { expect, test } from "vitest";
import { systemRuntime } from "../../base/index.js";
import { describeCatalog } from "../catalog.conformance.js";
import { EmbeddedCatalog } from "../embedded/catalog.js";
import type { CatalogChange } from "../port.js";
import { FakeCatalog } from "./fake-catalog.js";
import { memoryDatabase } from "./memory-database.js";

describeCatalog("fake", async () => {
  const database = memoryDatabase();
  let storage: EmbeddedCatalog;
  let catalog: FakeCatalog;
  const cut = async (): Promise<void> => {
    catalog.available = false;
  };
  const mend = async (): Promise<void> => {
    catalog.available = true;
  };
  return {
    open: async () => {
      storage = await EmbeddedCatalog.open({ directory: "memory", ...systemRuntime }, database);
      catalog = new FakeCatalog(storage);
      return catalog;
    },
    outage: { begin: cut, end: mend },
    cutOff: {
      begin: async () => {
        await cut();
        return storage;
      },
      end: mend,
    },
    dispose: async () => undefined,
  };
});

test("watches that lag are told what they missed before they are told what comes next", async () => {
  const catalog = await FakeCatalog.open();
  const told: string[] = [];
  const keyOf = (change: CatalogChange): string => (change.kind === "put" ? change.entry.key : `-${change.key}`);
  const watch = catalog.watch("a", { onChange: (change) => told.push(keyOf(change)) });
  await catalog.put("a.b", "1");
  await catalog.quiet(async () => {
    await catalog.remove("a.b");
    await catalog.put("a.c", "1");
  });
  expect(await catalog.get("a.b")).toBeUndefined();
  expect(told).toEqual(["a.b"]);
  await catalog.put("a.d", "1");
  expect(told).toEqual(["a.b", "-a.b", "a.c", "a.d"]);
  await watch.close();
  await catalog.close();
});
