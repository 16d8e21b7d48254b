import { endianness } from "node:os";
import { assert, KithError, limits } from "../base/index.js";

// Packed floats are little-endian on the wire and are used in place; every platform of Node 20+ that matters is little-endian.
assert(endianness() === "LE", "Kith needs a little-endian machine: vectors are read from the wire without conversion");

export const emptyFloats = new Float32Array(0);

/** The f32 view of little-endian bytes; copies only where the bytes are not aligned to 4. */
export function bytesToFloats(bytes: Uint8Array): Float32Array {
  assert(bytes.byteLength % 4 === 0, `a packed float field of ${bytes.byteLength} bytes is not a multiple of 4`);
  if (bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(bytes);
  return new Float32Array(copy.buffer);
}

/** The little-endian bytes of the floats; a view, not a copy. */
export function floatsToBytes(floats: Float32Array): Uint8Array {
  return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
}

/** Decoder of a packed field: the usual single chunk is used as it is, further chunks are appended. @public for the generated code. */
export function appendFloats(before: Float32Array, packed: Uint8Array): Float32Array {
  if (packed.byteLength % 4 !== 0)
    throw new RangeError(`packed floats: ${packed.byteLength} bytes is not a multiple of 4`);
  const more = bytesToFloats(packed);
  if (before.length === 0) return more;
  const all = longer(before, more.length);
  all.set(more, before.length);
  return all;
}

/** Decoder of the unpacked form, which proto3 writers do not use but readers must accept. @public for the generated code. */
export function appendFloat(before: Float32Array, value: number): Float32Array {
  const all = longer(before, 1);
  all[before.length] = value;
  return all;
}

/** Room for the vector that is being put together from pieces, and how much of it is filled. */
let room = emptyFloats;
let filled = 0;

/**
 * `before` with `count` more values behind it. In place where there is room, else copied to twice the room: every value
 * is copied about once, however small the pieces are. DIMENSION_MISMATCH beyond the longest vector there can be.
 */
function longer(before: Float32Array, count: number): Float32Array {
  const length = before.length + count;
  if (length > limits.dimensionMax) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `a vector has more than ${limits.dimensionMax} values, the largest dimension; give it the values of one point`,
      { details: { limit: limits.dimensionMax } },
    );
  }
  // Only the end of what was filled last can be gone on with.
  if (before.buffer !== room.buffer || before.length !== filled || length > room.length) {
    room = new Float32Array(2 * length);
    room.set(before);
  }
  filled = length;
  return room.subarray(0, length);
}
