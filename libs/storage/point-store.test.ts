import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Cancellation, KithError, limits } from "../base/index.js";
import { idFromName, idFromNum, type IdKey } from "../model/index.js";
import { type HeadContent, type Part, partKind, type PointRecord, PointStore, type StoredField } from "./index.js";

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

const vectorPart = (number: number, version: number): Part => ({
  kind: partKind.vector,
  field: number,
  version,
  length: 0,
  hash: 0x0123_4567_89ab_cdefn,
});

/** What `put` has written. */
function headOf(version: number, slot: number, fields: number[]): HeadContent {
  const payload: Part = { kind: partKind.payload, field: 0, version, length: 2, hash: 1n };
  const parts = [...fields.map((number) => vectorPart(number, version)), payload];
  return { version, slot, contentHash: 0xfedc_ba98_7654_3210n, parts };
}

async function put(id: IdKey, version: number, slot: number, fields = [0]): Promise<void> {
  const batch = store.batch();
  batch.putHead(id, headOf(version, slot, fields));
  if (fields.includes(0)) batch.putVector(0, id, version, bytes(slot, 1, 2));
  if (fields.includes(7)) batch.putVector(7, id, version, bytes(slot));
  batch.putPayload(id, version, Buffer.from("{}"));
  await store.write(batch);
}

/** Works on the files as LevelDB sees them. */
async function raw(work: (database: ClassicLevel<Uint8Array, Uint8Array>) => Promise<void>): Promise<void> {
  await store.close();
  const encodings = { keyEncoding: "view", valueEncoding: "view", compression: false } as const;
  const database = new ClassicLevel<Uint8Array, Uint8Array>(directory, encodings);
  await work(database);
  await database.close();
  store = await PointStore.open(directory);
}

const scan = async (of: StoredField): Promise<number[]> => {
  const slots: number[] = [];
  for await (const chunk of store.scanVectors(of)) slots.push(...chunk.slots);
  return slots;
};

function floatsOf(point: PointRecord | undefined): (Float32Array | undefined)[] | undefined {
  return point?.vectors.map((bytes) => bytes && new Float32Array(Uint8Array.from(bytes).buffer));
}

test("points come back whole, in order of id, and survive reopening", async () => {
  await put(idFromName("b"), 2 ** 41, 5, [0, 7]);
  await put(idFromNum(300), 1, 6);
  await put(idFromNum(4), 2, 7, [7]);
  await raw(async () => undefined);
  const [point, missing] = await store.read([idFromName("b"), idFromNum(5)], { payload: true, fields: [field, other] });
  const { parts, ...head } = headOf(2 ** 41, 5, [0, 7]);
  expect(point?.head).toMatchObject({ ...head, slotVersion: 2 ** 41, expiresAtMs: undefined, payloadBytes: 2 });
  expect(point?.head.parts()).toEqual(parts);
  expect(floatsOf(point)).toEqual([Float32Array.of(5, 1, 2), Float32Array.of(5)]);
  expect(missing).toBeUndefined();
  expect([await scan(field), await scan(other)]).toEqual([
    [6, 5],
    [7, 5],
  ]);
  const page = await store.scroll(idFromNum(4), 1, { payload: false, fields: [] });
  expect([page.points.map(({ head }) => head.slot), page.end]).toEqual([[6], false]);
});

test("sparse vectors lie beside the others of their point, and go with their field", async () => {
  const sparse: StoredField = { number: 3, dimension: 0, isSparse: true };
  const vector = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  const part: Part = { kind: partKind.sparse, field: 3, version: 5, length: 16, hash: 7n };
  const batch = store.batch();
  for (const num of [1, 2]) {
    const id = idFromNum(num);
    batch.putVector(0, id, 5, bytes(num, 1, 2));
    batch.putSparse(3, id, 5, vector);
    const parts = [vectorPart(0, 5), part];
    batch.putHead(id, { version: 5, slot: num, contentHash: 1n, parts });
  }
  await store.write(batch);
  await put(idFromNum(3), 6, 9);
  const [one, , three] = await store.read([1, 2, 3].map(idFromNum), { payload: false, fields: [sparse, field] });
  expect(one?.vectors.map((each) => each && [...each])).toEqual([[...vector], [...bytes(1, 1, 2)]]);
  expect(one?.head.hasVector(3)).toBe(true);
  expect(one?.head.lengthOf(partKind.sparse, 3)).toBe(16);
  expect([three?.vectors[0], three?.head.lengthOf(partKind.sparse, 3)]).toEqual([undefined, 0]);
  const [stored, missing] = await store.sparseVectors(3, [2, 3].map(idFromNum));
  expect([stored?.version, [...(stored?.value ?? [])], missing]).toEqual([5, [...vector], undefined]);
  const walked: unknown[] = [];
  for await (const { slots, versions, vectors } of store.scanSparse(3))
    walked.push([[...slots], [...versions], vectors.length]);
  expect(walked).toEqual([[[1, 2], [5, 5], 2]]);

  // One that its head names and that is gone is found out, by a walk and by a read.
  const lost = store.batch();
  lost.deleteSparse(3, idFromNum(2));
  await store.write(lost);
  const walk = async (): Promise<void> => {
    for await (const chunk of store.scanSparse(3)) void chunk;
  };
  await expect(walk()).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  const read = store.read([idFromNum(2)], { payload: false, fields: [sparse] });
  await expect(read).rejects.toMatchObject({ code: "CORRUPT_DATA" });

  await store.clearVectors(3, new AbortController().signal);
  expect(await store.sparseVectors(3, [idFromNum(1)])).toEqual([undefined]);
});

test("parts are older than their point where only another part was written", async () => {
  const id = idFromNum(1);
  await put(id, 4, 9, [0, 7]);
  // The payload alone, then one vector under a new slot.
  let batch = store.batch();
  batch.putPayload(id, 5, Buffer.from('{"a":1}'));
  const payload: Part = { kind: partKind.payload, field: 0, version: 5, length: 7, hash: 2n };
  const vectors = [vectorPart(0, 4), vectorPart(7, 4)];
  batch.putHead(id, { version: 5, slot: 9, slotVersion: 4, contentHash: 1n, parts: [...vectors, payload] });
  await store.write(batch);
  const parts = { payload: true, fields: [field, other] };
  const read = async (): Promise<unknown> => {
    const [point] = await store.read([id], parts);
    return [point?.head.version, Buffer.from(point?.payload ?? []).toString(), floatsOf(point)];
  };
  expect(await read()).toEqual([5, '{"a":1}', [Float32Array.of(9, 1, 2), Float32Array.of(9)]]);
  const chunks = async (of: StoredField): Promise<unknown[]> => {
    const found: unknown[] = [];
    for await (const { slots, versions } of store.scanVectors(of)) found.push([[...slots], [...versions]]);
    return found;
  };
  // An index that has the slot as of version 4 lacks nothing.
  expect(await chunks(field)).toEqual([[[9], [4]]]);
  batch = store.batch();
  batch.putVector(7, id, 6, bytes(3));
  const changed = [vectorPart(0, 4), vectorPart(7, 6)];
  batch.putHead(id, { version: 6, slot: 10, contentHash: 1n, parts: [...changed, payload] });
  await store.write(batch);
  expect(await read()).toEqual([6, '{"a":1}', [Float32Array.of(9, 1, 2), Float32Array.of(3)]]);
  expect([await chunks(field), await chunks(other)]).toEqual([[[[10], [6]]], [[[10], [6]]]]);
  // A part of another version than its head names is damage.
  batch = store.batch();
  batch.putVector(7, id, 5, bytes(3));
  await store.write(batch);
  await expect(read()).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  await expect(chunks(other)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  expect(await chunks(field)).toEqual([[[10], [6]]]);
});

test("fields up to number 255 are kept apart", async () => {
  const id = idFromNum(1);
  const batch = store.batch();
  const numbers = [0, 15, 16, 31, 32, 254, 255];
  for (const number of numbers) batch.putVector(number, id, 1, bytes(number));
  batch.putHead(id, { version: 1, slot: 3, contentHash: 1n, parts: numbers.map((number) => vectorPart(number, 1)) });
  await store.write(batch);
  const fields = numbers.map((number) => ({ number, dimension: 1 }));
  const [point] = await store.read([id], { payload: true, fields });
  expect(floatsOf(point)).toEqual(numbers.map((number) => Float32Array.of(number)));
  for (const each of fields) expect(await scan(each)).toEqual([3]);
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
    batch.putHead(id, { version: 1, slot, contentHash: BigInt(slot), parts: [vectorPart(0, 1)] });
  }
  await store.write(batch);
  // Reopened, so that what was written is in a table.
  await raw(async () => undefined);
  await store.close();
  const table = (await readdir(directory)).find((name) => name.endsWith(".ldb")) as string;
  const pristine = await readFile(join(directory, table));
  const copy = await mkdtemp(join(tmpdir(), "kith-store-"));
  let damaged = 0;
  // Behind the heads lie the table's filter and its index, 4 % of it: damage to these costs lookups that a walk does not make.
  const end = pristine.length * 0.96;
  for (let at = 7; at < end; at += 1_103) {
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
    batch.putHead(id, { version: 1, slot, contentHash: 0n, parts: [vectorPart(0, 1)] });
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
  expect(half.every((point) => point?.vectors[0]?.length === large.dimension * 4)).toBe(true);
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

test("what was deleted takes no place on the disk after a compaction", async () => {
  for (let id = 0; id < 2_000; id++) await put(idFromNum(id), 1, id);
  await store.sync(Buffer.from("1"));
  const before = await store.diskBytes();
  const batch = store.batch();
  for (let id = 0; id < 2_000; id++) {
    batch.deleteHead(idFromNum(id));
    batch.deletePayload(idFromNum(id));
    batch.deleteVector(field.number, idFromNum(id));
  }
  await store.write(batch);
  await store.compact();
  expect(await store.diskBytes()).toBeLessThan(before / 4);
});
