import { KithError, limits } from "../base/index.js";
import { isWellFormed } from "./id.js";
import { jsonDepth } from "./json-text.js";

// A byte-order mark is no part of JSON; a decoder that drops it would let it through.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const openBrace = 0x7b;
/** Characters of a text that an error shows. */
const shownMax = 64;
/** Of the payloads that may hold what is refused: an escape of a surrogate, an exponent, or as many digits as take a number beyond all doubles. */
const mayHoldRefused = /\\u[dD][89a-fA-F]|\d[eE]\+?\d|(?<!\d)\d{309}/;

/**
 * Checks that a payload is a JSON object in UTF-8 within the limits of size and depth, and that all its texts and numbers mean the same to whoever
 * reads them: JSON can escape a lone surrogate, for which UTF-8 has U+FFFD, and write a number beyond all doubles. Empty bytes are "no payload".
 */
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
  if (mayHoldRefused.test(text)) checkValue(value, "", where);
}

/** `path`: where the value is in the payload, "" for the payload itself. */
function checkValue(value: unknown, path: string, where: () => string): void {
  if (typeof value === "string" && !isWellFormed(value)) {
    throw refused(path, where, `${shown(value)} has a lone surrogate, which UTF-8 cannot hold`);
  }
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw refused(path, where, "the number is beyond those of 64 bits (±1.8e308); write it as a string");
  }
  if (typeof value !== "object" || value === null) return;
  if (Array.isArray(value)) {
    for (const [index, element] of value.entries()) checkValue(element, `${path}[${index}]`, where);
    return;
  }
  for (const [key, member] of Object.entries(value)) {
    if (!isWellFormed(key)) {
      throw refused(path, where, `the key ${shown(key)} has a lone surrogate, which UTF-8 cannot hold`);
    }
    checkValue(member, path === "" ? key : `${path}.${key}`, where);
  }
}

function refused(path: string, where: () => string, why: string): KithError {
  const at = path === "" ? "the payload" : `the payload at ${path}`;
  return new KithError("INVALID_PAYLOAD", `${where()}: ${at}: ${why}`, { details: { path } });
}

function shown(text: string): string {
  return JSON.stringify(text.length > shownMax ? `${text.slice(0, shownMax)}…` : text);
}

function describe(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
