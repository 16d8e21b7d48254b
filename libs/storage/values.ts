import { crc32c, KithError } from "../base/index.js";

/**
 * Every value ends with the CRC-32C of its key and its body: LevelDB does not check what it reads, and a value under
 * the wrong key is as wrong as a flipped bit. Numbers are little-endian, versions have 48 bits. Part of the data format.
 *
 *     head      see head.ts
 *     vector    f32 × dimension, version(6)
 *     sparse    u32 × entries, f32 × entries, version(6)
 *     matrix    f32 × dimension × rows, version(6)
 *     payload   version(6) JSON text
 */
export const checksumBytes = 4;
export const versionBytes = 6;

/** The body of a value after its checksum was found right; CORRUPT_DATA otherwise. */
export function checkedBody(key: Uint8Array, value: Uint8Array): Buffer {
  const length = value.byteLength - checksumBytes;
  if (length >= 0) {
    const body = Buffer.from(value.buffer, value.byteOffset, length);
    if (crc32c(body, crc32c(key)) === readChecksum(value, length)) return body;
  }
  throw corrupt(key, `of ${value.byteLength} bytes has a wrong checksum`);
}

function readChecksum(value: Uint8Array, at: number): number {
  const byte = (i: number): number => value[at + i] as number;
  return (byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)) >>> 0;
}

/** A value with its checksum, where the body is not built in place (see WriteBatch). */
export function checkedValue(key: Uint8Array, body: Uint8Array): Buffer {
  const value = Buffer.allocUnsafe(body.length + checksumBytes);
  value.set(body);
  value.writeUInt32LE(crc32c(body, crc32c(key)), body.length);
  return value;
}

export function corrupt(key: Uint8Array, what: string): KithError {
  const hex = Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("hex").slice(0, 120);
  return new KithError("CORRUPT_DATA", `the stored value under the key ${hex} ${what}`, { details: { key: hex } });
}

/** A stored part of a point with the version that wrote it, so that parts of different versions are never mixed. */
export interface Versioned<T> {
  version: number;
  value: T;
}

export function decodePayload(key: Uint8Array, value: Uint8Array): Versioned<Uint8Array> {
  const body = checkedBody(key, value);
  if (body.length < versionBytes) throw corrupt(key, `is no payload: its body has ${body.length} bytes`);
  return { version: body.readUIntLE(0, versionBytes), value: body.subarray(versionBytes) };
}

/** The bytes of a sparse vector: see sparseToBytes of libs/model. */
export function decodeSparse(key: Uint8Array, value: Uint8Array): Versioned<Uint8Array> {
  const body = checkedBody(key, value);
  const sizeBytes = body.length - versionBytes;
  if (sizeBytes < 8 || sizeBytes % 8 !== 0) {
    throw corrupt(key, `is no sparse vector: its body has ${body.length} bytes`);
  }
  return { version: body.readUIntLE(sizeBytes, versionBytes), value: body.subarray(0, sizeBytes) };
}

/** `isMatrix`: as many rows of the dimension as the value has. */
export function decodeVector(
  key: Uint8Array,
  value: Uint8Array,
  dimension: number,
  isMatrix = false,
): Versioned<Float32Array> {
  const body = checkedBody(key, value);
  const sizeBytes = isMatrix ? body.length - versionBytes : dimension * 4;
  if (body.length !== sizeBytes + versionBytes || sizeBytes <= 0 || sizeBytes % (dimension * 4) !== 0) {
    const what = isMatrix ? "matrix" : "vector";
    throw corrupt(key, `is no ${what} of ${dimension} dimensions: its body has ${body.length} bytes`);
  }
  const version = body.readUIntLE(sizeBytes, versionBytes);
  const length = sizeBytes / 4;
  if (body.byteOffset % 4 === 0) return { version, value: new Float32Array(body.buffer, body.byteOffset, length) };
  const copy = new Float32Array(length);
  new Uint8Array(copy.buffer).set(body.subarray(0, sizeBytes));
  return { version, value: copy };
}
