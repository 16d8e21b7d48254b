import { KithError } from "../base/index.js";
import { type PayloadIndex, type PayloadIndexKind, payloadIndexKinds, textTokenizers } from "../model/index.js";
import { payloadIndexFrom, payloadIndexTo, type pb } from "../wire/index.js";
import { bm25Of } from "./bm25.js";
import { shownValue } from "./given.js";
import { wholeNumber } from "./numbers.js";
import { onlyKeys } from "./only-keys.js";
import { textIndexKeys } from "./option-keys.js";
import { wellFormed } from "./well-formed.js";
import type { PayloadIndexInfo, PayloadIndexOptions, PayloadIndexSpec } from "./types/payload-indexes.js";

/** INVALID_SCHEMA for a kind or a tokenizer that there is not; the server checks the rest. */
export function payloadIndexToWire(
  path: string,
  kind: PayloadIndexKind,
  { isTenant = false, isPrincipal = false, text, bm25 }: PayloadIndexOptions,
): pb.PayloadIndex {
  checkOneOf(payloadIndexKinds, kind, "kind");
  const index: PayloadIndex = { path: wellFormed(path, "path"), kind, isTenant, isPrincipal };
  if (kind === "bm25" || bm25 !== undefined) index.bm25 = bm25Of(path, bm25);
  if (text === undefined) return payloadIndexTo(index);
  onlyKeys(text, textIndexKeys, "options.text");
  const { tokenizer = "word", minTokenLength, maxTokenLength, lowercase = true, phrase = true } = text;
  checkOneOf(textTokenizers, tokenizer, "tokenizer");
  return payloadIndexTo({
    ...index,
    text: {
      tokenizer,
      lowercase,
      phrase,
      ...(minTokenLength !== undefined && { minTokenLength: wholeNumber(minTokenLength, "minTokenLength") }),
      ...(maxTokenLength !== undefined && { maxTokenLength: wholeNumber(maxTokenLength, "maxTokenLength") }),
    },
  });
}

function checkOneOf(known: readonly string[], value: string, what: string): void {
  if (known.includes(value)) return;
  throw new KithError("INVALID_SCHEMA", `the ${what} ${shownValue(value)} is unknown; use one of ${known.join(", ")}`, {
    details: { [what]: String(value) },
  });
}

export function payloadIndexesFromWire(messages: readonly pb.PayloadIndex[]): PayloadIndexSpec[] {
  return messages.map(payloadIndexFrom).filter((index) => index !== undefined);
}

export function payloadIndexInfosFromWire(messages: readonly pb.PayloadIndexInfo[]): PayloadIndexInfo[] {
  return messages.flatMap(({ index: message, ready, pointCount, valuePointCount, memoryBytes }) => {
    // A kind of a newer server.
    const index = message && payloadIndexFrom(message);
    return index === undefined ? [] : [{ ...index, ready, pointCount, valuePointCount, memoryBytes }];
  });
}
