import { KithError } from "../base/index.js";

const slabBytes = 64 * 1024;
const utf8 = new TextDecoder();

/**
 * Writes frames one behind the other into slabs that are handed on as they are. Numbers are little-endian. What take()
 * gave away is never written again: it may still wait for its socket.
 */
export class ByteWriter {
  #bytes = Buffer.allocUnsafeSlow(slabBytes);
  #view = viewOf(this.#bytes);
  /** Where that begins which was not taken yet, where the open frame begins, and the end. */
  #from = 0;
  #mark = 0;
  #at = 0;
  /** Full slabs that were not taken yet. */
  readonly #full: Buffer[] = [];

  /** Bytes of the frame since `mark`. */
  get frameBytes(): number {
    return this.#at - this.#mark;
  }

  /** Begins a frame: from here on it can be dropped, and numbers at its beginning can be patched. */
  mark(): void {
    this.#mark = this.#at;
  }

  /** Drops what was written since `mark`. */
  rollback(): void {
    this.#at = this.#mark;
  }

  patchU32(offset: number, value: number): void {
    this.#view.setUint32(this.#mark + offset, value, true);
  }

  /** Bytes that were not taken yet. */
  get waitingBytes(): number {
    let bytes = this.#at - this.#from;
    for (const slab of this.#full) bytes += slab.length;
    return bytes;
  }

  /** Everything that was written since the last take, as few pieces. */
  take(): Buffer[] {
    const pieces = this.#full.splice(0);
    if (this.#at > this.#from) pieces.push(this.#bytes.subarray(this.#from, this.#at));
    this.#from = this.#mark = this.#at;
    return pieces;
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#view.setUint8(this.#at, value);
    this.#at += 1;
  }
  u16(value: number): void {
    if (value !== (value & 0xffff)) throw new RangeError(`${value} is not a whole number of 0..2^16 - 1`);
    this.#reserve(2);
    this.#view.setUint16(this.#at, value, true);
    this.#at += 2;
  }
  u32(value: number): void {
    if (value !== value >>> 0) throw new RangeError(`${value} is not a whole number of 0..2^32 - 1`);
    this.#reserve(4);
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
  }
  /** A whole number of 0..2^53 - 1. */
  u64(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`${value} is not a whole number of 0..2^53 - 1`);
    this.#reserve(8);
    this.#view.setUint32(this.#at, value >>> 0, true);
    this.#view.setUint32(this.#at + 4, Math.floor(value / 2 ** 32), true);
    this.#at += 8;
  }
  f32(value: number): void {
    this.#reserve(4);
    this.#view.setFloat32(this.#at, value, true);
    this.#at += 4;
  }
  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    // Short ones, such as ids, byte by byte: set() costs more than nine bytes do.
    if (value.length <= 16) {
      const { length } = value;
      for (let i = 0; i < length; i++) this.#bytes[this.#at + i] = value[i] as number;
    } else this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }
  /** Two bytes of length, then UTF-8. */
  text(value: string): void {
    const { length } = value;
    this.#reserve(2 + 3 * length);
    const start = this.#at + 2;
    let at = start;
    for (let i = 0; i < length; i++) {
      const code = value.charCodeAt(i);
      if (code > 0x7f) {
        at = start + this.#bytes.write(value, start);
        break;
      }
      this.#bytes[at++] = code;
    }
    if (at - start > 0xffff) throw new RangeError(`a text of ${at - start} bytes does not fit into a message`);
    this.#view.setUint16(this.#at, at - start, true);
    this.#at = at;
  }
  /** Pads the frame to a multiple of four bytes. */
  align(): void {
    while ((this.#at - this.#mark) % 4 !== 0) this.u8(0);
  }

  #reserve(more: number): void {
    if (this.#at + more <= this.#bytes.length) return;
    const open = this.#bytes.subarray(this.#mark, this.#at);
    if (this.#mark > this.#from) this.#full.push(this.#bytes.subarray(this.#from, this.#mark));
    // Doubled for a frame that outgrows its slab, so that it is copied a few times only.
    const bytes = Buffer.allocUnsafeSlow(Math.max(slabBytes, 2 * (open.length + more)));
    bytes.set(open);
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#from = this.#mark = 0;
    this.#at = open.length;
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** INVALID_ARGUMENT: what came over the link is not what its format says. */
export function malformed(what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `a message of the link is malformed: ${what}`);
}

/** Reads numbers, bytes and text from a part of a buffer; INVALID_ARGUMENT where it ends too early. */
export class ByteReader {
  #bytes: Uint8Array = noBytes;
  #view = viewOf(noBytes);
  #start = 0;
  #at = 0;
  #end = 0;

  /** Reads `bytes` from `at` to `end` from now on. */
  reset(bytes: Uint8Array, at: number, end: number): void {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#view = viewOf(bytes);
    }
    this.#start = this.#at = at;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  u64(): number {
    const at = this.#take(8);
    const value = this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
    if (value > Number.MAX_SAFE_INTEGER) throw malformed("a number beyond 2^53");
    return value;
  }
  f32(): number {
    return this.#view.getFloat32(this.#take(4), true);
  }
  /** A view: as long as somebody holds it, the memory of the whole read is held. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    const { buffer, byteOffset } = this.#bytes;
    return new Uint8Array(buffer, byteOffset + at, length);
  }
  text(): string {
    const length = this.u16();
    return length === 0 ? "" : utf8.decode(this.bytes(length));
  }
  /** As `text`, where it often is what it was the last time. */
  textAgain(last: LastText): string {
    const length = this.u16();
    if (length === 0) return "";
    const at = this.#take(length);
    const bytes = this.#bytes;
    const known = last.bytes;
    let same = known.length === length;
    for (let i = 0; same && i < length; i++) same = known[i] === bytes[at + i];
    if (!same) {
      last.bytes = bytes.slice(at, at + length);
      last.text = utf8.decode(last.bytes);
    }
    return last.text;
  }
  /** Skips what ByteWriter.align() padded. */
  align(): void {
    while ((this.#at - this.#start) % 4 !== 0) this.#take(1);
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#end - at) throw malformed("it ends too early");
    this.#at = at + length;
    return at;
  }
}

const noBytes = new Uint8Array(0);

/** The last text that was read in some place. */
export interface LastText {
  bytes: Uint8Array;
  text: string;
}
