import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject } from "node:crypto";
import { KithError, type Random } from "../base/index.js";
import { type MasterKey, masterIdBytes } from "./master-keys.js";
import { nonceBytes, Nonces } from "./nonces.js";
import { algorithm, isSealed, openWith, partsOf, sealWith, tagBytes, wrappedBytes } from "./sealed.js";

const keyBytes = 32;
const wrapContext = Buffer.from("kith data key 1");
/** Data keys that were unwrapped and are remembered: each process that writes to a log has one. */
const rememberedMax = 1_024;

/** A key that encrypts data, with itself encrypted by a master key. */
export interface DataKey {
  key: KeyObject;
  /** Id of the master key (8), nonce(12), the key encrypted (32), tag(16). */
  wrapped: Buffer;
}

/**
 * The keys of this node. Whatever is encrypted has a data key, which lies beside it wrapped by a master key; the master keys are nowhere but in memory.
 * Master keys may be replaced while the process runs: what is written from then on has a new data key.
 */
export class KeyRing {
  readonly #random: Random;
  readonly #wrapNonces: Nonces;
  readonly #listeners = new Set<() => void>();
  readonly #opened = new Map<string, KeyObject>();
  #masters: readonly MasterKey[];
  /** For what is sealed as one. */
  #sealing: { key: DataKey; nonces: Nonces } | undefined;

  constructor(masters: readonly MasterKey[], random: Random) {
    this.#masters = masters;
    this.#random = random;
    this.#wrapNonces = new Nonces(random);
  }

  /** The id of the master key that wraps what is written now. */
  get masterKey(): string {
    return this.#first.id;
  }

  get #first(): MasterKey {
    const [first] = this.#masters;
    if (first === undefined) throw new KithError("INVALID_CONFIG", "there is no master key");
    return first;
  }

  /** Ids of all master keys that are known, the one in use first. */
  get known(): string[] {
    return this.#masters.map(({ id }) => id);
  }

  /** Uses the first of these from now on, and knows the others. */
  replace(masters: readonly MasterKey[]): void {
    const before = this.known.join();
    this.#masters = masters;
    // What a key wrapped that was taken away is not to be read any more.
    this.#opened.clear();
    this.#sealing = undefined;
    if (this.known.join() !== before) for (const listener of this.#listeners) listener();
  }

  /** Called when master keys were replaced. Gives the unsubscriber. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** For one data key. */
  createNonces(): Nonces {
    return new Nonces(this.#random);
  }

  createDataKey(): DataKey {
    const { id, key: master } = this.#first;
    const bytes = this.#random.bytes(keyBytes);
    const nonce = this.#wrapNonces.next();
    const cipher = createCipheriv(algorithm, master, nonce);
    cipher.setAAD(wrapContext);
    const ciphertext = cipher.update(bytes);
    cipher.final();
    const wrapped = Buffer.concat([Buffer.from(id, "hex"), nonce, ciphertext, cipher.getAuthTag()]);
    const key = createSecretKey(bytes);
    bytes.fill(0);
    this.#remember(wrapped, key);
    return { key, wrapped };
  }

  /** FAILED_PRECONDITION where its master key is not known here; CORRUPT_DATA where it was changed. */
  openDataKey(wrapped: Uint8Array, what: string): KeyObject {
    const bytes = Buffer.from(wrapped.buffer, wrapped.byteOffset, wrapped.byteLength);
    const remembered = this.#opened.get(bytes.toString("latin1"));
    if (remembered !== undefined) return remembered;
    if (bytes.length !== wrappedBytes) throw new KithError("CORRUPT_DATA", `the data key of ${what} is damaged`);
    const id = masterOf(bytes);
    const master = this.#masters.find((each) => each.id === id);
    if (master === undefined) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `${what} is encrypted with the master key ${id}, and this node has ${this.known.join(" and ")}: add that key as a further line to encryption.keyFile (KITH_ENCRYPTION_KEY_FILE)`,
        { details: { masterKey: id } },
      );
    }
    const ciphertextAt = masterIdBytes + nonceBytes;
    const decipher = createDecipheriv(algorithm, master.key, bytes.subarray(masterIdBytes, ciphertextAt), {
      authTagLength: tagBytes,
    });
    decipher.setAAD(wrapContext);
    decipher.setAuthTag(bytes.subarray(ciphertextAt + keyBytes));
    try {
      const plain = decipher.update(bytes.subarray(ciphertextAt, ciphertextAt + keyBytes));
      decipher.final();
      const key = createSecretKey(plain);
      plain.fill(0);
      this.#remember(bytes, key);
      return key;
    } catch (cause) {
      throw new KithError("CORRUPT_DATA", `the data key of ${what} was changed`, { cause });
    }
  }

  /** Whether the data key is wrapped by the master key that is in use now. */
  isCurrent(wrapped: Uint8Array): boolean {
    return masterOf(wrapped) === this.masterKey;
  }

  #remember(wrapped: Buffer, key: KeyObject): void {
    if (this.#opened.size >= rememberedMax) this.#opened.clear();
    this.#opened.set(wrapped.toString("latin1"), key);
  }

  /** @param context what it is and where: it opens for the same alone */
  seal(context: string, plain: Uint8Array): Buffer {
    this.#sealing ??= { key: this.createDataKey(), nonces: this.createNonces() };
    const { key, nonces } = this.#sealing;
    return sealWith(key.key, key.wrapped, nonces.next(), context, plain);
  }

  /** What `seal` was given. FAILED_PRECONDITION where the key is not known; CORRUPT_DATA where it was changed, or is no sealed bytes. */
  open(context: string, sealed: Uint8Array): Buffer {
    if (!isSealed(sealed)) throw new KithError("CORRUPT_DATA", `${context} is not encrypted as it should be`);
    const parts = partsOf(sealed);
    const plain = openWith(this.openDataKey(parts.wrapped, context), parts, context);
    if (plain === undefined) {
      throw new KithError("CORRUPT_DATA", `${context} was changed, or is in a place where it was not written`);
    }
    return plain;
  }

  /** A key for files that other code encrypts: 32 bytes, and the same wrapped as text. */
  createFileKey(): { key: Uint8Array; wrapped: string } {
    const { key, wrapped } = this.createDataKey();
    return { key: key.export(), wrapped: wrapped.toString("base64") };
  }

  /** Rejects as `openDataKey` does. */
  openFileKey(wrapped: string, what: string): Uint8Array {
    return this.openDataKey(Buffer.from(wrapped, "base64"), what).export();
  }

  isCurrentFileKey(wrapped: string): boolean {
    return this.isCurrent(Buffer.from(wrapped, "base64"));
  }
}

/** The id of the master key that a data key is wrapped by. */
export function masterOf(wrapped: Uint8Array): string {
  return Buffer.from(wrapped.buffer, wrapped.byteOffset, masterIdBytes).toString("hex");
}
