import {
  assert,
  type Clock,
  type FormatMark,
  KithError,
  refuseNewer,
  ReopeningDatabase,
  type Runtime,
  type Timer,
  toKithError,
} from "../../base/index.js";
import { alreadyExists, checkKey, checkPrefix, checkWrite, isUnder, revisionMismatch } from "../limits.js";
import type { Catalog, CatalogChange, CatalogEntry, CatalogWatch } from "../port.js";
import { type CatalogDatabase, openCatalogDatabase, type OpenDatabase } from "./database.js";
import {
  catalogFormat,
  catalogKey,
  decodeStored,
  encodeStored,
  entryRange,
  formatKey,
  revisionKey,
  storageKey,
  type StoredValue,
} from "./records.js";
import { EmbeddedWatch, type WatchHandlers } from "./watch.js";

export interface EmbeddedCatalogOptions extends Runtime {
  /** Where the database lies; made if it is not there. One process at a time. */
  directory: string;
  /** Told of failed writes and of exceptions in watch handlers. */
  onWarning?: (error: KithError) => void;
}

interface Held {
  entry: CatalogEntry;
  ttlMs: number | undefined;
  /** Monotonic; the wall clock may jump. */
  expiresAtMs: number | undefined;
}

/** A change of one key that waits for its turn. */
interface Pending {
  key: string;
  /** Throws where the change is refused; gives what is to be there after it, or "nothing" where all is as it should be. */
  decide: (found: Held | undefined) => { value: string; ttlMs: number | undefined } | "removed" | "nothing";
  /** With the entry after it; undefined where there is none. */
  resolve: (entry: CatalogEntry | undefined) => void;
  reject: (error: unknown) => void;
}

/** Changes that are written with one fsync: those that came while the last one was on its way, up to so many. */
const groupChanges = 256;

type Operation = { type: "put"; key: string; value: string } | { type: "del"; key: string };

/** The timer looks at the clock at least this often while a key is to expire, so that an injected clock is obeyed. */
const expiryCheckMs = 100;

/**
 * The catalog of one process: all entries in memory, every change first fsynced to LevelDB. After a failed write the
 * database is reopened and read anew; until then calls are refused.
 */
export class EmbeddedCatalog implements Catalog {
  readonly #clock: Clock;
  readonly #onWarning: (error: KithError) => void;
  readonly #watches = new Set<EmbeddedWatch>();
  readonly #store: ReopeningDatabase<CatalogDatabase>;
  #entries = new Map<string, Held>();
  #revision = 0;
  readonly #pending: Pending[] = [];
  /** Writes what is pending, group by group; undefined while nothing is. */
  #writing: Promise<void> | undefined;
  #timer: Timer | undefined;

  private constructor(options: EmbeddedCatalogOptions, open: OpenDatabase, database: CatalogDatabase) {
    const { clock, random, directory, onWarning = (): void => undefined } = options;
    this.#clock = clock;
    this.#onWarning = onWarning;
    const load = (opened: CatalogDatabase): Promise<void> => this.#load(opened);
    this.#store = new ReopeningDatabase({ clock, random, directory, open, load, onWarning }, database);
  }

  static async open(
    options: EmbeddedCatalogOptions,
    open: OpenDatabase = openCatalogDatabase,
  ): Promise<EmbeddedCatalog> {
    const catalog = new EmbeddedCatalog(options, open, await open(options.directory));
    await catalog.#store.load();
    return catalog;
  }

  get available(): boolean {
    return this.#store.available;
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    return this.#store.onAvailability(listener);
  }

  async get(key: string): Promise<CatalogEntry | undefined> {
    checkKey(key);
    this.#refuseWhenUnavailable();
    return this.#live(key)?.entry;
  }

  async list(prefix: string): Promise<CatalogEntry[]> {
    checkPrefix(prefix);
    this.#refuseWhenUnavailable();
    return this.#present(prefix);
  }

  async create(key: string, value: string, options: { ttlMs?: number } = {}): Promise<CatalogEntry> {
    checkWrite(key, value, options.ttlMs);
    return this.#put(key, (found) => {
      if (found !== undefined) throw alreadyExists(key);
      return { value, ttlMs: options.ttlMs };
    });
  }

  async update(key: string, value: string, revision: number, options: { ttlMs?: number } = {}): Promise<CatalogEntry> {
    checkWrite(key, value, options.ttlMs);
    return this.#put(key, (found) => {
      if (found?.entry.revision !== revision) throw revisionMismatch(key, revision, found?.entry.revision);
      return { value, ttlMs: options.ttlMs };
    });
  }

  async delete(key: string, revision: number): Promise<void> {
    checkKey(key);
    await this.#change(key, (found) => {
      if (found === undefined) return "nothing";
      if (found.entry.revision !== revision) throw revisionMismatch(key, revision, found.entry.revision);
      return "removed";
    });
  }

  watch(prefix: string, handlers: WatchHandlers): CatalogWatch {
    checkPrefix(prefix);
    this.#refuseWhenClosed();
    const watch = new EmbeddedWatch(
      prefix,
      handlers,
      this.#present(prefix),
      (error) => this.#onWarning(toKithError(error)),
      (closed) => this.#watches.delete(closed),
    );
    this.#watches.add(watch);
    return watch;
  }

  async close(): Promise<void> {
    this.#store.beginClose(closedError());
    this.#timer?.close();
    await Promise.all([...this.#watches].map((watch) => watch.close()));
    await this.#writing;
    await this.#store.close();
  }

  #live(key: string): Held | undefined {
    const held = this.#entries.get(key);
    return held === undefined || this.#isExpired(held) ? undefined : held;
  }

  #isExpired(held: Held): boolean {
    return held.expiresAtMs !== undefined && held.expiresAtMs <= this.#clock.monotonicMs();
  }

  #present(prefix: string): CatalogEntry[] {
    return [...this.#entries.values()]
      .filter((held) => isUnder(prefix, held.entry.key) && !this.#isExpired(held))
      .map((held) => held.entry)
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async #put(key: string, decide: Pending["decide"]): Promise<CatalogEntry> {
    const entry = await this.#change(key, decide);
    assert(entry !== undefined, `${key} is gone right after it was written`);
    return entry;
  }

  /** Queues a change: it is decided in the order of its coming, and durable when this resolves. */
  #change(key: string, decide: Pending["decide"]): Promise<CatalogEntry | undefined> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ key, decide, resolve, reject });
      this.#writing ??= this.#writePending();
    });
  }

  /** Never rejects. */
  async #writePending(): Promise<void> {
    // What is asked for in the same turn goes out together.
    await Promise.resolve();
    while (this.#pending.length > 0) await this.#writeGroup(this.#pending.splice(0, groupChanges));
    // In the same turn as the last look: what comes from here on begins again.
    this.#writing = undefined;
  }

  /** Decides each change by what those before it leave behind, and writes them all with one fsync. */
  async #writeGroup(group: readonly Pending[]): Promise<void> {
    const after = new Map<string, Held | undefined>();
    const operations: Operation[] = [];
    const written: { change: Pending; told: CatalogChange | undefined }[] = [];
    let revision = this.#revision;
    for (const change of group) {
      const { key } = change;
      try {
        this.#refuseWhenUnavailable();
        const found = after.has(key) ? after.get(key) : this.#live(key);
        const wanted = change.decide(found);
        const at = storageKey(key);
        if (wanted === "nothing") {
          written.push({ change, told: undefined });
        } else if (wanted === "removed") {
          operations.push({ type: "del", key: at });
          after.set(key, undefined);
          // An entry that has expired is still there to be removed.
          const gone = found ?? this.#entries.get(key);
          written.push({ change, told: gone && { kind: "delete", key, revision: gone.entry.revision } });
        } else {
          const { value, ttlMs } = wanted;
          const entry: CatalogEntry = { key, value, revision: ++revision };
          const stored: StoredValue = { value, revision };
          if (ttlMs !== undefined) Object.assign(stored, { ttlMs, expiresAtMs: this.#clock.nowMs() + ttlMs });
          operations.push({ type: "put", key: at, value: encodeStored(at, stored) });
          const expiresAtMs = ttlMs === undefined ? undefined : this.#clock.monotonicMs() + ttlMs;
          after.set(key, { entry, ttlMs, expiresAtMs });
          written.push({ change, told: { kind: "put", entry } });
        }
      } catch (error) {
        change.reject(error);
      }
    }
    try {
      if (revision > this.#revision) {
        operations.push({ type: "put", key: revisionKey, value: encodeStored(revisionKey, revision) });
      }
      if (operations.length > 0) await this.#apply(operations);
    } catch (error) {
      for (const { change } of written) change.reject(error);
      return;
    }
    this.#revision = revision;
    for (const [key, held] of after) {
      if (held === undefined) this.#entries.delete(key);
      else this.#entries.set(key, held);
    }
    for (const { change, told } of written) {
      if (told !== undefined) this.#publish(told);
      change.resolve(told?.kind === "put" ? told.entry : undefined);
    }
    this.#schedule();
  }

  #publish(change: CatalogChange): void {
    for (const watch of this.#watches) watch.offer(change);
  }

  /** Arms the timer for the next key to expire. */
  #schedule(): void {
    if (this.#timer !== undefined || this.#store.isClosed) return;
    let next = Number.POSITIVE_INFINITY;
    for (const { expiresAtMs } of this.#entries.values()) next = Math.min(next, expiresAtMs ?? next);
    if (next === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.min(expiryCheckMs, Math.max(1, next - this.#clock.monotonicMs()));
    this.#timer = this.#clock.setTimer(() => {
      this.#timer = undefined;
      this.#expire().then(
        () => this.#schedule(),
        (error: unknown) => {
          this.#onWarning(toKithError(error));
          this.#schedule();
        },
      );
    }, delayMs);
    this.#timer.unref();
  }

  async #expire(): Promise<void> {
    const expired = [...this.#entries.values()].filter((held) => this.#isExpired(held));
    await Promise.all(
      expired.map((held) =>
        // It may have been renewed while this waits for its turn.
        this.#change(held.entry.key, (found) =>
          found === undefined && this.#entries.get(held.entry.key) === held ? "removed" : "nothing",
        ),
      ),
    );
  }

  #refuseWhenClosed(): void {
    if (this.#store.isClosed) throw closedError();
  }

  #refuseWhenUnavailable(): void {
    this.#refuseWhenClosed();
    const { outage } = this.#store;
    if (outage !== undefined) throw unavailable("the catalog is not writable at the moment", outage);
  }

  async #apply(operations: Operation[]): Promise<void> {
    try {
      await this.#store.current.batch(operations, { sync: true });
    } catch (error) {
      throw unavailable("the write failed and its outcome is unknown", this.#store.failed(error));
    }
  }

  /** Reads the database into memory and tells the watchers what differs from what they know. */
  async #load(database: CatalogDatabase): Promise<void> {
    await checkFormat(database);
    const known = this.#entries;
    const found = new Map<string, Held>();
    const stored = await database.get(revisionKey);
    let revision = stored === undefined ? 0 : decodeStored<number>(revisionKey, stored);
    const nowMs = this.#clock.nowMs();
    for await (const [at, text] of database.iterator(entryRange)) {
      const content = decodeStored<StoredValue>(at, text);
      const key = catalogKey(at);
      revision = Math.max(revision, content.revision);
      // What is left of its time, but never more than a full one: the wall clock may have been set back meanwhile.
      const leftMs = Math.min((content.expiresAtMs ?? 0) - nowMs, content.ttlMs ?? 0);
      const expiresAtMs = content.ttlMs === undefined ? undefined : this.#clock.monotonicMs() + leftMs;
      const entry = { key, value: content.value, revision: content.revision };
      found.set(key, { entry, ttlMs: content.ttlMs, expiresAtMs });
    }
    this.#entries = found;
    this.#revision = revision;
    for (const { entry } of found.values()) {
      if (known.get(entry.key)?.entry.revision !== entry.revision) this.#publish({ kind: "put", entry });
    }
    for (const { entry } of known.values()) {
      const { key, revision } = entry;
      if (!found.has(key)) this.#publish({ kind: "delete", key, revision });
    }
    this.#schedule();
  }
}

function closedError(): KithError {
  return new KithError("SHUTTING_DOWN", "the catalog is closed");
}

function unavailable(what: string, cause: KithError): KithError {
  const code = cause.code === "DISK_FULL" ? "DISK_FULL" : "CATALOG_UNAVAILABLE";
  return new KithError(code, `${what}: ${cause.message}`, { cause, retryAfterMs: 500 });
}

/** Refuses a directory of a newer release; says of which format it is from now on. */
async function checkFormat(database: CatalogDatabase): Promise<void> {
  const stored = await database.get(formatKey);
  if (stored === undefined) {
    await database.put(formatKey, encodeStored(formatKey, catalogFormat), { sync: true });
    return;
  }
  const mark = decodeStored<FormatMark>(formatKey, stored);
  refuseNewer(`the catalog in ${database.location}`, mark, catalogFormat.format);
}
