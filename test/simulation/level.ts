import type { Content, Mount, StoredDatabase } from "./disk.js";
import { findMount, openDatabaseAt } from "./files.js";

type Bytes = Uint8Array;
type Encoding = "view" | "utf8";

interface Range {
  gt?: unknown;
  gte?: unknown;
  lt?: unknown;
  lte?: unknown;
  reverse?: boolean;
  limit?: number;
  snapshot?: LevelSnapshot;
}

interface Operation {
  type: "put" | "del";
  key: unknown;
  value?: unknown;
}

function keyOf(key: unknown): string {
  return typeof key === "string" ? Buffer.from(key).toString("latin1") : Buffer.from(key as Bytes).toString("latin1");
}

function notOpen(what: string): Error {
  return Object.assign(new Error(`${what} is not open`), { code: `LEVEL_${what.toUpperCase()}_NOT_OPEN` });
}

/** The database as of one moment. */
class LevelSnapshot {
  constructor(readonly content: Content) {}

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

class LevelIterator {
  readonly #level: SimulatedLevel;
  readonly #content: Content;
  readonly #keys: string[];
  #at = 0;

  constructor(level: SimulatedLevel, content: Content, range: Range) {
    this.#level = level;
    this.#content = content;
    const keys = content.keys();
    const from = range.gte ?? range.gt;
    const to = range.lte ?? range.lt;
    const low = from === undefined ? 0 : lowerBound(keys, keyOf(from), range.gte === undefined);
    const high = to === undefined ? keys.length : lowerBound(keys, keyOf(to), range.lt === undefined);
    const found = keys.slice(low, Math.max(low, high));
    if (range.reverse === true) found.reverse();
    const { limit = -1 } = range;
    this.#keys = limit >= 0 ? found.slice(0, limit) : found;
  }

  async nextv(size: number): Promise<[unknown, unknown][]> {
    await this.#level.read();
    const keys = this.#keys.slice(this.#at, this.#at + size);
    this.#at += keys.length;
    return keys.map((key) => [this.#level.decodeKey(key), this.#level.decodeValue(this.#content.get(key) as Bytes)]);
  }

  async all(): Promise<[unknown, unknown][]> {
    return this.nextv(this.#keys.length);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<[unknown, unknown]> {
    for (;;) {
      const entries = await this.nextv(256);
      if (entries.length === 0) return;
      yield* entries;
    }
  }
}

/** Position of the first key that is `key` or behind it; with `isAfter`, behind it. */
function lowerBound(keys: readonly string[], key: string, isAfter: boolean): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const found = keys[middle] as string;
    if (found < key || (isAfter && found === key)) low = middle + 1;
    else high = middle;
  }
  return low;
}

class LevelBatch {
  readonly #level: SimulatedLevel;
  readonly #operations: [string, Bytes | undefined][] = [];

  constructor(level: SimulatedLevel) {
    this.#level = level;
  }

  put(key: unknown, value: unknown): this {
    this.#operations.push([keyOf(key), this.#level.encodeValue(value)]);
    return this;
  }

  del(key: unknown): this {
    this.#operations.push([keyOf(key), undefined]);
    return this;
  }

  write(options: { sync?: boolean } = {}): Promise<void> {
    return this.#level.commit(this.#operations, options.sync === true);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

/**
 * Stands in for ClassicLevel (LevelDB) on simulated disks: as much of it as Kith uses. Batches are atomic; what was not written with
 * `sync` is lost with the power, the last batches first.
 */
export class SimulatedLevel {
  readonly #encoding: Encoding;
  readonly #mount: Mount;
  #database: StoredDatabase | undefined;

  constructor(
    readonly location: string,
    options: { keyEncoding?: Encoding } = {},
  ) {
    this.#encoding = options.keyEncoding ?? "utf8";
    this.#mount = findMount(location);
  }

  async open(): Promise<void> {
    await this.#mount.beforeRead();
    const database = openDatabaseAt(this.location);
    if (database.lock !== undefined && !database.lock.isDead) {
      throw Object.assign(new Error(`${this.location} is locked`), { code: "LEVEL_LOCKED" });
    }
    database.lock = this.#mount.process;
    this.#database = database;
  }

  async close(): Promise<void> {
    await Promise.resolve();
    if (this.#database?.lock === this.#mount.process) this.#database.lock = undefined;
    this.#database = undefined;
  }

  async get(key: unknown, options: Range = {}): Promise<unknown> {
    const [value] = await this.getMany([key], options);
    return value;
  }

  async getMany(keys: unknown[], options: Range = {}): Promise<unknown[]> {
    const content = options.snapshot?.content ?? this.#content.snapshot();
    await this.read();
    return keys.map((key) => {
      const value = content.get(keyOf(key));
      return value === undefined ? undefined : this.decodeValue(value);
    });
  }

  put(key: unknown, value: unknown, options: { sync?: boolean } = {}): Promise<void> {
    return this.commit([[keyOf(key), this.encodeValue(value)]], options.sync === true);
  }

  del(key: unknown, options: { sync?: boolean } = {}): Promise<void> {
    return this.commit([[keyOf(key), undefined]], options.sync === true);
  }

  batch(): LevelBatch;
  batch(operations: Operation[], options?: { sync?: boolean }): Promise<void>;
  batch(operations?: Operation[], options: { sync?: boolean } = {}): LevelBatch | Promise<void> {
    if (operations === undefined) return new LevelBatch(this);
    const changes = operations.map(({ type, key, value }): [string, Bytes | undefined] => [
      keyOf(key),
      type === "put" ? this.encodeValue(value) : undefined,
    ]);
    return this.commit(changes, options.sync === true);
  }

  iterator(range: Range = {}): LevelIterator {
    return new LevelIterator(this, range.snapshot?.content ?? this.#content.snapshot(), range);
  }

  keys(range: Range = {}): { all(): Promise<unknown[]> } {
    const iterator = this.iterator(range);
    return { all: async () => (await iterator.all()).map(([key]) => key) };
  }

  async clear(range: Range = {}): Promise<void> {
    const entries = await this.iterator(range).all();
    if (entries.length === 0) return;
    await this.commit(
      entries.map(([key]) => [keyOf(key), undefined]),
      false,
    );
  }

  snapshot(): LevelSnapshot {
    return new LevelSnapshot(this.#content.snapshot());
  }

  /** About how many bytes the range takes; nobody relies on more than that it is a number. */
  approximateSize(): Promise<number> {
    return Promise.resolve(this.#content.keys().length * 64);
  }

  async compactRange(): Promise<void> {
    const database = this.#open();
    await this.#mount.write(() => this.#mount.disk.synced(database));
  }

  /** Writes a batch. */
  async commit(operations: readonly [string, Bytes | undefined][], sync: boolean): Promise<void> {
    const database = this.#open();
    const { disk } = this.#mount;
    await this.#mount.write(() => {
      const { content } = database;
      const before = operations.map(([key]): [string, Bytes | undefined] => [key, content.get(key)]);
      for (const [key, value] of operations) content.set(key, value);
      disk.changed(database, () => {
        for (const [key, value] of before.reverse()) content.set(key, value);
      });
      if (sync) disk.synced(database);
    });
  }

  /** To be awaited before anything is read. */
  async read(): Promise<void> {
    await this.#mount.beforeRead();
    this.#open();
  }

  encodeValue(value: unknown): Bytes {
    return typeof value === "string" ? Buffer.from(value) : Uint8Array.from(value as Bytes);
  }

  decodeValue(value: Bytes): unknown {
    return this.#encoding === "utf8" ? Buffer.from(value).toString() : value;
  }

  decodeKey(key: string): unknown {
    const bytes = Buffer.from(key, "latin1");
    return this.#encoding === "utf8" ? bytes.toString() : new Uint8Array(bytes);
  }

  #open(): StoredDatabase {
    if (this.#database === undefined) throw notOpen("database");
    return this.#database;
  }

  get #content(): Content {
    return this.#open().content;
  }
}
