import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemRandom, systemRuntime } from "../../base/index.js";
import { eventually, ManualClock } from "../../base/testing.js";
import type { CatalogEntry } from "../port.js";
import { codeOf, describeCatalog } from "../catalog.conformance.js";
import { EmbeddedCatalog } from "./catalog.js";
import { openCatalogDatabase } from "./database.js";
import { openEmbeddedCatalog } from "./index.js";
import { catalogFormat, decodeStored, encodeStored, formatKey } from "./records.js";

describeCatalog("embedded", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kith-catalog-"));
  let broken = false;
  return {
    open: () =>
      EmbeddedCatalog.open({ directory, ...systemRuntime }, async (at) => {
        if (broken) throw new Error("the disk is away");
        const database = await openCatalogDatabase(at);
        const batch = database.batch.bind(database) as (...parameters: unknown[]) => unknown;
        database.batch = ((...parameters: unknown[]) =>
          broken ? Promise.reject(new Error("the disk is away")) : batch(...parameters)) as typeof database.batch;
        return database;
      }),
    outage: {
      begin: async () => {
        broken = true;
      },
      end: async () => {
        broken = false;
      },
    },
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
});

describe("the embedded catalog's directory", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "kith-catalog-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it("belongs to one process", async () => {
    const catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
    expect(await codeOf(openEmbeddedCatalog({ directory, ...systemRuntime }))).toBe("FAILED_PRECONDITION");
    await catalog.close();
  });

  it("is refused when an entry is damaged", async () => {
    const catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
    await catalog.create("a.b", '{"n":1}');
    await catalog.close();
    const database = new ClassicLevel(directory);
    const stored = await database.get("k/a.b");
    await database.put("k/a.b", stored?.replace("n", "m") ?? "");
    await database.close();
    expect(stored).toContain("n");
    expect(await codeOf(openEmbeddedCatalog({ directory, ...systemRuntime }))).toBe("CORRUPT_DATA");
  });

  it("says of which format it is, is taken without that, and refused where a newer release wrote it", async () => {
    let catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
    await catalog.create("a.b", "1");
    await catalog.close();
    const raw = async (work: (database: ClassicLevel) => Promise<unknown>): Promise<void> => {
      const database = new ClassicLevel(directory);
      await work(database);
      await database.close();
    };
    await raw(async (database) => {
      expect(decodeStored(formatKey, (await database.get(formatKey)) as string)).toEqual(catalogFormat);
      // As the first release left it.
      await database.del(formatKey);
    });
    catalog = await openEmbeddedCatalog({ directory, ...systemRuntime });
    expect((await catalog.get("a.b"))?.value).toBe("1");
    expect(await catalog.list("")).toHaveLength(1);
    await catalog.close();
    await raw((database) => database.put(formatKey, encodeStored(formatKey, { format: 2, release: "3.0.0" })));
    await expect(openEmbeddedCatalog({ directory, ...systemRuntime })).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      message: `the catalog in ${directory} was written by a newer release (format 2); this release reads up to 1: start release 3.0.0 or a later one`,
    });
  });

  it("writes changes that come together with few fsyncs, each decided by those before it", async () => {
    let fsyncs = 0;
    const catalog = await EmbeddedCatalog.open({ directory, ...systemRuntime }, async (at) => {
      const database = await openCatalogDatabase(at);
      const batch = database.batch.bind(database) as (...parameters: unknown[]) => unknown;
      database.batch = ((...parameters: unknown[]) => {
        fsyncs++;
        return batch(...parameters);
      }) as typeof database.batch;
      return database;
    });
    const told: string[] = [];
    catalog.watch("a", {
      onChange: (change) => told.push(`${change.kind} ${change.kind === "put" ? change.entry.value : change.key}`),
    });
    const made = await Promise.all(Array.from({ length: 64 }, (_, i) => catalog.create(`a.k${i}`, `${i}`)));
    expect(new Set(made.map(({ revision }) => revision)).size).toBe(64);
    expect(fsyncs).toBeLessThanOrEqual(2);
    const [first] = made as [CatalogEntry];
    const outcomes = await Promise.allSettled([
      catalog.update("a.k0", "once", first.revision),
      catalog.update("a.k0", "too late", first.revision),
      catalog.create("a.new", "first"),
      catalog.create("a.new", "second"),
      catalog.delete("a.k1", made[1]?.revision ?? 0),
      catalog.create("a.k1", "again"),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(
      "fulfilled rejected fulfilled rejected fulfilled fulfilled".split(" "),
    );
    expect(fsyncs).toBeLessThanOrEqual(4);
    await eventually(() => expect(told.slice(64)).toEqual(["put once", "put first", "delete a.k1", "put again"]));
    await catalog.close();
    const reopened = await openEmbeddedCatalog({ directory, ...systemRuntime });
    expect((await reopened.get("a.k1"))?.value).toBe("again");
    expect((await reopened.list("a")).length).toBe(65);
    await reopened.close();
  });

  it("counts a key's time by the monotonic clock, and across restarts", async () => {
    const clock = new ManualClock();
    const options = { directory, clock, random: systemRandom };
    let catalog = await openEmbeddedCatalog(options);
    const changes: string[] = [];
    catalog.watch("a", { onChange: (change) => changes.push(change.kind) });
    await catalog.create("a.b", "1", { ttlMs: 60_000 });
    clock.wallOffsetMs += 3_600_000;
    expect(await catalog.get("a.b")).toBeDefined();
    clock.jump(60_001);
    expect(await catalog.get("a.b")).toBeUndefined();
    expect(await catalog.list("a")).toEqual([]);
    await clock.advance(100);
    await eventually(() => expect(changes).toEqual(["put", "delete"]));
    await catalog.create("a.c", "1", { ttlMs: 60_000 });
    await catalog.close();
    clock.wallOffsetMs += 30_000;
    catalog = await openEmbeddedCatalog(options);
    expect(await catalog.get("a.c")).toBeDefined();
    clock.jump(30_001);
    expect(await catalog.get("a.c")).toBeUndefined();
    await catalog.close();
  });
});
