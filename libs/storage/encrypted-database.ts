import type { KeyRing } from "../encryption/index.js";
import type { Database, DatabaseSnapshot, Entry, LevelDatabase } from "./database.js";
import { metaKey, wholeRangeWithChanges } from "./keys.js";
import { checkedBody, checkedValue } from "./values.js";
import { encryptedRange, ValueCipher } from "./value-cipher.js";

/** Name of the meta entry with the data keys of a store. */
export const encryptionMeta = "encryption";
const metaOfKeys = metaKey(encryptionMeta);
/** Of one step of rewriting: some milliseconds, in which nothing else is written. */
const rewrittenEntries = 256;
const rewrittenBytes = 256 * 1024;

/** A store's database whose values are encrypted on the way in, and decrypted on the way out. */
export class EncryptedDatabase implements Database {
  readonly #level: LevelDatabase;
  readonly cipher: ValueCipher;

  constructor(level: LevelDatabase, cipher: ValueCipher) {
    this.#level = level;
    this.cipher = cipher;
  }

  get status(): string {
    return this.#level.status;
  }

  async get(key: Uint8Array, options: { snapshot?: DatabaseSnapshot } = {}): Promise<Uint8Array | undefined> {
    const value = await this.#level.get(key, options);
    return value && this.cipher.decrypt(key, value);
  }

  async getMany(
    keys: Uint8Array[],
    options: { snapshot?: DatabaseSnapshot } = {},
  ): Promise<(Uint8Array | undefined)[]> {
    const values = await this.#level.getMany(keys, options);
    for (const [i, value] of values.entries()) {
      if (value !== undefined) values[i] = this.cipher.decrypt(keys[i] as Uint8Array, value);
    }
    return values;
  }

  iterator(options: Parameters<Database["iterator"]>[0]): ReturnType<Database["iterator"]> {
    const iterator = this.#level.iterator(options);
    const opened = (entries: Entry[]): Entry[] => {
      for (const entry of entries) entry[1] = this.cipher.decrypt(entry[0], entry[1]);
      return entries;
    };
    return {
      nextv: async (size) => opened(await iterator.nextv(size)),
      all: async () => opened(await iterator.all()),
      close: () => iterator.close(),
    };
  }

  keys(options: Parameters<Database["keys"]>[0]): ReturnType<Database["keys"]> {
    return this.#level.keys(options);
  }

  batch(): ReturnType<Database["batch"]> {
    const chain = this.#level.batch();
    const { cipher } = this;
    return {
      put(key, value) {
        chain.put(key, cipher.encrypt(key, value));
        return this;
      },
      del(key) {
        chain.del(key);
        return this;
      },
      write: (options) => chain.write(options ?? {}),
    };
  }

  put(key: Uint8Array, value: Uint8Array, options: { sync?: boolean } = {}): Promise<void> {
    return this.#level.put(key, this.cipher.encrypt(key, value), options);
  }

  clear(options: Parameters<Database["clear"]>[0]): Promise<void> {
    return this.#level.clear(options);
  }

  compactRange(from: Uint8Array, to: Uint8Array): Promise<void> {
    return this.#level.compactRange(from, to);
  }

  approximateSize(from: Uint8Array, to: Uint8Array): Promise<number> {
    return this.#level.approximateSize(from, to);
  }

  getProperty(name: string): string {
    return this.#level.getProperty(name);
  }

  snapshot(): DatabaseSnapshot {
    return this.#level.snapshot();
  }

  close(): Promise<void> {
    return this.#level.close();
  }

  /** Writes down which data keys there are: before anything is encrypted with a new one. */
  async writeKeys(): Promise<void> {
    await this.#level.put(metaOfKeys, checkedValue(metaOfKeys, this.cipher.stored), { sync: true });
  }

  /**
   * Encrypts some values behind `after` with the current data key, which have another one or none; gives the key of the last, undefined where none
   * follows. Nothing else may be written meanwhile.
   */
  async rewriteSome(after: Uint8Array | undefined): Promise<Uint8Array | undefined> {
    const from = after === undefined ? { gte: encryptedRange.gte } : { gt: after };
    const iterator = this.#level.iterator({
      ...from,
      lt: encryptedRange.lt,
      limit: rewrittenEntries,
      highWaterMarkBytes: rewrittenBytes,
    });
    let entries: Entry[];
    try {
      entries = await iterator.nextv(rewrittenEntries);
    } finally {
      await iterator.close();
    }
    const chain = this.#level.batch();
    for (const [key, stored] of entries) {
      if (this.cipher.isCurrent(stored)) continue;
      chain.put(key, this.cipher.encrypt(key, this.cipher.decrypt(key, stored)));
    }
    if (chain.length > 0) await chain.write();
    else await chain.close();
    return entries.at(-1)?.[0];
  }
}

/** The database as its store has it: encrypted where there are master keys. FAILED_PRECONDITION where it is, and the master key is not there. */
export async function withEncryption(
  level: LevelDatabase,
  directory: string,
  ring: KeyRing | undefined,
): Promise<Database> {
  const value = await level.get(metaOfKeys);
  if (value !== undefined) {
    const stored = checkedBody(metaOfKeys, value);
    return new EncryptedDatabase(level, ValueCipher.restore(ring, stored, directory));
  }
  if (ring === undefined) return level;
  const [first] = await level.keys({ ...wholeRangeWithChanges, limit: 1 }).all();
  const database = new EncryptedDatabase(level, ValueCipher.create(ring, first === undefined));
  await database.writeKeys();
  return database;
}
