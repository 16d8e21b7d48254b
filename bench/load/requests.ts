import { pb } from "../../libs/wire/index.js";
import type { Matrix } from "../lib/data.js";
import { rowOf } from "../lib/data.js";

export interface QueryShape {
  collection: string;
  ef: number;
  limit: number;
  withPayload: boolean;
}

export function queryRequest(shape: QueryShape, vector: Float32Array, exact = false): pb.QueryRequest {
  return pb.QueryRequest.fromPartial({
    collection: shape.collection,
    vector,
    limit: shape.limit,
    ef: shape.ef,
    exact,
    select: { payload: shape.withPayload },
  });
}

/** The encoded QueryRequest of every query. They are encoded once: the client shares the machine with the server. */
export function encodeRequests(shape: QueryShape, queries: Matrix): Buffer[] {
  return Array.from({ length: queries.rowCount }, (_, row) => {
    const request = queryRequest(shape, Float32Array.from(rowOf(queries, row)));
    return Buffer.from(pb.QueryRequest.encode(request).finish());
  });
}

/** A gRPC frame: no compression, the length, the message. */
export function grpcFrame(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(frameHeaderBytes + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, frameHeaderBytes);
  return frame;
}

export const frameHeaderBytes = 5;

/** Where the request id lies in a QueryStreamRequest made here: after the tag, always four bytes. */
const requestIdAt = 1;
const requestIdBytes = 4;
/** 28 bits in four bytes of varint. */
export const requestIdMax = 2 ** 28 - 1;

/**
 * The encoded QueryStreamRequest around an encoded QueryRequest. The id's varint is padded to four bytes, which readers must
 * accept, so that another id can be patched in place.
 */
export function encodeStreamRequest(query: Uint8Array): Buffer {
  const head = Buffer.alloc(requestIdAt + requestIdBytes + 6);
  head[0] = 0x08;
  let at = requestIdAt + requestIdBytes;
  head[at++] = 0x12;
  let length = query.length;
  for (; length >= 0x80; length >>>= 7) head[at++] = (length & 0x7f) | 0x80;
  head[at++] = length;
  const message = Buffer.concat([head.subarray(0, at), query]);
  patchRequestId(message, 0, 1);
  return message;
}

export function patchRequestId(bytes: Uint8Array, messageAt: number, id: number): void {
  const at = messageAt + requestIdAt;
  bytes[at] = (id & 0x7f) | 0x80;
  bytes[at + 1] = ((id >>> 7) & 0x7f) | 0x80;
  bytes[at + 2] = ((id >>> 14) & 0x7f) | 0x80;
  bytes[at + 3] = (id >>> 21) & 0x7f;
}

/** The id and the outcome of an encoded QueryStreamResponse, without decoding the points. */
export interface StreamAnswer {
  requestId: number;
  failed: boolean;
}

/** Reads only the outer fields: 1 is the id, 2 a response, 3 a failure. The result object is reused by the next call. */
export function readStreamAnswer(bytes: Uint8Array, start: number, end: number, into: StreamAnswer): void {
  into.requestId = 0;
  into.failed = false;
  let at = start;
  while (at < end) {
    const tag = bytes[at++] as number;
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = bytes[at++];
      if (byte === undefined || at > end) throw new RangeError("an answer of the stream is cut off");
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 128;
    }
    if (tag === 0x08) into.requestId = value;
    else if (tag === 0x12) at += value;
    else if (tag === 0x1a) {
      into.failed = true;
      at += value;
    } else throw new RangeError(`an answer of the stream has the unknown tag ${tag}`);
  }
}

/** The code inside an encoded QueryStreamResponse that failed. */
export function failureCode(bytes: Uint8Array): string {
  const { outcome } = pb.QueryStreamResponse.decode(bytes);
  return outcome?.$case === "failure" ? outcome.value.code : "UNKNOWN";
}
