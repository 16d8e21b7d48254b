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
