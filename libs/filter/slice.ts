import { type IdKey, idInPartition, idKind } from "../model/index.js";

/**
 * Which of `total` slices an id falls into: SipHash-2-4 with a zero key, modulo `total`. Part of the API, as in Qdrant: over the 8
 * little-endian bytes of a number, the 16 bytes of a UUID; here also over the UTF-8 bytes of a name.
 */
export function sliceOf(key: IdKey, total: number): number {
  const id = idInPartition(key);
  // A copy, since it is turned round: `slice` of a Buffer, as stores give ids out, would share the id's memory.
  const bytes = id[0] === idKind.num ? Uint8Array.from(id.subarray(1)).reverse() : id.subarray(1);
  const [high, low] = sipHash24(bytes);
  // In steps of 16 bits: each stays below 2^53.
  const upper = ((high % total) * 0x1_0000 + (low >>> 16)) % total;
  return (upper * 0x1_0000 + (low & 0xffff)) % total;
}

/** SipHash-2-4 (Aumasson, Bernstein 2012) with a zero key: upper and lower half of the 64 bits. */
function sipHash24(bytes: Uint8Array): [high: number, low: number] {
  // "somepseudorandomlygeneratedbytes", as pairs of upper and lower halves.
  const v = Uint32Array.of(
    0x736f6d65,
    0x70736575,
    0x646f7261,
    0x6e646f6d,
    0x6c796765,
    0x6e657261,
    0x74656462,
    0x79746573,
  );
  const padded = new Uint8Array((bytes.length & ~7) + 8);
  padded.set(bytes);
  padded[padded.length - 1] = bytes.length;
  const words = new DataView(padded.buffer);
  for (let at = 0; at < padded.length; at += 8) {
    const low = words.getUint32(at, true);
    const high = words.getUint32(at + 4, true);
    xor(v, 3, high, low);
    round(v);
    round(v);
    xor(v, 0, high, low);
  }
  xor(v, 2, 0, 0xff);
  for (let i = 0; i < 4; i++) round(v);
  const half = (offset: number): number =>
    ((v[offset] as number) ^ (v[2 + offset] as number) ^ (v[4 + offset] as number) ^ (v[6 + offset] as number)) >>> 0;
  return [half(0), half(1)];
}

function round(v: Uint32Array): void {
  add(v, 0, 1);
  rotate(v, 1, 13);
  xor(v, 1, v[0] as number, v[1] as number);
  swap(v, 0);
  add(v, 2, 3);
  rotate(v, 3, 16);
  xor(v, 3, v[4] as number, v[5] as number);
  add(v, 0, 3);
  rotate(v, 3, 21);
  xor(v, 3, v[0] as number, v[1] as number);
  add(v, 2, 1);
  rotate(v, 1, 17);
  xor(v, 1, v[4] as number, v[5] as number);
  swap(v, 2);
}

function add(v: Uint32Array, to: number, from: number): void {
  const low = (v[2 * to + 1] as number) + (v[2 * from + 1] as number);
  v[2 * to] = (v[2 * to] as number) + (v[2 * from] as number) + (low > 0xffff_ffff ? 1 : 0);
  v[2 * to + 1] = low;
}

function xor(v: Uint32Array, at: number, high: number, low: number): void {
  v[2 * at] = (v[2 * at] as number) ^ high;
  v[2 * at + 1] = (v[2 * at + 1] as number) ^ low;
}

/** To the left, by fewer than 32 bits. */
function rotate(v: Uint32Array, at: number, bits: number): void {
  const high = v[2 * at] as number;
  const low = v[2 * at + 1] as number;
  v[2 * at] = (high << bits) | (low >>> (32 - bits));
  v[2 * at + 1] = (low << bits) | (high >>> (32 - bits));
}

/** To the left, by 32 bits. */
function swap(v: Uint32Array, at: number): void {
  const high = v[2 * at] as number;
  v[2 * at] = v[2 * at + 1] as number;
  v[2 * at + 1] = high;
}
