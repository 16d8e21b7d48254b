/** gRPC status numbers (https://grpc.io/docs/guides/status-codes); kept here so that pure code needs no gRPC library. */
const grpc = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

interface ErrorClass {
  /** gRPC status code sent to clients. */
  grpcStatus: number;
  /** HTTP status of the same error. */
  httpStatus: number;
  /** Whether the same call may succeed later without a change by the caller. */
  retryable: boolean;
  logLevel: "debug" | "info" | "warn" | "error";
}

const invalid: ErrorClass = { grpcStatus: grpc.INVALID_ARGUMENT, httpStatus: 400, retryable: false, logLevel: "debug" };
const missing: ErrorClass = { grpcStatus: grpc.NOT_FOUND, httpStatus: 404, retryable: false, logLevel: "debug" };
const exists: ErrorClass = { grpcStatus: grpc.ALREADY_EXISTS, httpStatus: 409, retryable: false, logLevel: "debug" };
const precondition: ErrorClass = {
  grpcStatus: grpc.FAILED_PRECONDITION,
  httpStatus: 412,
  retryable: false,
  logLevel: "debug",
};
const aborted: ErrorClass = { grpcStatus: grpc.ABORTED, httpStatus: 409, retryable: true, logLevel: "info" };
const exhausted: ErrorClass = {
  grpcStatus: grpc.RESOURCE_EXHAUSTED,
  httpStatus: 429,
  retryable: true,
  logLevel: "warn",
};
const unavailable: ErrorClass = { grpcStatus: grpc.UNAVAILABLE, httpStatus: 503, retryable: true, logLevel: "warn" };

/**
 * Every error code that Kith can answer, and how it maps to gRPC, HTTP and the log. Codes are part of the public
 * contract: clients switch on them (`google.rpc.ErrorInfo.reason`), never on the message.
 */
export const errorTable = {
  INVALID_ARGUMENT: invalid,
  INVALID_NAME: invalid,
  INVALID_ID: invalid,
  DUPLICATE_ID: invalid,
  INVALID_PAYLOAD: invalid,
  INVALID_SCHEMA: invalid,
  INVALID_TOKEN: invalid,
  /** What followed the token is not kept any more: read anew, and go on from there. */
  TOKEN_EXPIRED: precondition,
  INVALID_FILTER: invalid,
  /** The collection has a partition key: say its value, in the payload of what is written, or beside the ids. */
  PARTITION_KEY_MISSING: invalid,
  /** The value of the partition key would change: delete the point, and write it anew. */
  PARTITION_KEY_FIXED: invalid,
  DIMENSION_MISMATCH: invalid,
  VECTOR_NOT_FINITE: invalid,
  ZERO_VECTOR: invalid,
  VECTOR_OUT_OF_RANGE: invalid,
  UNKNOWN_VECTOR: invalid,
  LIMIT_OUT_OF_RANGE: invalid,
  PAYLOAD_TOO_LARGE: invalid,
  BATCH_TOO_LARGE: invalid,
  COLLECTION_LIMIT: invalid,
  INVALID_CONFIG: invalid,
  COLLECTION_NOT_FOUND: missing,
  POINT_NOT_FOUND: missing,
  NOT_FOUND: missing,
  COLLECTION_EXISTS: exists,
  POINT_EXISTS: exists,
  ALREADY_EXISTS: exists,
  FAILED_PRECONDITION: precondition,
  VERSION_MISMATCH: precondition,
  CONDITION_FAILED: precondition,
  /** The cluster follows another one, and takes no changes before it is promoted. */
  READ_ONLY: precondition,
  COLLECTION_NOT_READY: unavailable,
  REVISION_MISMATCH: aborted,
  /** The hash slots have gone to other shards meanwhile: the same again finds them there. */
  STALE_EPOCH: aborted,
  RESOURCE_EXHAUSTED: exhausted,
  DISK_FULL: exhausted,
  LOG_UNAVAILABLE: unavailable,
  CATALOG_UNAVAILABLE: unavailable,
  SHARD_UNAVAILABLE: unavailable,
  SHUTTING_DOWN: unavailable,
  /** Nothing answers at the address, or the connection broke. */
  SERVER_UNREACHABLE: unavailable,
  /** One side speaks TLS, and the other does not. */
  TLS_MISMATCH: precondition,
  CERTIFICATE_UNTRUSTED: precondition,
  INVALID_ADDRESS: invalid,
  UNAUTHENTICATED: { grpcStatus: grpc.UNAUTHENTICATED, httpStatus: 401, retryable: false, logLevel: "info" },
  PERMISSION_DENIED: { grpcStatus: grpc.PERMISSION_DENIED, httpStatus: 403, retryable: false, logLevel: "info" },
  DEADLINE_EXCEEDED: {
    grpcStatus: grpc.DEADLINE_EXCEEDED,
    httpStatus: 504,
    retryable: false,
    logLevel: "info",
  },
  CANCELLED: { grpcStatus: grpc.CANCELLED, httpStatus: 499, retryable: false, logLevel: "debug" },
  UNIMPLEMENTED: { grpcStatus: grpc.UNIMPLEMENTED, httpStatus: 501, retryable: false, logLevel: "debug" },
  CORRUPT_DATA: { grpcStatus: grpc.DATA_LOSS, httpStatus: 500, retryable: false, logLevel: "error" },
  INTERNAL: { grpcStatus: grpc.INTERNAL, httpStatus: 500, retryable: false, logLevel: "error" },
} as const satisfies Record<string, ErrorClass>;

export type ErrorCode = keyof typeof errorTable;

export type ErrorDetails = Record<string, string | number | boolean>;

export interface KithErrorOptions {
  /** Structured facts: the offending field and value, limits, names. */
  details?: ErrorDetails;
  cause?: unknown;
  /** How long a client should wait before it tries again, in milliseconds. */
  retryAfterMs?: number;
}

/** The one error type. `message` says what was wrong, with the value, and what to do about it. */
export class KithError extends Error {
  override readonly name = "KithError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: KithErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
    this.retryAfterMs = options.retryAfterMs;
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorTable, text);
}

/** Whatever was thrown, as a KithError: unknown errors become INTERNAL, aborts CANCELLED or DEADLINE_EXCEEDED. */
export function toKithError(thrown: unknown): KithError {
  if (thrown instanceof KithError) return thrown;
  if (thrown instanceof Error) {
    if (thrown.name === "TimeoutError")
      return new KithError("DEADLINE_EXCEEDED", "the deadline passed", { cause: thrown });
    if (thrown.name === "AbortError") return new KithError("CANCELLED", "the call was cancelled", { cause: thrown });
    if ((thrown as NodeJS.ErrnoException).code === "ENOSPC") {
      return new KithError("DISK_FULL", `the disk is full: ${thrown.message}; free space and try again`, {
        cause: thrown,
      });
    }
    if (isExhaustion(thrown)) {
      return new KithError(
        "RESOURCE_EXHAUSTED",
        `${thrown.message}; raise the limit, or wait until others give some back`,
        {
          cause: thrown,
        },
      );
    }
    return new KithError("INTERNAL", thrown.message, { cause: thrown });
  }
  return new KithError("INTERNAL", String(thrown));
}

/** No file handles (of the process, or of the system) or no memory: what may be there a moment later. */
function isExhaustion(error: NodeJS.ErrnoException): boolean {
  return ["EMFILE", "ENFILE", "ENOMEM"].includes(error.code ?? "");
}

/** Thrown when an invariant of the code itself is broken. Never caused by user input. */
/** What an error says without the advice at its end to try again: for a message that gives an advice of its own. */
export function reasonOf({ message }: KithError): string {
  return message.replace(/[;,:] (?:slow down and )?try again[^;:]*$/, "");
}

export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Checks an invariant; always on. A failure means a fault in Kith: the replica stops, the user is not blamed. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}
