import { isErrorCode, KithError } from "../base/index.js";
import {
  type Hit,
  type IdKey,
  isIdKey,
  type ItemFailure,
  itemFailureCodes,
  type OperationOutcome,
  type ReplicaState,
  type ReplicaStatus,
  type Select,
  type ShardQuery,
  type ShardQueryResult,
  sparseFromBytes,
  sparseToBytes,
  type StoredPoint,
} from "../model/index.js";
import type { ChangeKind, ReadAnswer, ReadKind, ReadRequest, ShardChange } from "../shard-api/index.js";
import type { CollectedSpan } from "../telemetry/index.js";
import { bytesToFloats, floatsToBytes, ipb, type pb, unindexedFieldFrom, unindexedFieldTo } from "../wire/index.js";
import { fromFailure, toFailure } from "../rpc/common/index.js";
import { type ByteReader, type ByteWriter, type LastText, malformed } from "./bytes.js";
import type { LinkCodec } from "./link-codec.js";
import { indicesCodec, sparseCodec } from "./sparse-codec.js";
import { termsCodec, textCodec, trialCodec } from "./text-codec.js";
import {
  explainFromText,
  explainToText,
  facetCodec,
  filterFromText,
  filterToText,
  orderCodec,
  readExplain,
  readFilter,
  readSparseVectors,
  sampleCodec,
  searchCodec,
  writeExplain,
  writeFilter,
  writeSparseVectors,
} from "./scoped-codec.js";

/** Generated code for a message of protobuf. */
interface MessageType<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** Kinds that are rare, or whose answers dwarf what protobuf costs: each message behind its length. */
export function protobufCodec<Request, Answer, RequestMessage, AnswerMessage>(
  type: number,
  options: {
    isBulk?: boolean;
    request: MessageType<RequestMessage>;
    answer: MessageType<AnswerMessage>;
    requestToWire(request: Request): RequestMessage;
    requestFromWire(message: RequestMessage): Request;
    answerToWire(answer: Answer): AnswerMessage;
    answerFromWire(message: AnswerMessage): Answer;
  },
): LinkCodec<Request, Answer> {
  return {
    type,
    isBulk: options.isBulk === true,
    writeRequest: (to, request) => writeMessage(to, options.request, options.requestToWire(request)),
    readRequest: (from) => options.requestFromWire(readMessage(from, options.request)),
    writeAnswer: (to, answer) => writeMessage(to, options.answer, options.answerToWire(answer)),
    readAnswer: (from) => options.answerFromWire(readMessage(from, options.answer)),
  };
}

export function writeMessage<T>(to: ByteWriter, type: MessageType<T>, message: T): void {
  const bytes = type.encode(message).finish();
  to.u32(bytes.length);
  to.bytes(bytes);
}

export function readMessage<T>(from: ByteReader, type: MessageType<T>): T {
  return type.decode(from.bytes(from.u32()));
}

const noBytes = new Uint8Array(0);

function idFromWire(bytes: Uint8Array): IdKey {
  if (!isIdKey(bytes)) throw malformed(`${bytes.length} bytes are not the key form of an id`);
  return bytes;
}

function floatsFromWire(bytes: Uint8Array): Float32Array {
  if (bytes.length % 4 !== 0) throw malformed(`${bytes.length} bytes are no vector of f32`);
  return bytesToFloats(bytes);
}

function selectToWire(select: Select): pb.Select {
  return select.vectors === "all"
    ? { payload: select.payload, vectors: [], allVectors: true, include: [], exclude: [] }
    : { payload: select.payload, vectors: [...select.vectors], allVectors: false, include: [], exclude: [] };
}

function selectFromWire(select: pb.Select | undefined): Select {
  if (select === undefined) return { payload: false, vectors: [] };
  return { payload: select.payload, vectors: select.allVectors ? "all" : select.vectors };
}

function vectorsToWire(vectors: Map<string, Float32Array> | undefined): pb.VectorColumn[] {
  if (vectors === undefined) return [];
  return [...vectors].map(([name, vector]) => ({ name, matrix: floatsToBytes(vector), rows: [] }));
}

function vectorsFromWire(columns: readonly pb.VectorColumn[]): Map<string, Float32Array> {
  return new Map(columns.map(({ name, matrix }) => [name, floatsFromWire(matrix)]));
}

function pointToWire(point: StoredPoint): ipb.StoredPoint {
  return {
    id: point.id,
    version: point.version,
    payload: point.payload,
    vectors: vectorsToWire(point.vectors),
    sparse: Array.from(point.sparse ?? [], ([name, vector]) => ({ name, vector: sparseToBytes(vector) })),
    expiresAtMs: point.expiresAtMs ?? 0,
  };
}

function pointFromWire(point: ipb.StoredPoint): StoredPoint {
  const stored: StoredPoint = { id: idFromWire(point.id), version: point.version, payload: point.payload };
  if (point.vectors.length > 0) stored.vectors = vectorsFromWire(point.vectors);
  if (point.sparse.length > 0) {
    stored.sparse = new Map(
      point.sparse.map(({ name, vector }) => {
        if (vector.length % 8 !== 0) throw malformed(`${vector.length} bytes are no sparse vector`);
        return [name, sparseFromBytes(vector)];
      }),
    );
  }
  if (point.expiresAtMs > 0) stored.expiresAtMs = point.expiresAtMs;
  return stored;
}

const changeKinds: readonly ChangeKind[] = ["insert", "update", "delete", "truncate"];

function changeFromWire({ kind, id, sequence, before, after, score }: ipb.ShardChange): ShardChange {
  const known = changeKinds.find((each) => each === kind);
  if (known === undefined) throw malformed(`${JSON.stringify(kind)} is no kind of change`);
  return {
    kind: known,
    id: known === "truncate" ? noBytes : idFromWire(id),
    sequence,
    ...(before && { before: pointFromWire(before) }),
    ...(after && { after: pointFromWire(after) }),
    ...(score !== undefined && { score }),
  };
}

const queryFlag = { exact: 1, payload: 2, allVectors: 4, scored: 8, recall: 16 } as const;
const lastField: LastText = { bytes: noBytes, text: "" };
const noVectors: readonly string[] = [];

/**
 * ShardQuery: u32 k | u32 ef | u64 min_sequence | u8 flags | u8 n | [u32 scored] | field | n names of vectors | pad | [f32 recall target] | u32 length | f32 vector
 */
function writeQuery(to: ByteWriter, query: ShardQuery): void {
  const { select, vector } = query;
  const names = select.vectors === "all" ? noVectors : select.vectors;
  to.u32(query.k);
  to.u32(query.ef);
  to.u64(query.minSequence);
  to.u8(
    (query.exact ? queryFlag.exact : 0) |
      (select.payload ? queryFlag.payload : 0) |
      (select.vectors === "all" ? queryFlag.allVectors : 0) |
      (query.scored === undefined ? 0 : queryFlag.scored) |
      (query.recallTarget === undefined ? 0 : queryFlag.recall),
  );
  to.u8(names.length);
  if (query.scored !== undefined) to.u32(query.scored);
  to.text(query.field);
  for (const name of names) to.text(name);
  to.align();
  if (query.recallTarget !== undefined) to.f32(query.recallTarget);
  to.u32(vector.length);
  to.bytes(floatsToBytes(vector));
}

function readQuery(from: ByteReader): ShardQuery {
  const k = from.u32();
  const ef = from.u32();
  const minSequence = from.u64();
  const flags = from.u8();
  const nameCount = from.u8();
  const scored = (flags & queryFlag.scored) === 0 ? undefined : from.u32();
  const field = from.textAgain(lastField);
  let vectors: Select["vectors"] = noVectors;
  if ((flags & queryFlag.allVectors) !== 0) vectors = "all";
  else if (nameCount > 0) vectors = Array.from({ length: nameCount }, () => from.text());
  from.align();
  const target = (flags & queryFlag.recall) !== 0 ? { recallTarget: from.f32() } : {};
  return {
    ...target,
    field,
    vector: bytesToFloats(from.bytes(4 * from.u32())),
    k,
    ef,
    exact: (flags & queryFlag.exact) !== 0,
    scored,
    select: { payload: (flags & queryFlag.payload) !== 0, vectors },
    minSequence,
  };
}

const resultFlag = { payloads: 1, vectors: 2, sparse: 4 } as const;
const lastPlan: LastText = { bytes: noBytes, text: "" };

/**
 * ShardQueryResult, columns nearest first: u32 count | u64 sequence | u8 flags | plan | pad | f32 scores | u64 versions |
 * u16 lengths of ids | ids | with payloads: u32 lengths, payloads | with vectors: of each u8 n, n times name, u32 length, f32 vector | with
 * sparse vectors: of each as in writeSparseVectors.
 */
function writeQueryResult(to: ByteWriter, { hits, plan, sequence }: ShardQueryResult): void {
  let payloads = 0;
  let vectors = 0;
  let sparse = 0;
  for (const hit of hits) {
    if (hit.payload.length > 0) payloads = resultFlag.payloads;
    if (hit.vectors !== undefined) vectors = resultFlag.vectors;
    if (hit.sparse !== undefined) sparse = resultFlag.sparse;
  }
  to.u32(hits.length);
  to.u64(sequence);
  to.u8(payloads | vectors | sparse);
  to.text(plan);
  to.align();
  for (const hit of hits) to.f32(hit.score);
  for (const hit of hits) to.u64(hit.version);
  for (const hit of hits) to.u16(hit.id.length);
  for (const hit of hits) to.bytes(hit.id);
  if (payloads !== 0) {
    for (const hit of hits) to.u32(hit.payload.length);
    for (const hit of hits) to.bytes(hit.payload);
  }
  if (vectors !== 0) for (const hit of hits) writeVectors(to, hit.vectors);
  if (sparse !== 0) for (const hit of hits) writeSparseVectors(to, hit.sparse ?? noSparse);
}

function readQueryResult(from: ByteReader): ShardQueryResult {
  const count = from.u32();
  const sequence = from.u64();
  const flags = from.u8();
  const plan = from.textAgain(lastPlan);
  from.align();
  // Each takes at least 14 bytes: what claims more is not worth an array.
  if (count * 14 > from.left) throw malformed(`${count} hits in ${from.left} bytes`);
  const hits = new Array<Hit>(count);
  for (let i = 0; i < count; i++) hits[i] = { id: noId, score: from.f32(), version: 0, payload: noBytes };
  for (let i = 0; i < count; i++) (hits[i] as Hit).version = from.u64();
  for (let i = 0; i < count; i++) lengths[i] = from.u16();
  for (let i = 0; i < count; i++) (hits[i] as Hit).id = idFromWire(from.bytes(lengths[i] as number));
  if ((flags & resultFlag.payloads) !== 0) {
    for (let i = 0; i < count; i++) lengths[i] = from.u32();
    for (let i = 0; i < count; i++) (hits[i] as Hit).payload = from.bytes(lengths[i] as number);
  }
  if ((flags & resultFlag.vectors) !== 0) {
    for (let i = 0; i < count; i++) (hits[i] as Hit).vectors = readVectors(from);
  }
  if ((flags & resultFlag.sparse) !== 0) {
    for (let i = 0; i < count; i++) {
      const sparse = readSparseVectors(from);
      if (sparse.size > 0) (hits[i] as Hit).sparse = sparse;
    }
  }
  return { hits, plan, sequence };
}

const noId = noBytes as IdKey;
const noSparse: NonNullable<Hit["sparse"]> = new Map();
/** Of a column that is being read. */
const lengths: number[] = [];

function writeVectors(to: ByteWriter, vectors: ReadonlyMap<string, Float32Array> | undefined): void {
  to.u8(vectors?.size ?? 0);
  for (const [name, vector] of vectors ?? []) {
    to.text(name);
    to.u32(vector.length);
    to.bytes(floatsToBytes(vector));
  }
}

function readVectors(from: ByteReader): Map<string, Float32Array> {
  const vectors = new Map<string, Float32Array>();
  for (let left = from.u8(); left > 0; left--) {
    const name = from.text();
    vectors.set(name, bytesToFloats(from.bytes(4 * from.u32())));
  }
  return vectors;
}

/** How reads cross the link: one row for each kind. */
export const readCodecs: { [K in ReadKind]: LinkCodec<ReadRequest<K>, ReadAnswer<K>> } = {
  // By far the most frequent: a layout of its own, without objects between it and the frame.
  query: {
    type: 1,
    writeRequest: writeQuery,
    readRequest: readQuery,
    writeAnswer: writeQueryResult,
    readAnswer: readQueryResult,
  },
  get: protobufCodec(2, {
    isBulk: true,
    request: ipb.ShardGet,
    answer: ipb.ShardGetResult,
    requestToWire: ({ ids, select, minSequence }) => ({ ids: [...ids], select: selectToWire(select), minSequence }),
    requestFromWire: ({ ids, select, minSequence }) => ({
      ids: ids.map(idFromWire),
      select: selectFromWire(select),
      minSequence,
    }),
    answerToWire: ({ points, sequence }) => ({ points: points.map(pointToWire), sequence }),
    answerFromWire: ({ points, sequence }) => ({ points: points.map(pointFromWire), sequence }),
  }),
  scroll: protobufCodec(3, {
    isBulk: true,
    request: ipb.ShardScroll,
    answer: ipb.ShardScrollResult,
    // Empty bytes are the start.
    requestToWire: ({ after, limit, select, minSequence, filter, explain }) => ({
      after: after ?? noBytes,
      limit,
      select: selectToWire(select),
      minSequence,
      filter: filterToText(filter),
      explain: explain === true,
    }),
    requestFromWire: ({ after, limit, select, minSequence, filter, explain }) => ({
      after: after.length === 0 ? undefined : idFromWire(after),
      limit,
      select: selectFromWire(select),
      minSequence,
      filter: filterFromText(filter),
      ...(explain && { explain }),
    }),
    answerToWire: ({ points, end, sequence, explain }) => ({
      points: points.map(pointToWire),
      end,
      sequence,
      explain: explainToText(explain),
    }),
    answerFromWire: ({ points, end, sequence, explain }) => ({
      points: points.map(pointFromWire),
      end,
      sequence,
      ...explainFromText(explain),
    }),
  }),
  changes: protobufCodec(9, {
    isBulk: true,
    request: ipb.ShardChanges,
    answer: ipb.ShardChangesResult,
    requestToWire: ({ after, limit, filter, select, before, waitMs, minSequence, near }) => ({
      ...{ after, limit, before, waitMs, minSequence },
      filter: filterToText(filter),
      select: selectToWire(select),
      near: near && { field: near.field, vector: floatsToBytes(near.vector), threshold: near.threshold },
    }),
    requestFromWire: ({ after, limit, filter, select, before, waitMs, minSequence, near }) => ({
      ...{ after, limit, before, waitMs, minSequence },
      filter: filterFromText(filter),
      select: selectFromWire(select),
      near: near && { field: near.field, vector: floatsFromWire(near.vector), threshold: near.threshold },
    }),
    answerToWire: ({ changes, place, sequence }) => ({
      changes: changes.map(({ kind, id, sequence: at, before, after, score }) => ({
        ...{ kind, id, sequence: at, score },
        before: before && pointToWire(before),
        after: after && pointToWire(after),
      })),
      ...{ place, sequence },
    }),
    answerFromWire: ({ changes, place, sequence }) => {
      if (place === undefined) throw malformed("an answer tells no place among the changes");
      return { changes: changes.map(changeFromWire), place, sequence };
    },
  }),
  search: searchCodec,
  order: orderCodec,
  sample: sampleCodec,
  facet: facetCodec,
  terms: termsCodec,
  text: textCodec,
  indices: indicesCodec,
  sparse: sparseCodec,
  trial: trialCodec,
  count: {
    type: 4,
    // u64 min_sequence | u8 1: approximate, 2: explain | filter
    writeRequest: (to, { minSequence, filter, approximate, explain }) => {
      to.u64(minSequence);
      to.u8((approximate === true ? 1 : 0) | (explain === true ? 2 : 0));
      writeFilter(to, filter);
    },
    readRequest: (from) => {
      const minSequence = from.u64();
      const flags = from.u8();
      return {
        minSequence,
        ...((flags & 1) !== 0 && { approximate: true }),
        ...((flags & 2) !== 0 && { explain: true }),
        filter: readFilter(from),
      };
    },
    // u64 count | u64 sequence | [explain]
    writeAnswer: (to, { count, sequence, explain }) => {
      to.u64(count);
      to.u64(sequence);
      if (explain !== undefined) writeExplain(to, explain);
    },
    readAnswer: (from) => {
      const answer = { count: from.u64(), sequence: from.u64() };
      return from.left === 0 ? answer : { ...answer, ...readExplain(from) };
    },
  },
};

export interface WaitRequest {
  sequence: number;
  operationIds: readonly Uint8Array[];
}

/** How the other calls of ShardApi cross the link. */
export const waitCodec = protobufCodec<WaitRequest, OperationOutcome[], ipb.ShardWait, ipb.ShardWaitResult>(16, {
  request: ipb.ShardWait,
  answer: ipb.ShardWaitResult,
  requestToWire: ({ sequence, operationIds }) => ({ sequence, operationIds: [...operationIds] }),
  requestFromWire: (message) => message,
  answerToWire: (outcomes) => ({ results: outcomes.map(outcomeToWire) }),
  answerFromWire: ({ results }) => results.map(outcomeFromWire),
});

export const waitIndexedCodec: LinkCodec<undefined, number> = {
  type: 17,
  writeRequest: () => undefined,
  readRequest: () => undefined,
  writeAnswer: (to, vectorCount) => to.u64(vectorCount),
  readAnswer: (from) => from.u64(),
};

export const statusCodec = protobufCodec<number, ReplicaStatus, ipb.ShardStatus, ipb.ShardStatusResult>(18, {
  request: ipb.ShardStatus,
  answer: ipb.ShardStatusResult,
  requestToWire: (minSequence) => ({ minSequence }),
  requestFromWire: ({ minSequence }) => minSequence,
  answerToWire: ({ copy, encryption, readsPerSecond = 0, faultCode = "", ...status }) => ({
    ...status,
    durableSequence: status.durableSequence ?? 0,
    incarnation: status.incarnation ?? "",
    newestAppendedAtMs: status.newestAppendedAtMs ?? 0,
    digestMarks: [...(status.digestMarks ?? [])],
    faultCode,
    payloadIndexes: [...status.payloadIndexes],
    copiedBytes: copy?.copiedBytes ?? 0,
    copyBytes: copy?.totalBytes ?? 0,
    readsPerSecond,
    unindexedFields: status.unindexedFields.map(unindexedFieldTo),
    recalls: (status.recalls ?? []).map(({ field, isHeld, ...recall }) => ({ vector: field, held: isHeld, ...recall })),
    generations: (status.generations ?? []).map(({ recall, shadow, isText = false, ...rest }) => {
      return { ...rest, isText, recall, shadow };
    }),
    adoptedSequence: status.adoptedSequence ?? 0,
    masterKey: encryption?.masterKey ?? "",
    encrypting: encryption?.isRewriting ?? false,
  }),
  answerFromWire: statusFromWire,
});

function outcomeToWire(outcome: OperationOutcome): ipb.OperationResult {
  if (outcome instanceof KithError) {
    return { affected: 0, errors: [], failure: toFailure(outcome), firstSlot: 0, lastSlot: 0, former: [] };
  }
  const { affected, failures, slots, former = [] } = outcome;
  return {
    affected,
    errors: failures.map((failure) => ({ ...failure })),
    failure: undefined,
    firstSlot: slots?.firstSlot ?? 0,
    lastSlot: slots?.lastSlot ?? 0,
    former: former.map(({ slots: its, ...effect }) => {
      return { ...its, affected: effect.affected, errors: effect.failures.map((failure) => ({ ...failure })) };
    }),
  };
}

function outcomeFromWire(result: ipb.OperationResult): OperationOutcome {
  const { affected, errors, failure, firstSlot, lastSlot } = result;
  if (failure !== undefined) return fromFailure(failure);
  // More slots than a shard has now are two at least.
  const slots = lastSlot === 0 ? {} : { slots: { firstSlot, lastSlot } };
  const former = result.former.map((each) => {
    const its = { firstSlot: each.firstSlot, lastSlot: each.lastSlot };
    return { slots: its, affected: each.affected, failures: each.errors.map(itemFailure) };
  });
  return { affected, failures: errors.map(itemFailure), ...slots, ...(former.length > 0 && { former }) };
}

function itemFailure({ index, code, message }: pb.ItemError): ItemFailure {
  const known = itemFailureCodes.find((each) => each === code);
  if (known === undefined) throw malformed(`the item error "${code}" is not known`);
  return { index, code: known, message };
}

const replicaStates: readonly string[] = ["initializing", "catching_up", "active", "stale", "removing"];

function statusFromWire({ faultCode, ...status }: ipb.ShardStatusResult): ReplicaStatus {
  if (!replicaStates.includes(status.state)) throw malformed(`the replica state "${status.state}" is not known`);
  const { copiedBytes, copyBytes: totalBytes, masterKey, encrypting: isRewriting, ...rest } = status;
  return {
    ...rest,
    state: status.state as ReplicaState,
    digestFormat: status.digestFormat || 1,
    ...(totalBytes > 0 && { copy: { copiedBytes, totalBytes } }),
    unindexedFields: rest.unindexedFields.map(unindexedFieldFrom),
    recalls: rest.recalls.map(({ vector, held, ...recall }) => ({ field: vector, isHeld: held, ...recall })),
    generations: rest.generations.map(({ recall, shadow, isText, ...generation }) => {
      return { ...generation, ...(isText && { isText }), ...(recall && { recall }), ...(shadow && { shadow }) };
    }),
    ...(isErrorCode(faultCode) && { faultCode }),
    ...(masterKey !== "" && { encryption: { masterKey, isRewriting } }),
  };
}

export function spansToWire(spans: readonly CollectedSpan[]): pb.TraceSpan[] {
  return spans.map((span) => ({ ...span, startUs: Math.round(span.startUs), durationUs: Math.round(span.durationUs) }));
}
