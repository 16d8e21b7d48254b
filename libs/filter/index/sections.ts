import { crc32c, KithError } from "../../base/index.js";
import type { Steps } from "./sorted-entries.js";

/** "KPI1": a payload index, first format. */
const magic = 0x3149_504b;
const headerBytes = 16;
/** Bytes whose checksum is taken in one step. */
const bytesPerStep = 1024 * 1024;

/**
 * Sections of bytes in one array: "KPI1", their number, the CRC-32C of what follows the header, 4 unused bytes; then for each
 * its length (u64) and its bytes, up to a multiple of 8. Little-endian.
 */
export function* packSections(sections: readonly Uint8Array[]): Steps<Uint8Array> {
  const sizes = sections.map((section) => 8 + paddedLength(section.length));
  const packed = Buffer.alloc(headerBytes + sizes.reduce((sum, size) => sum + size, 0));
  let at = headerBytes;
  for (const [i, section] of sections.entries()) {
    packed.writeBigUInt64LE(BigInt(section.length), at);
    packed.set(section, at + 8);
    at += sizes[i] as number;
    yield;
  }
  packed.writeUInt32LE(magic, 0);
  packed.writeUInt32LE(sections.length, 4);
  packed.writeUInt32LE(yield* checksum(packed), 8);
  return packed;
}

/** The sections in an array, each as a copy that is aligned for every number; CORRUPT_DATA where it is damaged. */
export function* unpackSections(packed: Uint8Array, count: number): Steps<Uint8Array[]> {
  const buffer = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  if (buffer.length < headerBytes || buffer.readUInt32LE(0) !== magic) throw damaged("does not begin with KPI1");
  if (buffer.readUInt32LE(8) !== (yield* checksum(buffer))) throw damaged("has a wrong checksum");
  if (buffer.readUInt32LE(4) !== count) throw damaged(`has ${buffer.readUInt32LE(4)} sections instead of ${count}`);
  const sections: Uint8Array[] = [];
  let at = headerBytes;
  for (let i = 0; i < count; i++) {
    const length = at + 8 <= buffer.length ? Number(buffer.readBigUInt64LE(at)) : Infinity;
    if (at + 8 + length > buffer.length) throw damaged(`ends within section ${i}`);
    sections.push(new Uint8Array(buffer.subarray(at + 8, at + 8 + length)));
    at += 8 + paddedLength(length);
    yield;
  }
  return sections;
}

function* checksum(packed: Uint8Array): Steps<number> {
  let sum = 0;
  for (let at = headerBytes; at < packed.length; at += bytesPerStep) {
    sum = crc32c(packed.subarray(at, at + bytesPerStep), sum);
    yield;
  }
  return sum;
}

function paddedLength(length: number): number {
  return Math.ceil(length / 8) * 8;
}

export function damaged(what: string): KithError {
  return new KithError("CORRUPT_DATA", `a stored payload index ${what}`);
}

export function bytesOf(array: Uint32Array | Float64Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

export function u32Of(section: Uint8Array): Uint32Array {
  if (section.length % 4 !== 0) throw damaged(`has ${section.length} bytes of 32-bit numbers`);
  return new Uint32Array(section.buffer, section.byteOffset, section.length / 4);
}

export function f64Of(section: Uint8Array): Float64Array {
  if (section.length % 8 !== 0) throw damaged(`has ${section.length} bytes of doubles`);
  return new Float64Array(section.buffer, section.byteOffset, section.length / 8);
}

/** Strings as their lengths in code units and all code units, two bytes each: also those that are no valid Unicode. */
export function packStrings(strings: readonly string[]): [lengths: Uint8Array, units: Uint8Array] {
  const lengths = Uint32Array.from(strings, (text) => text.length);
  return [bytesOf(lengths), Buffer.from(strings.join(""), "utf16le")];
}

export function* unpackStrings(lengths: Uint8Array, units: Uint8Array, visit: (text: string) => void): Steps<void> {
  const buffer = Buffer.from(units.buffer, units.byteOffset, units.byteLength);
  let at = 0;
  for (const [i, length] of u32Of(lengths).entries()) {
    if (at + 2 * length > buffer.length) throw damaged("has strings beyond their end");
    visit(buffer.toString("utf16le", at, at + 2 * length));
    at += 2 * length;
    if (i % 1000 === 999) yield;
  }
}
