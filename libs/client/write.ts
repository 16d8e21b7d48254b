import { type ErrorCode, errorTable, KithError, type Random } from "../base/index.js";
import { pb } from "../wire/index.js";
import { shownValue } from "./given.js";
import type { WriteAck, WriteCallOptions } from "./types/calls.js";
import type { WriteMode } from "./types/writes.js";
import { wellFormed } from "./well-formed.js";

const acks: Record<WriteAck, pb.Ack> = { log: pb.Ack.LOG, applied: pb.Ack.APPLIED, all: pb.Ack.ALL };
const modes: Record<WriteMode, pb.UpsertMode> = {
  upsert: pb.UpsertMode.UNSPECIFIED,
  insert: pb.UpsertMode.INSERT_ONLY,
  update: pb.UpsertMode.UPDATE_ONLY,
};
const keyBytesMax = 64;

function lookUp<T extends string, V>(table: Record<T, V>, value: T, what: string): V {
  if (Object.hasOwn(table, value)) return table[value];
  throw new KithError(
    "INVALID_ARGUMENT",
    `the ${what} ${shownValue(value)} is unknown; use one of ${Object.keys(table).join(", ")}`,
    { details: { field: what, value: String(value) } },
  );
}

export function ackToWire(ack: WriteAck = "applied"): pb.Ack {
  return lookUp(acks, ack, "ack");
}

export function modeToWire(mode: WriteMode = "upsert"): pb.UpsertMode {
  return lookUp(modes, mode, "mode");
}

/** An idempotency key that no other write has: 128 random bits. */
export function randomKey(random: Random): string {
  return random.bytes(16).toString("hex");
}

/** The options of one write; its key stays the same over all retries, which makes them safe. */
export function writeOptions(options: WriteCallOptions | undefined, random: Random): pb.WriteOptions {
  // UTF-8 would make one key of different ones, and the second write would pass for the first.
  const idempotencyKey = wellFormed(options?.idempotencyKey ?? randomKey(random), "idempotencyKey");
  const sizeBytes = Buffer.byteLength(idempotencyKey);
  if (sizeBytes < 1 || sizeBytes > keyBytesMax) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `the idempotencyKey has ${sizeBytes} bytes; it must have 1 to ${keyBytesMax}`,
      { details: { sizeBytes, limitBytes: keyBytesMax } },
    );
  }
  return { ack: ackToWire(options?.ack), idempotencyKey };
}

const errorCodes = Object.keys(errorTable) as ErrorCode[];

/**
 * After these, repeating the write under its key is of no use. After every other code it may have taken effect, as a whole
 * or in part. A router appends the parts of a write, by shard and size, each for itself: one may be in the log when another
 * is refused (RESOURCE_EXHAUSTED, LOG_UNAVAILABLE, DISK_FULL, SHUTTING_DOWN), an append that fails may have been made
 * (LOG_UNAVAILABLE, DISK_FULL, DEADLINE_EXCEEDED, INTERNAL), and so may one whose answer is lost (SERVER_UNREACHABLE, CANCELLED).
 */
const settled: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  // The request is checked as a whole before any part of it is appended. A key that was used for another write is
  // INVALID_ARGUMENT as well, after the append, and stays refused.
  ...errorCodes.filter((code) => errorTable[code].grpcStatus === errorTable.INVALID_ARGUMENT.grpcStatus),
  // Refused before; or the collection was deleted while the write was under way, and what was written with it.
  "COLLECTION_NOT_FOUND",
  "COLLECTION_NOT_READY",
  // The call was not let in; or the write took effect long ago, and repeated under its key it would be a new one.
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "TLS_MISMATCH",
  "CERTIFICATE_UNTRUSTED",
  "FAILED_PRECONDITION",
  "UNIMPLEMENTED",
]);

/** The error of a write, saying so where its outcome is not known, with the key that makes a repetition safe. */
export function unknownOutcome(error: KithError, idempotencyKey: string): KithError {
  if (settled.has(error.code)) return error;
  return new KithError(
    error.code,
    `${error.message}; the outcome of the write is unknown: a retry with the same idempotencyKey ("${idempotencyKey}") is safe`,
    {
      cause: error,
      details: { ...error.details, idempotencyKey },
      ...(error.retryAfterMs !== undefined && { retryAfterMs: error.retryAfterMs }),
    },
  );
}
