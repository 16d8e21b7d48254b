import { KithError, type KithErrorOptions, limits } from "../base/index.js";
import { type JsonMember, jsonMembers } from "../model/index.js";
import { batchMatrixBytes, batchRowsFor } from "./binary.js";
import type { ByteReader } from "./byte-reader.js";
import type { DatasetBatch, DatasetPayload, ReadDatasetOptions } from "./types.js";

/** The longest line that is read: sixteen vectors of the highest dimension would fit in text, with a payload. */
const lineMaxBytes = 16 * 1024 * 1024;

const decoder = new TextDecoder("utf-8", { fatal: true });

interface JsonRecord {
  row: number;
  id: string | number | bigint | undefined;
  vectors: Map<string, number[]>;
  payload: DatasetPayload | undefined;
}

interface RecordFields {
  id: string;
  vector: string;
}

/**
 * JSON lines: one object a line, either {"id", "vector" or "vectors", "payload"} or a flat record whose other fields are
 * the payload. Flat is what has no field "payload" that is an object or null.
 */
export async function* readJsonl(
  reader: ByteReader,
  options: ReadDatasetOptions,
): AsyncGenerator<DatasetBatch, void, undefined> {
  const fields: RecordFields = { id: options.idField ?? "id", vector: options.vectorField ?? "vector" };
  const dimensions = new Map(options.dimensions);
  const expectedBy = options.dimensions === undefined ? "the lines before have" : "there must be";
  const skip = options.skipRows ?? 0;
  const end = skip + (options.limitRows ?? Infinity);
  const batch = new BatchBuilder(options);
  let row = 0;
  for (; row < end; row++) {
    const bytes = await reader.line(lineMaxBytes, () => row + 1);
    if (bytes === undefined) break;
    if (row < skip) {
      batch.startAt(row + 1);
      continue;
    }
    let record: JsonRecord | undefined;
    try {
      record = parseRecord(reader.name, row, bytes, fields);
      if (record !== undefined) checkDimensions(reader.name, record, dimensions, expectedBy);
    } catch (error) {
      if (options.onBadRow === undefined || !(error instanceof KithError)) throw error;
      options.onBadRow(row, error, Buffer.from(bytes).toString("utf8"));
      record = undefined;
    }
    if (record !== undefined) {
      if (!batch.accepts(record)) yield batch.finish(row);
      batch.add(record);
      if (batch.full) yield batch.finish(row + 1);
    }
  }
  if (batch.rowCount > 0) yield batch.finish(row);
}

/** Collects records of equal vector fields to one batch. */
class BatchBuilder {
  #records: JsonRecord[] = [];
  #firstRow = 0;
  #maxRows = 0;
  #shape = "";
  readonly #options: ReadDatasetOptions;

  constructor(options: ReadDatasetOptions) {
    this.#options = options;
  }

  get rowCount(): number {
    return this.#records.length;
  }

  get full(): boolean {
    return this.#records.length >= this.#maxRows;
  }

  startAt(row: number): void {
    this.#firstRow = row;
  }

  /** A batch is a matrix per field, so all of its rows have the same fields. */
  accepts(record: JsonRecord): boolean {
    return this.#records.length === 0 || this.#shape === shapeOf(record);
  }

  add(record: JsonRecord): void {
    if (this.#records.length === 0) {
      this.#shape = shapeOf(record);
      let total = 0;
      for (const vector of record.vectors.values()) total += vector.length;
      this.#maxRows = batchRowsFor(Math.min(total, batchMatrixBytes), this.#options);
    }
    this.#records.push(record);
  }

  finish(endRow: number): DatasetBatch {
    const records = this.#records;
    const first = records[0] as JsonRecord;
    const columns = [...first.vectors].map(([name, vector]) => {
      const dimension = vector.length;
      const matrix = new Float32Array(records.length * dimension);
      records.forEach((record, index) => matrix.set(record.vectors.get(name) as number[], index * dimension));
      return { name, dimension, matrix };
    });
    const batch: DatasetBatch = {
      rowCount: records.length,
      columns,
      ids: records.map((record) => record.id),
      firstRow: this.#firstRow,
      endRow,
      rowNumbers: records.map((record) => record.row),
    };
    if (records.some((record) => record.payload !== undefined))
      batch.payloads = records.map((record) => record.payload);
    this.#records = [];
    this.#firstRow = endRow;
    return batch;
  }
}

function shapeOf(record: JsonRecord): string {
  return [...record.vectors.keys()].join("\u0000");
}

function checkDimensions(file: string, record: JsonRecord, dimensions: Map<string, number>, expectedBy: string): void {
  for (const [name, vector] of record.vectors) {
    const expected = dimensions.get(name);
    if (expected !== undefined && expected !== vector.length) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `${file}, line ${record.row + 1}: the vector${name === "" ? "" : ` "${name}"`} has ${vector.length} dimensions; ${expectedBy} ${expected}`,
        { details: { file, line: record.row + 1, expected, got: vector.length } },
      );
    }
  }
  // Only after the whole record was found good: a bad line must not set the measure for those that follow.
  for (const [name, vector] of record.vectors) dimensions.set(name, vector.length);
}

function parseRecord(file: string, row: number, bytes: Uint8Array, fields: RecordFields): JsonRecord | undefined {
  const fail = (
    message: string,
    options: KithErrorOptions = {},
    code: "INVALID_ARGUMENT" | "INVALID_ID" = "INVALID_ARGUMENT",
  ): KithError =>
    new KithError(code, `${file}, line ${row + 1}: ${message}`, {
      ...options,
      details: { file, line: row + 1, ...options.details },
    });

  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch (cause) {
    throw fail("the line is not UTF-8", { cause });
  }
  if (text.trim() === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fail(`the line is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isObject(value)) throw fail(`expected a JSON object, got ${kindOf(value)}`);

  // Without what every object inherits: a field may be called "constructor".
  const own = Object.assign(Object.create(null) as JsonFields, value);
  const { [fields.id]: id, [fields.vector]: vector, vectors: named, ...rest } = own;
  const texts = new Map(jsonMembers(text).map((member) => [member.key, member]));
  if (id !== undefined && typeof id !== "string" && typeof id !== "number") {
    throw fail(`the field "${fields.id}" must be a string or a whole number, not ${kindOf(id)}`, {}, "INVALID_ID");
  }
  const exactId = typeof id === "number" ? exactNumber(texts.get(fields.id)?.valueText ?? "", fail) : id;
  const payload = payloadOf(rest, (key) => texts.get(key) as JsonMember, fail);
  return { row, id: exactId, vectors: vectorsOf(vector, named, fields, fail), payload };
}

type JsonFields = Record<string, unknown>;
type Fail = (message: string, options?: KithErrorOptions, code?: "INVALID_ARGUMENT" | "INVALID_ID") => KithError;

/** The id that a numeral stands for, beyond 2^53 as a bigint. */
function exactNumber(text: string, fail: Fail): number | bigint {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  if (/^\d+$/.test(text) && BigInt(text) <= u64Max) return BigInt(text);
  throw fail(`the id ${text} is not a whole number of 0..${u64Max}`, { details: { id: text } }, "INVALID_ID");
}

const u64Max = 2n ** 64n - 1n;

function vectorsOf(vector: unknown, named: unknown, fields: RecordFields, fail: Fail): Map<string, number[]> {
  const vectors = new Map<string, number[]>();
  if (vector !== undefined) vectors.set("", numbersOf(vector, fields.vector, fail));
  if (named !== undefined) {
    if (!isObject(named)) throw fail(`the field "vectors" must be an object of vectors by name, not ${kindOf(named)}`);
    for (const name of Object.keys(named).sort()) vectors.set(name, numbersOf(named[name], `vectors.${name}`, fail));
  }
  if (vectors.size === 0) {
    throw fail(`there is no field "${fields.vector}" and no "vectors"; name the field of the vector if it is another`);
  }
  return vectors;
}

function numbersOf(value: unknown, field: string, fail: Fail): number[] {
  if (!Array.isArray(value)) throw fail(`the field "${field}" must be an array of numbers, not ${kindOf(value)}`);
  if (value.length === 0) throw fail(`the vector "${field}" is empty`);
  if (value.length > limits.dimensionMax) {
    throw fail(`the vector "${field}" has ${value.length} dimensions; at most ${limits.dimensionMax} are allowed`);
  }
  for (let i = 0; i < value.length; i++) {
    if (typeof value[i] !== "number") throw fail(`element ${i} of "${field}" is ${kindOf(value[i])}, not a number`);
  }
  return value as number[];
}

function payloadOf(rest: JsonFields, textOf: (key: string) => JsonMember, fail: Fail): DatasetPayload | undefined {
  const keys = Object.keys(rest);
  if (!("payload" in rest)) {
    if (keys.length === 0) return undefined;
    return `{${keys.map((key) => `${textOf(key).keyText}:${textOf(key).valueText}`).join(",")}}`;
  }
  const { payload, ...others } = rest;
  const surplus = Object.keys(others);
  if (surplus.length > 0) {
    throw fail(
      `the record has a "payload" and other fields beside it (${surplus.slice(0, 5).join(", ")}); move them into it`,
    );
  }
  if (payload === null) return undefined;
  if (!isObject(payload)) throw fail(`the field "payload" must be an object, not ${kindOf(payload)}`);
  return textOf("payload").valueText;
}

function isObject(value: unknown): value is JsonFields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "string") return `the string ${JSON.stringify(value.slice(0, 40))}`;
  if (typeof value === "number" || typeof value === "boolean") return `the ${typeof value} ${value}`;
  return value === undefined ? "missing" : "an object";
}
