import { KithError } from "../base/index.js";

/** Characters of a value that an error shows. */
const shownMax = 60;

/** A value that callers gave, as errors show it: of any type, for programs without types give what the types refuse. */
export function shownValue(value: unknown): string {
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "number") return String(value);
  const text = typeof value === "function" || typeof value === "symbol" ? undefined : JSON.stringify(value);
  if (text === undefined) return String(value).slice(0, shownMax);
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}

/** INVALID_ARGUMENT where it is no array. */
export function givenList<T>(value: readonly T[], at: string): readonly T[] {
  if (Array.isArray(value)) return value as readonly T[];
  throw wrong(value, at, "an array");
}

/** INVALID_ARGUMENT where it is no number. The server knows its bounds, to which NaN and infinities do not belong. */
export function givenNumber(value: number, at: string): number {
  if (typeof value === "number") return value;
  throw wrong(value, at, "a number");
}

/** INVALID_ARGUMENT where it is no string. */
export function givenText(value: string, at: string): string {
  if (typeof value === "string") return value;
  throw wrong(value, at, "a string");
}

/** INVALID_ARGUMENT where it is neither true nor false. */
export function givenBoolean(value: boolean, at: string): boolean {
  if (typeof value === "boolean") return value;
  throw wrong(value, at, "true or false");
}

/** INVALID_ARGUMENT where it is no object. */
export function givenObject<T extends object>(value: T, at: string): T {
  if (typeof value === "object" && (value as T | null) !== null) return value;
  throw wrong(value, at, "an object");
}

function wrong(value: unknown, at: string, wanted: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${at} is ${shownValue(value)}; it must be ${wanted}`, {
    details: { field: at },
  });
}
