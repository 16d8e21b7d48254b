/** A store with master keys: what lies on the disk, and what is refused. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRandom } from "../base/index.js";
import { KeyRing, masterKeysOf } from "../encryption/index.js";
import { idFromNum, type IdKey } from "../model/index.js";
import { partKind, PointStore, StoreCopy, type StoredField } from "./index.js";

const line = (): string => randomBytes(32).toString("base64");
const ringOf = (...lines: string[]): KeyRing => new KeyRing(masterKeysOf(lines.join("\n"), "a test"), systemRandom);
const field: StoredField = { number: 0, dimension: 4 };
const known = "a payload that everybody knows";
const vector = Float32Array.of(0.125, 0.25, 0.375, 0.5);
const vectorBytes = Buffer.from(vector.buffer);

let directory: string;
let master: string;
let store: PointStore;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "kith-encryption-"));
  master = line();
});
afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true, force: true });
});

async function put(num: number, version = 1, text = known): Promise<void> {
  const id = idFromNum(num);
  const payload = Buffer.from(JSON.stringify({ text }));
  const batch = store.batch();
  const hash = 1n;
  const parts = [
    { kind: partKind.vector, field: 0, version, length: 0, hash },
    { kind: partKind.payload, field: 0, version, length: payload.length, hash },
  ];
  batch.putHead(id, { version, slot: num, contentHash: BigInt(num), parts });
  batch.putVector(0, id, version, new Uint8Array(vector.buffer));
  batch.putPayload(id, version, payload);
  batch.putOutcomes(version, Buffer.from(`outcome of ${known}`));
  await store.write(batch);
}

const textOf = async (num: number): Promise<string | undefined> => {
  const [point] = await store.read([idFromNum(num)], { payload: true, fields: [field] });
  if (point === undefined) return undefined;
  expect(point.vectors.map((bytes) => bytes && Buffer.from(bytes))).toEqual([vectorBytes]);
  return (JSON.parse(Buffer.from(point.payload).toString()) as { text: string }).text;
};

/** Whether one of the files below has the payload, or the vector, as it is. */
async function isReadable(): Promise<boolean> {
  const files = await readdir(directory);
  const contents = await Promise.all(files.map((file) => readFile(join(directory, file))));
  return contents.some((content) => content.includes(known) || content.includes(vectorBytes));
}

async function reopen(keys: KeyRing | undefined): Promise<void> {
  await store.close();
  store = await PointStore.open(directory, { keys });
}

/** Works on the entries as LevelDB has them. */
async function raw(work: (database: ClassicLevel<Uint8Array, Uint8Array>) => Promise<void>): Promise<void> {
  await store.close();
  const encodings = { keyEncoding: "view", valueEncoding: "view", compression: false } as const;
  const database = new ClassicLevel<Uint8Array, Uint8Array>(directory, encodings);
  await work(database);
  await database.close();
}

const payloadKey = (id: IdKey): Buffer => Buffer.concat([Buffer.of(3), id]);

test("nothing of payloads, vectors and outcomes is on the disk, and all of it comes back", async () => {
  store = await PointStore.open(directory, { keys: ringOf(master) });
  await put(1);
  await store.sync(Buffer.from("1"));
  await put(2, 2);
  expect(store.encryption).toEqual({ masterKey: ringOf(master).masterKey, isRewriting: false });
  expect(await isReadable()).toBe(false);
  await reopen(ringOf(master));
  expect([await textOf(1), await textOf(2)]).toEqual([known, known]);
  const slots: number[] = [];
  for await (const chunk of store.scanVectors(field)) slots.push(...chunk.slots);
  for await (const { payloads } of store.scanPayloads()) expect(payloads).toHaveLength(2);
  expect(slots).toEqual([1, 2]);
  expect((await store.scroll(undefined, 10, { payload: true, fields: [field] })).points).toHaveLength(2);
});

test("without keys it is all there to be read: the test above can fail", async () => {
  store = await PointStore.open(directory);
  await put(1);
  expect(store.encryption).toBeUndefined();
  expect(await isReadable()).toBe(true);
});

test("without its master key it does not open, says which it needs, and is as it was afterwards", async () => {
  const ring = ringOf(master);
  store = await PointStore.open(directory, { keys: ring });
  await put(1);
  await store.close();
  for (const keys of [undefined, ringOf(line())]) {
    const refused = { code: "FAILED_PRECONDITION", details: { masterKey: ring.masterKey } };
    await expect(PointStore.open(directory, { keys })).rejects.toMatchObject(refused);
  }
  store = await PointStore.open(directory, { keys: ringOf(line(), master) });
  expect(await textOf(1)).toBe(known);
});

test("a changed value, one under another key, and one that is not encrypted are damage", async () => {
  const open = async (): Promise<void> => {
    store = await PointStore.open(directory, { keys: ringOf(master) });
  };
  await open();
  await put(1);
  await put(2, 2, "another text");
  const [one, two] = [payloadKey(idFromNum(1)), payloadKey(idFromNum(2))];
  const failure = async (): Promise<unknown> => textOf(1).catch((error: unknown) => error);
  let before: Uint8Array = new Uint8Array();
  for (const at of [0, 4, 20, -24, -2]) {
    await raw(async (database) => {
      before = (await database.get(one)) ?? before;
      const changed = Buffer.from(before);
      const place = at < 0 ? changed.length + at : at;
      changed[place] = (changed[place] as number) ^ 0x40;
      await database.put(one, changed);
    });
    await open();
    expect(await failure(), `byte ${at}`).toMatchObject({ code: "CORRUPT_DATA" });
    await raw((database) => database.put(one, before));
    await open();
    expect(await textOf(1)).toBe(known);
  }
  await raw(async (database) => database.put(one, (await database.get(two)) ?? before));
  await open();
  expect(await failure()).toMatchObject({ code: "CORRUPT_DATA" });
  const plain = await mkdtemp(join(tmpdir(), "kith-plain-"));
  const other = await PointStore.open(plain);
  await store.close();
  store = other;
  await put(1);
  let value: Uint8Array = new Uint8Array();
  const main = directory;
  directory = plain;
  await raw(async (database) => {
    value = (await database.get(one)) ?? value;
  });
  await rm(plain, { recursive: true });
  directory = main;
  await open();
  await raw((database) => database.put(one, value));
  await open();
  expect(await failure()).toMatchObject({ code: "CORRUPT_DATA" });
});

test("a store that was not encrypted is from now on, and is rewritten beside reads and writes", async () => {
  store = await PointStore.open(directory);
  for (let i = 0; i < 1_000; i++) await put(i, i + 1);
  await reopen(ringOf(master));
  expect(store.encryption?.isRewriting).toBe(true);
  expect(await textOf(7)).toBe(known);
  const rewriting = store.rewrite(new AbortController().signal);
  for (let i = 0; i < 1_000; i += 50) {
    await put(i, 2_000 + i, "written meanwhile");
    expect(await textOf(i + 1)).toBe(known);
  }
  const batch = store.batch();
  for (const deleted of [3, 999]) {
    batch.deleteHead(idFromNum(deleted));
    batch.deletePayload(idFromNum(deleted));
    batch.deleteVector(0, idFromNum(deleted));
  }
  await store.write(batch);
  await rewriting;
  expect(store.encryption?.isRewriting).toBe(false);
  expect(await isReadable()).toBe(false);
  await reopen(ringOf(master));
  expect([await textOf(0), await textOf(1), await textOf(3), await textOf(999)]).toEqual([
    ...["written meanwhile", known, undefined, undefined],
  ]);
  let count = 0;
  for await (const { slots } of store.scanVectors(field)) count += slots.length;
  expect(count).toBe(998);
});

test("with another master key all is rewritten with another data key, also where it is interrupted, and the old one is not needed any more", async () => {
  const next = line();
  const ring = ringOf(master);
  store = await PointStore.open(directory, { keys: ring });
  for (let i = 0; i < 600; i++) await put(i, i + 1);
  let told = 0;
  store.onKeysChanged(() => told++);
  const old = store.snapshot();
  ring.replace(masterKeysOf(`${next}\n${master}`, ""));
  expect([told, store.encryption?.isRewriting]).toEqual([1, true]);
  const stopped = new AbortController();
  const begun = store.rewrite(stopped.signal);
  await put(600, 601);
  stopped.abort();
  await begun;
  expect(store.encryption).toEqual({ masterKey: ring.masterKey, isRewriting: true });
  await old.close();
  await store.close();
  await expect(PointStore.open(directory, { keys: ringOf(next) })).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
  });
  store = await PointStore.open(directory, { keys: ringOf(next, master) });
  const kept = store.snapshot();
  await store.rewrite(new AbortController().signal);
  expect(store.encryption?.isRewriting).toBe(false);
  // A snapshot from before holds values of the old data key.
  let entries = 0;
  for await (const chunk of kept.chunks()) entries += chunk.keys.length;
  expect(entries).toBeGreaterThan(1_800);
  await kept.close();
  await reopen(ringOf(next));
  expect([await textOf(0), await textOf(600)]).toEqual([known, known]);
});

test("a copy has keys of its own: what one store gives, another one with other keys takes", async () => {
  store = await PointStore.open(directory, { keys: ringOf(master) });
  await put(1);
  const batch = store.batch();
  batch.putMeta("schema", Buffer.from("{}"));
  batch.putMeta("state", Buffer.from("{}"));
  await store.write(batch);
  const other = line();
  const target = join(directory, "copy");
  let copy = await StoreCopy.create(target, undefined, { keys: ringOf(other) });
  const snapshot = store.snapshot();
  for await (const chunk of snapshot.chunks()) await copy.add(chunk);
  await snapshot.close();
  // Broken off, and gone on with.
  await copy.close();
  await expect(StoreCopy.reopen(target, undefined, { keys: ringOf(master) })).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
  });
  copy = await StoreCopy.reopen(target, undefined, { keys: ringOf(other) });
  await copy.finish(Buffer.from("{}"), 1, () => [0]);
  expect(await StoreCopy.isWhole(target)).toBe(true);
  await store.close();
  store = await PointStore.open(target, { keys: ringOf(other) });
  expect(await textOf(1)).toBe(known);
});
