import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { crc32c, giveHeadroom, KithError } from "../base/index.js";
import { LogRecord, type Operation } from "./gen/internal-pb.js";

const magic = Buffer.from("KLR1", "latin1");
const headerBytes = 8;
/** Before each record, for the header of a log that keeps it in a file. */
const headroomBytes = 96;
const noHeader = Buffer.alloc(headroomBytes + headerBytes);
/** Larger records than this are rare, and their room is not kept. */
const keptBytes = 1 << 20;
/** Kept from record to record, as is its room: one that grows again for each clears twice as many bytes as the record has, and copies them. */
let writer = new BinaryWriter();

/** Frames a record for the log: "KLR1", CRC-32C (little-endian) of the message, the message. */
export function encodeRecord(record: Omit<LogRecord, "format">): Uint8Array {
  // The first format goes without its number, as it did when there was none.
  const format = record.operations.some(hasMatrices) ? matricesFormat : 0;
  const using = writer;
  // Left alone where the encoding fails halfway.
  writer = new BinaryWriter();
  const bytes = LogRecord.encode({ ...record, format }, using.raw(noHeader)).finish();
  if (bytes.length <= keptBytes) writer = using;
  const framed = Buffer.from(bytes.buffer, bytes.byteOffset + headroomBytes, bytes.byteLength - headroomBytes);
  framed.set(magic, 0);
  framed.writeUInt32LE(crc32c(framed.subarray(headerBytes)), 4);
  if (bytes.byteLength === bytes.buffer.byteLength) giveHeadroom(framed);
  return framed;
}

/** The record behind a frame; CORRUPT_DATA where the frame or its checksum is wrong. */
export function decodeRecord(framed: Uint8Array): LogRecord {
  const buffer = Buffer.from(framed.buffer, framed.byteOffset, framed.byteLength);
  if (buffer.length < headerBytes || buffer.compare(magic, 0, 4, 0, 4) !== 0) {
    throw new KithError("CORRUPT_DATA", `a log record of ${buffer.length} bytes does not begin with "KLR1"`);
  }
  const body = buffer.subarray(headerBytes);
  const expected = buffer.readUInt32LE(4);
  const actual = crc32c(body);
  if (expected !== actual) {
    throw new KithError(
      "CORRUPT_DATA",
      `a log record of ${buffer.length} bytes has the checksum ${actual.toString(16)} instead of ${expected.toString(16)}`,
    );
  }
  return LogRecord.decode(body);
}

/** Of records with matrices: a release that does not know them would take their columns for damaged ones. */
const matricesFormat = 2;
/** The highest format of a record that this release applies; see record.proto. */
export const recordFormatMax = 2;

function hasMatrices({ mutation }: Operation): boolean {
  const inner = mutation?.$case === "restricted" ? mutation.value.mutation : mutation;
  if (inner?.$case !== "upsert" && inner?.$case !== "put" && inner?.$case !== "updateVectors") return false;
  return inner.value.vectors.some(({ rows }) => rows.length > 0);
}

/** Number of a field of LogRecord. */
const operationsField = 3;
/** Fields of Operation that say who sends it; all others are what it does. */
const senderFields = [1, 2];

/**
 * CRC-32C of what each operation does as it is encoded, as a signed number (which needs no heap), from the frame of a record
 * that was decoded: the same for the same content, whoever sends it. To encode the mutation again cost 4 µs an operation.
 */
export function mutationHashes(framed: Uint8Array): number[] {
  const body = framed.subarray(headerBytes);
  const reader = new BinaryReader(body);
  const hashes: number[] = [];
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field !== operationsField) {
      reader.skip(type, field);
      continue;
    }
    let hash = 0;
    for (const end = reader.uint32() + reader.pos; reader.pos < end; ) {
      const startAt = reader.pos;
      const [inner, innerType] = reader.tag();
      reader.skip(innerType, inner);
      if (!senderFields.includes(inner)) hash = crc32c(body.subarray(startAt, reader.pos), hash);
    }
    hashes.push(hash | 0);
  }
  return hashes;
}
