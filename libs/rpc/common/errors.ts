import { Metadata, type ServiceError, status as grpcStatus } from "@grpc/grpc-js";
import { type ErrorCode, type ErrorDetails, errorTable, isErrorCode, KithError } from "../../base/index.js";
import type { pb } from "../../wire/index.js";
import { decodeStatus, encodeStatus } from "./status.js";

/** google.rpc.ErrorInfo.domain of every error of Kith. */
const domain = "kith";
const statusKey = "grpc-status-details-bin";

/**
 * Status and details travel in HTTP/2 headers, which peers bound (Node's default: 64 KiB in all, others 8 KiB), and
 * grpc-message is percent-encoded to up to three times its size.
 */
const messageLengthMax = 1024;
const detailLengthMax = 256;
const detailCountMax = 16;

/** Text that headers can carry: bounded, and without lone surrogates, on which encodeURI() throws. */
function headerText(text: string, lengthMax: number): string {
  const short = text.length <= lengthMax ? text : `${text.slice(0, lengthMax - 3)}...`;
  return Buffer.from(short, "utf8").toString("utf8");
}

function detailTexts(details: ErrorDetails): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [key, value] of Object.entries(details).slice(0, detailCountMax)) {
    texts[headerText(key, 64)] = headerText(String(value), detailLengthMax);
  }
  return texts;
}

/** What a status says of an error in another protocol's ways; the code and details of Kith go along all the same. */
export interface ErrorWording {
  readonly grpcStatus?: number;
  readonly message?: string;
  /** More trailing metadata. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** What grpc-js sends as the status of a failed call: with a google.rpc.Status in grpc-status-details-bin. */
export function toServiceError(
  error: KithError,
  wording: ErrorWording = {},
): Pick<ServiceError, "code" | "details" | "metadata" | "message"> {
  const code = wording.grpcStatus ?? errorTable[error.code].grpcStatus;
  const message = headerText(wording.message ?? error.message, messageLengthMax);
  const rich = encodeStatus({
    grpcStatus: code,
    message,
    info: { reason: error.code, domain, metadata: detailTexts(error.details) },
    retryAfterMs: error.retryAfterMs,
  });
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(wording.metadata ?? {})) metadata.set(name, value);
  metadata.set(statusKey, Buffer.from(rich.buffer, rich.byteOffset, rich.byteLength));
  return { code, details: message, message, metadata };
}

/** The nearest code of Kith for a status that did not come from Kith's own handlers (proxies, grpc-js itself). */
const codeByStatus: Record<number, ErrorCode> = {
  [grpcStatus.CANCELLED]: "CANCELLED",
  [grpcStatus.INVALID_ARGUMENT]: "INVALID_ARGUMENT",
  [grpcStatus.OUT_OF_RANGE]: "INVALID_ARGUMENT",
  [grpcStatus.DEADLINE_EXCEEDED]: "DEADLINE_EXCEEDED",
  [grpcStatus.NOT_FOUND]: "NOT_FOUND",
  [grpcStatus.ALREADY_EXISTS]: "ALREADY_EXISTS",
  [grpcStatus.PERMISSION_DENIED]: "PERMISSION_DENIED",
  [grpcStatus.UNAUTHENTICATED]: "UNAUTHENTICATED",
  [grpcStatus.FAILED_PRECONDITION]: "FAILED_PRECONDITION",
  [grpcStatus.RESOURCE_EXHAUSTED]: "RESOURCE_EXHAUSTED",
  [grpcStatus.ABORTED]: "REVISION_MISMATCH",
  [grpcStatus.UNIMPLEMENTED]: "UNIMPLEMENTED",
  [grpcStatus.UNAVAILABLE]: "SERVER_UNREACHABLE",
  [grpcStatus.DATA_LOSS]: "CORRUPT_DATA",
};

/** What implementations of gRPC say of a message beyond a limit, of either side. */
const messageTooLarge = /message.*larger than/i;
/** How grpc-js words that no connection could be opened, around the reason. */
const notConnected = /^No connection established\. Last error: (?:Error: )?(.*?)\. Resolution note: .*$/s;

/** BATCH_TOO_LARGE for a request beyond what one message may hold, before it is sent and again where it arrives. */
export function checkRequestSize(sizeBytes: number, limitBytes: number): void {
  if (sizeBytes <= limitBytes) return;
  throw new KithError(
    "BATCH_TOO_LARGE",
    `the request has ${sizeBytes} bytes; at most ${limitBytes} fit into one message: send less at once`,
    { details: { sizeBytes, limitBytes } },
  );
}

/**
 * The error behind a failed call. Where the server is Kith, the same code, message, details (as text) and retry-after;
 * else the nearest code for the status (UNAVAILABLE becomes SERVER_UNREACHABLE, a message beyond a limit of gRPC
 * BATCH_TOO_LARGE, unknown ones INTERNAL).
 */
export function fromServiceError(error: ServiceError): KithError {
  const details: ErrorDetails = {};
  let code: ErrorCode = codeByStatus[error.code] ?? "INTERNAL";
  let message = error.details === "" ? error.message : error.details;
  let retryAfterMs: number | undefined;
  const bytes = error.metadata?.get(statusKey)[0];
  if (bytes === undefined && code === "RESOURCE_EXHAUSTED" && messageTooLarge.test(message)) {
    // Not for want of resources: it would be as large the next time.
    code = "BATCH_TOO_LARGE";
    message = `${message}; send or ask for less at once`;
  }
  if (bytes !== undefined && typeof bytes !== "string") {
    try {
      const rich = decodeStatus(bytes);
      retryAfterMs = rich.retryAfterMs;
      if (rich.info?.domain === domain && isErrorCode(rich.info.reason)) {
        code = rich.info.reason;
        message = rich.message;
      }
      Object.assign(details, rich.info?.metadata);
    } catch (cause) {
      // A peer that is not Kith may put anything here; its status and message still say what happened.
      details["status_details"] = `unreadable: ${(cause as Error).message}`;
    }
  }
  // What grpc-js says of its own deadline is about its channels and addresses.
  if (bytes === undefined && code === "DEADLINE_EXCEEDED") message = "the server did not answer within the deadline";
  if (bytes === undefined) message = message.replace(notConnected, "no connection to the server: $1");
  return new KithError(code, message, { details, retryAfterMs, cause: causeOf(error, bytes !== undefined) });
}

/** Why it failed, without what grpc-js keeps in its errors; nothing where the server has said it all. */
function causeOf(error: ServiceError, isToldByServer: boolean): Error | undefined {
  if (isToldByServer) return undefined;
  const cause = new Error(`${grpcStatus[error.code] ?? error.code}: ${error.details || error.message}`);
  delete cause.stack;
  return cause;
}

/** The error as it travels inside a stream. */
export function toFailure(error: KithError): pb.Failure {
  const { grpcStatus: status, retryable } = errorTable[error.code];
  return {
    code: error.code,
    message: headerText(error.message, messageLengthMax),
    retryable,
    retryAfterMs: Math.max(0, Math.ceil(error.retryAfterMs ?? 0)),
    details: detailTexts(error.details),
    grpcStatus: status,
  };
}

/** The error behind a failure; a code that this version does not know becomes the nearest one for its gRPC status. */
export function fromFailure(failure: pb.Failure): KithError {
  const known = isErrorCode(failure.code);
  const details: ErrorDetails = known ? { ...failure.details } : { ...failure.details, code: failure.code };
  const code: ErrorCode = isErrorCode(failure.code) ? failure.code : (codeByStatus[failure.grpcStatus] ?? "INTERNAL");
  return new KithError(code, failure.message, {
    details,
    ...(failure.retryAfterMs > 0 && { retryAfterMs: failure.retryAfterMs }),
  });
}
