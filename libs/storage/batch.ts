import { assert, crc32c } from "../base/index.js";
import type { Batch } from "./database.js";
import { fieldNumberMax, type HeadContent, headBytes, writeHead } from "./head.js";
import { changeKey, family, metaKey, outcomeKey } from "./keys.js";
import { checkedValue, checksumBytes, versionBytes } from "./values.js";

/** Parts that a batch keeps for the next point, and offsets that one number of 30 bits can tell. */
const partsMax = 256;
const keyedFrom = 2 ** 12;
const keyedTo = 2 ** 18;

/**
 * Everything that one applied batch of records changes, written atomically by PointStore.write. Key and value are laid
 * out one behind the other in one buffer, so that a single checksum call runs over both, and handed to LevelDB at once.
 * A chained batch and no array of operations: that array is cloned object by object, which with the option `sync` cost
 * 23 µs a point (measured), the chain 3 µs.
 */
export class WriteBatch {
  readonly #chain: Batch;
  #buffer: Buffer = Buffer.allocUnsafeSlow(4096);
  #view = viewOf(this.#buffer);
  readonly #parts = new Map<number, Buffer>();
  #sizeBytes = 0;

  constructor(chain: Batch) {
    this.#chain = chain;
  }

  /** Bytes of keys and values put so far. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** For PointStore alone. */
  async commit(sync: boolean): Promise<void> {
    await this.#chain.write({ sync });
  }

  putHead(id: Uint8Array, head: HeadContent): void {
    const length = headBytes(head);
    const body = this.#reserve(family.head, -1, id, length);
    writeHead(this.#buffer, this.#view, body, head);
    this.#put(body, length);
  }

  deleteHead(id: Uint8Array): void {
    this.#delete(family.head, -1, id);
  }

  /** `vector`: little-endian f32, as it came in the record; rows of it for a matrix. */
  putVector(
    field: number,
    id: Uint8Array,
    version: number,
    vector: Uint8Array,
    kind: typeof family.vector | typeof family.multi = family.vector,
  ): void {
    const length = vector.length + versionBytes;
    const body = this.#reserve(kind, field, id, length);
    this.#buffer.set(vector, body);
    this.#buffer.writeUIntLE(version, body + vector.length, versionBytes);
    this.#put(body, length);
  }

  deleteVector(field: number, id: Uint8Array, kind: typeof family.vector | typeof family.multi = family.vector): void {
    this.#delete(kind, field, id);
  }

  /** `vector`: as sparseToBytes of libs/model gives it. */
  putSparse(field: number, id: Uint8Array, version: number, vector: Uint8Array): void {
    const length = vector.length + versionBytes;
    const body = this.#reserve(family.sparse, field, id, length);
    this.#buffer.set(vector, body);
    this.#buffer.writeUIntLE(version, body + vector.length, versionBytes);
    this.#put(body, length);
  }

  deleteSparse(field: number, id: Uint8Array): void {
    this.#delete(family.sparse, field, id);
  }

  putPayload(id: Uint8Array, version: number, payload: Uint8Array): void {
    const length = payload.length + versionBytes;
    const body = this.#reserve(family.payload, -1, id, length);
    this.#buffer.writeUIntLE(version, body, versionBytes);
    this.#buffer.set(payload, body + versionBytes);
    this.#put(body, length);
  }

  deletePayload(id: Uint8Array): void {
    this.#delete(family.payload, -1, id);
  }

  putOutcomes(sequence: number, body: Uint8Array): void {
    this.#checked(outcomeKey(sequence), body);
  }

  deleteOutcomes(sequence: number): void {
    this.#chain.del(outcomeKey(sequence));
  }

  /** `part`: from 0; of a record that changed many points. */
  putChanges(sequence: number, part: number, body: Uint8Array): void {
    this.#checked(changeKey(sequence, part), body);
  }

  putMeta(name: string, body: Uint8Array): void {
    this.#checked(metaKey(name), body);
  }

  #checked(key: Uint8Array, body: Uint8Array): void {
    const value = checkedValue(key, body);
    this.#sizeBytes += key.length + value.length;
    this.#chain.put(key, value);
  }

  #delete(prefix: number, field: number, id: Uint8Array): void {
    const end = this.#reserve(prefix, field, id, 0);
    this.#chain.del(this.#part(0, end));
  }

  /** Writes the key and gives the offset behind it, where the body goes. */
  #reserve(prefix: number, field: number, id: Uint8Array, bodyBytes: number): number {
    const needed = 2 + id.length + bodyBytes + checksumBytes;
    if (needed > this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafeSlow(needed * 2);
      this.#view = viewOf(this.#buffer);
      this.#parts.clear();
    }
    let at = 0;
    this.#buffer[at++] = prefix;
    if (field >= 0) {
      assert(field <= fieldNumberMax, `the field number ${field} does not fit in a byte`);
      this.#buffer[at++] = field;
    }
    this.#buffer.set(id, at);
    return at + id.length;
  }

  /** Adds the checksum and hands the pair to LevelDB, which copies it. */
  #put(body: number, bodyBytes: number): void {
    const end = body + bodyBytes;
    this.#buffer.writeUInt32LE(crc32c(this.#part(0, end)), end);
    this.#sizeBytes += end + checksumBytes;
    this.#chain.put(this.#part(0, body), this.#part(body, end + checksumBytes));
  }

  /** A part of the buffer. Keys and values of like points are of like lengths, and to make a part costs 76 ns, to find it 9. */
  #part(from: number, to: number): Buffer {
    if (from >= keyedFrom || to >= keyedTo) return this.#buffer.subarray(from, to);
    const key = to * keyedFrom + from;
    let part = this.#parts.get(key);
    if (part === undefined) {
      if (this.#parts.size >= partsMax) this.#parts.clear();
      part = this.#buffer.subarray(from, to);
      this.#parts.set(key, part);
    }
    return part;
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Buffer): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
