import { assert, crc32c } from "../base/index.js";
import { family, metaKey, outcomeKey } from "./keys.js";
import { checkedValue, checksumBytes, type Head, headBytes, versionBytes, writeHead } from "./values.js";

export type BatchOperation = { type: "put"; key: Uint8Array; value: Uint8Array } | { type: "del"; key: Uint8Array };

const chunkBytes = 256 * 1024;

/**
 * Everything that one applied batch of records changes, written atomically by PointStore.write. Keys and values are laid
 * out one behind the other in large buffers: one checksum call runs over key and body, and a point costs views, not
 * allocations (measured: 4 µs of JavaScript for a 128-d point with payload).
 */
export class WriteBatch {
  readonly operations: BatchOperation[] = [];
  #chunk: Buffer = Buffer.alloc(0);
  #used = 0;
  #sizeBytes = 0;

  /** Bytes of keys and values put so far. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  putHead(id: Uint8Array, head: Head): void {
    const body = this.#reserve(family.head, -1, id, headBytes);
    writeHead(this.#chunk, body, head);
    this.#put(body, 1 + id.length, headBytes);
  }

  deleteHead(id: Uint8Array): void {
    this.#delete(family.head, -1, id);
  }

  /** `vector`: little-endian f32, as it came in the record. */
  putVector(field: number, id: Uint8Array, version: number, vector: Uint8Array): void {
    const length = vector.length + versionBytes;
    const body = this.#reserve(family.vector, field, id, length);
    this.#chunk.set(vector, body);
    this.#chunk.writeUIntLE(version, body + vector.length, versionBytes);
    this.#put(body, 2 + id.length, length);
  }

  deleteVector(field: number, id: Uint8Array): void {
    this.#delete(family.vector, field, id);
  }

  putPayload(id: Uint8Array, version: number, payload: Uint8Array): void {
    const length = payload.length + versionBytes;
    const body = this.#reserve(family.payload, -1, id, length);
    this.#chunk.writeUIntLE(version, body, versionBytes);
    this.#chunk.set(payload, body + versionBytes);
    this.#put(body, 1 + id.length, length);
  }

  deletePayload(id: Uint8Array): void {
    this.#delete(family.payload, -1, id);
  }

  putOutcomes(sequence: number, body: Uint8Array): void {
    this.#checked(outcomeKey(sequence), body);
  }

  deleteOutcomes(sequence: number): void {
    this.operations.push({ type: "del", key: outcomeKey(sequence) });
  }

  putMeta(name: string, body: Uint8Array): void {
    this.#checked(metaKey(name), body);
  }

  #checked(key: Uint8Array, body: Uint8Array): void {
    const value = checkedValue(key, body);
    this.#sizeBytes += key.length + value.length;
    this.operations.push({ type: "put", key, value });
  }

  #delete(prefix: number, field: number, id: Uint8Array): void {
    const at = this.#reserve(prefix, field, id, 0);
    const length = (field < 0 ? 1 : 2) + id.length;
    this.operations.push({ type: "del", key: this.#chunk.subarray(at - length, at) });
    this.#used = at;
  }

  /** Writes the key and gives the offset where the body goes. */
  #reserve(prefix: number, field: number, id: Uint8Array, bodyBytes: number): number {
    const keyBytes = (field < 0 ? 1 : 2) + id.length;
    const needed = keyBytes + bodyBytes + checksumBytes;
    if (this.#used + needed > this.#chunk.length) {
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(chunkBytes, needed));
      this.#used = 0;
    }
    let at = this.#used;
    this.#chunk[at++] = prefix;
    if (field >= 0) {
      assert(field < 256, `the field number ${field} does not fit in a byte`);
      this.#chunk[at++] = field;
    }
    this.#chunk.set(id, at);
    return at + id.length;
  }

  #put(body: number, keyBytes: number, bodyBytes: number): void {
    const start = body - keyBytes;
    const end = body + bodyBytes;
    this.#chunk.writeUInt32LE(crc32c(this.#chunk.subarray(start, end)), end);
    this.#used = end + checksumBytes;
    this.#sizeBytes += this.#used - start;
    this.operations.push({
      type: "put",
      key: this.#chunk.subarray(start, body),
      value: this.#chunk.subarray(body, this.#used),
    });
  }
}
