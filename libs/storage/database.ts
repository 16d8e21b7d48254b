import type { ClassicLevel } from "classic-level";
import { errorChain, KithError, levelError, openLevel } from "../base/index.js";
import type { KeyRing } from "../encryption/index.js";
import { type KeyRange, wholeRange } from "./keys.js";

export type LevelDatabase = ClassicLevel<Uint8Array, Uint8Array>;
export type DatabaseSnapshot = ReturnType<LevelDatabase["snapshot"]>;
export type Entry = [key: Uint8Array, value: Uint8Array];

interface RangeOptions {
  gt?: Uint8Array;
  gte?: Uint8Array;
  lt?: Uint8Array;
  limit?: number;
}

/** What a store needs of its database: LevelDB, or LevelDB behind encryption. */
export interface Database {
  readonly status: string;
  get(key: Uint8Array, options?: { snapshot?: DatabaseSnapshot }): Promise<Uint8Array | undefined>;
  getMany(keys: Uint8Array[], options?: { snapshot?: DatabaseSnapshot }): Promise<(Uint8Array | undefined)[]>;
  iterator(options: RangeOptions & { highWaterMarkBytes?: number; snapshot?: DatabaseSnapshot }): {
    nextv(size: number): Promise<Entry[]>;
    all(): Promise<Entry[]>;
    close(): Promise<void>;
  };
  keys(options: RangeOptions): { all(): Promise<Uint8Array[]> };
  batch(): Batch;
  put(key: Uint8Array, value: Uint8Array, options: { sync?: boolean }): Promise<void>;
  clear(options: RangeOptions): Promise<void>;
  compactRange(from: Uint8Array, to: Uint8Array): Promise<void>;
  approximateSize(from: Uint8Array, to: Uint8Array): Promise<number>;
  getProperty(name: string): string;
  snapshot(): DatabaseSnapshot;
  close(): Promise<void>;
}

/** Changes that come into force at once. */
export interface Batch {
  put(key: Uint8Array, value: Uint8Array): unknown;
  del(key: Uint8Array): unknown;
  write(options?: { sync?: boolean }): Promise<void>;
}

/** One nextv call: large enough that its fixed cost vanishes (1.7 µs a head, 2.6 µs a 128-d vector), small enough for the event loop (7 ms). */
export const scanEntries = 4_096;
const scanBytes = 512 * 1024;

/** LevelDB's shares of the memory, for each database. */
export interface StoreOptions {
  /** What is not in a table on the disk yet, in bytes; up to twice as much while one is written out. */
  writeBufferBytes: number;
  /** Blocks of tables that were read, in bytes. */
  cacheBytes: number;
  /** Encrypts what points hold. */
  keys?: KeyRing | undefined;
}

/**
 * Measured with 300k points of 128 dimensions in two shards, beside log and index, in turns: write buffers of 32 MiB build the graphs at
 * 10.6k to 11.5k points/s, those of 8 MiB at 9.0k to 9.8k, since less is compacted meanwhile. 100k points leave 183 MiB of private memory instead of
 * 161. A store alone writes with less CPU through 8 MiB (15 to 17 µs a point, not 19 to 23), whose skip list stays in the cores' caches.
 */
const defaultOptions: StoreOptions = { writeBufferBytes: 32 * 1024 * 1024, cacheBytes: 8 * 1024 * 1024 };

/**
 * Snappy on or off writes equally fast; without it a getMany(10) of payloads costs 7.4 µs a value instead of 10.3, and vectors do not
 * compress. Bloom filters (10 bits a key) are always on.
 */
const fixedOptions = {
  keyEncoding: "view",
  valueEncoding: "view",
  compression: false,
  maxFileSize: 16 * 1024 * 1024,
} as const;

/** Opens the database; FAILED_PRECONDITION when another process has it, CORRUPT_DATA when LevelDB cannot read it. */
export function openDatabase(directory: string, options: Partial<StoreOptions> = {}): Promise<LevelDatabase> {
  const { writeBufferBytes, cacheBytes } = { ...defaultOptions, ...options };
  return openLevel<Uint8Array, Uint8Array>(directory, {
    ...fixedOptions,
    writeBufferSize: writeBufferBytes,
    cacheSize: cacheBytes,
  });
}

/**
 * What LevelDB threw, as a KithError: CORRUPT_DATA, DISK_FULL, FAILED_PRECONDITION (locked by another process),
 * SHARD_UNAVAILABLE (the store was closed meanwhile), or INTERNAL for other input/output errors.
 */
export function storeError(error: unknown, directory: string): KithError {
  const known = levelError(error, directory);
  if (known.code !== "INTERNAL") return known;
  if (
    errorChain(error).codes.some((code) => /^LEVEL_(DATABASE|ITERATOR|SNAPSHOT)_NOT_OPEN$|^LEVEL_ABORTED$/.test(code))
  ) {
    return new KithError("SHARD_UNAVAILABLE", `the database in ${directory} is closed`, {
      cause: error,
      details: { directory },
    });
  }
  return known;
}

/** Behind every key. */
const nowhere = [Buffer.from([255]), Buffer.from([255, 255])] as const;

/**
 * Brings what was written before the call from LevelDB's memory into tables on the disk. A write with `sync` alone does not
 * do it: that fsyncs the write-ahead log at hand, and one that was full before may still lack its fsync. Compacting a range, be it
 * empty, begins with a flush.
 */
export async function flush(database: Database): Promise<void> {
  await database.compactRange(...nowhere);
}

/** Merges all tables, so that what was deleted or overwritten takes no place any more, and walks need not pass over it. */
export async function compact(database: Database): Promise<void> {
  await database.compactRange(wholeRange.gte, wholeRange.lt);
}

/** The entries of a range in order of key: as of `snapshot`, else as of the first call of `next`. */
export async function* scan(
  database: Database,
  directory: string,
  range: KeyRange | { gt: Uint8Array; lt: Uint8Array },
  snapshot?: DatabaseSnapshot,
): AsyncGenerator<Entry[]> {
  try {
    const iterator = database.iterator({ ...range, highWaterMarkBytes: scanBytes, ...(snapshot && { snapshot }) });
    try {
      for (;;) {
        const entries = await iterator.nextv(scanEntries);
        if (entries.length === 0) return;
        yield entries;
      }
    } finally {
      await iterator.close();
    }
  } catch (error) {
    throw storeError(error, directory);
  }
}
