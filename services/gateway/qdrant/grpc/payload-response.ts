import { WireType } from "@bufbuild/protobuf/wire";
import { BackwardWriter } from "../../../../libs/wire/index.js";
import { shardKeyField } from "../shard-keys.js";
import { writeJsonEntries } from "./json-bytes.js";

/** Answers of more are for the operation, which bounds what is put together at once. */
const bytesMax = 8 * 1024 * 1024;
const point = (1 << 3) | WireType.LengthDelimited;
const shardKey = Buffer.from(shardKeyField);
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

/** Reads what this process has written itself. */
class Cursor {
  readonly #bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Where the field ends whose length is next. */
  end(): number {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const code = this.#bytes[this.at++] as number;
      length |= (code & 0x7f) << shift;
      if (!(code > 0x7f)) return this.at + length;
    }
  }
}

/**
 * Qdrant's QueryResponse, with payloads, from the bytes of Kith's, without the answer of the REST API in between. Undefined where that says more: for points with
 * more than an id, a score, a version and a payload, and for those whose shard keys are in their payloads.
 */
export function payloadResponse(answer: Uint8Array, seconds: number): Buffer | undefined {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  if (bytes.length > bytesMax || bytes.includes(shardKey)) return undefined;
  const reader = new Cursor(bytes);
  const starts: number[] = [];
  while (reader.at < bytes.length && bytes[reader.at] === point) {
    starts.push(reader.at);
    reader.at++;
    reader.at = reader.end();
  }
  try {
    writer.double(seconds);
    writer.tag(qdrant.time, WireType.Bit64);
    for (let i = starts.length - 1; i >= 0; i--) {
      reader.at = (starts[i] as number) + 1;
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

/** One point, whose length is next, from the end; false where it has more. */
function writePoint(reader: Cursor, bytes: Buffer): boolean {
  const end = reader.end();
  let id = 0;
  let idEnd = 0;
  let score = 0;
  let version = 0;
  let versionEnd = 0;
  let payload = 0;
  let payloadEnd = 0;
  while (reader.at < end) {
    switch (bytes[reader.at++]) {
      case own.id:
        idEnd = reader.end();
        id = reader.at;
        reader.at = idEnd;
        break;
      case own.score:
        score = reader.at;
        reader.at += 4;
        break;
      case own.version:
        version = reader.at;
        while ((bytes[reader.at++] as number) > 0x7f) continue;
        versionEnd = reader.at;
        break;
      case own.payload:
        payloadEnd = reader.end();
        payload = reader.at;
        reader.at = payloadEnd;
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
