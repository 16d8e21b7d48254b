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
  /** What shards that were merged into this one had done of it, each to the points of its slots, and the first of those that have a slot. */
  former?: readonly FormerOutcome[] | undefined;
  /** That is all that is known of it: what it does to the points of other slots is to be done yet, where it comes again. */
  isOpen?: boolean | undefined;
}

/** What an operation did to the points of some hash slots. */
export interface FormerOutcome {
  slots: SlotRange;
  affected: number;
  failures: Uint32Array;
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
  const failures = publicFailures(outcome.failures);
  const former = outcome.former?.map((each) => ({ ...each, failures: publicFailures(each.failures) }));
  const effects = former?.flatMap((each) =>
    each.failures === undefined ? [] : [{ ...each, failures: each.failures }],
  );
  if (failures === undefined || effects?.length !== former?.length) {
    return new KithError(
      "FAILED_PRECONDITION",
      "the write is in the log and has been applied by a newer release, which alone knows why some of its items had no effect",
    );
  }
  return { affected: outcome.affected, failures, ...(slots && { slots }), ...(effects && { former: effects }) };
}

/** Undefined where a reason is not known. */
function publicFailures(packed: Uint32Array): ItemFailure[] | undefined {
  const failures: ItemFailure[] = [];
  for (const each of packed) {
    const code = itemFailureCodes[each >>> 24];
    if (code === undefined) return undefined;
    const index = each & 0xff_ffff;
    failures.push({ index, code, message: `item ${index}: ${failureTexts[code]}` });
  }
  return failures;
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
