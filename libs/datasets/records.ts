import { KithError, type KithErrorOptions, limits } from "../base/index.js";
import { batchMatrixBytes, batchRowsFor } from "./binary.js";
import type { DatasetBatch, DatasetColumn, DatasetPayload, DatasetSparse, ReadDatasetOptions } from "./types.js";

/*
 * Rows of formats whose rows name their fields (JSON lines, CSV, Parquet): an id, vectors, and a payload.
 */

export interface DataRecord {
  row: number;
  id: string | number | bigint | undefined;
  /** By name of the field; "" for the unnamed one. */
  vectors: Map<string, FieldValue>;
  /** By name of the field. */
  sparse?: ReadonlyMap<string, DatasetSparse>;
  payload: DatasetPayload | undefined;
  /** Milliseconds since the Unix epoch. Only beside a field "payload": elsewhere a field of that name belongs to the payload. */
  expiresAtMs?: number | undefined;
}

export interface RecordFields {
  id: string;
  vector: string;
}

export type Fail = (
  message: string,
  options?: KithErrorOptions,
  code?: "INVALID_ARGUMENT" | "INVALID_ID" | "DIMENSION_MISMATCH",
) => KithError;
export type Fields = Record<string, unknown>;

export function fieldsOf(options: ReadDatasetOptions): RecordFields {
  return { id: options.idField ?? "id", vector: options.vectorField ?? "vector" };
}

/** How errors count rows: lines from 1, as editors do, or rows from 0. */
export type RowUnit = "line" | "row";

function placeOf(unit: RowUnit, row: number): number {
  return unit === "line" ? row + 1 : row;
}

/** Errors of one row, counted from 0. */
export function failAt(file: string, unit: RowUnit, row: number): Fail {
  const place = placeOf(unit, row);
  return (message, options = {}, code = "INVALID_ARGUMENT") =>
    new KithError(code, `${file}, ${unit} ${place}: ${message}`, {
      ...options,
      details: { file, [unit]: place, ...options.details },
    });
}

/** Checks records as they come, and gathers them to batches. */
export class RecordBatches {
  readonly #options: ReadDatasetOptions;
  readonly #file: string;
  readonly #unit: RowUnit;
  readonly #dimensions: Map<string, number>;
  readonly #expectedBy: string;
  readonly #batch: BatchBuilder;

  constructor(file: string, unit: RowUnit, options: ReadDatasetOptions) {
    this.#options = options;
    this.#file = file;
    this.#unit = unit;
    this.#dimensions = new Map(options.dimensions);
    this.#expectedBy = options.dimensions === undefined ? `the ${unit}s before have` : "there must be";
    this.#batch = new BatchBuilder(options);
  }

  /** The next row is this one, and none before it belongs to a batch. */
  startAt(row: number): void {
    this.#batch.startAt(row);
  }

  /** Takes a row in, undefined for one that is empty; gives the batches that are whole by it. `textOf`: the row, for who hears of bad ones. */
  *take(row: number, parse: () => DataRecord | undefined, textOf: () => string): Generator<DatasetBatch, void, void> {
    let record: DataRecord | undefined;
    try {
      record = parse();
      if (record !== undefined) this.#checkDimensions(record);
    } catch (error) {
      const { onBadRow } = this.#options;
      if (onBadRow === undefined || !(error instanceof KithError)) throw error;
      onBadRow(row, error, textOf());
      return;
    }
    if (record === undefined) return;
    if (!this.#batch.accepts(record)) yield this.#batch.finish(row);
    this.#batch.add(record);
    if (this.#batch.full) yield this.#batch.finish(row + 1);
  }

  /** What is left when the rows before `row` were all. */
  *end(row: number): Generator<DatasetBatch, void, void> {
    if (this.#batch.rowCount > 0) yield this.#batch.finish(row);
  }

  #checkDimensions({ row, vectors }: DataRecord): void {
    for (const [name, vector] of vectors) {
      const expected = this.#dimensions.get(name);
      const got = dimensionOf(vector);
      if (expected === undefined || expected === got) continue;
      throw failAt(this.#file, this.#unit, row)(
        `the vector${name === "" ? "" : ` "${name}"`} has ${got} dimensions; ${this.#expectedBy} ${expected}`,
        { details: { expected, got } },
        "DIMENSION_MISMATCH",
      );
    }
    // Only after the whole record was found good: a bad row must not set the measure for those that follow.
    for (const [name, vector] of vectors) this.#dimensions.set(name, dimensionOf(vector));
  }
}

/** A vector, or a matrix: its rows, all of one dimension. */
export type FieldValue = ArrayLike<number> | readonly ArrayLike<number>[];

function isMatrix(value: FieldValue): value is readonly ArrayLike<number>[] {
  return typeof value[0] === "object";
}

function dimensionOf(value: FieldValue): number {
  return isMatrix(value) ? (value[0]?.length ?? 0) : value.length;
}

function sizeOf(value: FieldValue): number {
  return isMatrix(value) ? value.length * dimensionOf(value) : value.length;
}

/** Collects records of equal vector fields to one batch. */
class BatchBuilder {
  #records: DataRecord[] = [];
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
  accepts(record: DataRecord): boolean {
    return this.#records.length === 0 || this.#shape === shapeOf(record);
  }

  add(record: DataRecord): void {
    if (this.#records.length === 0) {
      this.#shape = shapeOf(record);
      let total = 0;
      for (const vector of record.vectors.values()) total += sizeOf(vector);
      for (const { indices } of record.sparse?.values() ?? []) total += 2 * indices.length;
      this.#maxRows = batchRowsFor(Math.min(total, batchMatrixBytes), this.#options);
    }
    this.#records.push(record);
  }

  finish(endRow: number): DatasetBatch {
    const records = this.#records;
    const first = records[0] as DataRecord;
    const columns = [...first.vectors].map(([name, vector]) => {
      if (isMatrix(vector)) return columnOfMatrices(name, dimensionOf(vector), records);
      const dimension = vector.length;
      const matrix = new Float32Array(records.length * dimension);
      records.forEach((record, index) => matrix.set(record.vectors.get(name) as ArrayLike<number>, index * dimension));
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
    if (first.sparse !== undefined && first.sparse.size > 0) {
      batch.sparse = Array.from(first.sparse.keys(), (name) => ({
        name,
        rows: records.map(({ sparse }) => sparse?.get(name) as DatasetSparse),
      }));
    }
    if (records.some((record) => record.payload !== undefined))
      batch.payloads = records.map((record) => record.payload);
    if (records.some((record) => record.expiresAtMs !== undefined))
      batch.expiresAtMs = records.map((record) => record.expiresAtMs);
    this.#records = [];
    this.#firstRow = endRow;
    return batch;
  }
}

function columnOfMatrices(name: string, dimension: number, records: readonly DataRecord[]): DatasetColumn {
  const matrices = records.map(({ vectors }) => vectors.get(name) as readonly ArrayLike<number>[]);
  const begins = [0];
  for (const { length } of matrices) begins.push((begins.at(-1) as number) + length);
  const matrix = new Float32Array((begins.at(-1) as number) * dimension);
  for (const [i, row] of matrices.flat().entries()) matrix.set(row, i * dimension);
  return { name, dimension, matrix, begins };
}

/** Of one batch are points with vectors of the same fields, single ones or matrices. */
function shapeOf(record: DataRecord): string {
  const dense = Array.from(record.vectors, ([name, value]) => (isMatrix(value) ? `${name}[]` : name));
  return [...dense, "", ...(record.sparse?.keys() ?? [])].join("\u0000");
}

const u64Max = 2n ** 64n - 1n;

/** The id that a numeral stands for, beyond 2^53 as a bigint. INVALID_ID for others than whole numbers of u64. */
export function exactNumber(text: string, fail: Fail): number | bigint {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  if (/^\d+$/.test(text) && BigInt(text) <= u64Max) return BigInt(text);
  throw fail(`the id ${text} is not a whole number of 0..${u64Max}`, { details: { id: text } }, "INVALID_ID");
}

/** Vectors by name, those that are {indices, values} apart. */
export function sparseApart(
  named: unknown,
  fail: Fail,
): { dense: unknown; sparse: ReadonlyMap<string, DatasetSparse> } {
  if (!isObject(named)) return { dense: named, sparse: new Map() };
  const dense: Fields = Object.create(null) as Fields;
  const sparse = new Map<string, DatasetSparse>();
  for (const name of Object.keys(named).sort()) {
    const value = named[name];
    if (!isObject(value)) {
      dense[name] = value;
      continue;
    }
    const { indices, values, ...rest } = value;
    const [surplus] = Object.keys(rest);
    if (surplus !== undefined) {
      throw fail(`the sparse vector "${name}" has "${surplus}"; it is {indices, values} and nothing else`);
    }
    sparse.set(name, {
      indices: Array.from(numbersOf(indices, `vectors.${name}.indices`, fail)),
      values: Array.from(numbersOf(values, `vectors.${name}.values`, fail)),
    });
  }
  return { dense, sparse };
}

/** The unnamed vector and those by name; at least one, unless there are others. */
export function vectorsOf(
  vector: unknown,
  named: unknown,
  fields: RecordFields,
  fail: Fail,
  hasOthers = false,
): Map<string, FieldValue> {
  const vectors = new Map<string, FieldValue>();
  if (vector !== undefined) vectors.set("", valueOf(vector, fields.vector, fail));
  if (named !== undefined) {
    if (!isObject(named)) throw fail(`the field "vectors" must be an object of vectors by name, not ${kindOf(named)}`);
    for (const name of Object.keys(named).sort()) vectors.set(name, valueOf(named[name], `vectors.${name}`, fail));
  }
  if (vectors.size === 0 && !hasOthers) {
    throw fail(`there is no field "${fields.vector}" and no "vectors"; name the field of the vector if it is another`);
  }
  return vectors;
}

/** When a point expires: a date and time with its zone, or whole milliseconds since the Unix epoch; undefined for a value that is not there. */
export function expiryOf(value: unknown, fail: Fail): number | undefined {
  if (value === undefined || value === null) return undefined;
  const ms =
    typeof value === "string" && /T.*(Z|[+-]\d\d:?\d\d)$/i.test(value)
      ? Date.parse(value)
      : Number(value instanceof Date || typeof value === "number" || typeof value === "bigint" ? value : NaN);
  if (Number.isSafeInteger(ms) && ms > 0) return ms;
  const got = value instanceof Date ? String(value) : kindOf(value);
  throw fail(
    `the field "expiresAt" must be a date and time with a zone, such as 2030-01-31T12:00:00Z, or milliseconds since 1970, not ${got}`,
  );
}

/** The value as a vector, or as a matrix where it is an array of arrays. */
export function valueOf(value: unknown, field: string, fail: Fail): FieldValue {
  const isOfRows = Array.isArray(value) && value.length > 0 && typeof value[0] === "object" && value[0] !== null;
  if (!isOfRows) return numbersOf(value, field, fail);
  if (value.length > limits.matrixRows) {
    throw fail(`the matrix "${field}" has ${value.length} rows; at most ${limits.matrixRows} are allowed`);
  }
  const rows = value.map((row, i) => numbersOf(row, `${field}[${i}]`, fail));
  const width = rows[0]?.length ?? 0;
  const other = rows.findIndex(({ length }) => length !== width);
  if (other < 0) return rows;
  throw fail(`row ${other} of "${field}" has ${rows[other]?.length} dimensions, and row 0 has ${width}`);
}

/** The value as a vector: an array of numbers, or a typed array of such. */
function numbersOf(value: unknown, field: string, fail: Fail): ArrayLike<number> {
  const isTyped = value instanceof Float32Array || value instanceof Float64Array;
  if (!Array.isArray(value) && !isTyped) {
    throw fail(`the field "${field}" must be an array of numbers, not ${kindOf(value)}`);
  }
  if (value.length === 0) throw fail(`the vector "${field}" is empty`);
  if (value.length > limits.dimensionMax) {
    throw fail(`the vector "${field}" has ${value.length} dimensions; at most ${limits.dimensionMax} are allowed`);
  }
  if (isTyped) return value;
  for (let i = 0; i < value.length; i++) {
    if (typeof value[i] !== "number") throw fail(`element ${i} of "${field}" is ${kindOf(value[i])}, not a number`);
  }
  return value as number[];
}

export function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "string") return `the string ${JSON.stringify(value.slice(0, 40))}`;
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint")
    return `the ${typeof value} ${value}`;
  return value === undefined ? "missing" : "an object";
}

/** "there is a payload and something beside it": one of both forms of a record is meant, and nobody can tell which. */
export function surplusFields(names: readonly string[], fail: Fail): KithError {
  return fail(
    `the record has a "payload" and other fields beside it (${names.slice(0, 5).join(", ")}); move them into it`,
  );
}
