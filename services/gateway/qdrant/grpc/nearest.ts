import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { bytesToFloats, emptyFloats, pb } from "../../../../libs/wire/index.js";
import { beamWidthMax, limitDefault } from "../query.js";
import { endOf } from "./json-value.js";

/*
 * The query that most programs ask by far, for the nearest points to a vector with their ids and scores, and payloads or none, without JSON in between: what the operations of the
 * REST API make of such a message costs more than all else of the call but for the search itself. What is read here is exactly what these make of it,
 * and what is not is left to them.
 */

/** The fields of QueryPoints that are read; any other is for the operations. */
const field = {
  collection: (1 << 3) | WireType.LengthDelimited,
  query: (3 << 3) | WireType.LengthDelimited,
  using: (4 << 3) | WireType.LengthDelimited,
  params: (6 << 3) | WireType.LengthDelimited,
  scoreThreshold: (7 << 3) | WireType.Bit32,
  limit: (8 << 3) | WireType.Varint,
  offset: (9 << 3) | WireType.Varint,
  withVectors: (10 << 3) | WireType.LengthDelimited,
  withPayload: (11 << 3) | WireType.LengthDelimited,
} as const;
const params = { ef: (1 << 3) | WireType.Varint, exact: (2 << 3) | WireType.Varint } as const;
const first = (1 << 3) | WireType.LengthDelimited;
const second = (2 << 3) | WireType.LengthDelimited;
const enable = (1 << 3) | WireType.Varint;

/** The request for the router; undefined where the message says more than this reads, or is not valid. */
export function readNearest(bytes: Uint8Array): pb.QueryRequest | undefined {
  const reader = new BinaryReader(bytes);
  let collection = "";
  let vector: Float32Array = emptyFloats;
  let using = "";
  let limit = limitDefault;
  let offset = 0;
  let ef = 0;
  let exact = false;
  let scoreThreshold: number | undefined;
  let select = nothing;
  try {
    while (reader.pos < reader.len) {
      switch (reader.uint32()) {
        case field.collection:
          collection = reader.string(true);
          break;
        case field.query: {
          const found = vector.length > 0 ? undefined : readVector(reader, bytes);
          if (found === undefined) return undefined;
          vector = found;
          break;
        }
        case field.using:
          using = reader.string(true);
          break;
        case field.params: {
          const end = endOf(reader);
          while (reader.pos < end) {
            const tag = reader.uint32();
            if (tag === params.ef) ef = Math.min(wholeIn(reader), beamWidthMax);
            else if (tag === params.exact) exact = reader.bool();
            else return undefined;
          }
          break;
        }
        case field.scoreThreshold:
          scoreThreshold = reader.float();
          break;
        case field.limit:
          limit = wholeIn(reader);
          break;
        case field.offset:
          offset = wholeIn(reader);
          break;
        case field.withVectors:
          if (enabledIn(reader) !== false) return undefined;
          break;
        case field.withPayload: {
          const isEnabled = enabledIn(reader);
          if (isEnabled === undefined) return undefined;
          select = isEnabled ? payloads : nothing;
          break;
        }
        default:
          return undefined;
      }
    }
  } catch (error) {
    // The operations say what is wrong.
    if (error instanceof Error) return undefined;
    throw error;
  }
  if (reader.pos !== reader.len || vector.length === 0 || limit === 0 || !Number.isSafeInteger(limit + offset)) {
    return undefined;
  }
  return {
    collection,
    vector,
    using,
    limit,
    select,
    ef,
    exact,
    consistency: undefined,
    allowPartial: false,
    trace: false,
    point: undefined,
    filter: undefined,
    prefetch: [],
    query: undefined,
    offset,
    lookup: undefined,
    explain: false,
    exactScores: false,
    oversampling: 0,
    ...(scoreThreshold !== undefined && { scoreThreshold }),
  };
}

const nothing: pb.Select = Object.freeze(pb.Select.create({}));
const payloads: pb.Select = Object.freeze(pb.Select.create({ payload: true }));

function wholeIn(reader: BinaryReader): number {
  return Number(reader.uint64());
}

/** Query {VectorInput nearest = 1}, VectorInput {DenseVector dense = 2}, DenseVector {repeated float data = 1}, with nothing beside. */
function readVector(reader: BinaryReader, bytes: Uint8Array): Float32Array | undefined {
  const end = endOf(reader);
  for (const tag of [first, second, first]) {
    if (reader.pos >= end || reader.uint32() !== tag || endOf(reader) !== end) return undefined;
  }
  const packed = bytes.subarray(reader.pos, end);
  reader.pos = end;
  return packed.length % 4 === 0 ? bytesToFloats(packed) : undefined;
}

/** WithPayloadSelector and WithVectorsSelector {bool enable = 1}; undefined where they say more. */
function enabledIn(reader: BinaryReader): boolean | undefined {
  const end = endOf(reader);
  let isOn = false;
  while (reader.pos < end) {
    if (reader.uint32() !== enable) return undefined;
    isOn = reader.bool();
  }
  return isOn;
}

const point = (1 << 3) | WireType.LengthDelimited;
/** Of Kith's ScoredPoint, and the same of Qdrant's. */
const own = { id: (1 << 3) | 2, score: (2 << 3) | 5, version: 3 << 3, name: (3 << 3) | 2 } as const;
const qdrant = { score: (3 << 3) | 5, version: 5 << 3, uuid: (2 << 3) | 2 } as const;
const timeTag = (2 << 3) | WireType.Bit64;
const timeBytes = 9;

/**
 * Qdrant's QueryResponse from the bytes of Kith's. Both begin with the points, under the same number, and points have the same fields in the same
 * order under other numbers, so that only tags change. Undefined where a point has more than an id, a score and a version.
 */
export function nearestResponse(bytes: Uint8Array, seconds: number): Buffer | undefined {
  const reader = new BinaryReader(bytes);
  const answer = Buffer.allocUnsafe(bytes.length + timeBytes);
  let length = 0;
  while (reader.pos < reader.len && bytes[reader.pos] === point) {
    const start = reader.pos;
    reader.uint32();
    const end = endOf(reader);
    answer.set(bytes.subarray(start, end), start);
    while (reader.pos < end) {
      const at = reader.pos;
      switch (reader.uint32()) {
        case own.id: {
          const inner = endOf(reader);
          if (reader.pos < inner && bytes[reader.pos] === own.name) answer[reader.pos] = qdrant.uuid;
          reader.pos = inner;
          break;
        }
        case own.score:
          answer[at] = qdrant.score;
          reader.pos += 4;
          break;
        case own.version:
          answer[at] = qdrant.version;
          reader.skip(WireType.Varint);
          break;
        default:
          return undefined;
      }
    }
    length = end;
  }
  answer[length] = timeTag;
  answer.writeDoubleLE(seconds, length + 1);
  return answer.subarray(0, length + timeBytes);
}
