import { Transform, type TransformCallback } from "node:stream";

const frameMagic = 0xfd2fb528;
/** The lowest four bits of its magic number are free. */
const skippableMagic = 0x184d2a50;
/** What a receiver of this content encoding must have, and no sender may go beyond (RFC 9659). */
const windowBytesMax = 8 * 1024 * 1024;
const blockBytesMax = 128 * 1024;
const blockHeaderBytes = 3;
const checksumBytes = 4;
/** Blocks that are unpacked in one turn: 512 KiB, less than a millisecond. */
const piecesOfTurn = 4;

/**
 * Reads the headers of zstd's frames and blocks (RFC 8878) as they pass, and cuts behind each block: what one piece unpacks to is 128 KiB at most, whoever
 * made it. Refuses windows above 8 MiB, dictionaries, and a body that ends within a frame, which the decoder behind it does not.
 */
export class ZstdFrames extends Transform {
  /** Of a header that came in parts. */
  #head: Buffer = Buffer.alloc(0);
  /** How many bytes the next header has, as far as is known. */
  #headBytes = 4;
  /** What follows is passed on, unread. */
  #passing = 0;
  #next: "frame" | "block" = "frame";
  #hasChecksum = false;
  /** Of the chunk that came, not passed on yet. */
  #pieces: Buffer[] = [];

  constructor() {
    // Pieces are not put together again by who reads them.
    super({ readableObjectMode: true });
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      this.#take(chunk);
      this.#passOn(done);
    } catch (error) {
      done(error as Error);
    }
  }

  /** A few blocks in one turn of the event loop: one chunk may hold thousands, of four bytes each, that unpack to gigabytes. */
  #passOn(done: TransformCallback): void {
    for (const piece of this.#pieces.splice(0, piecesOfTurn)) this.push(piece);
    if (this.#pieces.length === 0) done();
    else setImmediate(() => this.destroyed || this.#passOn(done));
  }

  override _flush(done: TransformCallback): void {
    const isWhole = this.#next === "frame" && this.#passing === 0 && this.#head.length === 0;
    done(isWhole ? null : new Error("it ends within a frame"));
  }

  #take(chunk: Buffer): void {
    let from = 0;
    for (let at = 0; at < chunk.length; ) {
      if (this.#passing > 0) {
        const length = Math.min(this.#passing, chunk.length - at);
        this.#passing -= length;
        at += length;
        if (this.#passing > 0) continue;
        this.#pieces.push(chunk.subarray(from, at));
        from = at;
        continue;
      }
      const length = Math.min(this.#headBytes - this.#head.length, chunk.length - at);
      this.#head = Buffer.concat([this.#head, chunk.subarray(at, at + length)]);
      at += length;
      if (this.#head.length === this.#headBytes) this.#readHead(this.#head);
    }
    if (from < chunk.length) this.#pieces.push(chunk.subarray(from));
  }

  #readHead(head: Buffer): void {
    if (this.#next === "block") this.#readBlock(head.readUIntLE(0, blockHeaderBytes));
    else this.#readFrame(head);
  }

  #readFrame(head: Buffer): void {
    const magic = head.readUInt32LE(0);
    if ((magic & 0xffff_fff0) >>> 0 === skippableMagic) {
      this.#headBytes = 8;
      if (head.length === 8) this.#expect("frame", 4, head.readUInt32LE(4));
      return;
    }
    if (magic !== frameMagic) throw new Error("it does not begin as a frame of zstd does");
    this.#headBytes = Math.max(5, this.#headBytes);
    if (head.length < 5) return;
    const descriptor = head[4] as number;
    if ((descriptor & 0x08) !== 0) throw new Error("a reserved bit is set");
    if ((descriptor & 0x03) !== 0) throw new Error("it needs a dictionary");
    const isSingle = (descriptor & 0x20) !== 0;
    const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] as number;
    this.#headBytes = 5 + (isSingle ? 0 : 1) + sizeBytes;
    if (head.length < this.#headBytes) return;
    const window = isSingle ? contentBytes(head, sizeBytes) : windowBytes(head[5] as number);
    if (window > windowBytesMax) {
      throw new Error(`its window has ${window} bytes, and ${windowBytesMax} is the most; compress at a lower level`);
    }
    this.#hasChecksum = (descriptor & 0x04) !== 0;
    this.#expect("block", blockHeaderBytes, 0);
  }

  #readBlock(header: number): void {
    const size = header >> 3;
    const type = (header >> 1) & 3;
    if (type === 3 || size > blockBytesMax) throw new Error("a block has no valid header");
    const isRepeated = type === 1;
    const isLast = (header & 1) === 1;
    const content = isRepeated ? 1 : size;
    if (isLast) this.#expect("frame", 4, content + (this.#hasChecksum ? checksumBytes : 0));
    else this.#expect("block", blockHeaderBytes, content);
  }

  #expect(next: "frame" | "block", headBytes: number, passing: number): void {
    this.#head = Buffer.alloc(0);
    this.#next = next;
    this.#headBytes = headBytes;
    this.#passing = passing;
  }
}

function windowBytes(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function contentBytes(head: Buffer, sizeBytes: number): number {
  if (sizeBytes === 8) return Number(head.readBigUInt64LE(5));
  return head.readUIntLE(5, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
}
