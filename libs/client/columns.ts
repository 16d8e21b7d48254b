import { getOwn, KithError, limits, setOwn } from "../base/index.js";
import { floatsToBytes, type pb } from "../wire/index.js";
import { givenObject } from "./given.js";
import { checkId, idColumn, idToWire } from "./ids.js";
import { wholeNumber } from "./numbers.js";
import { onlyKeys } from "./only-keys.js";
import { columnsInputKeys, pointKeys } from "./option-keys.js";
import { checkedSparse, sparseToWire } from "./sparse.js";
import type { PointInput } from "./types/points.js";
import type { Id, MatrixInput, SparseInput, VectorInput } from "./types/values.js";
import { addMatrix, checkFinite, checkVector, type Column, isMatrix, vectorToWire, writeRow } from "./vectors.js";

export const emptyBytes = Buffer.alloc(0);

/** Entries of the rows of one sparse field, one row behind the other. */
interface SparseColumn {
  readonly name: string;
  readonly offsets: number[];
  readonly indices: Uint32Array[];
  readonly values: Float32Array[];
}

/** What one point adds to a message besides its vectors: id, tags and lengths. */
const pointOverheadBytes = 16;

/**
 * Points of the same shape (names and dimensions of their vectors, names of their sparse ones), gathered into one matrix per vector field as they
 * come: the columnar message is then a copy of bytes. A point that is not valid is refused before it changes anything.
 */
export class ColumnBatch {
  readonly #columns: Column[];
  readonly #sparse: SparseColumn[];
  readonly #ids: Id[] = [];
  readonly #payloads: Buffer[] = [];
  readonly #expiries: number[] = [];
  readonly #versions: number[] = [];
  #hasExpiry = false;
  #hasVersion = false;
  #hasPayload = false;
  #sizeBytes = 0;

  private constructor(columns: Column[], sparse: SparseColumn[]) {
    this.#columns = columns;
    this.#sparse = sparse;
  }

  /** An empty batch of the shape of `point`, with room for `capacity` rows at first. */
  static like(point: PointInput<unknown>, capacity: number): ColumnBatch {
    checkPoint(point);
    const columns: Column[] = [];
    const add = (name: string, vector: VectorInput | MatrixInput): void => {
      if (isMatrix(vector)) {
        const dimension = (vector[0] as VectorInput).length;
        columns.push({ name, dimension, matrix: new Float32Array(capacity * dimension), begins: [0] });
        return;
      }
      checkVector(name, vector);
      const dimension = vector.length;
      columns.push({ name, dimension, matrix: new Float32Array(capacity * dimension) });
    };
    if (point.vector !== undefined) add("", point.vector);
    for (const [name, vector] of Object.entries(point.vectors ?? {})) {
      if (name === "") throw new KithError("INVALID_ARGUMENT", 'the unnamed vector goes into "vector", not "vectors"');
      add(name, vector);
    }
    for (const [name, matrix] of Object.entries(point.matrices ?? {})) add(name, matrix);
    const sparse = Object.keys(point.sparse ?? {}).map((name): SparseColumn => {
      return { name, offsets: [0], indices: [], values: [] };
    });
    if (columns.length + sparse.length === 0) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the point ${describeId(point.id)} has no vector; give it "vector" or, for named ones, "vectors" or "sparse"`,
      );
    }
    return new ColumnBatch(columns, sparse);
  }

  get count(): number {
    return this.#ids.length;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Takes the point in; false where it has another shape. INVALID_ID, VECTOR_NOT_FINITE and the like where it is not valid. */
  add(point: PointInput<unknown>): boolean {
    const row = this.#ids.length;
    checkPoint(point);
    checkId(point.id);
    if (!this.#fits(point)) return false;
    let sizeBytes = pointOverheadBytes + (typeof point.id === "string" ? point.id.length : 0);
    for (const column of this.#columns) {
      const vector = vectorOf(point, column.name) as VectorInput | MatrixInput;
      if (isMatrix(vector)) {
        sizeBytes += addMatrix(column, row, vector);
        continue;
      }
      checkVector(column.name, vector);
      writeRow(column, row, vector);
      sizeBytes += column.dimension * 4;
    }
    const sparse = this.#sparse.map(({ name }) => checkedSparse(point.sparse?.[name] as SparseInput, name));
    const payload = payloadBytes(point.payload);
    sizeBytes += payload.length;
    const expiresAtMs = expiryToWire(point.expiresAt);
    const version = expectedToWire(point.expectedVersion);
    if (payload.length > 0) this.#hasPayload = true;
    if (expiresAtMs > 0) this.#hasExpiry = true;
    if (version > 0) this.#hasVersion = true;
    for (const [i, { indices, values }] of sparse.entries()) {
      const column = this.#sparse[i] as SparseColumn;
      column.offsets.push((column.offsets.at(-1) as number) + indices.length);
      column.indices.push(indices);
      column.values.push(values);
      sizeBytes += 8 * indices.length;
    }
    this.#expiries.push(expiresAtMs);
    this.#versions.push(version);
    this.#payloads.push(payload);
    this.#ids.push(point.id);
    this.#sizeBytes += sizeBytes;
    return true;
  }

  #fits(point: PointInput<unknown>): boolean {
    let found = 0;
    for (const { name, dimension, begins } of this.#columns) {
      const vector = vectorOf(point, name);
      if (vector === undefined || vector === null) return false;
      const isOfMatrices = isMatrix(vector);
      const width = isOfMatrices ? (vector[0] as VectorInput).length : vector.length;
      if (width !== dimension || isOfMatrices !== (begins !== undefined)) return false;
      found++;
    }
    if (point.vector !== undefined && this.#columns[0]?.name !== "") return false;
    const sparse = point.sparse ?? {};
    if (Object.keys(sparse).length !== this.#sparse.length) return false;
    if (!this.#sparse.every(({ name }) => Object.hasOwn(sparse, name))) return false;
    const { vectors, matrices } = point;
    if (vectors === undefined && matrices === undefined) return true;
    let given = point.vector === undefined ? 0 : 1;
    if (vectors !== undefined) given += Object.keys(vectors).length;
    if (matrices !== undefined) given += Object.keys(matrices).length;
    return given === found;
  }

  /** The wire form of rows `from` up to `to` (exclusive), without collection, mode, condition and options. */
  columns(from = 0, to = this.count): ColumnsOnWire {
    return {
      idColumn: idColumn(from === 0 && to === this.count ? this.#ids : this.#ids.slice(from, to)),
      vectors: this.#columns.map(({ name, dimension, matrix, begins }) => {
        const [first, last] = begins === undefined ? [from, to] : [begins[from] as number, begins[to] as number];
        const rows = begins?.slice(from + 1, to + 1).map((end, i) => end - (begins[from + i] as number)) ?? [];
        return { name, matrix: bufferOf(matrix.subarray(first * dimension, last * dimension)), rows };
      }),
      sparseVectors: this.#sparse.map((column) => sparseRows(column, from, to)),
      payloads: this.#hasPayload ? this.#payloads.slice(from, to) : [],
      expiresAtMs: this.#hasExpiry ? this.#expiries.slice(from, to) : [],
      expectedVersions: this.#hasVersion ? this.#versions.slice(from, to) : [],
    };
  }
}

/** The wire form of rows `from` up to `to` (exclusive). */
function sparseRows({ name, offsets, indices, values }: SparseColumn, from: number, to: number): pb.SparseVectorColumn {
  const first = offsets[from] as number;
  const starts = Uint32Array.from(offsets.slice(from, to + 1), (offset) => offset - first);
  return {
    name,
    offsets: wordBytes(starts),
    indices: Buffer.concat(indices.slice(from, to).map(wordBytes)),
    values: Buffer.concat(values.slice(from, to).map(wordBytes)),
  };
}

function wordBytes({ buffer, byteOffset, byteLength }: Uint32Array | Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function vectorOf(point: PointInput<unknown>, name: string): VectorInput | MatrixInput | undefined {
  const vector = name === "" ? point.vector : point.vectors && getOwn(point.vectors, name);
  return vector ?? (point.matrices && getOwn(point.matrices, name));
}

/** All that a columnar message says of its points. */
export type ColumnsOnWire = Pick<
  pb.UpsertColumnsRequest,
  "idColumn" | "vectors" | "sparseVectors" | "payloads" | "expiresAtMs" | "expectedVersions"
>;

/** Milliseconds since the Unix epoch; 0 for never. */
export function expiryToWire(at: Date | number | null | undefined): number {
  if (at === null || at === undefined) return 0;
  const ms = at instanceof Date ? at.getTime() : at;
  if (Number.isSafeInteger(ms) && ms > 0) return ms;
  throw new KithError(
    "INVALID_ARGUMENT",
    `expiresAt is ${at instanceof Date ? String(at) : ms}; give a Date after 1970, or whole milliseconds since the Unix epoch`,
    { details: { field: "expiresAt", value: String(at) } },
  );
}

/** 0 for none. */
export function expectedToWire(version: number | undefined): number {
  if (version === undefined) return 0;
  if (Number.isSafeInteger(version) && version > 0) return version;
  throw new KithError("INVALID_ARGUMENT", `expectedVersion is ${version}; give the version that a read has shown`, {
    details: { field: "expectedVersion", value: String(version) },
  });
}

/** What comes from a parser may be anything, whatever its type says; and a key that is misspelt would be lost without a word. */
export function checkPoint(point: unknown, known: ReadonlySet<string> = pointKeys): void {
  if (typeof point !== "object" || point === null) {
    throw new KithError("INVALID_ARGUMENT", `a point is an object {id, vector, payload}, not ${shown(point)}`);
  }
  const { vectors, matrices, sparse } = point as PointInput<unknown>;
  if (vectors !== undefined) givenObject(vectors, "vectors");
  if (matrices !== undefined) givenObject(matrices, "matrices");
  if (sparse !== undefined) givenObject(sparse, "sparse");
  for (const key in point) {
    if (known.has(key) || !Object.hasOwn(point, key)) continue;
    const names = [...known].slice(0, 6).join(", ");
    throw new KithError("INVALID_ARGUMENT", `a point has no "${key.slice(0, 60)}"; known here are ${names}`, {
      details: { field: key },
    });
  }
}

/** JSON in UTF-8, which may be given as it is; empty bytes for no payload. */
export function payloadBytes(payload: unknown): Buffer {
  if (payload === undefined) return emptyBytes;
  if (payload instanceof Uint8Array) {
    return checkedSize(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength));
  }
  if (typeof payload !== "object" || payload === null || Array.isArray(payload)) {
    throw new KithError("INVALID_PAYLOAD", `a payload must be a JSON object, not ${shown(payload)}`);
  }
  let text: string;
  try {
    text = JSON.stringify(payload);
    // JSON.stringify makes null of numbers that JSON lacks, and {} of maps and sets, without a word.
    if (text.includes("null") || text.includes("{}")) checkKept(payload, "");
  } catch (cause) {
    if (cause instanceof KithError) throw cause;
    throw new KithError("INVALID_PAYLOAD", `the payload cannot be written as JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  return checkedSize(Buffer.from(text, "utf8"));
}

/** INVALID_PAYLOAD where JSON would keep nothing of a value. */
function checkKept(value: unknown, path: string): void {
  if (typeof value === "number" && !Number.isFinite(value)) throw notKept(path, `${value} is no number of JSON`);
  if (typeof value !== "object" || value === null || "toJSON" in value) return;
  if (value instanceof Map || value instanceof Set) {
    throw notKept(path, `JSON has no ${value.constructor.name}; give an object or an array`);
  }
  for (const [key, member] of Object.entries(value)) {
    checkKept(member, Array.isArray(value) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`);
  }
}

function notKept(path: string, why: string): KithError {
  return new KithError("INVALID_PAYLOAD", `the payload at ${path || "its root"}: ${why}`, { details: { path } });
}

function checkedSize(bytes: Buffer): Buffer {
  if (bytes.length > limits.payloadBytes) {
    throw new KithError(
      "PAYLOAD_TOO_LARGE",
      `the payload has ${bytes.length} bytes of JSON; at most ${limits.payloadBytes} are allowed`,
      { details: { sizeBytes: bytes.length, limitBytes: limits.payloadBytes } },
    );
  }
  return bytes;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return "an array";
  return value === null ? "null" : `a ${typeof value}`;
}

export function describeId(id: unknown): string {
  return typeof id === "string" ? JSON.stringify(id.slice(0, 60)) : String(id);
}

function bufferOf(floats: Float32Array): Buffer {
  const bytes = floatsToBytes(floats);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The row form, for points of unlike shapes in one request. */
export function pointToWire(point: PointInput<unknown>): pb.Point {
  checkPoint(point);
  const vectors: Record<string, pb.Vector> = {};
  if (point.vector !== undefined) vectors[""] = vectorToWire(point.vector, "");
  const named = [...Object.entries(point.vectors ?? {}), ...Object.entries(point.matrices ?? {})];
  for (const [name, vector] of named) setOwn(vectors, name, vectorToWire(vector, name));
  for (const [name, vector] of Object.entries(point.sparse ?? {})) setOwn(vectors, name, sparseToWire(vector, name));
  if (Object.keys(vectors).length === 0) {
    throw new KithError("INVALID_ARGUMENT", `the point ${describeId(point.id)} has no vector`);
  }
  return { id: idToWire(point.id), vectors, payload: payloadBytes(point.payload), version: 0, expiresAtMs: 0 };
}

/** What `upsertColumns` takes: everything by column, row i of each belonging to `ids[i]`. */
export interface ColumnsInput<P> {
  ids: BigUint64Array | readonly Id[];
  /** Row-major matrix, ids × dimension: of the unnamed vector, or by name. May be missing where `sparse` is there. */
  vectors?: Float32Array | Readonly<Record<string, Float32Array>>;
  /** Of fields of matrices: the rows of each id's matrix; all rows lie one behind the other in `vectors`. By name, "" for the unnamed field. */
  rows?: Readonly<Record<string, readonly number[] | Uint32Array>>;
  /** Sparse vectors by name, one per id. */
  sparse?: Readonly<Record<string, readonly SparseInput[]>>;
  /** One per id, as objects or as JSON in UTF-8. */
  payloads?: readonly (P | undefined)[] | readonly Uint8Array[];
  /** One per id: a Date, milliseconds since the Unix epoch, or undefined for never. */
  expiresAt?: readonly (Date | number | undefined)[];
}

export function columnsToWire(input: ColumnsInput<unknown>): ColumnsOnWire {
  onlyKeys(input, columnsInputKeys, "columns");
  const { ids, vectors = {}, sparse = {}, payloads, expiresAt = [], rows = {} } = input;
  if (!Array.isArray(ids) && !(ids instanceof BigUint64Array)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `columns.ids must be an array of ids or a BigUint64Array, not ${shown(ids)}`,
    );
  }
  checkBatchCount(ids.length);
  if (expiresAt.length !== 0 && expiresAt.length !== ids.length) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `there are ${ids.length} ids but ${expiresAt.length} times of expiry; give one each`,
    );
  }
  if (payloads !== undefined && payloads.length !== ids.length) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `there are ${ids.length} ids but ${payloads.length} payloads; give one each`,
    );
  }
  if (typeof vectors !== "object" || vectors === null || Array.isArray(vectors)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `columns.vectors must be a Float32Array, or one by name, not ${shown(vectors)}`,
    );
  }
  const named: [string, Float32Array][] = vectors instanceof Float32Array ? [["", vectors]] : Object.entries(vectors);
  if (named.length === 0 && Object.keys(sparse).length === 0)
    throw new KithError("INVALID_ARGUMENT", "the batch has no vectors; give one matrix per field");
  const rowsOf = new Map<string, number[]>();
  for (const [name, matrix] of named) {
    checkVector(name, matrix);
    if (!(matrix instanceof Float32Array)) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the matrix${name === "" ? "" : ` "${name}"`} must be a Float32Array, row after row`,
      );
    }
    const counts = getOwn(rows, name);
    if (counts !== undefined) {
      rowsOf.set(name, checkedRows(name, counts, ids.length));
    } else if (matrix.length % ids.length !== 0) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `the matrix${name === "" ? "" : ` "${name}"`} has ${matrix.length} elements, which is no multiple of ${ids.length} ids`,
        { details: { field: name, got: matrix.length, idCount: ids.length } },
      );
    }
    checkFinite(matrix, name);
  }
  return {
    idColumn: idColumn(ids),
    vectors: named.map(([name, matrix]) => ({ name, matrix: bufferOf(matrix), rows: rowsOf.get(name) ?? [] })),
    sparseVectors: Object.entries(sparse).map(([name, given]) => sparseColumnToWire(name, given, ids.length)),
    payloads: payloads === undefined ? [] : payloads.map(payloadBytes),
    expiresAtMs: expiresAt.map(expiryToWire),
    expectedVersions: [],
  };
}

function checkedRows(name: string, counts: readonly number[] | Uint32Array, idCount: number): number[] {
  if (counts.length === idCount) return Array.from(counts, (count, i) => wholeNumber(count, `rows["${name}"][${i}]`));
  throw new KithError(
    "DIMENSION_MISMATCH",
    `rows["${name}"] has ${counts.length} numbers for ${idCount} ids; give the rows of each id's matrix`,
    { details: { field: name, got: counts.length, expected: idCount } },
  );
}

function sparseColumnToWire(name: string, rows: readonly SparseInput[], count: number): pb.SparseVectorColumn {
  if (!Array.isArray(rows) || rows.length !== count) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `columns.sparse.${name} must be an array of ${count} sparse vectors, one for each id`,
      { details: { field: name } },
    );
  }
  const column: SparseColumn = { name, offsets: [0], indices: [], values: [] };
  for (const row of rows as readonly SparseInput[]) {
    const { indices, values } = checkedSparse(row, name);
    column.offsets.push((column.offsets.at(-1) as number) + indices.length);
    column.indices.push(indices);
    column.values.push(values);
  }
  return sparseRows(column, 0, count);
}

export function checkBatchCount(count: number): void {
  if (count === 0) throw new KithError("INVALID_ARGUMENT", "the batch is empty; pass at least one item");
  if (count > limits.batchPoints) {
    throw new KithError(
      "BATCH_TOO_LARGE",
      `the batch has ${count} items; at most ${limits.batchPoints} fit in one call: use upsertMany, or several calls`,
      { details: { count, limit: limits.batchPoints } },
    );
  }
}
