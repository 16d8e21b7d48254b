import { beforeEach, expect, test } from "vitest";
import { type BackupPart, decodeChunk, findJson, type FileStore, partKey } from "../../../libs/backup/index.js";
import { crc32c, SeededRandom, systemClock } from "../../../libs/base/index.js";
import type { ReplicaFiles } from "../../../libs/engine/index.js";
import { formatDigest } from "../../../libs/hash/index.js";
import type { FilePlace, SnapshotBlock } from "../../../libs/model/index.js";
import { filesOfPart } from "./part-files.js";
import { writeFiles } from "./write-files.js";

/** A replica's files on their way into a backup and out of it. */

const mebibyte = 1024 * 1024;
const base = "20261127t000000000z-00000000";
const next = "20261127t000000001z-00000000";
const shard = { collectionId: "c", shard: 3 };
const slots = { firstSlot: 0, lastSlot: 16_383 };

let files: Map<string, Buffer>;
let putKeys: string[];
let failsAfter: number;
const store: FileStore = {
  description: "a map",
  put: async (key, bytes) => {
    if (putKeys.length >= failsAfter) throw new Error("the store is away");
    putKeys.push(key);
    files.set(key, Buffer.from(bytes));
    return Promise.resolve();
  },
  get: (key) => {
    const found = files.get(key);
    return found === undefined ? Promise.reject(new Error(`no ${key}`)) : Promise.resolve(found);
  },
  async *list(prefix) {
    await Promise.resolve();
    for (const [key, bytes] of files) if (key.startsWith(prefix)) yield { key, sizeBytes: bytes.length };
  },
  remove: (key) => Promise.resolve(void files.delete(key)),
};

beforeEach(() => {
  files = new Map();
  putKeys = [];
  failsAfter = Infinity;
});

/** As a replica gives them: in blocks, each with the checksum of its file up to there. */
async function* blocksOf(contents: readonly Buffer[], blockBytes: number): AsyncGenerator<SnapshotBlock> {
  for (const [file, content] of contents.entries()) {
    let offset = 0;
    do {
      const data = content.subarray(offset, offset + blockBytes);
      offset += data.length;
      await Promise.resolve();
      yield { file, offset: offset - data.length, data, crc32c: crc32c(content.subarray(0, offset)) };
    } while (offset < content.length);
  }
}

function given(contents: Record<string, Buffer>): ReplicaFiles {
  const all = Object.values(contents);
  const state = {
    ...{ appliedSequence: 12, digest: formatDigest(1n), logTimeMs: 0, slotEnd: 5, pointCount: 5, fieldCounts: [5] },
  };
  return {
    ...{ incarnation: "i", format: 2, state, stateBody: Buffer.from("{}"), schemaBody: Buffer.from("{}") },
    files: Object.entries(contents).map(([name, { length }]) => ({ name, sizeBytes: length })),
    sizeBytes: all.reduce((sum, { length }) => sum + length, 0),
    blocks: () => blocksOf(all, mebibyte / 2),
    close: () => Promise.resolve(),
  };
}

const call = { signal: new AbortController().signal, onProgress: () => undefined };

async function write(backup: string, contents: Record<string, Buffer>, upon?: string): Promise<BackupPart> {
  const job = { kind: "write", location: "", backup, base: upon, shard, slots, bytesPerSecond: 0 } as const;
  await writeFiles(given(contents), store, job, call, systemClock);
  return (await findJson<BackupPart>(store, partKey(backup, shard.shard))) as BackupPart;
}

async function read(part: BackupPart, from?: FilePlace): Promise<SnapshotBlock[]> {
  const blocks: SnapshotBlock[] = [];
  for await (const block of filesOfPart(store, part, base, "mine").blocks(from)) blocks.push(block);
  return blocks;
}

/** Vectors, as far as deflate is concerned. */
const noise = (bytes: number): Buffer => Buffer.from(new SeededRandom(7).bytes(bytes));
const contents = {
  "index-dense-0/graph.bin": noise(9 * mebibyte + 5),
  "db/000005.ldb": Buffer.from(JSON.stringify({ title: "the same again" }).repeat(40_000)),
  "db/000006.log": Buffer.alloc(0),
  "db/CURRENT": Buffer.from("MANIFEST-000004\n"),
};

test("files come out as they went in, whole or from any place on", async () => {
  const part = await write(base, contents);
  expect(part).toMatchObject({ sequence: 12, pointCount: 5, files: [], replica: { format: 2 } });
  const { manifest } = filesOfPart(store, part, base, "mine");
  expect(manifest).toMatchObject({ id: base, incarnation: "mine", sequence: 12, pointCount: 5 });
  const all = Object.values(contents);
  const places: (FilePlace | undefined)[] = [
    undefined,
    { file: 0, offset: 1 },
    { file: 0, offset: 4 * mebibyte },
    { file: 0, offset: 9 * mebibyte + 4 },
    { file: 1, offset: 17 },
    { file: 2, offset: 0 },
    { file: 4, offset: 0 },
  ];
  for (const from of places) {
    const { file: first, offset } = from ?? { file: 0, offset: 0 };
    const blocks = await read(part, from);
    for (const [file, content] of all.entries()) {
      const own = blocks.filter((block) => block.file === file);
      const expected = file < first ? undefined : content.subarray(file === first ? offset : 0);
      expect(Buffer.concat(own.map(({ data }) => data)).equals(expected ?? Buffer.alloc(0))).toBe(true);
      if (expected === undefined) expect(own).toEqual([]);
      else expect(own.at(-1)?.crc32c).toBe(crc32c(content));
    }
  }
  // Text is compressed, noise is not.
  expect(part.writtenBytes).toBeLessThan(9.1 * mebibyte);
  expect(part.writtenBytes).toBeGreaterThan(9 * mebibyte);
});

test("a further backup writes the chunks that are new", async () => {
  const first = await write(base, contents);
  const graph = Buffer.from(contents["index-dense-0/graph.bin"]);
  graph.writeUInt8(graph.readUInt8(5 * mebibyte) ^ 1, 5 * mebibyte);
  putKeys = [];
  const changed = { ...contents, "index-dense-0/graph.bin": graph, "db/000007.ldb": Buffer.from("new") };
  const second = await write(next, changed, base);
  expect(putKeys.filter((key) => key.startsWith("chunks/"))).toHaveLength(2);
  expect(second.writtenBytes).toBeLessThan(first.writtenBytes / 2);
  const [own] = await read(second);
  expect(own?.data.length).toBe(4 * mebibyte);
  expect(
    Buffer.concat((await read(second)).filter(({ file }) => file === 0).map(({ data }) => data)).equals(graph),
  ).toBe(true);
  putKeys = [];
  expect((await write(next, changed, base)).writtenBytes).toBe(0);
});

test("an attempt goes on with what an earlier one has written", async () => {
  failsAfter = 2;
  await expect(write(base, contents)).rejects.toThrow("the store is away");
  expect(putKeys).toHaveLength(2);
  failsAfter = Infinity;
  const { replica } = await write(base, contents);
  const chunks = replica?.files.flatMap((file) => file.chunks.map(({ file: key }) => key)) ?? [];
  expect(putKeys.filter((key) => key.startsWith("chunks/")).sort()).toEqual([...new Set(chunks)].sort());
});

test("a damaged chunk, or another one in its place, is not taken", async () => {
  const part = await write(base, contents);
  const [first, second] = part.replica?.files[0]?.chunks.map(({ file }) => file) ?? [];
  const bytes = files.get(first as string) as Buffer;
  for (const at of [0, 4, 8, 9, 13, bytes.length - 1]) {
    const flipped = Buffer.from(bytes);
    flipped.writeUInt8(flipped.readUInt8(at) ^ 4, at);
    files.set(first as string, flipped);
    await expect(read(part)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
    await expect(decodeChunk("x", flipped)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  }
  files.set(first as string, files.get(part.replica?.files[1]?.chunks[0]?.file as string) as Buffer);
  await expect(read(part)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
  // One of the same length: the running checksum of who copies would be that of other bytes.
  files.set(first as string, files.get(second as string) as Buffer);
  await expect(read(part)).rejects.toMatchObject({ code: "CORRUPT_DATA" });
});
