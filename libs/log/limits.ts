import { KithError } from "../base/index.js";
import { isSealed, sealOverheadBytes } from "../encryption/index.js";
import type { AppendOptions } from "./port.js";
import type { ShardId } from "../model/index.js";

/**
 * Largest record, in bytes. A JetStream server refuses messages over 1 MiB by default, headers included; the margin
 * holds the headers. The embedded log keeps the same limit, so that both adapters accept the same records.
 */
export const recordBytesMax = 1024 * 1024 - 8 * 1024;

/** Bounds of one call of `onEntries`. */
export const deliveryEntriesMax = 1_024;
export const deliveryBytesMax = 8 * 1024 * 1024;

/** Appends waiting in one log adapter before more get RESOURCE_EXHAUSTED. */
export const pendingAppendsMax = 65_536;
export const pendingAppendBytesMax = 128 * 1024 * 1024;

const messageIdBytesMax = 256;
const traceparentBytesMax = 256;
/** Printable ASCII: both travel in NATS headers. */
const headerValue = /^[\x21-\x7e]+$/;
const collectionId = /^[a-z0-9]{1,32}$/;

/** The text under which a log is kept; refuses names that the port does not allow. */
export function logKey(name: ShardId): string {
  if (!collectionId.test(name.collectionId)) {
    throw new KithError(
      "INVALID_NAME",
      `the collection id ${JSON.stringify(name.collectionId)} of a log must be 1 to 32 characters of a-z and 0-9`,
    );
  }
  if (!Number.isInteger(name.shard) || name.shard < 0 || name.shard > 65_535) {
    throw new KithError("INVALID_ARGUMENT", `the shard ${name.shard} of a log must be an integer from 0 to 65535`);
  }
  return `${name.collectionId}-${name.shard}`;
}

export function checkAppend(data: Uint8Array, options: AppendOptions): void {
  // By so much an encrypted record is longer, within the margin.
  if (data.byteLength - (isSealed(data) ? sealOverheadBytes : 0) > recordBytesMax) {
    throw new KithError(
      "BATCH_TOO_LARGE",
      `the record has ${data.byteLength} bytes; a log takes at most ${recordBytesMax}: split it`,
      { details: { sizeBytes: data.byteLength, limitBytes: recordBytesMax } },
    );
  }
  if (options.messageId.length > messageIdBytesMax || !headerValue.test(options.messageId)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `the message id ${JSON.stringify(options.messageId.slice(0, 300))} must be 1 to ${messageIdBytesMax} printable ASCII characters without spaces`,
    );
  }
  if (
    options.traceparent !== undefined &&
    (options.traceparent.length > traceparentBytesMax || !headerValue.test(options.traceparent))
  ) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `the traceparent ${JSON.stringify(options.traceparent.slice(0, 300))} must be 1 to ${traceparentBytesMax} printable ASCII characters`,
    );
  }
}

export function checkSequence(value: number, what: string): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new KithError("INVALID_ARGUMENT", `${what} ${value} must be a non-negative integer`);
  }
}

/** What an append gets that was to have another sequence than the next one. */
export function notNext(key: string, expectedSequence: number, cause?: unknown): KithError {
  return new KithError(
    "REVISION_MISMATCH",
    `the log ${key} does not end just before record ${expectedSequence}: somebody else has written to it, or it lacks records`,
    { details: { log: key, expectedSequence }, cause },
  );
}

/** What an append to a log gets that was sealed. */
export function logSealed(key: string): KithError {
  return new KithError("STALE_EPOCH", `the log ${key} is sealed: its hash slots have gone to other shards; try again`, {
    details: { log: key },
    retryAfterMs: 50,
  });
}

export function logNotFound(key: string): KithError {
  return new KithError("NOT_FOUND", `the log ${key} does not exist; create it first`, { details: { log: key } });
}
