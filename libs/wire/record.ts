import { BinaryReader } from "@bufbuild/protobuf/wire";
import { crc32c, KithError } from "../base/index.js";
import { LogRecord } from "./gen/internal-pb.js";

const magic = Buffer.from("KLR1", "latin1");
const headerBytes = 8;

/** Frames a record for the log: "KLR1", CRC-32C (little-endian) of the message, the message. */
export function encodeRecord(record: LogRecord): Uint8Array {
  const body = LogRecord.encode(record).finish();
  const framed = Buffer.allocUnsafe(headerBytes + body.length);
  framed.set(magic, 0);
  framed.writeUInt32LE(crc32c(body), 4);
  framed.set(body, headerBytes);
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

/** Numbers of fields in record.proto. */
const operationsField = 3;
const mutationFields = [3, 4];

/**
 * CRC-32C of the encoded mutation of each operation, as a signed number (which needs no heap), from the frame of a record
 * that was decoded: the same for the same content, whoever sends it. Encoding the mutation anew cost 4 µs an operation.
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
      if (mutationFields.includes(inner)) hash = crc32c(body.subarray(startAt, reader.pos)) | 0;
    }
    hashes.push(hash);
  }
  return hashes;
}
