import type { KithError } from "../base/index.js";
import { type Cancellation, limits } from "../base/index.js";
import type { IdKey } from "../model/index.js";
import { WriteBatch } from "./batch.js";
import {
  type PointParts,
  type StoredField,
  contentBytes,
  inChunks,
  partKindOf,
  pointBytesMax,
  rowsAtOnce,
  throwIfAborted,
} from "./bounds.js";
import {
  compact,
  type Database,
  type DatabaseSnapshot,
  type Entry,
  flush,
  openDatabase,
  type StoreOptions,
  scan,
  scanEntries,
  storeError,
} from "./database.js";
import { EncryptedDatabase, withEncryption } from "./encrypted-database.js";
import { StoreExport } from "./export.js";
import { type FormerPoint, readFormerPoints } from "./format-1.js";
import { Head, partKind } from "./head.js";
import {
  changeRange,
  headKey,
  headRange,
  type KeyRange,
  metaKey,
  outcomeKey,
  outcomeRange,
  outcomeSequence,
  payloadKey,
  sparseKey,
  sparseRange,
  vectorKey,
  vectorRange,
} from "./keys.js";
import { directoryBytes } from "./directory.js";
import { assemble, emptyBytes, keyOfField, type PointRecord, vectorOf } from "./parts.js";
import { StoreSnapshot } from "./snapshot.js";
import type { EncryptionState } from "./value-cipher.js";
import { checkedBody, corrupt, decodePayload, decodeSparse, type Versioned } from "./values.js";
import { type PayloadChunk, type SparseChunk, StoreWalk, type VectorChunk } from "./walk.js";

/** Consecutive heads in order of id. */
export interface HeadChunk {
  ids: IdKey[];
  heads: Head[];
}

/** One of so many heads is looked up while they are walked: two in each of LevelDB's restart intervals of 16 entries. */
const lookupStep = 8;
/** Vectors of a dropped field that are removed at once. */
const clearedEntries = 10_000;

/**
 * The points of one replica on LevelDB. Reads verify checksums and reject with CORRUPT_DATA; all calls reject with
 * SHARD_UNAVAILABLE once the store is closed. After a failed `write` nobody knows what is on the disk: close the store.
 */
export class PointStore {
  readonly directory: string;
  readonly #database: Database;
  #writeError: KithError | undefined;
  /** What is written while values are rewritten waits for its turn. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(directory: string, database: Database) {
    this.directory = directory;
    this.#database = database;
  }

  /** Opens or makes the store; see storeError for what it rejects with. */
  static async open(directory: string, options: Partial<StoreOptions> = {}): Promise<PointStore> {
    const level = await openDatabase(directory, options);
    try {
      return new PointStore(directory, await withEncryption(level, directory, options.keys));
    } catch (error) {
      await level.close();
      throw storeError(error, directory);
    }
  }

  batch(): WriteBatch {
    return new WriteBatch(this.#database.batch());
  }

  /** Writes the batch atomically. Without `sync` it survives the end of the process, not that of the machine. */
  async write(batch: WriteBatch, options: { sync?: boolean } = {}): Promise<void> {
    if (this.#writeError !== undefined) throw this.#writeError;
    try {
      await this.#inTurn(() => batch.commit(options.sync === true));
    } catch (error) {
      this.#writeError = storeError(error, this.directory);
      throw this.#writeError;
    }
  }

  /** Resolves when everything written before the call is on the disk. `marker` is kept under the meta name "synced". */
  async sync(marker: Uint8Array): Promise<void> {
    await this.#guarded(() => flush(this.#database));
    const batch = this.batch();
    batch.putMeta("synced", marker);
    await this.write(batch, { sync: true });
  }

  /** One change after the other where the store is encrypted: values that are rewritten must not come back after a later one, or after their end. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (!(this.#database instanceof EncryptedDatabase)) return work();
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** How it is encrypted; undefined where it is not. */
  get encryption(): EncryptionState | undefined {
    return this.#database instanceof EncryptedDatabase ? this.#database.cipher.state : undefined;
  }

  /** Called when the master keys of an encrypted store have changed. Gives the unsubscriber. */
  onKeysChanged(listener: () => void): () => void {
    return this.#database instanceof EncryptedDatabase
      ? this.#database.cipher.onKeysChanged(listener)
      : () => undefined;
  }

  /**
   * Encrypts again what is not encrypted with a data key of the master key in use, beside reads and writes, and makes the store forget the data keys of
   * before. Harmless when repeated; ends soon after `signal` aborts.
   */
  async rewrite(signal: AbortSignal): Promise<void> {
    const database = this.#database;
    if (!(database instanceof EncryptedDatabase)) return;
    await this.#guarded(async () => {
      if (!database.cipher.isOfCurrentMaster) {
        await this.#inTurn(() => database.cipher.takeNewKey(() => database.writeKeys()));
      }
      let after: Uint8Array | undefined;
      do {
        if (signal.aborted) return;
        const from = after;
        after = await this.#inTurn(() => database.rewriteSome(from));
      } while (after !== undefined);
      // What was there before is in tables, and gone with them.
      await flush(database);
      await compact(database);
      await this.#inTurn(async () => {
        if (!database.cipher.isOfCurrentMaster) return;
        database.cipher.forgetOthers();
        await database.writeKeys();
      });
    });
  }

  async getMeta(name: string): Promise<Uint8Array | undefined> {
    const key = metaKey(name);
    const [value] = await this.#getMany([key]);
    return value && checkedBody(key, value);
  }

  /** Heads aligned with `ids`. */
  async heads(ids: readonly IdKey[]): Promise<(Head | undefined)[]> {
    const keys = ids.map(headKey);
    const values = await this.#getMany(keys);
    return values.map((value, i) => value && new Head(keys[i] as Uint8Array, value));
  }

  /** Payloads aligned with `ids`. Bounded as `read` is. */
  async payloads(ids: readonly IdKey[], signal?: Cancellation): Promise<(Versioned<Uint8Array> | undefined)[]> {
    const read = async (part: readonly IdKey[]): Promise<(Versioned<Uint8Array> | undefined)[]> => {
      const keys = part.map(payloadKey);
      const values = await this.#getMany(keys);
      return values.map((value, i) => value && decodePayload(keys[i] as Uint8Array, value));
    };
    return inChunks(ids, rowsAtOnce(limits.payloadBytes), read, (payload) => payload.value.length, signal);
  }

  /** Vectors of one field, aligned with `ids`. */
  async vectors(field: StoredField, ids: readonly IdKey[]): Promise<(Versioned<Float32Array> | undefined)[]> {
    const kind = partKindOf(field);
    const keys = ids.map((id) => vectorKey(field.number, id, kind));
    const values = await this.#getMany(keys);
    return values.map((value, i) => value && vectorOf(field, keys[i] as Uint8Array, value));
  }

  /** Sparse vectors of one field as they are stored, aligned with `ids`. */
  async sparseVectors(field: number, ids: readonly IdKey[]): Promise<(Versioned<Uint8Array> | undefined)[]> {
    const keys = ids.map((id) => sparseKey(field, id));
    const values = await this.#getMany(keys);
    return values.map((value, i) => value && decodeSparse(keys[i] as Uint8Array, value));
  }

  /**
   * Whole points as of one moment, aligned with `ids`. BATCH_TOO_LARGE where they hold more than a message may; the read
   * ends there, or soon after `signal` aborts.
   */
  async read(ids: readonly IdKey[], parts: PointParts, signal?: Cancellation): Promise<(PointRecord | undefined)[]> {
    const rows = rowsAtOnce(pointBytesMax(parts));
    throwIfAborted(signal);
    // One getMany reads under a snapshot of its own: the parts of a point belong together.
    if (ids.length <= rows) return this.#read(ids, parts, undefined);
    return this.#guarded(async () => {
      const snapshot = this.#database.snapshot();
      try {
        const read = (part: readonly IdKey[]): Promise<(PointRecord | undefined)[]> =>
          this.#read(part, parts, snapshot);
        return await inChunks(ids, rows, read, ({ head }) => contentBytes(head, parts), signal);
      } finally {
        await snapshot.close();
      }
    });
  }

  async #read(
    ids: readonly IdKey[],
    parts: PointParts,
    snapshot: DatabaseSnapshot | undefined,
  ): Promise<(PointRecord | undefined)[]> {
    const stride = 1 + (parts.payload ? 1 : 0) + parts.fields.length;
    const keys: Uint8Array[] = [];
    for (const id of ids) {
      keys.push(headKey(id));
      if (parts.payload) keys.push(payloadKey(id));
      for (const field of parts.fields) keys.push(keyOfField(field, id));
    }
    const values = await this.#getMany(keys, snapshot);
    return ids.map((id, row) => {
      const at = row * stride;
      const value = values[at];
      if (value === undefined) return undefined;
      return assemble(id, new Head(keys[at] as Uint8Array, value), parts, keys, values, at + 1);
    });
  }

  /**
   * Up to `limit` points in order of id, behind `after`, as of one moment. Fewer where their content would exceed
   * limits.scrollBytes, but at least one; `end` tells whether none follows.
   */
  async scroll(
    after: IdKey | undefined,
    limit: number,
    parts: PointParts,
    signal?: Cancellation,
  ): Promise<{ points: PointRecord[]; end: boolean }> {
    return this.#guarded(async () => {
      const snapshot = this.#database.snapshot();
      try {
        const { ids, heads, end } = await this.#page(after, limit, parts, snapshot, signal);
        if (!parts.payload && parts.fields.length === 0) {
          const points = ids.map((id, i) => ({ id, head: heads[i] as Head, payload: emptyBytes, vectors: [] }));
          return { points, end };
        }
        const points: PointRecord[] = [];
        for (let from = 0; from < ids.length; from += scanEntries) {
          throwIfAborted(signal);
          const read = await this.#read(ids.slice(from, from + scanEntries), parts, snapshot);
          for (const [i, point] of read.entries()) {
            if (point === undefined) throw notFound(headKey(ids[from + i] as IdKey));
            points.push(point);
          }
        }
        return { points, end };
      } finally {
        await snapshot.close();
      }
    });
  }

  /** The heads of a page: they tell how much its points hold before any of it is read. */
  async #page(
    after: IdKey | undefined,
    limit: number,
    parts: PointParts,
    snapshot: DatabaseSnapshot,
    signal: Cancellation | undefined,
  ): Promise<{ ids: IdKey[]; heads: Head[]; end: boolean }> {
    const lower = after === undefined ? { gte: headRange.gte } : { gt: headKey(after) };
    const ids: IdKey[] = [];
    const heads: Head[] = [];
    let sizeBytes = 0;
    const iterator = this.#database.iterator({ ...lower, lt: headRange.lt, limit: limit + 1, snapshot });
    try {
      for (;;) {
        throwIfAborted(signal);
        const entries = await iterator.nextv(Math.min(limit + 1, scanEntries));
        if (entries.length === 0) return { ids, heads, end: true };
        for (const [key, value] of entries) {
          const head = new Head(key, value);
          sizeBytes += contentBytes(head, parts);
          if (ids.length === limit || (ids.length > 0 && sizeBytes > limits.scrollBytes)) {
            return { ids, heads, end: false };
          }
          ids.push(key.subarray(1));
          heads.push(head);
        }
      }
    } finally {
      await iterator.close();
    }
  }

  /** The slots of the points whose ids begin with these bytes, the last of which is below 255; undefined where they are more than `max`. */
  async slotsBehind(prefix: Uint8Array, max: number): Promise<Uint32Array | undefined> {
    const end = Buffer.from(prefix);
    end[end.length - 1] = (end[end.length - 1] as number) + 1;
    const slots: number[] = [];
    for await (const entries of this.#scan({ gte: headKey(prefix), lt: headKey(end) })) {
      for (const [key, value] of entries) slots.push(new Head(key, value).slot);
      if (slots.length > max) return undefined;
    }
    return Uint32Array.from(slots);
  }

  /**
   * All heads in order of id, as of the first call of `next`. Some are looked up by their keys as well: damage to what a
   * LevelDB table keeps for lookups does not show in a walk.
   */
  async *scanHeads(): AsyncGenerator<HeadChunk> {
    for await (const entries of this.#scan(headRange)) {
      const ids: IdKey[] = [];
      const heads: Head[] = [];
      for (const [key, value] of entries) {
        ids.push(key.subarray(1));
        heads.push(new Head(key, value));
      }
      const keys = entries.flatMap(([key], i) => (i % lookupStep === 0 ? [key] : []));
      const found = await this.#getMany(keys);
      const lost = keys.find((_, i) => found[i] === undefined);
      if (lost !== undefined) throw notFound(lost);
      yield { ids, heads };
    }
  }

  /** All vectors of a field in order of id with their slots, as of the first call of `next`. */
  scanVectors(field: StoredField): AsyncGenerator<VectorChunk> {
    return this.#walk((walk) => walk.vectors(field));
  }

  /** All sparse vectors of a field in order of id with their slots, as of the first call of `next`; some hundreds at a time. */
  scanSparse(field: number): AsyncGenerator<SparseChunk> {
    return this.#walk((walk) => walk.sparse(field));
  }

  /** All payloads in order of id with their slots, as of the first call of `next`; some hundreds at a time. */
  scanPayloads(): AsyncGenerator<PayloadChunk> {
    return this.#walk((walk) => walk.payloads());
  }

  async *#walk<T>(chunks: (walk: StoreWalk) => AsyncGenerator<T>): AsyncGenerator<T> {
    const walk = new StoreWalk(this.#database, this.directory);
    try {
      yield* chunks(walk);
    } finally {
      await walk.close();
    }
  }

  /**
   * All points of a store of format 1, or of one whose heads were rewritten in part, in order of id, as of the first call of
   * `next`: what is written meanwhile is not seen. About `chunkBytes` of content at a time.
   */
  async *scanFormer(fields: readonly StoredField[], chunkBytes: number): AsyncGenerator<FormerPoint[]> {
    const snapshot = this.#database.snapshot();
    const getMany = (keys: Uint8Array[]): Promise<(Uint8Array | undefined)[]> => this.#getMany(keys, snapshot);
    try {
      for await (const entries of this.#scan(headRange, snapshot)) {
        yield* readFormerPoints(entries, fields, chunkBytes, getMany);
      }
    } finally {
      await snapshot.close();
    }
  }

  /**
   * Removes all vectors of a field, of whatever kind it is and whatever heads say: it was dropped. A part at a time, and harmless when repeated; ends soon
   * after `signal` aborts.
   */
  async clearVectors(field: number, signal: AbortSignal): Promise<void> {
    await this.#guarded(async () => {
      for (const range of [vectorRange(field), sparseRange(field), vectorRange(field, partKind.multi)]) {
        while (!signal.aborted) {
          const [first] = await this.#database.keys({ ...range, limit: 1 }).all();
          if (first === undefined) break;
          await this.#inTurn(() => this.#database.clear({ ...range, limit: clearedEntries }));
        }
      }
    });
  }

  /** Gives back the place of what was deleted. */
  async compact(): Promise<void> {
    await this.#guarded(() => compact(this.#database));
  }

  /** What the operations of each remembered record did, oldest first. */
  async *scanOutcomes(): AsyncGenerator<{ sequence: number; body: Uint8Array }> {
    for await (const entries of this.#scan(outcomeRange)) {
      for (const [key, value] of entries) yield { sequence: outcomeSequence(key), body: checkedBody(key, value) };
    }
  }

  /** What the operations of the records behind `after` up to `through` did, in order, of `limit` records at most. */
  async outcomes(after: number, through: number, limit: number): Promise<{ sequence: number; body: Uint8Array }[]> {
    return this.#guarded(async () => {
      const range = { gt: outcomeKey(after), lte: outcomeKey(through) };
      const entries = await this.#database.iterator({ ...range, limit }).all();
      return entries.map(([key, value]) => ({ sequence: outcomeSequence(key), body: checkedBody(key, value) }));
    });
  }

  /**
   * What the records from `from` to before `to` changed, in order; the parts of a record one behind the other. At most `limit` parts; of the record `from`
   * those from `fromPart` on.
   */
  async changes(
    from: number,
    to: number,
    limit: number,
    fromPart = 0,
  ): Promise<{ sequence: number; body: Uint8Array }[]> {
    return this.#guarded(async () => {
      const entries = await this.#database.iterator({ ...changeRange(from, to, fromPart), limit }).all();
      return entries.map(([key, value]) => ({ sequence: outcomeSequence(key), body: checkedBody(key, value) }));
    });
  }

  /** Forgets what records up to `through` changed. */
  async clearChanges(through: number): Promise<void> {
    await this.#guarded(() => this.#database.clear(changeRange(0, through + 1)));
  }

  /** The store as of this moment, to be copied. Close it. */
  snapshot(): StoreSnapshot {
    return new StoreSnapshot(this.#database, this.directory);
  }

  /** The points as of this moment, to be read in order of id. Close it. */
  export(): StoreExport {
    return new StoreExport(this.#database, this.directory);
  }

  /** Bytes of LevelDB's memory: what is not in a table yet, and the blocks in its cache. */
  get memoryBytes(): number {
    return this.#database.status === "open"
      ? Number(this.#database.getProperty("leveldb.approximate-memory-usage"))
      : 0;
  }

  /** Bytes of the store's files. */
  async diskBytes(): Promise<number> {
    return directoryBytes(this.directory);
  }

  async close(): Promise<void> {
    await this.#database.close();
  }

  #scan(range: KeyRange, snapshot?: DatabaseSnapshot): AsyncGenerator<Entry[]> {
    return scan(this.#database, this.directory, range, snapshot);
  }

  #getMany(keys: Uint8Array[], snapshot?: DatabaseSnapshot): Promise<(Uint8Array | undefined)[]> {
    return this.#guarded(() => this.#database.getMany(keys, snapshot ? { snapshot } : {}));
  }

  async #guarded<T>(read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      throw storeError(error, this.directory);
    }
  }
}

function notFound(key: Uint8Array): KithError {
  return corrupt(key, "is met in a walk, but not found by its key");
}
