import { openLevel } from "../../base/index.js";

type Operation = { type: "put"; key: Uint8Array; value: Uint8Array } | { type: "del"; key: Uint8Array };

interface Range {
  gte: Uint8Array;
  lt?: Uint8Array;
  lte?: Uint8Array;
}

interface ReadOptions extends Range {
  reverse?: boolean;
  limit?: number;
  /** Hints, of which a database in memory knows nothing. */
  highWaterMarkBytes?: number;
  fillCache?: boolean;
}

interface LogIterator extends AsyncIterable<[Uint8Array, Uint8Array]> {
  nextv(size: number): Promise<[Uint8Array, Uint8Array][]>;
  close(): Promise<void>;
}

/** What the log asks of its database: LevelDB, or for tests the same in memory. */
export interface LogDatabase {
  readonly location: string;
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  put(key: Uint8Array, value: Uint8Array, options?: { sync: true }): Promise<void>;
  del(key: Uint8Array): Promise<void>;
  batch(operations: Operation[], options: { sync: true }): Promise<void>;
  iterator(options: ReadOptions): LogIterator;
  clear(range: Range): Promise<void>;
  /** Gives the disk space of what was deleted back. */
  compactRange(start: Uint8Array, end: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export type OpenDatabase = (directory: string) => Promise<LogDatabase>;

/** Records are up to 1 MiB: LevelDB's defaults (4 MiB write buffer, 2 MiB files) would hold only a few each. What is in it is replayed after a crash, at 5 ms a MiB. */
const maxWriteBufferBytes = 16 * 1024 * 1024;
const fileBytes = 16 * 1024 * 1024;
/** Records are read in order, and seldom twice. */
const cacheBytes = 1024 * 1024;

/**
 * Opens the database; FAILED_PRECONDITION when another process has it, CORRUPT_DATA when LevelDB cannot read it.
 * Records are mostly vectors, which Snappy does not shrink: compression is off.
 */
export function openLogDatabase(
  directory: string,
  writeBufferBytes: number = maxWriteBufferBytes,
): Promise<LogDatabase> {
  return openLevel<Uint8Array, Uint8Array>(directory, {
    keyEncoding: "view",
    valueEncoding: "view",
    compression: false,
    writeBufferSize: Math.min(writeBufferBytes, maxWriteBufferBytes),
    maxFileSize: fileBytes,
    cacheSize: cacheBytes,
  });
}
