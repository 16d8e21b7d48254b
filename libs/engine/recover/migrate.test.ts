import { spawnSync } from "node:child_process";
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterAll, beforeAll, expect, test } from "vitest";
import { crc32c } from "../../base/index.js";
import { type PointStore as Store, PointStore } from "../../storage/index.js";
import { migrate } from "./migrate.js";
import { fromJson, type StoreIdentity, type StoreState } from "./schema.js";

/** Stores that the first release wrote: test/fixtures/format-1. */
let folder: string;
let stores: string[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-migrate-"));
  const archive = new URL("../../../test/fixtures/format-1/data.tgz", import.meta.url).pathname;
  expect(spawnSync("tar", ["-xzf", archive, "-C", folder]).status).toBe(0);
  const replicas = join(folder, "replicas");
  stores = (await readdir(replicas, { recursive: true }))
    .filter((path) => path.endsWith("/db"))
    .map((path) => join(replicas, path));
  expect(stores).toHaveLength(3);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Small, so that there are many steps. */
const chunkBytes = 1024;

async function copyOf(store: string): Promise<string> {
  const copy = await mkdtemp(join(folder, "copy-"));
  await cp(store, copy, { recursive: true });
  return copy;
}

/** Opens the store and migrates it; gives its identity before and after. */
async function run(
  directory: string,
  onOpen: (store: Store) => void = () => undefined,
  signal = new AbortController().signal,
): Promise<{ before: StoreIdentity; after: StoreIdentity }> {
  const store = await PointStore.open(directory);
  try {
    onOpen(store);
    const before = fromJson<StoreIdentity>((await store.getMeta("identity")) as Uint8Array);
    return { before, after: await migrate(store, before, { signal, onAlarm: () => undefined, chunkBytes }) };
  } finally {
    await store.close();
  }
}

async function entriesOf(directory: string): Promise<Map<string, string>> {
  const database = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });
  const entries = new Map<string, string>();
  for await (const [key, value] of database.iterator()) entries.set(key.toString("hex"), value.toString("hex"));
  await database.close();
  return entries;
}

/** Lets so many writes through; the next is the end of the process. */
function dieAfter(store: Store, writes: number): { count: number } {
  const counted = { count: 0 };
  const write = store.write.bind(store);
  store.write = async (...args) => {
    if (counted.count++ === writes) throw new Error("the process died");
    return write(...args);
  };
  return counted;
}

test("a process that dies at any step leaves what the next one ends", async () => {
  for (const store of stores) {
    const undisturbed = await copyOf(store);
    let counted = { count: 0 };
    const { before, after } = await run(
      undisturbed,
      (opened) => (counted = dieAfter(opened, Number.POSITIVE_INFINITY)),
    );
    expect(before.format).toBe(1);
    expect(after).toEqual({ ...before, format: 2, release: "0.2.0" });
    const expected = await entriesOf(undisturbed);
    const steps = counted.count;
    expect(steps).toBeGreaterThan(10);
    for (let step = 0; step < steps; step++) {
      const directory = await copyOf(store);
      await expect(run(directory, (opened) => dieAfter(opened, step))).rejects.toThrow("the process died");
      // From the first step on an older release leaves the store alone.
      const opened = await PointStore.open(directory);
      const left = fromJson<StoreIdentity>((await opened.getMeta("identity")) as Uint8Array);
      expect(left).toMatchObject(step === 0 ? { format: 1 } : { format: 2, migratesFrom: 1 });
      await opened.close();
      await run(directory);
      expect(await entriesOf(directory), `died before write ${step}`).toEqual(expected);
      await rm(directory, { recursive: true });
    }
  }
});

test("one that is closed on the way ends between two batches", async () => {
  const directory = await copyOf(stores[0] as string);
  const closing = new AbortController();
  const stop = (store: Store): void => {
    const write = store.write.bind(store);
    store.write = async (...args) => {
      await write(...args);
      closing.abort();
    };
  };
  await expect(run(directory, stop, closing.signal)).rejects.toMatchObject({ code: "CANCELLED" });
  const undisturbed = await copyOf(stores[0] as string);
  await run(undisturbed);
  await run(directory);
  expect(await entriesOf(directory)).toEqual(await entriesOf(undisturbed));
});

/** Puts a value with a right checksum into a store. */
async function tamper(directory: string, change: (key: Buffer, body: Buffer) => Buffer | undefined): Promise<void> {
  const database = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });
  for await (const [key, value] of database.iterator()) {
    const body = change(key, value.subarray(0, value.length - 4));
    if (body === undefined) continue;
    const checksum = Buffer.alloc(4);
    checksum.writeUInt32LE(crc32c(body, crc32c(key)));
    await database.put(key, Buffer.concat([body, checksum]));
    break;
  }
  await database.close();
}

test.each([
  [
    "a payload that its head does not mean",
    /is not what its head says/,
    (key: Buffer, body: Buffer) => (key[0] === 3 ? Buffer.concat([body, Buffer.from(" ")]) : undefined),
  ],
  [
    "a state that says something else",
    /it should hold 0000000000000000, 9999 points/,
    (key: Buffer, body: Buffer) => {
      if (key.toString("latin1") !== "\0state") return undefined;
      const state = JSON.parse(body.toString()) as StoreState;
      return Buffer.from(JSON.stringify({ ...state, digest: "0000000000000000", pointCount: 9_999 }));
    },
  ],
])("%s gets no new digest", async (_, message, change) => {
  const directory = await copyOf(stores[0] as string);
  await tamper(directory, change);
  await expect(run(directory)).rejects.toMatchObject({
    code: "CORRUPT_DATA",
    message: expect.stringMatching(message) as string,
  });
  const store = await PointStore.open(directory);
  expect(fromJson((await store.getMeta("identity")) as Uint8Array)).toMatchObject({ migratesFrom: 1 });
  await store.close();
});
