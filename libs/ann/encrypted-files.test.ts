/** Files of indexes that are encrypted: nothing of the vectors is in them, and they are read back, or refused. */
import { randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { KithError } from "../base/index.js";
import {
  createIndex,
  type FileKeys,
  type IndexOptions,
  loadIndex,
  MatrixIndex,
  type MatrixOptions,
  PostingsIndex,
  type PostingsOptions,
  type VectorIndex,
} from "./index.js";
import { clustered, range, rowOf } from "./testing/data.js";

const dimension = 96;
/** Rows of more than two blocks of a file, the last of which is not full. */
const count = 6_000;
const rows = clustered(1, count, dimension);
const options: IndexOptions = {
  dimension,
  metric: "l2",
  datatype: "f32",
  m: 8,
  efConstruction: 40,
  graphThreshold: 1_000,
};
const parent = mkdtempSync(join(tmpdir(), "kith-ann-encrypted-"));
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(parent, "index-"));
});
afterAll(() => rmSync(parent, { recursive: true, force: true }));

/** Wraps nothing: the key itself lies beside, under the name of what would wrap it. */
class PlainKeys implements FileKeys {
  constructor(public name: string) {}
  createFileKey(): { key: Uint8Array; wrapped: string } {
    const key = randomBytes(32);
    return { key, wrapped: `${this.name}:${key.toString("hex")}` };
  }
  openFileKey(wrapped: string): Uint8Array {
    const [name, key = ""] = wrapped.split(":");
    if (name !== this.name && name !== "old") throw new KithError("FAILED_PRECONDITION", `no key ${name}`);
    return Buffer.from(key, "hex");
  }
  isCurrentFileKey(wrapped: string): boolean {
    return wrapped.startsWith(`${this.name}:`);
  }
}

const filesOf = (pattern: RegExp): string[] => readdirSync(directory).filter((name) => pattern.test(name));

async function saved(keys: FileKeys | undefined): Promise<VectorIndex> {
  const index = createIndex(options, keys);
  await index.add(range(0, count), rows);
  await index.flush();
  await index.save(directory, { sequence: 7 });
  return index;
}

async function nearestOf(index: VectorIndex, row: number): Promise<number | undefined> {
  const { slots } = await index.search(rowOf(rows, dimension, row), { k: 1, ef: 40 });
  return slots[0];
}

function isReadable(): boolean {
  const some = Buffer.from(rows.buffer, 1_234 * dimension * 4, 64);
  return filesOf(/\.bin$/).some((name) => readFileSync(join(directory, name)).includes(some));
}

test("they hold no vector, and lead to the same index", async () => {
  const keys = new PlainKeys("k");
  const index = await saved(keys);
  expect(isReadable()).toBe(false);
  const loaded = await loadIndex(directory, options, { keys });
  if (loaded === undefined) throw new Error("nothing was saved");
  expect(loaded.sequence).toBe(7);
  for (const row of [0, 1_234, count - 1]) expect(await nearestOf(loaded.index, row)).toBe(row);
  expect(loaded.index.stats()).toMatchObject({ rowCount: count, graphRowCount: index.stats().graphRowCount });
  await loaded.index.close();
  await index.close();
});

test("without keys they hold the vectors: the test above can fail", async () => {
  const index = await saved(undefined);
  expect(isReadable()).toBe(true);
  // They are read with keys too, and written anew: what was there before is gone with the next save.
  const keys = new PlainKeys("k");
  const loaded = await loadIndex(directory, options, { keys });
  await loaded?.index.save(directory, { sequence: 8 });
  expect(isReadable()).toBe(false);
  await loaded?.index.close();
  await index.close();
});

test("rows are appended to those under the same master key, and written anew under another one", async () => {
  const keys = new PlainKeys("old");
  const index = createIndex(options, keys);
  await index.add(range(0, 2_000), rows.slice(0, 2_000 * dimension));
  await index.save(directory, { sequence: 1 });
  await index.add(range(2_000, 4_000), rows.slice(2_000 * dimension, 4_000 * dimension));
  await index.save(directory, { sequence: 2 });
  expect(filesOf(/^rows-/)).toHaveLength(2);
  keys.name = "new";
  const loaded = await loadIndex(directory, options, { keys });
  expect(await nearestOf(loaded?.index as VectorIndex, 3_999)).toBe(3_999);
  await loaded?.index.save(directory, { sequence: 3 });
  expect(filesOf(/^rows-/)).toHaveLength(1);
  const manifest = readFileSync(join(directory, "manifest.json"), "utf8");
  expect(manifest).toContain('"new:');
  expect(manifest).not.toContain('"old:');
  await loaded?.index.close();
  await index.close();
});

test("a flipped byte anywhere, blocks that were swapped and one that is missing are damage", async () => {
  const keys = new PlainKeys("k");
  await (await saved(keys)).close();
  const whole = join(parent, "whole");
  cpSync(directory, whole, { recursive: true });
  const refused = async (what: string, change: (bytes: Buffer) => Buffer, pattern: RegExp): Promise<void> => {
    cpSync(whole, directory, { recursive: true, force: true });
    const path = join(directory, filesOf(pattern)[0] ?? "");
    writeFileSync(path, change(readFileSync(path)));
    await expect(loadIndex(directory, options, { keys }), what).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  };
  for (const pattern of [/^rows-/, /^graph-/, /^meta-/]) {
    for (const share of [0, 0.5, 0.999]) {
      await refused(
        `${pattern} ${share}`,
        (bytes) => {
          const at = Math.floor(bytes.length * share);
          bytes[at] = (bytes[at] as number) ^ 1;
          return bytes;
        },
        pattern,
      );
    }
  }
  const block = 1024 * 1024 + 16;
  const swapped = (bytes: Buffer): Buffer =>
    Buffer.concat([bytes.subarray(block, 2 * block), bytes.subarray(0, block), bytes.subarray(2 * block)]);
  await refused("swapped blocks", swapped, /^rows-/);
  await refused("a missing block", (bytes) => bytes.subarray(block), /^rows-/);
  cpSync(whole, directory, { recursive: true, force: true });
  await (await loadIndex(directory, options, { keys }))?.index.close();
});

test("without the key they are refused as what they are, and stay", async () => {
  await (await saved(new PlainKeys("k"))).close();
  for (const keys of [undefined, new PlainKeys("other")]) {
    await expect(loadIndex(directory, options, { keys })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  }
  await (await loadIndex(directory, options, { keys: new PlainKeys("k") }))?.index.close();
});

test("vectors as they were given, beside codes, are in memory and not in a mapped file, and are encrypted when saved", async () => {
  const keys = new PlainKeys("k");
  const coded: IndexOptions = { ...options, datatype: "i8", givenFolder: directory };
  const index = createIndex(coded, keys);
  await index.add(range(0, count), rows);
  await index.flush();
  await index.save(directory, { sequence: 7 });
  expect(filesOf(/^given-/)).toHaveLength(1);
  expect(isReadable()).toBe(false);
  const loaded = await loadIndex(directory, coded, { keys });
  expect(await nearestOf(loaded?.index as VectorIndex, 1_234)).toBe(1_234);
  await loaded?.index.close();
  await index.close();
});

const text: PostingsOptions = { kind: "text", k1: 1.2, fields: [{ b: 0.75, weight: 1 }] };
const sparse: PostingsOptions = { kind: "values" };

test.each([text, sparse])("postings are encrypted too: $kind", async (kind) => {
  const keys = new PlainKeys("k");
  const index = PostingsIndex.create(kind);
  const many = 20_000;
  const offsets = Uint32Array.from({ length: many + 1 }, (_, i) => i);
  const terms = Uint32Array.from({ length: many }, (_, i) => i % 97);
  const ones = new Uint32Array(many).fill(1);
  const worth = kind === sparse ? { values: new Float32Array(many).fill(1.5) } : { counts: ones, lengths: ones };
  await index.add({ slots: range(0, many), offsets, terms, ...worth });
  const path = join(directory, "postings.bin");
  const plain = await index.save(join(directory, "plain.bin"));
  const sum = await index.save(path, keys);
  expect(sum).toMatchObject({ bytes: plain.bytes, crc: plain.crc });
  const [sealed, open] = [readFileSync(path), readFileSync(join(directory, "plain.bin"))];
  expect(sealed.includes(open.subarray(1_000, 1_032))).toBe(false);
  const loaded = await PostingsIndex.load(kind, path, sum, keys);
  expect(loaded.stats()).toEqual(expect.objectContaining({ aliveCount: many }));
  await loaded.close();
  await expect(PostingsIndex.load(kind, path, sum)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  sealed[sealed.length >> 1] = (sealed[sealed.length >> 1] as number) ^ 1;
  writeFileSync(path, sealed);
  await expect(PostingsIndex.load(kind, path, sum, keys)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  await index.close();
});

test("matrices are encrypted too", async () => {
  const keys = new PlainKeys("k");
  const kind: MatrixOptions = { dimension, metric: "l2", datatype: "f32" };
  const index = MatrixIndex.create(kind);
  index.add({ slots: range(0, count / 3), rowCounts: new Uint32Array(count / 3).fill(3), vectors: rows });
  const path = join(directory, "matrices.bin");
  const sum = await index.save(path, keys);
  const sealed = readFileSync(path);
  const row = rowOf(rows, dimension, 1_234);
  expect(sealed.includes(Buffer.from(row.buffer, row.byteOffset, row.byteLength))).toBe(false);
  const loaded = await MatrixIndex.load(kind, path, sum, keys);
  expect((await loaded.search(row, { k: 1 })).slots[0]).toBe(Math.floor(1_234 / 3));
  await loaded.close();
  await expect(MatrixIndex.load(kind, path, sum)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  sealed[sealed.length >> 1] = (sealed[sealed.length >> 1] as number) ^ 1;
  writeFileSync(path, sealed);
  await expect(MatrixIndex.load(kind, path, sum, keys)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  await index.close();
});
