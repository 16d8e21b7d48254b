import { type Clock, KithError, type Random, refuseNewer, ReopeningDatabase, type Runtime } from "../../base/index.js";
import { checkAppend, checkSequence, logKey, logNotFound, logSealed, notNext } from "../limits.js";
import type {
  Append,
  AppendOptions,
  Continuation,
  CreateOptions,
  Log,
  LogEntry,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "../port.js";
import type { ShardId } from "../../model/index.js";
import { GroupCommit, type PendingRecord } from "./commit.js";
import { type LogDatabase, type OpenDatabase, openLogDatabase } from "./database.js";
import type { DuplicateWindow } from "./duplicates.js";
import {
  decodeEntry,
  decodeFormat,
  decodeMeta,
  duplicateKey,
  duplicateRange,
  encodeDuplicate,
  encodeEntry,
  encodeFormat,
  encodeMeta,
  entryKey,
  entryRange,
  formatKey,
  logFormat,
  type LogMeta,
  metaKey,
  metaName,
  metaRange,
  removedKey,
  removedLog,
  removedRange,
} from "./records.js";
import { ShardLog } from "./shard-log.js";
import { EmbeddedSubscription, type ReadSource } from "./subscription.js";

export interface EmbeddedLogOptions extends Runtime {
  /** Where the database lies; made if it is not there. One process at a time. */
  directory: string;
  /** How long message ids are remembered; default 65 536 records or 5 minutes per log, whichever ends first. */
  duplicateWindow?: DuplicateWindow;
  /** Told when a write failed and the database is being reopened. */
  onWarning?: (error: KithError) => void;
  /** Memory of LevelDB for what is not in a table yet; up to twice as much while one is written out. */
  writeBufferBytes?: number;
}

const defaultDuplicateWindow: DuplicateWindow = { count: 65_536, timeMs: 5 * 60_000 };
/** A trim of this many bytes also compacts, so that the disk space comes back at once. */
const compactTrimmedBytes = 64 * 1024 * 1024;

type Operation = { type: "put"; key: Buffer; value: Buffer } | { type: "del"; key: Buffer };

/**
 * All logs of one process in one LevelDB. Appends are fsynced, with group commit across logs. After a failed write
 * nobody knows what is on the disk: the database is closed, reopened and read anew; until then appends are refused, and
 * no log tells its state.
 */
export class EmbeddedLog implements Log, ReadSource {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #window: DuplicateWindow;
  readonly #logs = new Map<string, ShardLog>();
  readonly #commit = new GroupCommit((records) => this.#write(records));
  readonly #subscriptions = new Set<EmbeddedSubscription>();
  readonly #store: ReopeningDatabase<LogDatabase>;
  #nextId = 1;
  /** Logs that are made with one fsync, while nothing else waits for its turn behind them. */
  #creation: { keys: Map<string, CreateOptions>; done: Promise<void> } | undefined;
  /** Creations, removals and trims, one after the other. */
  #admin: Promise<unknown> = Promise.resolve();

  private constructor(options: EmbeddedLogOptions, open: OpenDatabase, database: LogDatabase) {
    const { clock, random, directory } = options;
    this.#clock = clock;
    this.#random = random;
    this.#window = options.duplicateWindow ?? defaultDuplicateWindow;
    const load = (opened: LogDatabase): Promise<void> => this.#load(opened);
    const onWarning = options.onWarning ?? ((): void => undefined);
    this.#store = new ReopeningDatabase({ clock, random, directory, open, load, onWarning }, database);
    this.#store.onAvailability((available) => {
      if (available) for (const log of this.#logs.values()) log.wake();
    });
  }

  static async open(
    options: EmbeddedLogOptions,
    open: OpenDatabase = (directory) => openLogDatabase(directory, options.writeBufferBytes),
  ): Promise<EmbeddedLog> {
    const log = new EmbeddedLog(options, open, await open(options.directory));
    await log.#store.load();
    return log;
  }

  get available(): boolean {
    return this.#store.available;
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    return this.#store.onAvailability(listener);
  }

  async create(name: ShardId, options: CreateOptions = {}): Promise<LogState> {
    const key = logKey(name);
    checkSequence(options.afterSequence ?? 0, "afterSequence");
    if (this.#creation === undefined) {
      const keys = new Map<string, CreateOptions>();
      const done = this.#exclusive(() => {
        if (this.#creation?.keys === keys) this.#creation = undefined;
        return this.#createAll(keys);
      });
      this.#creation = { keys, done };
    }
    if (!this.#creation.keys.has(key)) this.#creation.keys.set(key, options);
    await this.#creation.done;
    return this.#get(key).state();
  }

  async #createAll(keys: ReadonlyMap<string, CreateOptions>): Promise<void> {
    const missing = [...keys].filter(([key]) => !this.#logs.has(key));
    if (missing.length === 0) return;
    const made = missing.map(([key, { afterSequence = 0, incarnation }]) => {
      const meta: LogMeta = {
        id: this.#nextId++,
        incarnation: incarnation ?? this.#random.uuid(),
        firstSequence: afterSequence + 1,
        trimmedBytes: 0,
      };
      return new ShardLog(key, meta, this.#window);
    });
    await this.#apply(
      made.map(({ name, meta }) => {
        const key = metaKey(name);
        return { type: "put", key, value: encodeMeta(key, meta) };
      }),
    );
    for (const log of made) this.#logs.set(log.name, log);
  }

  remove(name: ShardId): Promise<void> {
    const key = logKey(name);
    return this.#exclusive(async () => {
      const log = this.#logs.get(key);
      if (log === undefined) return;
      // From here on its appends are refused; what is in flight ends before the records are cleared.
      log.removed = true;
      try {
        await this.#commit.drained();
        await this.#apply([
          { type: "del", key: metaKey(key) },
          { type: "put", key: removedKey(log.meta.id), value: Buffer.alloc(0) },
        ]);
      } catch (error) {
        log.removed = false;
        throw error;
      }
      this.#logs.delete(key);
      log.wake();
      await this.#clear(this.#store.current, log.meta.id);
    });
  }

  async state(name: ShardId): Promise<LogState> {
    this.#refuseWhenClosed();
    // What the failed write has left behind is not known before all is read anew.
    const { outage } = this.#store;
    if (outage !== undefined) throw outageError("LOG_UNAVAILABLE", "its end is not known", outage);
    return this.#get(logKey(name)).state();
  }

  async checksum(name: ShardId, sequence: number): Promise<number | undefined> {
    await this.state(name);
    return this.#get(logKey(name)).checksum(await this.database(), sequence);
  }

  async read(name: ShardId, sequence: number): Promise<Uint8Array | undefined> {
    await this.state(name);
    return this.#get(logKey(name)).readOne(await this.database(), sequence);
  }

  async append(name: ShardId, data: Uint8Array, options: AppendOptions): Promise<Append> {
    checkAppend(data, options);
    const log = this.#get(logKey(name));
    this.#refuseWhenUnavailable();
    const sequence = log.messages.sequenceOf(options.messageId);
    if (sequence !== undefined) return { sequence, duplicate: true };
    if (log.isSealed) throw logSealed(log.name);
    return this.#commit.append(log, data, options);
  }

  seal(
    name: ShardId,
    data: Uint8Array,
    { expectedSequence }: Pick<AppendOptions, "expectedSequence"> = {},
  ): Promise<number> {
    const key = logKey(name);
    return this.#exclusive(async () => {
      const log = this.#get(key);
      if (log.meta.sealedAt !== undefined) return log.meta.sealedAt;
      log.isSealing = true;
      try {
        await this.#commit.drained();
        this.#refuseWhenUnavailable();
        const sequence = log.lastSequence + 1;
        if (expectedSequence !== undefined && sequence !== expectedSequence) throw notNext(key, expectedSequence);
        const meta: LogMeta = { ...log.meta, sealedAt: sequence };
        const metaEntry = metaKey(key);
        const entry = entryKey(meta.id, sequence);
        const stored = encodeEntry(entry, data, undefined, log.totalBytes);
        await this.#apply([
          { type: "put", key: entry, value: stored.value },
          { type: "put", key: metaEntry, value: encodeMeta(metaEntry, meta) },
        ]);
        log.meta = meta;
        log.appended([{ sequence, data: stored.data, isSeal: true }]);
        return sequence;
      } finally {
        log.isSealing = false;
      }
    });
  }

  async sealedAt(name: ShardId): Promise<number | undefined> {
    await this.state(name);
    return this.#get(logKey(name)).meta.sealedAt;
  }

  subscribe(name: ShardId, options: SubscribeOptions): LogSubscription {
    checkSequence(options.fromSequence, "fromSequence");
    this.#refuseWhenClosed();
    const key = logKey(name);
    const log = this.#logs.get(key);
    if (log === undefined) {
      let closed = false;
      queueMicrotask(() => {
        if (!closed) options.onError(logNotFound(key));
      });
      return {
        close: async () => {
          closed = true;
        },
      };
    }
    const subscription = new EmbeddedSubscription(log, this, options, () => this.#subscriptions.delete(subscription));
    this.#subscriptions.add(subscription);
    return subscription;
  }

  trim(name: ShardId, throughSequence: number): Promise<void> {
    checkSequence(throughSequence, "throughSequence");
    const key = logKey(name);
    return this.#exclusive(async () => {
      const log = this.#get(key);
      const firstSequence = Math.min(throughSequence, log.lastSequence) + 1;
      if (firstSequence <= log.meta.firstSequence) return;
      const before = log.meta;
      const trimmedBytes = await this.#bytesBefore(log, firstSequence);
      const meta: LogMeta = { ...before, firstSequence, trimmedBytes };
      await this.#writeMeta(key, meta);
      log.meta = meta;
      log.wake();
      const range = { gte: entryKey(meta.id, 0), lt: entryKey(meta.id, firstSequence) };
      await this.#store.current.clear(range);
      if (trimmedBytes - before.trimmedBytes >= compactTrimmedBytes) {
        await this.#store.current.compactRange(range.gte, range.lt);
      }
    });
  }

  async mend(name: ShardId, continues: Continuation): Promise<LogState> {
    const { first } = continues;
    checkSequence(first, "first");
    const key = logKey(name);
    return this.#exclusive(async () => {
      const before = this.#logs.get(key);
      const isNew = before === undefined;
      const made: LogMeta = { id: 0, incarnation: this.#random.uuid(), firstSequence: first, trimmedBytes: 0 };
      const log = before ?? new ShardLog(key, { ...made, id: this.#nextId++ }, this.#window);
      // What is under way comes before the mending, and goes with it.
      await this.#commit.drained();
      const firstSequence = Math.max(first, log.meta.firstSequence);
      const trimmedBytes = isNew ? 0 : await this.#bytesBefore(log, Math.min(firstSequence, log.lastSequence + 1));
      const meta: LogMeta = { ...log.meta, firstSequence, trimmedBytes, continues };
      await this.#writeMeta(key, meta);
      log.goOn(meta);
      this.#logs.set(key, log);
      log.wake();
      await this.#store.current.clear({ gte: entryKey(meta.id, 0), lt: entryKey(meta.id, firstSequence) });
      return log.state();
    });
  }

  async close(): Promise<void> {
    this.#store.beginClose(closedError());
    await Promise.all([...this.#subscriptions].map((subscription) => subscription.close()));
    this.#subscriptions.clear();
    await this.#admin.then(undefined, () => undefined);
    await this.#commit.drained();
    await this.#store.close();
  }

  async database(): Promise<LogDatabase> {
    await this.#store.settled();
    this.#refuseWhenClosed();
    return this.#store.current;
  }

  isInterruption(error: unknown): boolean {
    if (!this.available) return true;
    const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
    return code === "LEVEL_DATABASE_NOT_OPEN" || code === "LEVEL_ITERATOR_NOT_OPEN";
  }

  #get(key: string): ShardLog {
    const log = this.#logs.get(key);
    if (log === undefined || log.removed) throw logNotFound(key);
    return log;
  }

  #refuseWhenClosed(): void {
    if (this.#store.isClosed) throw closedError();
  }

  #refuseWhenUnavailable(): void {
    this.#refuseWhenClosed();
    const { outage } = this.#store;
    if (outage === undefined) return;
    throw outageError(outage.code === "DISK_FULL" ? "DISK_FULL" : "LOG_UNAVAILABLE", "it is not writable", outage);
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    this.#creation = undefined;
    const result = this.#admin
      .then(undefined, () => undefined)
      .then(async () => {
        this.#refuseWhenUnavailable();
        return work();
      });
    this.#admin = result;
    return result;
  }

  /** Writes one group of records with one fsync, then lets the readers have them. */
  async #write(records: readonly PendingRecord[]): Promise<(number | KithError)[]> {
    this.#refuseWhenUnavailable();
    const nowMs = this.#clock.nowMs();
    const operations: Operation[] = [];
    const appended = new Map<ShardLog, LogEntry[]>();
    const messages: [ShardLog, string, number][] = [];
    const ends = new Map<ShardLog, number>();
    const outcomes = records.map((record): number | KithError => {
      const { log, data, messageId, traceparent, expectedSequence } = record;
      if (log.removed) return log.notFound();
      const next = log.lastSequence + (appended.get(log)?.length ?? 0) + 1;
      if (expectedSequence !== undefined && next !== expectedSequence) return notNext(log.name, expectedSequence);
      let entries = appended.get(log);
      if (entries === undefined) {
        entries = [];
        appended.set(log, entries);
        for (const old of log.messages.expire(nowMs)) {
          operations.push({ type: "del", key: duplicateKey(log.meta.id, old) });
        }
      }
      const sequence = log.lastSequence + entries.length + 1;
      const bytesBefore = ends.get(log) ?? log.totalBytes;
      ends.set(log, bytesBefore + data.byteLength);
      const key = entryKey(log.meta.id, sequence);
      const stored = encodeEntry(key, data, traceparent, bytesBefore);
      operations.push({ type: "put", key, value: stored.value });
      const idKey = duplicateKey(log.meta.id, sequence);
      operations.push({ type: "put", key: idKey, value: encodeDuplicate(idKey, messageId, nowMs) });
      entries.push({ sequence, data: stored.data, traceparent });
      messages.push([log, messageId, sequence]);
      return sequence;
    });
    if (operations.length > 0) await this.#apply(operations);
    for (const [log, messageId, sequence] of messages) log.messages.add(messageId, sequence, nowMs);
    for (const [log, entries] of appended) log.appended(entries);
    return outcomes;
  }

  async #writeMeta(name: string, meta: LogMeta): Promise<void> {
    const key = metaKey(name);
    await this.#apply([{ type: "put", key, value: encodeMeta(key, meta) }]);
  }

  async #apply(operations: Operation[]): Promise<void> {
    try {
      await this.#store.current.batch(operations, { sync: true });
    } catch (error) {
      const cause = this.#store.failed(error);
      const code = cause.code === "DISK_FULL" ? "DISK_FULL" : "LOG_UNAVAILABLE";
      throw new KithError(code, `the write failed and its outcome is unknown: ${cause.message}`, { cause });
    }
  }

  async #bytesBefore(log: ShardLog, sequence: number): Promise<number> {
    if (sequence > log.lastSequence) return log.totalBytes;
    const key = entryKey(log.meta.id, sequence);
    const value = await this.#store.current.get(key);
    if (value === undefined) throw new KithError("CORRUPT_DATA", `log ${log.name}: record ${sequence} is missing`);
    return decodeEntry(key, value).bytesBefore;
  }

  async #clear(database: LogDatabase, id: number): Promise<void> {
    await database.clear(entryRange(id));
    await database.clear(duplicateRange(id));
    await database.del(removedKey(id));
  }

  /** Reads what the database holds into memory; logs that readers know keep their identity. */
  async #load(database: LogDatabase): Promise<void> {
    await checkFormat(database);
    for await (const [key] of database.iterator(removedRange())) {
      const id = removedLog(key);
      this.#nextId = Math.max(this.#nextId, id + 1);
      await this.#clear(database, id);
    }
    const found = new Set<string>();
    for await (const [key, value] of database.iterator(metaRange())) {
      const name = metaName(key);
      const meta = decodeMeta(key, value);
      found.add(name);
      this.#nextId = Math.max(this.#nextId, meta.id + 1);
      let log = this.#logs.get(name);
      if (log !== undefined && log.meta.incarnation !== meta.incarnation) {
        log.removed = true;
        log.wake();
        log = undefined;
      }
      log ??= new ShardLog(name, meta, this.#window);
      await log.load(database, meta, this.#window);
      this.#logs.set(name, log);
      await database.clear({ gte: entryKey(meta.id, 0), lt: entryKey(meta.id, meta.firstSequence) });
    }
    for (const [name, log] of this.#logs) {
      if (found.has(name)) continue;
      this.#logs.delete(name);
      log.removed = true;
      log.wake();
    }
  }
}

function closedError(): KithError {
  return new KithError("SHUTTING_DOWN", "the log is closed");
}

function outageError(code: "DISK_FULL" | "LOG_UNAVAILABLE", what: string, cause: KithError): KithError {
  return new KithError(code, `the log is being reopened, and ${what}: ${cause.message}`, { cause, retryAfterMs: 500 });
}

/** Refuses a directory of a newer release; says of which format it is from now on. */
async function checkFormat(database: LogDatabase): Promise<void> {
  const stored = await database.get(formatKey);
  if (stored === undefined) await database.put(formatKey, encodeFormat(logFormat), { sync: true });
  else refuseNewer(`the log in ${database.location}`, decodeFormat(stored), logFormat.format);
}
