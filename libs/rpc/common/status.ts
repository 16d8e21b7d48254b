import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** What Kith reads and writes of google.rpc.Status: the code, the message, one ErrorInfo and one RetryInfo. */
export interface RichStatus {
  grpcStatus: number;
  message: string;
  /** google.rpc.ErrorInfo */
  info: { reason: string; domain: string; metadata: Record<string, string> } | undefined;
  /** google.rpc.RetryInfo.retry_delay, in milliseconds. */
  retryAfterMs: number | undefined;
}

const errorInfoUrl = "type.googleapis.com/google.rpc.ErrorInfo";
const retryInfoUrl = "type.googleapis.com/google.rpc.RetryInfo";
/** Tag of a length-delimited field. */
const bytesTag = (field: number): number => (field << 3) | WireType.LengthDelimited;
const varintTag = (field: number): number => (field << 3) | WireType.Varint;

/** The bytes of a google.rpc.Status (google/rpc/status.proto, error_details.proto). */
export function encodeStatus(status: RichStatus): Uint8Array {
  const writer = new BinaryWriter();
  writer.uint32(varintTag(1)).int32(status.grpcStatus);
  writer.uint32(bytesTag(2)).string(status.message);
  if (status.info !== undefined) {
    const info = new BinaryWriter();
    info.uint32(bytesTag(1)).string(status.info.reason);
    info.uint32(bytesTag(2)).string(status.info.domain);
    for (const [key, value] of Object.entries(status.info.metadata)) {
      info.uint32(bytesTag(3)).fork();
      info.uint32(bytesTag(1)).string(key).uint32(bytesTag(2)).string(value);
      info.join();
    }
    writeAny(writer, errorInfoUrl, info.finish());
  }
  if (status.retryAfterMs !== undefined) {
    const whole = Math.max(0, Math.floor(status.retryAfterMs));
    const retry = new BinaryWriter();
    retry.uint32(bytesTag(1)).fork();
    retry.uint32(varintTag(1)).int64(Math.floor(whole / 1000));
    retry.uint32(varintTag(2)).int32((whole % 1000) * 1_000_000);
    retry.join();
    writeAny(writer, retryInfoUrl, retry.finish());
  }
  return writer.finish();
}

function writeAny(writer: BinaryWriter, url: string, value: Uint8Array): void {
  writer.uint32(bytesTag(3)).fork();
  writer.uint32(bytesTag(1)).string(url).uint32(bytesTag(2)).bytes(value);
  writer.join();
}

/** Reads a google.rpc.Status; details of other types are passed over. Throws where the bytes are not one. */
export function decodeStatus(bytes: Uint8Array): RichStatus {
  const status: RichStatus = { grpcStatus: 0, message: "", info: undefined, retryAfterMs: undefined };
  fields(bytes, (field, reader) => {
    if (field === varintTag(1)) status.grpcStatus = reader.int32();
    else if (field === bytesTag(2)) status.message = reader.string();
    else if (field === bytesTag(3)) readAny(reader.bytes(), status);
    else return false;
    return true;
  });
  return status;
}

function readAny(bytes: Uint8Array, status: RichStatus): void {
  let url = "";
  let value = new Uint8Array(0);
  fields(bytes, (field, reader) => {
    if (field === bytesTag(1)) url = reader.string();
    else if (field === bytesTag(2)) value = new Uint8Array(reader.bytes());
    else return false;
    return true;
  });
  if (url === errorInfoUrl) status.info = readErrorInfo(value);
  else if (url === retryInfoUrl) status.retryAfterMs = readRetryInfo(value);
}

function readErrorInfo(bytes: Uint8Array): NonNullable<RichStatus["info"]> {
  const info = { reason: "", domain: "", metadata: {} as Record<string, string> };
  fields(bytes, (field, reader) => {
    if (field === bytesTag(1)) info.reason = reader.string();
    else if (field === bytesTag(2)) info.domain = reader.string();
    else if (field === bytesTag(3)) {
      let key = "";
      let value = "";
      fields(reader.bytes(), (inner, entry) => {
        if (inner === bytesTag(1)) key = entry.string();
        else if (inner === bytesTag(2)) value = entry.string();
        else return false;
        return true;
      });
      info.metadata[key] = value;
    } else return false;
    return true;
  });
  return info;
}

function readRetryInfo(bytes: Uint8Array): number {
  let ms = 0;
  fields(bytes, (field, reader) => {
    if (field !== bytesTag(1)) return false;
    fields(reader.bytes(), (inner, duration) => {
      if (inner === varintTag(1)) ms += Number(duration.int64()) * 1000;
      else if (inner === varintTag(2)) ms += duration.int32() / 1_000_000;
      else return false;
      return true;
    });
    return true;
  });
  return ms;
}

/** Calls `read` for each field with its tag; fields that it does not know (false) are skipped. */
function fields(bytes: Uint8Array, read: (tag: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!read((field << 3) | wireType, reader)) reader.skip(wireType, field);
  }
}
