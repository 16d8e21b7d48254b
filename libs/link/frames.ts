import { KithError, limits } from "../base/index.js";
import { ByteReader, type ByteWriter, malformed } from "./bytes.js";

/*
 * What crosses a connection of the link, in both directions, after the greetings: frames. docs/link.md has the whole format.
 *
 *   u32 bytes behind this header | u8 type | u8 flags | u16 0 | u32 slot | u32 serial | body
 *
 * Slot and serial are the router's names for a request; whatever concerns the request carries them back. All numbers are
 * little-endian. Every frame is a multiple of four bytes long, so that vectors are read where they lie.
 */

export const frameHeaderBytes = 16;
/** A body holds one message and little beside it. */
const bodyBytesMax = limits.messageBytes + 64 * 1024;

/** Types of frames. Those below `answer` ask for something: see the codec. */
export const frameType = { cancel: 0xf0, answer: 0xf1, failure: 0xf2, ping: 0xf3, pong: 0xf4 } as const;
/** A request: trace fields lead the body. An answer or a failure: spans do. */
export const tracedFlag = 1;

/** The header of the frame that is being read. */
export interface FrameHeader {
  type: number;
  flags: number;
  slot: number;
  serial: number;
}

/** Begins a frame; finishFrame() must follow, or rollback(). */
export function beginFrame(to: ByteWriter, type: number, flags: number, slot: number, serial: number): void {
  to.mark();
  to.u32(0);
  to.u8(type);
  to.u8(flags);
  to.u16(0);
  to.u32(slot);
  to.u32(serial);
}

/** Ends the frame. BATCH_TOO_LARGE, with the frame dropped, where it is larger than messages may be: `what` names it. */
export function finishFrame(to: ByteWriter, what: "request" | "answer"): void {
  to.align();
  const sizeBytes = to.frameBytes - frameHeaderBytes;
  if (sizeBytes <= limits.messageBytes) {
    to.patchU32(0, sizeBytes);
    return;
  }
  to.rollback();
  const advice = what === "request" ? "send less at once" : "ask for fewer points, or without vectors or payloads";
  throw new KithError(
    "BATCH_TOO_LARGE",
    `the ${what} has ${sizeBytes} bytes; at most ${limits.messageBytes} fit into one message: ${advice}`,
    { details: { sizeBytes, limitBytes: limits.messageBytes } },
  );
}

/** A frame without a body. */
export function writeSignal(to: ByteWriter, type: number, slot = 0, serial = 0): void {
  beginFrame(to, type, 0, slot, serial);
}

/** Cuts what a socket reads into frames. */
export class FrameReader {
  readonly #onFrame: (header: FrameHeader, body: ByteReader) => void;
  readonly #header: FrameHeader = { type: 0, flags: 0, slot: 0, serial: 0 };
  readonly #body = new ByteReader();
  /** A frame of which only the beginning has come. */
  #partial: Buffer = Buffer.alloc(0);
  #partialBytes = 0;

  constructor(onFrame: (header: FrameHeader, body: ByteReader) => void) {
    this.#onFrame = onFrame;
  }

  /** INVALID_ARGUMENT where what comes cannot be a frame: the connection is of no more use. */
  push(chunk: Buffer): void {
    let at = 0;
    if (this.#partialBytes > 0) {
      at = this.#fill(chunk);
      if (at < 0) return;
    }
    while (chunk.length - at >= frameHeaderBytes) {
      const end = at + frameSize(chunk, at);
      if (end > chunk.length) break;
      this.#frame(chunk, at, end);
      at = end;
    }
    if (at < chunk.length) this.#keep(chunk, at);
  }

  #frame(bytes: Buffer, at: number, end: number): void {
    const header = this.#header;
    header.type = bytes[at + 4] as number;
    header.flags = bytes[at + 5] as number;
    header.slot = bytes.readUInt32LE(at + 8);
    header.serial = bytes.readUInt32LE(at + 12);
    this.#body.reset(bytes, at + frameHeaderBytes, end);
    this.#onFrame(header, this.#body);
  }

  #keep(chunk: Buffer, at: number): void {
    const rest = chunk.length - at;
    const size = rest < frameHeaderBytes ? frameHeaderBytes : frameSize(chunk, at);
    this.#partial = Buffer.allocUnsafeSlow(size);
    chunk.copy(this.#partial, 0, at);
    this.#partialBytes = rest;
  }

  /** Completes the partial frame; where the chunk goes on behind it, -1 where it is still not whole. */
  #fill(chunk: Buffer): number {
    let at = 0;
    for (;;) {
      const missing = this.#partial.length - this.#partialBytes;
      const copied = Math.min(missing, chunk.length - at);
      chunk.copy(this.#partial, this.#partialBytes, at, at + copied);
      this.#partialBytes += copied;
      at += copied;
      if (copied < missing) return -1;
      const size = frameSize(this.#partial, 0);
      if (size === this.#partial.length) break;
      // Only the header was known to be missing before.
      const whole = Buffer.allocUnsafeSlow(size);
      this.#partial.copy(whole);
      this.#partial = whole;
    }
    const whole = this.#partial;
    this.#partialBytes = 0;
    this.#partial = emptyBytes;
    this.#frame(whole, 0, whole.length);
    return at;
  }
}

const emptyBytes = Buffer.alloc(0);

/** Bytes of the frame that begins at `at`, its header included. */
function frameSize(bytes: Buffer, at: number): number {
  const bodyBytes = bytes.readUInt32LE(at);
  if (bodyBytes > bodyBytesMax) throw malformed(`a frame of ${bodyBytes} bytes`);
  return frameHeaderBytes + bodyBytes;
}
