import { randomBytes } from "node:crypto";
import { KithError } from "../base/index.js";
import { pb } from "../wire/index.js";
import type { WriteAck, WriteCallOptions, WriteMode } from "./types.js";

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
    `the ${what} ${JSON.stringify(value)} is unknown; use one of ${Object.keys(table).join(", ")}`,
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
export function randomKey(): string {
  return randomBytes(16).toString("hex");
}

/** The options of one write; its key stays the same over all retries, which makes them safe. */
export function writeOptions(options: WriteCallOptions | undefined): pb.WriteOptions {
  const idempotencyKey = options?.idempotencyKey ?? randomKey();
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

/** After these the write may or may not have taken effect. */
function isUnknown(error: KithError): boolean {
  return error.code === "DEADLINE_EXCEEDED" || error.code === "CANCELLED" || error.code === "SHARD_UNAVAILABLE";
}

/** The error of a write, saying so where its outcome is not known, with the key that makes a repetition safe. */
export function unknownOutcome(error: KithError, idempotencyKey: string): KithError {
  if (!isUnknown(error)) return error;
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
