import { KithError } from "../base/index.js";
import {
  type Hit,
  type IdKey,
  isIdKey,
  type ItemFailure,
  type OperationOutcome,
  type ReplicaState,
  type ReplicaStatus,
  type Select,
  type ShardQuery,
  type ShardQueryResult,
  type StoredPoint,
} from "../model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest } from "../shard-api/index.js";
import type { CollectedSpan } from "../telemetry/index.js";
import { bytesToFloats, floatsToBytes, ipb, type pb } from "../wire/index.js";
import type { BidiDefinition } from "../rpc/common/index.js";
import { fromFailure, toFailure } from "../rpc/common/index.js";

const noBytes = new Uint8Array(0);

/** View of encoded bytes as the Buffer that grpc-js wants; Buffer.from() would copy them once more. */
export function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
/** A plain view, so that the fields of bytes within are plain Uint8Arrays and no Buffers. */
export function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Link.Open with codecs that do not copy. */
export const linkService = {
  open: {
    path: ipb.LinkService.open.path,
    requestStream: true,
    responseStream: true,
    requestSerialize: (value) => viewOf(ipb.LinkRequest.encode(value).finish()),
    requestDeserialize: (value) => ipb.LinkRequest.decode(plain(value)),
    responseSerialize: (value) => viewOf(ipb.LinkResponse.encode(value).finish()),
    responseDeserialize: (value) => ipb.LinkResponse.decode(plain(value)),
  } satisfies BidiDefinition<ipb.LinkRequest, ipb.LinkResponse>,
};

/** Link.Open for the client, whose frames are encoded before they are written. */
export const linkFrames = {
  ...linkService.open,
  requestSerialize: (frame) => frame,
  requestDeserialize: (bytes) => bytes,
} satisfies BidiDefinition<Buffer, ipb.LinkResponse>;

function malformed(what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `a message of the link is malformed: ${what}`);
}

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
    ? { payload: select.payload, vectors: [], allVectors: true }
    : { payload: select.payload, vectors: [...select.vectors], allVectors: false };
}

function selectFromWire(select: pb.Select | undefined): Select {
  if (select === undefined) return { payload: false, vectors: [] };
  return { payload: select.payload, vectors: select.allVectors ? "all" : select.vectors };
}

function queryToWire(query: ShardQuery): ipb.ShardQuery {
  const { field, k, ef, exact, minSequence } = query;
  return { field, k, ef, exact, minSequence, vector: floatsToBytes(query.vector), select: selectToWire(query.select) };
}

function queryFromWire(query: ipb.ShardQuery): ShardQuery {
  const { field, k, ef, exact, minSequence } = query;
  return {
    field,
    k,
    ef,
    exact,
    minSequence,
    vector: floatsFromWire(query.vector),
    select: selectFromWire(query.select),
  };
}

function vectorsToWire(vectors: Map<string, Float32Array> | undefined): pb.VectorColumn[] {
  if (vectors === undefined) return [];
  return [...vectors].map(([name, vector]) => ({ name, matrix: floatsToBytes(vector) }));
}

function vectorsFromWire(columns: readonly pb.VectorColumn[]): Map<string, Float32Array> {
  return new Map(columns.map(({ name, matrix }) => [name, floatsFromWire(matrix)]));
}

function queryResultToWire(result: ShardQueryResult): ipb.ShardQueryResult {
  const { hits } = result;
  const scores = new Float32Array(hits.length);
  const ids = new Array<Uint8Array>(hits.length);
  const versions = new Array<number>(hits.length);
  const payloads = new Array<Uint8Array>(hits.length);
  let anyPayload = false;
  let anyVectors = false;
  for (let i = 0; i < hits.length; i++) {
    const hit = hits[i] as Hit;
    ids[i] = hit.id;
    scores[i] = hit.score;
    versions[i] = hit.version;
    payloads[i] = hit.payload;
    anyPayload ||= hit.payload.length > 0;
    anyVectors ||= hit.vectors !== undefined;
  }
  return {
    ids,
    scores: floatsToBytes(scores),
    versions,
    payloads: anyPayload ? payloads : [],
    vectors: anyVectors ? hits.map((hit) => ({ fields: vectorsToWire(hit.vectors) })) : [],
    plan: result.plan,
    sequence: result.sequence,
  };
}

function queryResultFromWire(result: ipb.ShardQueryResult): ShardQueryResult {
  const { ids, versions, payloads, vectors } = result;
  const scores = floatsFromWire(result.scores);
  const count = ids.length;
  if (scores.length !== count || versions.length !== count) throw malformed("columns of different lengths");
  if (payloads.length !== 0 && payloads.length !== count) throw malformed("payloads that are not one per id");
  if (vectors.length !== 0 && vectors.length !== count) throw malformed("vectors that are not one per id");
  const hits = new Array<Hit>(count);
  for (let i = 0; i < count; i++) {
    const hit: Hit = {
      id: idFromWire(ids[i] as Uint8Array),
      score: scores[i] as number,
      version: versions[i] as number,
      payload: payloads[i] ?? noBytes,
    };
    const named = vectors[i];
    if (named !== undefined) hit.vectors = vectorsFromWire(named.fields);
    hits[i] = hit;
  }
  return { hits, plan: result.plan, sequence: result.sequence };
}

function pointToWire(point: StoredPoint): ipb.StoredPoint {
  return {
    id: point.id,
    version: point.version,
    payload: point.payload,
    vectors: vectorsToWire(point.vectors),
  };
}

function pointFromWire(point: ipb.StoredPoint): StoredPoint {
  const stored: StoredPoint = { id: idFromWire(point.id), version: point.version, payload: point.payload };
  if (point.vectors.length > 0) stored.vectors = vectorsFromWire(point.vectors);
  return stored;
}

type Call = NonNullable<ipb.LinkRequest["call"]>;
type Outcome = NonNullable<ipb.LinkResponse["outcome"]>;
/** The message that asks for a read of kind K. */
export type CallOf<K extends ReadKind> = Extract<Call, { $case: K }>["value"];
/** The message that answers it. */
export type OutcomeOf<K extends ReadKind> = Extract<Outcome, { $case: K }>["value"];

/** How reads cross the link: one row for each kind. */
export const readCodecs: {
  [K in ReadKind]: {
    requestToWire(request: ReadRequest<K>): CallOf<K>;
    requestFromWire(message: CallOf<K>): ReadRequest<K>;
    answerToWire(answer: ReadAnswer<K>): OutcomeOf<K>;
    answerFromWire(message: OutcomeOf<K>): ReadAnswer<K>;
  };
} = {
  query: {
    requestToWire: queryToWire,
    requestFromWire: queryFromWire,
    answerToWire: queryResultToWire,
    answerFromWire: queryResultFromWire,
  },
  get: {
    requestToWire: ({ ids, select, minSequence }) => ({ ids: [...ids], select: selectToWire(select), minSequence }),
    requestFromWire: ({ ids, select, minSequence }) => ({
      ids: ids.map(idFromWire),
      select: selectFromWire(select),
      minSequence,
    }),
    answerToWire: ({ points, sequence }) => ({ points: points.map(pointToWire), sequence }),
    answerFromWire: ({ points, sequence }) => ({ points: points.map(pointFromWire), sequence }),
  },
  scroll: {
    // Empty bytes are the start.
    requestToWire: ({ after, limit, select, minSequence }) => ({
      after: after ?? noBytes,
      limit,
      select: selectToWire(select),
      minSequence,
    }),
    requestFromWire: ({ after, limit, select, minSequence }) => ({
      after: after.length === 0 ? undefined : idFromWire(after),
      limit,
      select: selectFromWire(select),
      minSequence,
    }),
    answerToWire: ({ points, end, sequence }) => ({ points: points.map(pointToWire), end, sequence }),
    answerFromWire: ({ points, end, sequence }) => ({ points: points.map(pointFromWire), end, sequence }),
  },
  count: {
    requestToWire: ({ minSequence }) => ({ minSequence }),
    requestFromWire: ({ minSequence }) => ({ minSequence }),
    answerToWire: (answer) => answer,
    answerFromWire: (answer) => answer,
  },
};

export function outcomeToWire(outcome: OperationOutcome): ipb.OperationResult {
  if (outcome instanceof KithError) return { affected: 0, errors: [], failure: toFailure(outcome) };
  const { affected, failures } = outcome;
  return { affected, errors: failures.map((failure) => ({ ...failure })), failure: undefined };
}

export function outcomeFromWire({ affected, errors, failure }: ipb.OperationResult): OperationOutcome {
  return failure === undefined ? { affected, failures: errors.map(itemFailure) } : fromFailure(failure);
}

function itemFailure({ index, code, message }: pb.ItemError): ItemFailure {
  if (code !== "POINT_EXISTS" && code !== "POINT_NOT_FOUND") throw malformed(`the item error "${code}" is not known`);
  return { index, code, message };
}

const replicaStates: readonly string[] = ["initializing", "catching_up", "active", "stale", "removing"];

export function statusFromWire(status: ipb.ShardStatusResult): ReplicaStatus {
  if (!replicaStates.includes(status.state)) throw malformed(`the replica state "${status.state}" is not known`);
  return { ...status, state: status.state as ReplicaState };
}

export function spansToWire(spans: readonly CollectedSpan[]): pb.TraceSpan[] {
  return spans.map((span) => ({ ...span, startUs: Math.round(span.startUs), durationUs: Math.round(span.durationUs) }));
}
