import { assert, crc32c, KithError, toKithError } from "../../base/index.js";
import { deliveryBytesMax, deliveryEntriesMax, logNotFound } from "../limits.js";
import type { LogEntry, LogState } from "../port.js";
import type { LogDatabase } from "./database.js";
import { type DuplicateWindow, RecentMessages } from "./duplicates.js";
import {
  decodeDuplicate,
  decodeEntry,
  duplicateRange,
  entryKey,
  entryRange,
  keySequence,
  type LogMeta,
} from "./records.js";

/** Records kept in memory for readers that are nearly caught up, per log; further behind, they read LevelDB. */
const recentBytesMax = 8 * 1024 * 1024;
const recentEntriesMax = 8_192;

/** A reader of one log, woken after every append and when the log goes away. */
export interface Reader {
  readonly cursor: number;
  wake(): void;
}

/** What memory knows of one log. Only the owner of the database changes it. */
export class ShardLog {
  readonly name: string;
  readonly readers = new Set<Reader>();
  meta: LogMeta;
  lastSequence: number;
  /** Bytes of all records ever appended, trimmed ones included. */
  totalBytes: number;
  messages: RecentMessages;
  removed = false;
  /** Its last record is being written: appends are refused. */
  isSealing = false;
  #recent: LogEntry[] = [];
  #recentBytes = 0;

  constructor(name: string, meta: LogMeta, window: DuplicateWindow) {
    this.name = name;
    this.meta = meta;
    this.lastSequence = meta.firstSequence - 1;
    this.totalBytes = meta.trimmedBytes;
    this.messages = new RecentMessages(window);
  }

  /** Reads the log's end and its remembered message ids. Until all is read, what was known stands: readers look meanwhile. */
  async load(database: LogDatabase, meta: LogMeta, window: DuplicateWindow): Promise<void> {
    let lastSequence = meta.firstSequence - 1;
    let totalBytes = meta.trimmedBytes;
    const messages = new RecentMessages(window);
    for await (const [key, value] of database.iterator({ ...entryRange(meta.id), reverse: true, limit: 1 })) {
      const sequence = keySequence(key);
      // Lower ones are the rest of a trim that was interrupted.
      if (sequence < meta.firstSequence) break;
      const entry = decodeEntry(key, value);
      lastSequence = sequence;
      totalBytes = entry.bytesBefore + entry.data.byteLength;
    }
    for await (const [key, value] of database.iterator(duplicateRange(meta.id))) {
      const { messageId, timeMs } = decodeDuplicate(key, value);
      messages.add(messageId, keySequence(key), timeMs);
    }
    this.meta = meta;
    this.lastSequence = lastSequence;
    this.totalBytes = totalBytes;
    this.messages = messages;
    this.#recent = [];
    this.#recentBytes = 0;
  }

  state(): LogState {
    return {
      firstSequence: this.meta.firstSequence,
      lastSequence: this.lastSequence,
      incarnation: this.meta.incarnation,
      sizeBytes: this.totalBytes - this.meta.trimmedBytes,
      ...(this.meta.continues && { continues: this.meta.continues }),
    };
  }

  get isSealed(): boolean {
    return this.isSealing || this.meta.sealedAt !== undefined;
  }

  notFound(): KithError {
    return logNotFound(this.name);
  }

  /** Takes in what has just become durable, and wakes the readers. */
  appended(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      assert(
        entry.sequence === this.lastSequence + 1,
        `log ${this.name}: ${entry.sequence} follows ${this.lastSequence}`,
      );
      this.lastSequence = entry.sequence;
      this.totalBytes += entry.data.byteLength;
      if (this.readers.size > 0) {
        this.#recent.push(entry);
        this.#recentBytes += entry.data.byteLength;
      }
    }
    this.#dropRead();
    this.wake();
  }

  /** Begins further on, be it behind its end. */
  goOn(meta: LogMeta): void {
    this.meta = meta;
    if (meta.firstSequence <= this.lastSequence) return;
    this.lastSequence = meta.firstSequence - 1;
    this.#recent = [];
    this.#recentBytes = 0;
  }

  wake(): void {
    for (const reader of this.readers) reader.wake();
  }

  /** The next entries from memory, or undefined where they must be read from the database. */
  recent(fromSequence: number): LogEntry[] | undefined {
    const first = this.#recent[0];
    if (first === undefined || fromSequence < first.sequence) return undefined;
    const start = fromSequence - first.sequence;
    let bytes = 0;
    let end = start;
    while (end < this.#recent.length && end - start < deliveryEntriesMax && bytes < deliveryBytesMax) {
      bytes += (this.#recent[end] as LogEntry).data.byteLength;
      end++;
    }
    return end === start ? undefined : this.#recent.slice(start, end);
  }

  /** A reader has moved on or gone. */
  readerMoved(): void {
    this.#dropRead();
  }

  /** Forgets what every reader has, and the oldest beyond the bounds. */
  #dropRead(): void {
    let needed = Number.POSITIVE_INFINITY;
    for (const reader of this.readers) needed = Math.min(needed, reader.cursor);
    let drop = 0;
    for (const entry of this.#recent) {
      const beyond = this.#recentBytes > recentBytesMax || this.#recent.length - drop > recentEntriesMax;
      if (entry.sequence >= needed && !beyond) break;
      this.#recentBytes -= entry.data.byteLength;
      drop++;
    }
    if (drop > 0) this.#recent.splice(0, drop);
  }

  /** Reads the next entries from the database; CORRUPT_DATA where one is damaged or missing. */
  async read(database: LogDatabase, fromSequence: number): Promise<LogEntry[]> {
    const last = this.lastSequence;
    const iterator = database.iterator({
      gte: entryKey(this.meta.id, fromSequence),
      lte: entryKey(this.meta.id, last),
      highWaterMarkBytes: deliveryBytesMax,
      fillCache: false,
    });
    let rows: [Uint8Array, Uint8Array][];
    try {
      rows = await iterator.nextv(deliveryEntriesMax);
    } finally {
      await iterator.close();
    }
    // Trimmed while it was read: the caller looks again and reports the gap.
    if (fromSequence < this.meta.firstSequence) return [];
    if (rows.length === 0) throw this.#missing(fromSequence);
    return rows.map(([key, value], index) => {
      const sequence = keySequence(key);
      if (sequence !== fromSequence + index) throw this.#missing(fromSequence + index);
      const { data, traceparent } = decodeEntry(key, value);
      return { sequence, data, traceparent, ...(sequence === this.meta.sealedAt && { isSeal: true as const }) };
    });
  }

  /** CRC-32C of a record's data; undefined where the log does not hold it, or holds it damaged. */
  async checksum(database: LogDatabase, sequence: number): Promise<number | undefined> {
    try {
      const data = await this.readOne(database, sequence);
      return data && crc32c(data);
    } catch (error) {
      if (toKithError(error).code === "CORRUPT_DATA") return undefined;
      throw error;
    }
  }

  /** One record's data; undefined where the log does not hold it. CORRUPT_DATA where it is damaged. */
  async readOne(database: LogDatabase, sequence: number): Promise<Uint8Array | undefined> {
    if (sequence < this.meta.firstSequence || sequence > this.lastSequence) return undefined;
    const key = entryKey(this.meta.id, sequence);
    const value = await database.get(key);
    return value && decodeEntry(key, value).data;
  }

  #missing(sequence: number): KithError {
    return new KithError(
      "CORRUPT_DATA",
      `log ${this.name}: record ${sequence} is missing; the log directory is damaged`,
      {
        details: { log: this.name, sequence },
      },
    );
  }
}
