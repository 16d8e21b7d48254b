import type { IdKey } from "../model/index.js";
import { type PointParts, partKindOf, type StoredField } from "./bounds.js";
import { type Head, partKind } from "./head.js";
import { sparseKey, vectorKey } from "./keys.js";
import { corrupt, decodePayload, decodeSparse, decodeVector, type Versioned } from "./values.js";

export interface PointRecord {
  id: IdKey;
  head: Head;
  /** Empty where the point has none or it was not asked for. */
  payload: Uint8Array;
  /** As they are stored, aligned with PointParts.fields; undefined where the point lacks the field. */
  vectors: (Uint8Array | undefined)[];
}

export const emptyBytes = new Uint8Array(0);

/** The point of a head and of the values that stand from `at` on, aligned with what was asked for. CORRUPT_DATA where these do not fit the head. */
export function assemble(
  id: IdKey,
  head: Head,
  parts: PointParts,
  keys: readonly Uint8Array[],
  values: readonly (Uint8Array | undefined)[],
  at: number,
): PointRecord {
  let payload: Uint8Array = emptyBytes;
  if (parts.payload) {
    const key = keys[at] as Uint8Array;
    const value = values[at++];
    if ((value !== undefined) !== head.payloadBytes > 0) throw corrupt(key, "does not fit the head of its point");
    if (value !== undefined) payload = sameVersion(key, decodePayload(key, value), head.versionOf(partKind.payload, 0));
  }
  const vectors = parts.fields.map((field) => {
    const key = keys[at] as Uint8Array;
    const value = values[at++];
    const isSparse = field.isSparse === true;
    const version = head.versionOf(isSparse ? partKind.sparse : partKindOf(field), field.number);
    if ((value !== undefined) !== (version !== undefined)) throw corrupt(key, "does not fit the head of its point");
    if (value === undefined) return undefined;
    if (isSparse) return sameVersion(key, decodeSparse(key, value), version);
    return bytesOf(sameVersion(key, vectorOf(field, key, value), version));
  });
  return { id, head, payload, vectors };
}

export function keyOfField(field: StoredField, id: IdKey): Uint8Array {
  const { number, isSparse } = field;
  return isSparse === true ? sparseKey(number, id) : vectorKey(number, id, partKindOf(field));
}

function bytesOf(vector: Float32Array): Uint8Array {
  return new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
}

/** A vector, or the rows of a matrix one behind the other. */
export function vectorOf(field: StoredField, key: Uint8Array, value: Uint8Array): Versioned<Float32Array> {
  return decodeVector(key, value, field.dimension, field.multivector !== undefined);
}

function sameVersion<T>(key: Uint8Array, part: Versioned<T>, expected: number | undefined): T {
  checkVersion(key, part.version, expected);
  return part.value;
}

/** A part must be the one that its head names. */
export function checkVersion(key: Uint8Array, version: number, expected: number | undefined): void {
  if (version !== expected) throw corrupt(key, `has version ${version}; the head of its point says ${expected}`);
}
