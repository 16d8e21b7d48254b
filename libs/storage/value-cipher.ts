import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { KithError } from "../base/index.js";
import { type KeyRing, missingKeys, nonceBytes, type Nonces } from "../encryption/index.js";
import { family } from "./keys.js";
import { checkedBody, corrupt } from "./values.js";

/**
 * An encrypted value: number of the data key (4, little-endian), nonce(12), the value encrypted with its checksum, tag(16), "KEV1". The key of the
 * entry is authenticated with it: a value under another key is as wrong as a changed one. Part of the data format.
 */
const algorithm = "aes-256-gcm";
const magic = Buffer.from("KEV1", "latin1");
const tagBytes = 16;
const headerBytes = 4 + nonceBytes;
const overheadBytes = headerBytes + tagBytes + magic.length;

/** What an entry of a point holds, and what its writes did. Heads, changes and what tells of the store as a whole stay as they are. */
export function isEncrypted(key: Uint8Array): boolean {
  const first = key[0] as number;
  return first >= family.vector && first <= family.multi;
}

/** The families with encrypted values are consecutive. */
export const encryptedRange = {
  gte: Buffer.from([family.vector]),
  lt: Buffer.from([family.multi + 1]),
} as const;

/** What a store keeps of its data keys, under the meta name "encryption". */
interface StoredKeys {
  format: 1;
  /** Number of the one that is used for what is written. */
  current: number;
  /** Wrapped, as base64. */
  keys: { number: number; wrapped: string }[];
  /** Whether all values are encrypted with the current one. */
  isWhole: boolean;
}

/** How a store's encryption is, for its status. */
export interface EncryptionState {
  /** Id of the master key that wraps the data key in use. */
  masterKey: string;
  /** Whether values are left that are to be encrypted, or with another key. */
  isRewriting: boolean;
}

/** Encrypts the values of one store. Each store has data keys of its own. */
export class ValueCipher {
  readonly #ring: KeyRing;
  readonly #nonces: Nonces;
  /** Also those that no value needs any more: snapshots may hold such values. */
  readonly #keys = new Map<number, { key: KeyObject; wrapped: Buffer }>();
  /** Numbers of those that are kept in the store. */
  #kept: number[] = [];
  #current = 0;
  #key: KeyObject;
  #isWhole: boolean;

  private constructor(ring: KeyRing, isWhole: boolean) {
    this.#ring = ring;
    this.#nonces = ring.createNonces();
    this.#isWhole = isWhole;
    this.#key = this.#add(1);
  }

  /** For a store without keys: all that is written from now on is encrypted. */
  static create(ring: KeyRing, isEmpty: boolean): ValueCipher {
    return new ValueCipher(ring, isEmpty);
  }

  /** FAILED_PRECONDITION where the ring lacks a master key. */
  static restore(ring: KeyRing | undefined, stored: Uint8Array, directory: string): ValueCipher {
    const { current, keys, isWhole } = JSON.parse(Buffer.from(stored).toString()) as StoredKeys;
    const what = `the store in ${directory}`;
    const opened = keys.map(({ number, wrapped: text }) => {
      const wrapped = Buffer.from(text, "base64");
      if (ring === undefined) throw missingKeys(what, wrapped.toString("hex", 0, 8));
      return { number, wrapped, key: ring.openDataKey(wrapped, what) };
    });
    const used = opened.find(({ number }) => number === current);
    if (used === undefined || ring === undefined) {
      throw new KithError("CORRUPT_DATA", `${what} does not name the data key that it uses`);
    }
    const cipher = new ValueCipher(ring, isWhole);
    cipher.#keys.clear();
    for (const { number, ...key } of opened) cipher.#keys.set(number, key);
    cipher.#kept = opened.map(({ number }) => number);
    cipher.#use(current, used.key);
    return cipher;
  }

  /** What is to be kept in the store before anything is written with it. */
  get stored(): Uint8Array {
    const keys = this.#kept.map((number) => ({ number, wrapped: this.#wrappedOf(number).toString("base64") }));
    const stored: StoredKeys = { format: 1, current: this.#current, keys, isWhole: this.#isWhole };
    return Buffer.from(JSON.stringify(stored));
  }

  get state(): EncryptionState {
    return {
      masterKey: this.#wrappedOf(this.#current).toString("hex", 0, 8),
      isRewriting: this.isRewriteDue,
    };
  }

  /** Whether values are not as they would be written now. */
  get isRewriteDue(): boolean {
    return !this.#isWhole || !this.isOfCurrentMaster;
  }

  get isOfCurrentMaster(): boolean {
    return this.#ring.isCurrent(this.#wrappedOf(this.#current));
  }

  onKeysChanged(listener: () => void): () => void {
    return this.#ring.onChange(listener);
  }

  /** Takes another data key for what is written from now on, once `write` has written `stored`. */
  async takeNewKey(write: () => Promise<void>): Promise<void> {
    const before = { current: this.#current, key: this.#key, kept: this.#kept, isWhole: this.#isWhole };
    this.#kept = [...this.#kept];
    this.#isWhole = false;
    this.#key = this.#add(Math.max(...this.#keys.keys()) + 1);
    try {
      await write();
    } catch (error) {
      // Nothing may be encrypted with a key that may not be on the disk.
      this.#use(before.current, before.key);
      this.#kept = before.kept;
      this.#isWhole = before.isWhole;
      throw error;
    }
  }

  /** All values have been written with the current data key: the others are not kept any more. */
  forgetOthers(): void {
    this.#kept = [this.#current];
    this.#isWhole = true;
  }

  #add(number: number): KeyObject {
    const { key, wrapped } = this.#ring.createDataKey();
    this.#keys.set(number, { key, wrapped });
    this.#kept.push(number);
    this.#current = number;
    return key;
  }

  #use(number: number, key: KeyObject): void {
    this.#current = number;
    this.#key = key;
  }

  #wrappedOf(number: number): Buffer {
    const known = this.#keys.get(number);
    if (known === undefined) throw new KithError("INTERNAL", `the data key ${number} of a store is not known`);
    return known.wrapped;
  }

  /** The value as it is stored. */
  encrypt(key: Uint8Array, value: Uint8Array): Uint8Array {
    if (!isEncrypted(key)) return value;
    const stored = Buffer.allocUnsafe(value.length + overheadBytes);
    stored.writeUInt32LE(this.#current, 0);
    const nonce = this.#nonces.next();
    stored.set(nonce, 4);
    const cipher = createCipheriv(algorithm, this.#key, nonce);
    cipher.setAAD(key);
    stored.set(cipher.update(value), headerBytes);
    cipher.final();
    const tagAt = headerBytes + value.length;
    stored.set(cipher.getAuthTag(), tagAt);
    stored.set(magic, tagAt + tagBytes);
    return stored;
  }

  /** Whether the value is as `encrypt` would write it now. */
  isCurrent(stored: Uint8Array): boolean {
    return numberOf(stored) === this.#current;
  }

  /** The value with its checksum. CORRUPT_DATA where it was changed, lies under another key, or is not encrypted in a store where all values are. */
  decrypt(key: Uint8Array, stored: Uint8Array): Uint8Array {
    if (!isEncrypted(key)) return stored;
    const number = numberOf(stored);
    const known = number === undefined ? undefined : this.#keys.get(number);
    const value = known && open(known.key, key, stored);
    if (value !== undefined) return value;
    if (this.#isWhole) throw corrupt(key, `of ${stored.length} bytes was changed, or is another one's`);
    // One that was written before there was encryption, whose checksum may end as encrypted values do.
    checkedBody(key, stored);
    return stored;
  }
}

/** Of the data key; undefined where the value is not encrypted. */
function numberOf(stored: Uint8Array): number | undefined {
  const at = stored.length - magic.length;
  if (at < headerBytes + tagBytes) return undefined;
  for (let i = 0; i < magic.length; i++) if (stored[at + i] !== magic[i]) return undefined;
  const byte = (i: number): number => stored[i] as number;
  return (byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)) >>> 0;
}

function open(dataKey: KeyObject, key: Uint8Array, stored: Uint8Array): Buffer | undefined {
  const tagAt = stored.length - magic.length - tagBytes;
  const decipher = createDecipheriv(algorithm, dataKey, stored.subarray(4, headerBytes), { authTagLength: tagBytes });
  decipher.setAAD(key);
  decipher.setAuthTag(stored.subarray(tagAt, tagAt + tagBytes));
  const value = decipher.update(stored.subarray(headerBytes, tagAt));
  try {
    decipher.final();
    return value;
  } catch {
    // The tag is not the one of this data key, entry and text.
    return undefined;
  }
}
