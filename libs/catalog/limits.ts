import { KithError } from "../base/index.js";

/** Largest value, in bytes of UTF-8: what a NATS server takes in one message, less room for headers. */
export const valueBytesMax = 900 * 1024;
const keyLengthMax = 512;
/** Keys live between a second and a year; NATS counts whole seconds. */
const ttlMsMin = 1_000;
const ttlMsMax = 365 * 24 * 3_600_000;

const keyPattern = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;

function checkName(text: string, what: string): void {
  if (text.length > keyLengthMax || !keyPattern.test(text)) {
    throw new KithError(
      "INVALID_NAME",
      `the ${what} ${JSON.stringify(text.slice(0, 600))} must be parts of A-Z a-z 0-9 _ - joined by dots, at most ${keyLengthMax} characters`,
    );
  }
}

export function checkKey(key: string): void {
  checkName(key, "catalog key");
}

export function checkPrefix(prefix: string): void {
  if (prefix !== "") checkName(prefix, "catalog prefix");
}

export function checkWrite(key: string, value: string, ttlMs: number | undefined): void {
  checkKey(key);
  const sizeBytes = Buffer.byteLength(value, "utf8");
  if (sizeBytes > valueBytesMax) {
    throw new KithError(
      "PAYLOAD_TOO_LARGE",
      `the value of catalog key ${key} has ${sizeBytes} bytes; at most ${valueBytesMax} are allowed`,
      { details: { key, sizeBytes, limitBytes: valueBytesMax } },
    );
  }
  if (ttlMs !== undefined && !(ttlMs >= ttlMsMin && ttlMs <= ttlMsMax)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `the ttlMs ${ttlMs} of catalog key ${key} must be ${ttlMsMin} to ${ttlMsMax}`,
    );
  }
}

/** Whether `key` lies under `prefix` ("" is above all). */
export function isUnder(prefix: string, key: string): boolean {
  return prefix === "" || key.startsWith(`${prefix}.`);
}

export function alreadyExists(key: string): KithError {
  return new KithError("ALREADY_EXISTS", `the catalog key ${key} exists already`, { details: { key } });
}

export function revisionMismatch(key: string, expected: number, found: number | undefined): KithError {
  const now = found === undefined ? "is gone" : `is at revision ${found}`;
  return new KithError(
    "REVISION_MISMATCH",
    `the catalog key ${key} ${now}, not at ${expected}; read it and try again`,
    {
      details: { key, expected, ...(found === undefined ? {} : { found }) },
    },
  );
}
