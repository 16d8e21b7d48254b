import * as grpc from "@grpc/grpc-js";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type ErrorCode, isErrorCode, KithError } from "../base/index.js";
import type { pb } from "../wire/index.js";

/** What a status means where the server gave no reason of its own: mostly failures of the connection. */
const codeOfStatus: Partial<Record<grpc.status, ErrorCode>> = {
  [grpc.status.CANCELLED]: "CANCELLED",
  [grpc.status.INVALID_ARGUMENT]: "INVALID_ARGUMENT",
  [grpc.status.DEADLINE_EXCEEDED]: "DEADLINE_EXCEEDED",
  [grpc.status.NOT_FOUND]: "NOT_FOUND",
  [grpc.status.ALREADY_EXISTS]: "ALREADY_EXISTS",
  [grpc.status.RESOURCE_EXHAUSTED]: "RESOURCE_EXHAUSTED",
  [grpc.status.FAILED_PRECONDITION]: "FAILED_PRECONDITION",
  [grpc.status.ABORTED]: "STALE_EPOCH",
  [grpc.status.UNIMPLEMENTED]: "UNIMPLEMENTED",
  [grpc.status.UNAVAILABLE]: "SHARD_UNAVAILABLE",
  [grpc.status.DATA_LOSS]: "CORRUPT_DATA",
};

interface StatusDetails {
  reason: string;
  metadata: Record<string, string>;
  retryAfterMs: number | undefined;
}

/** The KithError behind a failed call: the reason in `google.rpc.Status`, else what the status code means. */
export function fromServiceError(error: grpc.ServiceError): KithError {
  const [bytes] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const found = Buffer.isBuffer(bytes) ? decodeDetails(bytes) : undefined;
  const code = found && isErrorCode(found.reason) ? found.reason : (codeOfStatus[error.code] ?? "INTERNAL");
  return new KithError(code, error.details || error.message, {
    cause: error,
    details: found?.metadata ?? {},
    ...(found?.retryAfterMs !== undefined && { retryAfterMs: found.retryAfterMs }),
  });
}

/** The KithError behind a failure inside a stream or a batch. */
export function fromFailure(failure: pb.Failure): KithError {
  const code = isErrorCode(failure.code)
    ? failure.code
    : (codeOfStatus[failure.grpcStatus as grpc.status] ?? "INTERNAL");
  return new KithError(code, failure.message, {
    details: failure.details,
    ...(failure.retryAfterMs > 0 && { retryAfterMs: failure.retryAfterMs }),
  });
}

/** google.rpc.Status: details = 3, each a google.protobuf.Any {type_url = 1, value = 2}. */
function decodeDetails(bytes: Uint8Array): StatusDetails {
  const found: StatusDetails = { reason: "", metadata: {}, retryAfterMs: undefined };
  eachField(bytes, (field, reader) => {
    if (field !== 3) return false;
    let url = "";
    let value: Uint8Array = new Uint8Array();
    eachField(reader.bytes(), (inner, any) => {
      if (inner === 1) url = any.string();
      else if (inner === 2) value = any.bytes();
      else return false;
      return true;
    });
    if (url.endsWith("/google.rpc.ErrorInfo")) decodeErrorInfo(value, found);
    if (url.endsWith("/google.rpc.RetryInfo")) decodeRetryInfo(value, found);
    return true;
  });
  return found;
}

function decodeErrorInfo(bytes: Uint8Array, found: StatusDetails): void {
  eachField(bytes, (field, reader) => {
    if (field === 1) found.reason = reader.string();
    else if (field === 3) {
      let key = "";
      let value = "";
      eachField(reader.bytes(), (inner, entry) => {
        if (inner === 1) key = entry.string();
        else if (inner === 2) value = entry.string();
        else return false;
        return true;
      });
      found.metadata[key] = value;
    } else return false;
    return true;
  });
}

/** RetryInfo: retry_delay = 1, a Duration {seconds = 1, nanos = 2}. */
function decodeRetryInfo(bytes: Uint8Array, found: StatusDetails): void {
  eachField(bytes, (field, reader) => {
    if (field !== 1) return false;
    let ms = 0;
    eachField(reader.bytes(), (inner, duration) => {
      if (inner === 1) ms += Number(duration.int64()) * 1000;
      else if (inner === 2) ms += duration.int32() / 1e6;
      else return false;
      return true;
    });
    found.retryAfterMs = Math.ceil(ms);
    return true;
  });
}

function eachField(bytes: Uint8Array, read: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!read(field, reader)) reader.skip(wireType, field);
  }
}
