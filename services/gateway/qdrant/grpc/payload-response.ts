import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { BackwardWriter } from "../../../../libs/wire/index.js";
import { shardKeyField } from "../shard-keys.js";
import { writeJsonEntries } from "./json-bytes.js";
import { endOf } from "./json-value.js";

/** Answers of more are for the operation, which bounds what is put together at once. */
const bytesMax = 8 * 1024 * 1024;
const point = (1 << 3) | WireType.LengthDelimited;
/** Of Kith's ScoredPoint. */
const own = {
  id: (1 << 3) | 2,
  score: (2 << 3) | 5,
  version: 3 << 3,
  payload: (4 << 3) | 2,
  name: (3 << 3) | 2,
} as const;
/** Of Qdrant's. */
const qdrant = { id: 1, payload: 2, score: 3, version: 5, uuid: 2, time: 2 } as const;

const writer = new BackwardWriter();

/**
 * Qdrant's QueryResponse, with payloads, from the bytes of Kith's, without the answer of the REST API in between. Undefined where that says more: for points with
 * more than an id, a score, a version and a payload, and for those whose shard keys are in their payloads.
 */
export function payloadResponse(answer: Uint8Array, seconds: number): Buffer | undefined {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  if (bytes.length > bytesMax || bytes.includes(shardKeyField)) return undefined;
  const reader = new BinaryReader(bytes);
  const starts: number[] = [];
  while (reader.pos < reader.len && bytes[reader.pos] === point) {
    starts.push(reader.pos);
    reader.uint32();
    reader.pos = endOf(reader);
  }
  try {
    writer.double(seconds);
    writer.tag(qdrant.time, WireType.Bit64);
    for (let i = starts.length - 1; i >= 0; i--) {
      reader.pos = starts[i] as number;
      const end = writer.length;
      if (!writePoint(reader, bytes)) {
        writer.clear();
        return undefined;
      }
      writer.nested(1, end);
    }
    return writer.finish();
  } catch (error) {
    writer.clear();
    throw error;
  }
}

/** One point, from the end; false where it has more. */
function writePoint(reader: BinaryReader, bytes: Buffer): boolean {
  reader.uint32();
  const end = endOf(reader);
  let [id, idEnd, score, version, versionEnd, payload, payloadEnd] = [0, 0, 0, 0, 0, 0, 0];
  while (reader.pos < end) {
    switch (reader.uint32()) {
      case own.id:
        idEnd = endOf(reader);
        id = reader.pos;
        reader.pos = idEnd;
        break;
      case own.score:
        score = reader.pos;
        reader.pos += 4;
        break;
      case own.version:
        version = reader.pos;
        reader.skip(WireType.Varint);
        versionEnd = reader.pos;
        break;
      case own.payload:
        payloadEnd = endOf(reader);
        payload = reader.pos;
        reader.pos = payloadEnd;
        break;
      default:
        return false;
    }
  }
  if (versionEnd > version) {
    writer.copy(bytes, version, versionEnd);
    writer.tag(qdrant.version, WireType.Varint);
  }
  if (score > 0) {
    writer.copy(bytes, score, score + 4);
    writer.tag(qdrant.score, WireType.Bit32);
  }
  if (payloadEnd > payload) writeJsonEntries(writer, qdrant.payload, bytes, payload, payloadEnd);
  const before = writer.length;
  const isText = idEnd > id && bytes[id] === own.name;
  writer.copy(bytes, isText ? id + 1 : id, idEnd);
  if (isText) writer.tag(qdrant.uuid, WireType.LengthDelimited);
  writer.nested(qdrant.id, before);
  return true;
}
