import { type Hit, type IdKey, idFromKey, idInPartition, idKind, type SparseVector } from "../model/index.js";
import { BackwardWriter, Encoded, wireType } from "./encoded.js";
import { floatsToBytes } from "./floats.js";
import * as pb from "./gen/pb.js";
import { type Pause, turnBytes, writeInTurns } from "./in-turns.js";
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

type Highlights = NonNullable<Hit["highlights"]>;

const writer = new BackwardWriter();
const utf8 = new TextEncoder();

/** Whether an answer is so large that it is to be written in turns. */
export function isLargeAnswer(answer: QueryAnswer): boolean {
  return bytesOf(answer) > turnBytes;
}

/** As `isLargeAnswer`, of the outcomes of a QueryBatch. */
export function isLargeBatch(outcomes: readonly (QueryAnswer | pb.Failure)[]): boolean {
  return bytesOfBatch(outcomes) > turnBytes;
}

/** As `encodeQueryResponse`, and others have the event loop after each `turnBytes`. */
export function encodeQueryInTurns(answer: QueryAnswer, pause: Pause): Promise<Encoded<pb.QueryResponse>> {
  return writeInTurns(bytesOf(answer), pause, (to) => responseSteps(to, answer));
}

/** As `encodeStreamedResponse`, in turns too. */
export function encodeStreamedInTurns(
  requestId: number | bigint,
  answer: QueryAnswer,
  pause: Pause,
): Promise<Encoded<pb.QueryStreamResponse>> {
  return writeInTurns(bytesOf(answer), pause, function* (to) {
    yield* responseSteps(to, answer);
    to.nested(2, 0);
    writeRequestId(to, requestId);
  });
}

/** As `encodeBatchResponse`, in turns too. */
export function encodeBatchInTurns(
  outcomes: readonly (QueryAnswer | pb.Failure)[],
  pause: Pause,
): Promise<Encoded<pb.QueryBatchResponse>> {
  return writeInTurns(bytesOfBatch(outcomes), pause, function* (to) {
    let turnEnd = to.length + turnBytes;
    for (let i = outcomes.length - 1; i >= 0; i--) {
      const outcome = outcomes[i] as QueryAnswer | pb.Failure;
      const end = to.length;
      if ("hits" in outcome && isLargeAnswer(outcome)) yield* responseSteps(to, outcome);
      else writeOutcome(to, outcome);
      nestOutcome(to, outcome, end);
      if (to.length < turnEnd) continue;
      yield;
      turnEnd = to.length + turnBytes;
    }
  });
}

/** Writes a QueryResponse, a turn's worth of hits at a time. */
function* responseSteps(to: BackwardWriter, answer: QueryAnswer): Generator<void, void, undefined> {
  const { hits } = answer;
  writeRest(to, answer);
  for (let before = hits.length; before > 0; ) {
    const end = before;
    let sizeBytes = 0;
    while (before > 0 && (before === end || sizeBytes < turnBytes)) sizeBytes += bytesOfHit(hits[--before] as Hit);
    writeHits(to, answer, before, end);
    yield;
  }
}

export function encodeQueryResponse(answer: QueryAnswer): Encoded<pb.QueryResponse> {
  writer.expect(bytesOf(answer));
  return written(() => writeResponse(writer, answer));
}

/** The answer to one request of a QueryStream. */
export function encodeStreamedResponse(
  requestId: number | bigint,
  answer: QueryAnswer,
): Encoded<pb.QueryStreamResponse> {
  writer.expect(bytesOf(answer));
  return written(() => {
    writeResponse(writer, answer);
    writer.nested(2, 0);
    writeRequestId(writer, requestId);
  });
}

/** The id of a request of a QueryStream, before its outcome. */
export function writeRequestId(to: BackwardWriter, requestId: number | bigint): void {
  if (typeof requestId === "number") writeNumber(to, 1, requestId);
  else {
    to.varint64(Number(requestId >> 32n), Number(requestId & 0xffff_ffffn));
    to.tag(1, wireType.varint);
  }
}

/** The outcomes of a QueryBatch, in order. */
export function encodeBatchResponse(outcomes: readonly (QueryAnswer | pb.Failure)[]): Encoded<pb.QueryBatchResponse> {
  writer.expect(bytesOfBatch(outcomes));
  return written(() => {
    for (let i = outcomes.length - 1; i >= 0; i--) {
      const outcome = outcomes[i] as QueryAnswer | pb.Failure;
      const end = writer.length;
      writeOutcome(writer, outcome);
      nestOutcome(writer, outcome, end);
    }
  });
}

function writeOutcome(to: BackwardWriter, outcome: QueryAnswer | pb.Failure): void {
  if ("hits" in outcome) writeResponse(to, outcome);
  else to.bytes(pb.Failure.encode(outcome).finish());
}

/** What encloses an outcome of a QueryBatch. */
function nestOutcome(to: BackwardWriter, outcome: QueryAnswer | pb.Failure, end: number): void {
  to.nested("hits" in outcome ? 1 : 2, end);
  to.nested(1, end);
}

/** What a hit has at most beside payload, vectors and id: version, score, order, and tags and lengths of all. */
const hitBytes = 64;

/** About as many bytes as the answer has; rather more. */
function bytesOf({ hits }: QueryAnswer): number {
  let bytes = 0;
  for (let i = 0; i < hits.length; i++) bytes += bytesOfHit(hits[i] as Hit);
  return bytes;
}

function bytesOfBatch(outcomes: readonly (QueryAnswer | pb.Failure)[]): number {
  return outcomes.reduce((sum, outcome) => sum + ("hits" in outcome ? bytesOf(outcome) : 0), 0);
}

function bytesOfHit({ id, payload, vectors, sparse, highlights }: Hit): number {
  let bytes = hitBytes + id.length + payload.length;
  if (vectors !== undefined) for (const [name, values] of vectors) bytes += hitBytes + name.length + values.byteLength;
  // Indices have five bytes at most, values four.
  if (sparse !== undefined)
    for (const [name, { indices }] of sparse) bytes += hitBytes + name.length + 9 * indices.length;
  if (highlights !== undefined) bytes += bytesOfHighlights(highlights);
  return bytes;
}

function bytesOfHighlights(highlights: Highlights): number {
  let bytes = 0;
  for (const path in highlights) {
    bytes += hitBytes + 3 * path.length;
    // A UTF-16 unit has three bytes at most.
    for (const fragment of highlights[path] ?? []) bytes += hitBytes + 3 * fragment.length;
  }
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

function writeResponse(to: BackwardWriter, answer: QueryAnswer): void {
  writeRest(to, answer);
  writeHits(to, answer, 0, answer.hits.length);
}

/** All but the hits. */
function writeRest(
  to: BackwardWriter,
  { missing, trace, tookUs, sequences, collectionId, explain }: QueryAnswer,
): void {
  if (explain !== undefined) {
    const end = to.length;
    to.bytes(pb.Explain.encode(explain).finish());
    to.nested(6, end);
  }
  const token = to.length;
  // Letters and digits.
  to.ascii(collectionId);
  to.nested(2, token);
  for (let i = sequences.length - 1; i >= 0; i--) {
    const { shard, sequence } = sequences[i] as ShardSequence;
    if (sequence === 0) continue;
    const end = to.length;
    writeNumber(to, 2, sequence);
    writeNumber(to, 1, shard);
    to.nested(1, end);
  }
  to.nested(5, token);
  writeNumber(to, 4, tookUs);
  for (let i = trace.length - 1; i >= 0; i--) {
    const end = to.length;
    to.bytes(pb.TraceSpan.encode(trace[i] as pb.TraceSpan).finish());
    to.nested(3, end);
  }
  for (let i = missing.length - 1; i >= 0; i--) {
    const { first, last } = missing[i] as pb.SlotRange;
    const end = to.length;
    writeNumber(to, 2, last);
    writeNumber(to, 1, first);
    to.nested(2, end);
  }
}

function writeHits(
  to: BackwardWriter,
  { hits, payloadAsStruct, matrices }: QueryAnswer,
  first: number,
  end: number,
): void {
  for (let i = end - 1; i >= first; i--) {
    const hit = hits[i] as Hit;
    const hitEnd = to.length;
    if (hit.highlights !== undefined) writeHighlights(to, hit.highlights);
    if (payloadAsStruct === true) writeBytes(to, 7, hit.payload);
    if (hit.order !== undefined) {
      to.double(hit.order);
      to.tag(6, wireType.fixed64);
    }
    if (hit.sparse !== undefined) writeSparse(to, hit.sparse);
    if (hit.vectors !== undefined) writeVectors(to, hit.vectors, matrices);
    if (payloadAsStruct !== true) writeBytes(to, 4, hit.payload);
    writeNumber(to, 3, hit.version);
    // Also a score of 0, without a sign: it has presence.
    to.float(hit.score + 0);
    to.tag(2, wireType.fixed32);
    const idEnd = to.length;
    writeId(to, hit.id);
    to.nested(1, idEnd);
    to.nested(1, hitEnd);
  }
}

/** The fields of a PointId. */
function writeId(to: BackwardWriter, whole: IdKey): void {
  const key = idInPartition(whole);
  const end = to.length;
  if (key[0] === idKind.num && key.length === 9) {
    to.varint64(word(key, 1), word(key, 5));
    to.tag(1, wireType.varint);
  } else if (key[0] === idKind.name && key.length > 1) {
    // UTF-8 in the key as on the wire.
    to.bytes(key.subarray(1));
    to.nested(3, end);
  } else {
    // A UUID; CORRUPT_DATA for anything else.
    to.ascii(String(idFromKey(key).value));
    to.nested(2, end);
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
  to: BackwardWriter,
  vectors: ReadonlyMap<string, Float32Array>,
  matrices: ReadonlyMap<string, number> | undefined,
): void {
  for (const [name, values] of vectors) {
    const end = to.length;
    const dimension = matrices?.get(name);
    if (dimension !== undefined) writeNumber(to, 2, values.length / dimension);
    writeBytes(to, 1, floatsToBytes(values));
    to.nested(2, end);
    writeBytes(to, 1, utf8.encode(name));
    to.nested(5, end);
  }
}

function writeSparse(to: BackwardWriter, vectors: ReadonlyMap<string, SparseVector>): void {
  for (const [name, vector] of vectors) {
    const end = to.length;
    writeBytes(to, 2, pb.Vector.encode(sparseVectorTo(vector)).finish());
    writeBytes(to, 1, utf8.encode(name));
    to.nested(5, end);
  }
}

function writeHighlights(to: BackwardWriter, highlights: Highlights): void {
  for (const path in highlights) {
    const fragments = highlights[path] ?? [];
    const end = to.length;
    for (let i = fragments.length - 1; i >= 0; i--) writeText(to, 1, fragments[i] as string);
    to.nested(2, end);
    writeText(to, 1, path);
    to.nested(8, end);
  }
}

/** Also an empty one. */
function writeText(to: BackwardWriter, field: number, value: string): void {
  const end = to.length;
  to.bytes(utf8.encode(value));
  to.nested(field, end);
}

/** A number that is left out where it is 0, as proto3 does. */
function writeNumber(to: BackwardWriter, field: number, value: number): void {
  if (value === 0) return;
  to.varint(value);
  to.tag(field, wireType.varint);
}

function writeBytes(to: BackwardWriter, field: number, value: Uint8Array): void {
  if (value.length === 0) return;
  const end = to.length;
  to.bytes(value);
  to.nested(field, end);
}
