import { type ErrorCode, KithError } from "../../../libs/base/index.js";
import { isJsonObject, JsonFloat, type JsonObject, type JsonValue } from "../../../libs/model/index.js";

/*
 * Requests as values of JSON, with the names of the REST API. Both codecs make them; what reads them names the place of what is wrong. Keys that
 * nobody reads are ignored.
 */

/** INVALID_ARGUMENT that names the place in the request. */
export function wrong(at: string, message: string): KithError {
  return new KithError("INVALID_ARGUMENT", at === "" ? message : `${at}: ${message}`, {
    ...(at !== "" && { details: { field: at } }),
  });
}

/** An error for a value that can be read and may not stand there. Qdrant answers these with 422, and with 400 what cannot be read. */
export class InvalidValue extends KithError {
  constructor(at: string, message: string, code: ErrorCode = "INVALID_ARGUMENT") {
    super(code, at === "" ? message : `${at}: ${message}`, { ...(at !== "" && { details: { field: at } }) });
  }
}

/** INVALID_ARGUMENT for a value of another type. */
function mistyped(at: string, expected: string, value: JsonValue | undefined): KithError {
  return wrong(at, `expected ${expected}, found ${kindOf(value)}`);
}

function kindOf(value: JsonValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (isJsonObject(value)) return "an object";
  if (typeof value === "string") return JSON.stringify(value.length <= 40 ? value : `${value.slice(0, 37)}...`);
  return String(value instanceof JsonFloat ? value.value : value);
}

/** The value of a key; null is the same as nothing. */
export function member(object: JsonObject, key: string): JsonValue | undefined {
  return Object.hasOwn(object, key) ? (object[key] ?? undefined) : undefined;
}

export function objectOf(value: JsonValue | undefined, at: string): JsonObject {
  if (isJsonObject(value)) return value;
  throw mistyped(at, "an object", value);
}

export function listOf(value: JsonValue | undefined, at: string): JsonValue[] {
  if (Array.isArray(value)) return value;
  throw mistyped(at, "a list", value);
}

export function textOf(value: JsonValue | undefined, at: string): string {
  if (typeof value === "string") return value;
  throw mistyped(at, "a text", value);
}

export function flagOf(value: JsonValue | undefined, at: string): boolean {
  if (typeof value === "boolean") return value;
  throw mistyped(at, "true or false", value);
}

export function numberOf(value: JsonValue | undefined, at: string): number {
  if (typeof value === "number") return value;
  if (value instanceof JsonFloat) return value.value;
  if (typeof value === "bigint") return Number(value);
  throw mistyped(at, "a number", value);
}

/** A whole number from 0 on. */
export function countOf(value: JsonValue | undefined, at: string): number {
  const number = numberOf(value, at);
  if (Number.isSafeInteger(number) && number >= 0) return number;
  throw mistyped(at, "a whole number of at least 0", value);
}

/** A whole number from `least` on. LIMIT_OUT_OF_RANGE for one below. */
export function atLeast(least: number): Read<number> {
  return (value, at) => {
    const count = countOf(value, at);
    if (count >= least) return count;
    throw new InvalidValue(at, `is ${count}; it must be at least ${least}`, "LIMIT_OUT_OF_RANGE");
  };
}

/**
 * The numbers of a dense vector as a codec has them already: a value of JSON to whoever passes it on. What reads vectors takes it beside lists of
 * numbers.
 */
export function asJson(floats: Float32Array): JsonValue {
  return floats as unknown as JsonValue;
}

/** What asJson() was given. */
export function floatsIn(value: JsonValue | undefined): Float32Array | undefined {
  const given: unknown = value;
  return given instanceof Float32Array ? given : undefined;
}

type Read<T> = (value: JsonValue | undefined, at: string) => T;

/** The value of a key; undefined where it is missing or null. */
export function optional<T>(object: JsonObject, key: string, at: string, read: Read<T>): T | undefined {
  const value = member(object, key);
  return value === undefined ? undefined : read(value, below(at, key));
}

export function required<T>(object: JsonObject, key: string, at: string, read: Read<T>): T {
  return read(member(object, key), below(at, key));
}

/** Reads each element; a value that is no list stands for a list of one. */
export function eachOf<T>(value: JsonValue | undefined, at: string, read: Read<T>): T[] {
  return (Array.isArray(value) ? value : [value as JsonValue]).map((each, i) => read(each, `${at}[${i}]`));
}

export function below(at: string, key: string): string {
  return at === "" ? key : `${at}.${key}`;
}

/** One of a few words. */
export function wordOf<const T extends string>(words: readonly T[]): Read<T> {
  return (value, at) => {
    const found = words.find((word) => word === value);
    if (found === undefined) throw mistyped(at, `one of ${words.join(", ")}`, value);
    return found;
  };
}

const utf8 = new TextDecoder();

/** JSON text that passes into an answer as it is; bytes of it stay bytes until they are printed. */
export class JsonText {
  readonly #text: string | Uint8Array;

  constructor(text: string | Uint8Array) {
    this.#text = text;
  }

  get text(): string {
    return typeof this.#text === "string" ? this.#text : utf8.decode(this.#text);
  }

  get bytes(): Buffer {
    const text = this.#text;
    return typeof text === "string" ? Buffer.from(text) : Buffer.from(text.buffer, text.byteOffset, text.length);
  }

  get length(): number {
    return this.#text.length;
  }
}

/** What answers are made of. Members that are undefined are left out. */
export type Reply =
  | null
  | boolean
  | string
  | number
  | bigint
  | JsonText
  | Float32Array
  | readonly Reply[]
  | { readonly [key: string]: Reply | undefined };

/** The answer of a call that is not waited for: 202 over REST. */
export const accepted: Reply = Object.freeze({});

/** The shortest number that is the same 32-bit float: 0.05, as it was written, where the float is 0.05000000074505806. What is no such float stays. */
export function shortest(value: number): number {
  if (Math.fround(value) !== value) return value;
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1) {
    // By arithmetic, which costs a third of going by text: most numbers of vectors are of this size.
    for (let scale = 1e7; scale <= 1e9; scale *= 10) {
      const rounded = Math.round(value * scale) / scale;
      if (Math.fround(rounded) === value) return rounded;
    }
  }
  for (let digits = 7; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return rounded;
  }
  return Number(value.toPrecision(9));
}

function printFloats(values: Float32Array): string {
  let text = "[";
  for (let i = 0; i < values.length; i++) text += `${i > 0 ? "," : ""}${shortest(values[i] as number)}`;
  return `${text}]`;
}

/** An answer as JSON text. Numbers of vectors are printed as the shortest ones that are the same floats. */
export function printReply(value: Reply): string {
  if (value === null) return "null";
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "null";
  if (typeof value === "string" || typeof value === "boolean") return JSON.stringify(value);
  if (value instanceof JsonText) return value.text;
  if (value instanceof Float32Array) return printFloats(value);
  if (Array.isArray(value)) return `[${(value as readonly Reply[]).map(printReply).join(",")}]`;
  const members: string[] = [];
  for (const [key, each] of Object.entries(value as { readonly [key: string]: Reply | undefined })) {
    if (each !== undefined) members.push(`${JSON.stringify(key)}:${printReply(each)}`);
  }
  return `{${members.join(",")}}`;
}

/** About as many bytes as an answer keeps: its texts and vectors. */
export function replyBytes(value: Reply | undefined): number {
  if (typeof value === "string" || value instanceof JsonText) return value.length;
  if (value instanceof Float32Array) return value.byteLength;
  if (typeof value !== "object" || value === null) return 0;
  let bytes = 0;
  for (const each of Object.values(value)) bytes += replyBytes(each);
  return bytes;
}

/** As `printReply`, in pieces: the elements of lists one by one. */
export function* replyPieces(value: Reply): Generator<string, void, undefined> {
  if (Array.isArray(value)) {
    let lead = "[";
    for (const each of value as readonly Reply[]) {
      yield lead;
      yield* replyPieces(each);
      lead = ",";
    }
    yield lead === "[" ? "[]" : "]";
  } else if (
    typeof value !== "object" ||
    value === null ||
    value instanceof JsonText ||
    value instanceof Float32Array
  ) {
    yield printReply(value);
  } else {
    let lead = "{";
    for (const [key, each] of Object.entries(value as { readonly [key: string]: Reply | undefined })) {
      if (each === undefined) continue;
      yield `${lead}${JSON.stringify(key)}:`;
      yield* replyPieces(each);
      lead = ",";
    }
    yield lead === "{" ? "{}" : "}";
  }
}
