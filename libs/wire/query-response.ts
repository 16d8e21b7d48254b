import { type Hit, type IdKey, idFromKey, idInPartition, idKind, type SparseVector } from "../model/index.js";
import { BackwardWriter, Encoded, wireType } from "./encoded.js";
import { floatsToBytes } from "./floats.js";
import * as pb from "./gen/pb.js";
import { joinInTurns, type Pause, turnBytes } from "./in-turns.js";
import { sparseVectorTo } from "./sparse.js";

/** How far a shard, by its id, was read: a sequence of its log; 0 where it did not answer. */
export interface ShardSequence {
  shard: number;
  sequence: number;
}

/** What a query found; `encodeQueryResponse` makes it a QueryResponse. */
export interface QueryAnswer {
  hits: readonly Hit[];
  /** Their payloads are bytes of google.protobuf.Struct instead of JSON. */
  payloadAsStruct?: boolean | undefined;
  /** Of fields whose vectors are matrices: the dimension of a row, by name; see matrixDimensions. */
  matrices?: ReadonlyMap<string, number> | undefined;
  missing: readonly pb.SlotRange[];
  trace: readonly pb.TraceSpan[];
  tookUs: number;
  /** What was read of each shard. */
  sequences: readonly ShardSequence[];
  collectionId: string;
  /** How the answer came about, where that was asked for. */
  explain?: pb.Explain | undefined;
}

const writer = new BackwardWriter();
const utf8 = new TextEncoder();

/** Whether an answer is so large that it is to be written in turns. */
export function isLargeAnswer(answer: QueryAnswer): boolean {
  return bytesOf(answer) > turnBytes;
}

/** As `encodeQueryResponse`, and others have the event loop after each `turnBytes`. */
export async function encodeQueryInTurns(answer: QueryAnswer, pause: Pause): Promise<Encoded<pb.QueryResponse>> {
  return new Encoded(await joinInTurns(bytesOf(answer), piecesOf(answer), pause));
}

/** As `encodeStreamedResponse`, in turns too. */
export async function encodeStreamedInTurns(
  requestId: number | bigint,
  answer: QueryAnswer,
  pause: Pause,
): Promise<Encoded<pb.QueryStreamResponse>> {
  const head = (sizeBytes: number): Buffer =>
    written<never>(() => {
      writer.varint(sizeBytes);
      writer.tag(2, wireType.bytes);
      writeRequestId(requestId);
    }).bytes;
  return new Encoded(await joinInTurns(bytesOf(answer), piecesOf(answer), pause, head));
}

/** What makes the message when put together: hits, a turn's worth at a time, and what comes after them. */
function* piecesOf(answer: QueryAnswer): Generator<Uint8Array, void, undefined> {
  const { hits } = answer;
  for (let from = 0; from < hits.length; ) {
    const begin = from;
    let sizeBytes = 0;
    while (from < hits.length && (from === begin || sizeBytes < turnBytes))
      sizeBytes += bytesOfHit(hits[from++] as Hit);
    yield written<never>(() => writeHits(answer, begin, from)).bytes;
  }
  yield written<never>(() => writeRest(answer)).bytes;
}

export function encodeQueryResponse(answer: QueryAnswer): Encoded<pb.QueryResponse> {
  writer.expect(bytesOf(answer));
  return written(() => writeResponse(answer));
}

/** The answer to one request of a QueryStream. */
export function encodeStreamedResponse(
  requestId: number | bigint,
  answer: QueryAnswer,
): Encoded<pb.QueryStreamResponse> {
  writer.expect(bytesOf(answer));
  return written(() => {
    writeResponse(answer);
    writer.nested(2, 0);
    writeRequestId(requestId);
  });
}

function writeRequestId(requestId: number | bigint): void {
  if (typeof requestId === "number") writeNumber(1, requestId);
  else {
    writer.varint64(Number(requestId >> 32n), Number(requestId & 0xffff_ffffn));
    writer.tag(1, wireType.varint);
  }
}

/** The outcomes of a QueryBatch, in order. */
export function encodeBatchResponse(outcomes: readonly (QueryAnswer | pb.Failure)[]): Encoded<pb.QueryBatchResponse> {
  writer.expect(outcomes.reduce((sum, outcome) => sum + ("hits" in outcome ? bytesOf(outcome) : 0), 0));
  return written(() => {
    for (let i = outcomes.length - 1; i >= 0; i--) {
      const outcome = outcomes[i] as QueryAnswer | pb.Failure;
      const end = writer.length;
      if ("hits" in outcome) {
        writeResponse(outcome);
        writer.nested(1, end);
      } else {
        writer.bytes(pb.Failure.encode(outcome).finish());
        writer.nested(2, end);
      }
      writer.nested(1, end);
    }
  });
}

/** What a hit has at most beside payload, vectors and id: version, score, order, and tags and lengths of all. */
const hitBytes = 64;

/** About as many bytes as the answer has; rather more. */
function bytesOf({ hits }: QueryAnswer): number {
  let bytes = 0;
  for (let i = 0; i < hits.length; i++) bytes += bytesOfHit(hits[i] as Hit);
  return bytes;
}

function bytesOfHit({ id, payload, vectors, sparse }: Hit): number {
  let bytes = hitBytes + id.length + payload.length;
  if (vectors !== undefined) for (const [name, values] of vectors) bytes += hitBytes + name.length + values.byteLength;
  // Indices have five bytes at most, values four.
  if (sparse !== undefined)
    for (const [name, { indices }] of sparse) bytes += hitBytes + name.length + 9 * indices.length;
  return bytes;
}

function written<T>(write: () => void): Encoded<T> {
  try {
    write();
    return new Encoded<T>(writer.finish());
  } catch (error) {
    writer.clear();
    throw error;
  }
}

function writeResponse(answer: QueryAnswer): void {
  writeRest(answer);
  writeHits(answer, 0, answer.hits.length);
}

/** All but the hits. */
function writeRest({ missing, trace, tookUs, sequences, collectionId, explain }: QueryAnswer): void {
  if (explain !== undefined) {
    const end = writer.length;
    writer.bytes(pb.Explain.encode(explain).finish());
    writer.nested(6, end);
  }
  const token = writer.length;
  // Letters and digits.
  writer.ascii(collectionId);
  writer.nested(2, token);
  for (let i = sequences.length - 1; i >= 0; i--) {
    const { shard, sequence } = sequences[i] as ShardSequence;
    if (sequence === 0) continue;
    const end = writer.length;
    writeNumber(2, sequence);
    writeNumber(1, shard);
    writer.nested(1, end);
  }
  writer.nested(5, token);
  writeNumber(4, tookUs);
  for (let i = trace.length - 1; i >= 0; i--) {
    const end = writer.length;
    writer.bytes(pb.TraceSpan.encode(trace[i] as pb.TraceSpan).finish());
    writer.nested(3, end);
  }
  for (let i = missing.length - 1; i >= 0; i--) {
    const { first, last } = missing[i] as pb.SlotRange;
    const end = writer.length;
    writeNumber(2, last);
    writeNumber(1, first);
    writer.nested(2, end);
  }
}

function writeHits({ hits, payloadAsStruct, matrices }: QueryAnswer, from: number, to: number): void {
  for (let i = to - 1; i >= from; i--) {
    const hit = hits[i] as Hit;
    const end = writer.length;
    if (payloadAsStruct === true) writeBytes(7, hit.payload);
    if (hit.order !== undefined) {
      writer.double(hit.order);
      writer.tag(6, wireType.fixed64);
    }
    if (hit.sparse !== undefined) writeSparse(hit.sparse);
    if (hit.vectors !== undefined) writeVectors(hit.vectors, matrices);
    if (payloadAsStruct !== true) writeBytes(4, hit.payload);
    writeNumber(3, hit.version);
    // Also a score of 0, without a sign: it has presence.
    writer.float(hit.score + 0);
    writer.tag(2, wireType.fixed32);
    const idEnd = writer.length;
    writeId(hit.id);
    writer.nested(1, idEnd);
    writer.nested(1, end);
  }
}

/** The fields of a PointId. */
function writeId(whole: IdKey): void {
  const key = idInPartition(whole);
  const end = writer.length;
  if (key[0] === idKind.num && key.length === 9) {
    writer.varint64(word(key, 1), word(key, 5));
    writer.tag(1, wireType.varint);
  } else if (key[0] === idKind.name && key.length > 1) {
    // UTF-8 in the key as on the wire.
    writer.bytes(key.subarray(1));
    writer.nested(3, end);
  } else {
    // A UUID; CORRUPT_DATA for anything else.
    writer.ascii(String(idFromKey(key).value));
    writer.nested(2, end);
  }
}

function word(key: IdKey, at: number): number {
  return (
    (((key[at] as number) << 24) |
      ((key[at + 1] as number) << 16) |
      ((key[at + 2] as number) << 8) |
      (key[at + 3] as number)) >>>
    0
  );
}

function writeVectors(
  vectors: ReadonlyMap<string, Float32Array>,
  matrices: ReadonlyMap<string, number> | undefined,
): void {
  for (const [name, values] of vectors) {
    const end = writer.length;
    const dimension = matrices?.get(name);
    if (dimension !== undefined) writeNumber(2, values.length / dimension);
    writeBytes(1, floatsToBytes(values));
    writer.nested(2, end);
    writeBytes(1, utf8.encode(name));
    writer.nested(5, end);
  }
}

function writeSparse(vectors: ReadonlyMap<string, SparseVector>): void {
  for (const [name, vector] of vectors) {
    const end = writer.length;
    writeBytes(2, pb.Vector.encode(sparseVectorTo(vector)).finish());
    writeBytes(1, utf8.encode(name));
    writer.nested(5, end);
  }
}

/** A number that is left out where it is 0, as proto3 does. */
function writeNumber(field: number, value: number): void {
  if (value === 0) return;
  writer.varint(value);
  writer.tag(field, wireType.varint);
}

function writeBytes(field: number, value: Uint8Array): void {
  if (value.length === 0) return;
  const end = writer.length;
  writer.bytes(value);
  writer.nested(field, end);
}
