import { type ErrorCode, KithError, limits } from "../../base/index.js";
import {
  type ItemFailure,
  type ItemFailureCode,
  itemFailureCodes,
  type OperationOutcome,
  type SlotRange,
} from "../../model/index.js";

/** What one operation did, as it is remembered. */
export interface Outcome {
  affected: number;
  /** Items that a condition refused, packed: see failureOf. */
  failures: Uint32Array;
  /** The operation had no effect, and a retry is not a duplicate of it. */
  refused?: { code: ErrorCode; message: string } | undefined;
  /** CRC-32C of the operation's content, as a signed number; undefined where it was stored without. */
  contentHash?: number | undefined;
}

export const noFailures = new Uint32Array(0);
/** Longest message of a refusal that is kept, in characters. */
const messageLengthMax = 1024;

/** An item that was refused: its position in the low 24 bits, the number of the reason in the others. */
export function failureOf(index: number, code: ItemFailureCode): number {
  return (itemFailureCodes.indexOf(code) * 2 ** 24 + index) >>> 0;
}

/** The outcome of an operation that is not carried out. */
export function refusal({ code, message }: KithError): Outcome {
  return { affected: 0, failures: noFailures, refused: { code, message: message.slice(0, messageLengthMax) } };
}

/** What a caller is told. */
export function publicOutcome(outcome: Outcome | undefined, slots?: SlotRange): OperationOutcome {
  if (outcome === undefined) {
    return new KithError(
      "FAILED_PRECONDITION",
      "the write is in the log and has been applied, but what it did is no longer known, too much was written after it: read the " +
        "points to see what is there. Repeated now, even with the same idempotency key, it is a new write, and may undo later ones",
    );
  }
  if (outcome.refused) return new KithError(outcome.refused.code, outcome.refused.message);
  const failures: ItemFailure[] = [];
  for (const packed of outcome.failures) {
    const code = itemFailureCodes[packed >>> 24];
    if (code === undefined) {
      return new KithError(
        "FAILED_PRECONDITION",
        "the write is in the log and has been applied by a newer release, which alone knows why some of its items had no effect",
      );
    }
    const index = packed & 0xff_ffff;
    failures.push({ index, code, message: `item ${index}: ${failureTexts[code]}` });
  }
  return { affected: outcome.affected, failures, ...(slots && { slots }) };
}

const failureTexts: Record<ItemFailureCode, string> = {
  POINT_EXISTS: "a point has this id, and the mode is insert only",
  POINT_NOT_FOUND: "no point has this id, and only points that exist are written",
  VERSION_MISMATCH: "the point has another version than the expected one",
  CONDITION_FAILED: "the point does not match the condition, or there is none",
  PAYLOAD_TOO_LARGE: `the payload would have more than ${limits.payloadBytes} bytes`,
  INVALID_PAYLOAD: "what is stored as the payload is no JSON object",
  BATCH_TOO_LARGE: `the point would have more than ${limits.pointBytes} bytes of vectors and payload`,
  PERMISSION_DENIED: "the point would not be among those that the caller may write",
};
