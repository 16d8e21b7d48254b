import { crc32c, type FormatMark, KithError, takeHeadroom } from "../../base/index.js";
import type { Continuation } from "../port.js";

/**
 * Layout of the LevelDB database that holds all logs of a process. Keys start with one byte:
 *
 *     m <text>                  one log: its id, incarnation and first sequence (JSON)
 *     e <log u32> <seq u48>     one record
 *     d <log u32> <seq u48>     the message id of that record, while it is within the duplicate window
 *     x <log u32>               a removed log whose records are still to be cleared
 *     f                         the format of all this (JSON); missing where the first release wrote it
 *
 * Every value begins with a CRC-32C over key and value: LevelDB does not verify what it reads, and a checksum that
 * covers the key also finds a value that lies under the wrong one.
 */
const prefix = { meta: 0x6d, entry: 0x65, duplicate: 0x64, removed: 0x78, format: 0x66 } as const;

const crcBytes = 4;
/** Of the directory; see docs/format.md. */
export const logFormat: FormatMark = { format: 1, release: "0.1.0" };
/** Of a record within it. */
const formatVersion = 1;
/** crc, version, length of traceparent, bytes of all records before this one. */
const entryHeaderBytes = crcBytes + 1 + 1 + 8;

export interface LogMeta {
  id: number;
  incarnation: string;
  /** Records below are trimmed. */
  firstSequence: number;
  /** Bytes of all records ever appended before `firstSequence`. */
  trimmedBytes: number;
  /** Of a log that was mended. */
  continues?: Continuation;
  /** Sequence of the last record that counts; missing while the log goes on. */
  sealedAt?: number;
}

export interface StoredEntry {
  data: Uint8Array;
  traceparent: string | undefined;
  /** Bytes of all records ever appended before this one. */
  bytesBefore: number;
}

export function metaKey(name: string): Buffer {
  return Buffer.concat([Buffer.of(prefix.meta), Buffer.from(name, "latin1")]);
}

export function metaRange(): { gte: Buffer; lt: Buffer } {
  return { gte: Buffer.of(prefix.meta), lt: Buffer.of(prefix.meta + 1) };
}

export function metaName(key: Uint8Array): string {
  return Buffer.from(key).toString("latin1", 1);
}

function sequenceKey(first: number, log: number, sequence: number): Buffer {
  const key = Buffer.allocUnsafe(11);
  key[0] = first;
  key.writeUInt32BE(log, 1);
  key.writeUIntBE(sequence, 5, 6);
  return key;
}

export function entryKey(log: number, sequence: number): Buffer {
  return sequenceKey(prefix.entry, log, sequence);
}

export function duplicateKey(log: number, sequence: number): Buffer {
  return sequenceKey(prefix.duplicate, log, sequence);
}

export function keySequence(key: Uint8Array): number {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).readUIntBE(5, 6);
}

const sequenceMax = 2 ** 48 - 1;

export function entryRange(log: number): { gte: Buffer; lte: Buffer } {
  return { gte: entryKey(log, 0), lte: entryKey(log, sequenceMax) };
}

export function duplicateRange(log: number): { gte: Buffer; lte: Buffer } {
  return { gte: duplicateKey(log, 0), lte: duplicateKey(log, sequenceMax) };
}

export function removedKey(log: number): Buffer {
  const key = Buffer.allocUnsafe(5);
  key[0] = prefix.removed;
  key.writeUInt32BE(log, 1);
  return key;
}

export function removedRange(): { gte: Buffer; lt: Buffer } {
  return { gte: Buffer.of(prefix.removed), lt: Buffer.of(prefix.removed + 1) };
}

export function removedLog(key: Uint8Array): number {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).readUInt32BE(1);
}

function seal(key: Uint8Array, value: Buffer): Buffer {
  value.writeUInt32LE(crc32c(value.subarray(crcBytes), crc32c(key)), 0);
  return value;
}

function open(key: Uint8Array, stored: Uint8Array, what: string): Buffer {
  const value = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (value.length < crcBytes || value.readUInt32LE(0) !== crc32c(value.subarray(crcBytes), crc32c(key))) {
    throw new KithError("CORRUPT_DATA", `${what} fails its checksum; the log directory is damaged`);
  }
  return value;
}

/** The stored value and, as views into it, the entry that subscribers get. Made where the data are, if these have room before them. */
export function encodeEntry(
  key: Uint8Array,
  data: Uint8Array,
  traceparent: string | undefined,
  bytesBefore: number,
): { value: Buffer; data: Uint8Array } {
  const traceLength = traceparent?.length ?? 0;
  const start = entryHeaderBytes + traceLength;
  const inPlace = takeHeadroom(data, start);
  const value = inPlace ?? Buffer.allocUnsafeSlow(start + data.byteLength);
  value[4] = formatVersion;
  value[5] = traceLength;
  value.writeDoubleLE(bytesBefore, 6);
  if (traceparent !== undefined) value.write(traceparent, entryHeaderBytes, "latin1");
  if (inPlace === undefined) value.set(data, start);
  seal(key, value);
  return { value, data: value.subarray(start) };
}

export function decodeEntry(key: Uint8Array, stored: Uint8Array): StoredEntry {
  const what = `record ${keySequence(key)}`;
  const value = open(key, stored, what);
  if (value[4] !== formatVersion) {
    throw new KithError("CORRUPT_DATA", `${what} has format version ${value[4]}; this program knows ${formatVersion}`);
  }
  const start = entryHeaderBytes + (value[5] ?? 0);
  return {
    data: value.subarray(start),
    traceparent: start === entryHeaderBytes ? undefined : value.toString("latin1", entryHeaderBytes, start),
    bytesBefore: value.readDoubleLE(6),
  };
}

export function encodeDuplicate(key: Uint8Array, messageId: string, timeMs: number): Buffer {
  const value = Buffer.allocUnsafe(crcBytes + 8 + messageId.length);
  value.writeDoubleLE(timeMs, crcBytes);
  value.write(messageId, crcBytes + 8, "latin1");
  return seal(key, value);
}

export function decodeDuplicate(key: Uint8Array, stored: Uint8Array): { messageId: string; timeMs: number } {
  const value = open(key, stored, `the message id of record ${keySequence(key)}`);
  return { messageId: value.toString("latin1", crcBytes + 8), timeMs: value.readDoubleLE(crcBytes) };
}

export const formatKey = Buffer.of(prefix.format);

export function encodeFormat(mark: FormatMark): Buffer {
  return encodeJson(formatKey, mark);
}

export function decodeFormat(stored: Uint8Array): FormatMark {
  return JSON.parse(open(formatKey, stored, "the format").toString("utf8", crcBytes)) as FormatMark;
}

export function encodeMeta(key: Uint8Array, meta: LogMeta): Buffer {
  return encodeJson(key, meta);
}

function encodeJson(key: Uint8Array, content: LogMeta | FormatMark): Buffer {
  const json = Buffer.from(JSON.stringify(content), "utf8");
  const value = Buffer.allocUnsafe(crcBytes + json.length);
  json.copy(value, crcBytes);
  return seal(key, value);
}

export function decodeMeta(key: Uint8Array, stored: Uint8Array): LogMeta {
  const value = open(key, stored, `the description of log ${metaName(key)}`);
  return JSON.parse(value.toString("utf8", crcBytes)) as LogMeta;
}
