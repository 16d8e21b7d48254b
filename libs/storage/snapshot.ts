import { rm } from "node:fs/promises";
import { KithError } from "../base/index.js";
import type { IdKey, SnapshotChunk } from "../model/index.js";
import {
  type Database,
  flush,
  type LevelDatabase,
  openDatabase,
  scan,
  type StoreOptions,
  storeError,
} from "./database.js";
import { encryptionMeta, withEncryption } from "./encrypted-database.js";
import { Head, headSlotAt } from "./head.js";
import { family, metaKey, wholeRange, wholeRangeWithChanges } from "./keys.js";
import { checkedBody, checkedValue, corrupt } from "./values.js";
import { StoreView } from "./view.js";

/** What belongs to one life of one directory, and goes into no copy. */
const ownKeys = [metaKey("identity"), metaKey("synced"), metaKey(encryptionMeta)];

function isOwn(key: Uint8Array): boolean {
  return key[0] === family.meta && ownKeys.some((own) => Buffer.compare(own, key) === 0);
}

/** A store as of one moment, to be copied whole. */
export class StoreSnapshot extends StoreView {
  /** About what keys and values take on the disk, in bytes; what is in memory only does not count. */
  async sizeBytes(): Promise<number> {
    try {
      const { gte, lt } = wholeRange;
      return await this.database.approximateSize(gte, lt);
    } catch (error) {
      throw storeError(error, this.directory);
    }
  }

  /**
   * All entries in order of key, or those behind `after`, apart from those that tell whose store it is, and of which points records have changed
   * where these are not wanted. CORRUPT_DATA where one is damaged.
   */
  async *chunks(after?: Uint8Array, withChanges = false): AsyncGenerator<SnapshotChunk> {
    const whole = withChanges ? wholeRangeWithChanges : wholeRange;
    const range = after === undefined ? whole : { gt: after, lt: whole.lt };
    for await (const entries of scan(this.database, this.directory, range, this.snapshot)) {
      const chunk: SnapshotChunk = { keys: [], values: [] };
      for (const [key, value] of entries) {
        checkedBody(key, value);
        if (isOwn(key)) continue;
        chunk.keys.push(key);
        chunk.values.push(value);
      }
      yield chunk;
    }
  }
}

/** What a copy holds, where it takes a part of a store's points. */
export interface ShareCounts {
  pointCount: number;
  /** Sum of the content hashes of its points, modulo 2^64. */
  digest: bigint;
  /** Points that have a vector, by number of the field. */
  vectorCounts: ReadonlyMap<number, number>;
}

/** The part of a store's points that a copy takes. They get slots of their own, in order of id. */
export interface StoreShare {
  owns(id: IdKey): boolean;
  /** What is left of the changes of a record without those of other points; undefined for nothing. */
  changes(body: Uint8Array): Uint8Array | undefined;
  /** What is to be told in the place of what the store tells of all its points, by name. */
  metas(counts: ShareCounts, state: Uint8Array, lineage: Uint8Array | undefined): ReadonlyMap<string, Uint8Array>;
}

/** The id in the key of a point, or of a part of one; undefined in other keys. */
function idOf(key: Uint8Array): IdKey | undefined {
  const first = key[0] as number;
  if (first === family.head || first === family.payload) return key.subarray(1);
  return first === family.vector || (first > family.outcome && first <= family.multi) ? key.subarray(2) : undefined;
}

/** The head with another slot. */
function withSlot(key: Uint8Array, value: Uint8Array, slot: number): Uint8Array {
  const body = Buffer.from(checkedBody(key, value));
  body.writeUInt32LE(slot, headSlotAt);
  return checkedValue(key, body);
}

/** Points, by what heads say of them and by what is there. */
class Tally implements ShareCounts {
  /** Parts that heads name, less those that are there, by family and number of the field. */
  readonly #lacking = new Map<number, number>();
  readonly vectorCounts = new Map<number, number>();
  pointCount = 0;
  digest = 0n;

  add(key: Uint8Array, value: Uint8Array): void {
    const [first = 0, field = 0] = key;
    if (first === family.payload) this.#count(first, 0, -1);
    else if (first === family.vector || (first > family.outcome && first <= family.multi))
      this.#count(first, field, -1);
    if (first !== family.head) return;
    this.pointCount++;
    const head = new Head(key, value);
    this.digest = BigInt.asUintN(64, this.digest + head.contentHash);
    head.forEachPart((kind, each) => {
      this.#count(kind, each, 1);
      if (kind !== family.payload) this.vectorCounts.set(each, (this.vectorCounts.get(each) ?? 0) + 1);
    });
  }

  #count(kind: number, field: number, by: number): void {
    const part = kind * 256 + field;
    this.#lacking.set(part, (this.#lacking.get(part) ?? 0) + by);
  }

  /** Whether all payloads are there, and all vectors of these fields: those of dropped ones may be gone or not. */
  isComplete(fields: ReadonlySet<number>): boolean {
    for (const [part, count] of this.#lacking) {
      const isDropped = part >> 8 !== family.payload && !fields.has(part & 255);
      if (count !== 0 && !isDropped) return false;
    }
    return true;
  }
}

/** A store that is being filled with the entries of another one. It is no store before `finish`. */
export class StoreCopy {
  readonly #directory: string;
  readonly #database: Database;
  readonly #tally = new Tally();
  readonly #share: StoreShare | undefined;
  #last: Uint8Array | undefined;
  /** Keys and values. */
  sizeBytes = 0;

  private constructor(directory: string, database: Database, share: StoreShare | undefined) {
    this.#directory = directory;
    this.#database = database;
    this.#share = share;
  }

  /** Whether the copy in a directory was finished. */
  static async isWhole(directory: string): Promise<boolean> {
    let database: LevelDatabase | undefined;
    try {
      database = await openDatabase(directory);
      return (await database.get(metaKey("identity"))) !== undefined;
    } catch {
      return false;
    } finally {
      await database?.close();
    }
  }

  /** Goes on with what an earlier process has put there; CORRUPT_DATA where that cannot be read. */
  static async reopen(directory: string, share?: StoreShare, options: Partial<StoreOptions> = {}): Promise<StoreCopy> {
    const copy = await StoreCopy.#open(directory, share, options);
    try {
      for await (const entries of scan(copy.#database, directory, wholeRangeWithChanges)) {
        for (const [key, value] of entries) if (!isOwn(key)) copy.#note(key, value);
      }
    } catch (error) {
      await copy.#database.close();
      throw error;
    }
    return copy;
  }

  /** Begins with an empty directory, whatever was there. */
  static async create(directory: string, share?: StoreShare, options: Partial<StoreOptions> = {}): Promise<StoreCopy> {
    await rm(directory, { recursive: true, force: true });
    return StoreCopy.#open(directory, share, options);
  }

  static async #open(
    directory: string,
    share: StoreShare | undefined,
    options: Partial<StoreOptions>,
  ): Promise<StoreCopy> {
    const level = await openDatabase(directory, options);
    try {
      return new StoreCopy(directory, await withEncryption(level, directory, options.keys), share);
    } catch (error) {
      await level.close();
      throw storeError(error, directory);
    }
  }

  /** CORRUPT_DATA where an entry is damaged, not in order of key, or none that a copy has. */
  async add({ keys, values }: SnapshotChunk): Promise<void> {
    try {
      const batch = this.#database.batch();
      for (const [i, key] of keys.entries()) {
        const value = values[i];
        if (value === undefined) throw corrupt(key, "has not come with its key");
        checkedBody(key, value);
        if (isOwn(key) || (key[0] as number) > this.#familyMax) throw corrupt(key, "belongs into no copy");
        const taken = this.#taken(key, value);
        if (taken === undefined) continue;
        this.#note(key, taken);
        batch.put(key, taken);
      }
      await batch.write();
    } catch (error) {
      throw storeError(error, this.#directory);
    }
  }

  get #familyMax(): number {
    return this.#share === undefined ? family.multi : family.change;
  }

  /** The entry as the copy has it; undefined where it has none of it. */
  #taken(key: Uint8Array, value: Uint8Array): Uint8Array | undefined {
    const share = this.#share;
    if (share === undefined) return value;
    if (key[0] === family.change) {
      const body = share.changes(checkedBody(key, value));
      return body && checkedValue(key, body);
    }
    const id = idOf(key);
    if (id === undefined) return value;
    if (!share.owns(id)) return undefined;
    return key[0] === family.head ? withSlot(key, value, this.#tally.pointCount) : value;
  }

  #note(key: Uint8Array, value: Uint8Array): void {
    if (this.#last !== undefined && Buffer.compare(this.#last, key) >= 0) throw corrupt(key, "comes out of order");
    this.#last = key;
    this.#tally.add(key, value);
    this.sizeBytes += key.length + value.length;
  }

  /** Behind what the next entries come; undefined before the first. */
  get next(): { afterKey: Uint8Array } | undefined {
    return this.#last && { afterKey: this.#last };
  }

  /** Closes it as it is, to be gone on with. */
  async close(): Promise<void> {
    await this.#database.close();
  }

  /**
   * Makes it a store of its own, on the disk and closed. CORRUPT_DATA where it does not hold all parts of its points, which are `pointCount` where
   * it takes all.
   *
   * @param fieldsOf the numbers of the fields that a stored schema has
   */
  async finish(
    identity: Uint8Array,
    pointCount: number,
    fieldsOf: (schema: Uint8Array) => Iterable<number>,
  ): Promise<void> {
    try {
      const fields = new Set(fieldsOf(await this.#required("schema")));
      const state = await this.#required("state");
      if (this.#share === undefined && this.#tally.pointCount !== pointCount) {
        throw incomplete(`${this.#tally.pointCount} points have come, and there are ${pointCount}`);
      }
      if (!this.#tally.isComplete(fields)) throw incomplete("some points lack a vector or their payload");
      if (this.#share !== undefined) await this.#putMetas(this.#share, state);
      await flush(this.#database);
      const key = metaKey("identity");
      await this.#database.put(key, checkedValue(key, identity), { sync: true });
      await this.#database.close();
    } catch (error) {
      throw storeError(error, this.#directory);
    }
  }

  /** Harmless when repeated: what is told of the points follows from these. */
  async #putMetas(share: StoreShare, state: Uint8Array): Promise<void> {
    const metas = share.metas(this.#tally, state, await this.#meta("lineage"));
    const batch = this.#database.batch();
    for (const [name, body] of metas) batch.put(metaKey(name), checkedValue(metaKey(name), body));
    await batch.write();
  }

  async #required(name: string): Promise<Uint8Array> {
    const body = await this.#meta(name);
    if (body === undefined) throw incomplete(`its ${name} is missing`);
    return body;
  }

  async #meta(name: string): Promise<Uint8Array | undefined> {
    const key = metaKey(name);
    const value = await this.#database.get(key);
    return value && checkedBody(key, value);
  }

  /** Removes what has come. */
  async discard(): Promise<void> {
    await this.#database.close();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function incomplete(what: string): KithError {
  return new KithError("CORRUPT_DATA", `the copy is not complete: ${what}`);
}
