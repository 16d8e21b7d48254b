import { readdirSync } from "node:fs";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { crc32c, KithError } from "../../libs/base/index.js";
import { xxh64 } from "../../libs/hash/index.js";

/**
 * Stores of format 1 of any size, made of those that this release writes: what only the first release could write, and migrations
 * need to be measured and disturbed. Written from docs/format.md and the description of format 1, and not with the encoders of this
 * release, which the migration uses.
 */

type Database = ClassicLevel<Buffer, Buffer>;
type Json = Record<string, unknown>;

interface StoredField extends Json {
  name: string;
  number: number;
  datatype: string;
}

const headFamily = 1;
const vectorFamily = 2;
const payloadFamily = 3;
const versionBytes = 6;
const checksumBytes = 4;
/** A head of format 1: body and checksum. */
const formerHeadBytes = 24 + checksumBytes;
const headsAtOnce = 500;

/** The stores below a data folder. */
export function storesBelow(data: string): string[] {
  const replicas = join(data, "replicas");
  return readdirSync(replicas, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith("/db"))
    .map((path) => join(replicas, path))
    .sort();
}

async function withDatabase<T>(directory: string, work: (database: Database) => Promise<T>): Promise<T> {
  const database: Database = new ClassicLevel(directory, { keyEncoding: "buffer", valueEncoding: "buffer" });
  await database.open();
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** How many heads of a store are of format 1, and how many are not; whether it says that it is on its way. */
export function countHeads(directory: string): Promise<{ former: number; current: number; isOnItsWay: boolean }> {
  return withDatabase(directory, async (database) => {
    const { migratesFrom } = await readMeta<{ migratesFrom?: number }>(database, "identity");
    const counts = { former: 0, current: 0, isOnItsWay: migratesFrom !== undefined };
    for await (const value of database.values(headRange)) {
      if (value.length === formerHeadBytes) counts.former++;
      else counts.current++;
    }
    return counts;
  });
}

/**
 * Rewrites a store that no process has open as format 1. Only for points whose parts were all written together, as inserts and
 * overwrites do; FAILED_PRECONDITION for others.
 */
export async function toFormat1(directory: string): Promise<void> {
  await withDatabase(directory, async (database) => {
    const schema = await readMeta<{ fields: StoredField[] }>(database, "schema");
    const byName = [...schema.fields].sort((a, b) => (a.name < b.name ? -1 : 1));
    let digest = 0n;
    let heads: [Buffer, Buffer][] = [];
    const rewrite = async (): Promise<void> => {
      const batch = database.batch();
      for (const [key, body, hash] of await formerHeads(database, heads, byName)) {
        digest = BigInt.asUintN(64, digest + hash);
        batch.put(key, sealed(key, body));
      }
      await batch.write();
      heads = [];
    };
    for await (const head of database.iterator(headRange)) {
      if (heads.push(head) === headsAtOnce) await rewrite();
    }
    await rewrite();
    const fields = schema.fields.map(({ number: _, kind: __, datatype, ...field }) => {
      const { name, dimension, metric, ...graph } = field;
      return { name, dimension, metric, storage: datatype, ...graph };
    });
    await writeMeta(database, "schema", { fields });
    const state = await readMeta<Json>(database, "state");
    await writeMeta(database, "state", { ...state, digest: digest.toString(16).padStart(16, "0") });
    const identity = await readMeta<Json>(database, "identity");
    await writeMeta(database, "identity", { ...identity, format: 1, release: undefined, migratesFrom: undefined });
  });
}

const headRange = { gte: Buffer.of(headFamily), lt: Buffer.of(headFamily + 1) };

/** Key, body and content hash of each point's head of format 1. */
async function formerHeads(
  database: Database,
  heads: readonly [Buffer, Buffer][],
  byName: readonly StoredField[],
): Promise<[Buffer, Buffer, bigint][]> {
  const ids = heads.map(([key]) => key.subarray(1));
  const partsOf = (...prefix: number[]): Promise<(Buffer | undefined)[]> =>
    database.getMany(ids.map((id) => Buffer.concat([Buffer.from(prefix), id])));
  const payloads = await partsOf(payloadFamily);
  const vectors = await Promise.all(byName.map(({ number }) => partsOf(vectorFamily, number)));
  return heads.map(([key, value], i) => {
    const id = key.subarray(1);
    const version = value.readUIntLE(0, versionBytes);
    const slot = value.readUInt32LE(versionBytes);
    if (value.length === formerHeadBytes) throw unfit(id, "has a head of format 1 already");
    const content = (stored: Buffer | undefined, versionAt: (body: Buffer) => number): Buffer => {
      if (stored === undefined) return Buffer.alloc(0);
      const body = stored.subarray(0, -checksumBytes);
      if (body.readUIntLE(versionAt(body), versionBytes) !== version) throw unfit(id, "has parts of several versions");
      return body;
    };
    // A vector ends with its version, a payload begins with it.
    const payload = content(payloads[i], () => 0).subarray(versionBytes);
    let fields = 0;
    const named = byName.flatMap(({ name, number }, at) => {
      const body = content(vectors[at]?.[i], ({ length }) => length - versionBytes);
      if (body.length === 0) return [];
      fields |= 1 << number;
      const vector = body.subarray(0, -versionBytes);
      return [u8(name.length), Buffer.from(name, "latin1"), u32(vector.length), vector];
    });
    const written = version6(version);
    const hash = xxh64(Buffer.concat([u16(id.length), id, written, u32(payload.length), payload, ...named]));
    const body = Buffer.concat([written, u32(slot), u64(hash), u32(payload.length), u16(fields)]);
    return [key, body, hash];
  });
}

function unfit(id: Buffer, why: string): KithError {
  return new KithError("FAILED_PRECONDITION", `the point with the id key ${id.toString("hex")} ${why}`);
}

async function readMeta<T>(database: Database, name: string): Promise<T> {
  const value = await database.get(metaKey(name));
  if (value === undefined) throw new KithError("CORRUPT_DATA", `the store in ${database.location} has no ${name}`);
  return JSON.parse(value.subarray(0, -checksumBytes).toString()) as T;
}

async function writeMeta(database: Database, name: string, value: Json): Promise<void> {
  const key = metaKey(name);
  await database.put(key, sealed(key, Buffer.from(JSON.stringify(value))), { sync: true });
}

function metaKey(name: string): Buffer {
  return Buffer.from(`\0${name}`, "latin1");
}

/** With the checksum that ends every value. */
function sealed(key: Buffer, body: Buffer): Buffer {
  return Buffer.concat([body, u32(crc32c(body, crc32c(key)))]);
}

function u8(value: number): Buffer {
  return Buffer.of(value);
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function version6(value: number): Buffer {
  const bytes = Buffer.alloc(versionBytes);
  bytes.writeUIntLE(value, 0, versionBytes);
  return bytes;
}
