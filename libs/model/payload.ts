import { KithError, limits } from "../base/index.js";
import { jsonDepth } from "./json-text.js";

// A byte-order mark is no part of JSON; a decoder that drops it would let it through.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const openBrace = 0x7b;

/** Checks that a payload is a JSON object in UTF-8 within the limits of size and depth. Empty bytes are "no payload". */
export function checkPayload(payload: Uint8Array, where: () => string): void {
  if (payload.length === 0) return;
  if (payload.length > limits.payloadBytes) {
    throw new KithError(
      "PAYLOAD_TOO_LARGE",
      `${where()}: the payload has ${payload.length} bytes; at most ${limits.payloadBytes} are allowed`,
      { details: { sizeBytes: payload.length, limitBytes: limits.payloadBytes } },
    );
  }
  let value: unknown;
  let text: string;
  try {
    text = decoder.decode(payload);
    value = JSON.parse(text);
  } catch (cause) {
    throw new KithError(
      "INVALID_PAYLOAD",
      `${where()}: the payload is not JSON in UTF-8: ${(cause as Error).message}`,
      { cause },
    );
  }
  if (payload[0] !== openBrace && (typeof value !== "object" || value === null || Array.isArray(value))) {
    throw new KithError("INVALID_PAYLOAD", `${where()}: the payload must be a JSON object, not ${describe(value)}`);
  }
  if (jsonDepth(text, limits.payloadDepth) > limits.payloadDepth) {
    throw new KithError(
      "INVALID_PAYLOAD",
      `${where()}: the payload has more than ${limits.payloadDepth} arrays and objects within each other; make it flatter`,
      { details: { limit: limits.payloadDepth } },
    );
  }
}

function describe(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
