import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Cancellation, KithError, limits } from "../base/index.js";
import { idFromName, idFromNum, type IdKey } from "../model/index.js";
import { PointStore, type StoredField } from "./index.js";

let directory: string;
let store: PointStore;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-store-"));
  store = await PointStore.open(directory);
});
afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true, force: true });
});

const field: StoredField = { number: 0, dimension: 3 };
const other: StoredField = { number: 7, dimension: 1 };
const bytes = (...numbers: number[]): Uint8Array => new Uint8Array(Float32Array.from(numbers).buffer);

async function put(id: IdKey, version: number, slot: number, fields = 1): Promise<void> {
  const batch = store.batch();
  batch.putHead(id, { version, slot, contentHash: 0xfedc_ba98_7654_3210n, payloadBytes: 2, fields });
  if (fields & 1) batch.putVector(0, id, version, bytes(slot, 1, 2));
  if (fields & 128) batch.putVector(7, id, version, bytes(slot));
  batch.putPayload(id, version, Buffer.from("{}"));
  await store.write(batch);
}

/** Works on the files as LevelDB sees them. */
async function raw(work: (database: ClassicLevel<Uint8Array, Uint8Array>) => Promise<void>): Promise<void> {
  await store.close();
  const database = new ClassicLevel<Uint8Array, Uint8Array>(directory, { keyEncoding: "view", valueEncoding: "view" });
  await work(database);
  await database.close();
  store = await PointStore.open(directory);
}

const scan = async (of: StoredField): Promise<number[]> => {
  const slots: number[] = [];
  for await (const chunk of store.scanVectors(of)) slots.push(...chunk.slots);
  return slots;
};

test("points come back whole, in order of id, and survive reopening", async () => {
  await put(idFromName("b"), 2 ** 41, 5, 129);
  await put(idFromNum(300), 1, 6);
  await put(idFromNum(4), 2, 7, 128);
  await raw(async () => undefined);
  const [point, missing] = await store.read([idFromName("b"), idFromNum(5)], { payload: true, fields: [field, other] });
  expect(point?.head).toEqual({
    version: 2 ** 41,
    slot: 5,
    contentHash: 0xfedc_ba98_7654_3210n,
    payloadBytes: 2,
    fields: 129,
  });
  expect(point?.vectors).toEqual([Float32Array.of(5, 1, 2), Float32Array.of(5)]);
  expect(missing).toBeUndefined();
  expect([await scan(field), await scan(other)]).toEqual([
    [6, 5],
    [7, 5],
  ]);
  const page = await store.scroll(idFromNum(4), 1, { payload: false, fields: [] });
  expect([page.points.map(({ head }) => head.slot), page.end]).toEqual([[6], false]);
});

test("a right value under a wrong key is found out", async () => {
  await put(idFromNum(1), 1, 1);
  await put(idFromNum(2), 1, 2);
  await raw(async (database) => {
    const key = (id: number): Buffer => Buffer.concat([Buffer.of(3), idFromNum(id)]);
    await database.put(key(2), (await database.get(key(1))) as Uint8Array);
  });
  await expect(store.payloads([idFromNum(2)])).rejects.toMatchObject({ code: "CORRUPT_DATA" });
});

test.each([
  ["first", 1],
  ["middle", 2],
  ["last", 3],
])("a walk notices that the %s vector is missing, and that a head is", async (_, id) => {
  for (const each of [1, 2, 3]) await put(idFromNum(each), each, each);
  await raw((database) => database.del(Buffer.concat([Buffer.of(2, 0), idFromNum(id)])));
  await expect(scan(field)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  await put(idFromNum(id), id, id);
  expect(await scan(field)).toEqual([1, 2, 3]);
  await raw((database) => database.del(Buffer.concat([Buffer.of(1), idFromNum(id)])));
  await expect(scan(field)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
});

test("a walk over damaged heads fails, or each of them is found by its key", async () => {
  const ids = Array.from({ length: 3_000 }, (_, i) => idFromNum(i));
  const batch = store.batch();
  for (const [slot, id] of ids.entries()) {
    batch.putHead(id, { version: 1, slot, contentHash: BigInt(slot), payloadBytes: 0, fields: 0 });
  }
  await store.write(batch);
  // Reopened, so that what was written is in a table.
  await raw(async () => undefined);
  await store.close();
  const table = (await readdir(directory)).find((name) => name.endsWith(".ldb")) as string;
  const pristine = await readFile(join(directory, table));
  const copy = await mkdtemp(join(tmpdir(), "kith-store-"));
  let damaged = 0;
  for (let at = 7; at < pristine.length; at += 541) {
    const contents = Buffer.from(pristine);
    contents[at] = (contents[at] as number) ^ 0x10;
    await cp(directory, copy, { recursive: true });
    await writeFile(join(copy, table), contents);
    try {
      const other = await PointStore.open(copy);
      try {
        let count = 0;
        for await (const { heads } of other.scanHeads()) count += heads.length;
        if (count < ids.length) damaged++;
        else
          expect(
            (await other.heads(ids)).every((head) => head !== undefined),
            `byte ${at}`,
          ).toBe(true);
      } finally {
        await other.close();
      }
    } catch (error) {
      expect(error, `byte ${at}`).toMatchObject({ code: "CORRUPT_DATA" });
      damaged++;
    }
  }
  expect(damaged).toBeGreaterThan(0);
  await rm(copy, { recursive: true });
  store = await PointStore.open(directory);
});

test("a second process is refused, and a closed store says so", async () => {
  await expect(PointStore.open(directory)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await store.close();
  await expect(store.heads([idFromNum(1)])).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
});

/** 600 points of 64 KiB each: more than a message, and than a page, may hold. */
const large: StoredField = { number: 0, dimension: 16_384 };
const largeIds = Array.from({ length: 600 }, (_, i) => idFromNum(i));
async function fillLarge(): Promise<void> {
  const vector = new Uint8Array(large.dimension * 4);
  for (const [slot, id] of largeIds.entries()) {
    const batch = store.batch();
    batch.putHead(id, { version: 1, slot, contentHash: 0n, payloadBytes: 0, fields: 1 });
    batch.putVector(0, id, 1, vector);
    await store.write(batch);
  }
}

test("a page of large points ends early, and the pages together hold every point once", async () => {
  await fillLarge();
  const seen: number[] = [];
  for (let after: IdKey | undefined; ; ) {
    const { points, end } = await store.scroll(after, 600, { payload: true, fields: [large] });
    expect(points.length * 64 * 1024).toBeLessThanOrEqual(limits.scrollBytes);
    seen.push(...points.map(({ head }) => head.slot));
    if (end) break;
    after = points.at(-1)?.id;
    expect(after).toBeDefined();
  }
  expect(seen).toEqual(largeIds.map((_, i) => i));
  expect((await store.scroll(undefined, 600, { payload: true, fields: [] })).points).toHaveLength(600);
});

test("a read of more than a message holds is refused while it is read", async () => {
  await fillLarge();
  const parts = { payload: true, fields: [large] };
  await expect(store.read(largeIds, parts)).rejects.toMatchObject({ code: "BATCH_TOO_LARGE", retryable: false });
  const half = await store.read(largeIds.slice(0, 300), parts);
  expect(half.map((point) => point?.head.slot)).toEqual(largeIds.slice(0, 300).map((_, i) => i));
  expect(half.every((point) => point?.vectors[0]?.length === large.dimension)).toBe(true);
  expect(await store.read(largeIds, { payload: true, fields: [] })).toHaveLength(600);
});

test("payloads of more than a message holds are refused while they are read", async () => {
  const id = idFromNum(1);
  const batch = store.batch();
  batch.putPayload(id, 1, new Uint8Array(limits.payloadBytes));
  await store.write(batch);
  await expect(store.payloads(new Array<IdKey>(600).fill(id))).rejects.toMatchObject({ code: "BATCH_TOO_LARGE" });
  expect(await store.payloads(new Array<IdKey>(400).fill(id))).toHaveLength(400);
});

test("a read ends when its caller has gone, also between two parts of it", async () => {
  await fillLarge();
  const parts = { payload: true, fields: [large] };
  /** Gone when it is asked for the second time. */
  const gone = (): Cancellation => {
    let asked = 0;
    const { signal } = new AbortController();
    return Object.create(signal, {
      aborted: { get: () => ++asked > 1 },
      reason: { value: new KithError("CANCELLED", "gone") },
    }) as Cancellation;
  };
  const cancelled = { code: "CANCELLED" };
  await expect(store.read(largeIds, parts, gone())).rejects.toMatchObject(cancelled);
  await expect(store.scroll(undefined, 600, parts, gone())).rejects.toMatchObject(cancelled);
  await expect(store.payloads(largeIds, AbortSignal.abort())).rejects.toMatchObject(cancelled);
});
