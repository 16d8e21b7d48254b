import { KithError, limits } from "../base/index.js";
import type { pb } from "../wire/index.js";
import type { MatrixInput, VectorInput } from "./types/values.js";

/** Vectors or matrices of one field, as points come. */
export interface Column {
  readonly name: string;
  readonly dimension: number;
  /** Room for `capacity` rows. */
  matrix: Float32Array;
  /** Of matrices: how many rows of `matrix` are before those of each point, and at last how many there are. */
  begins?: number[];
}

/** Writes the vector of the point of this row. VECTOR_NOT_FINITE names the element. */
export function writeRow(column: Column, row: number, vector: VectorInput): void {
  const { dimension } = column;
  const start = row * dimension;
  if (start + dimension > column.matrix.length) {
    const grown = new Float32Array(Math.max(column.matrix.length * 2, start + dimension));
    grown.set(column.matrix);
    column.matrix = grown;
  }
  const { matrix } = column;
  // Elements are read back as f32: a double beyond its range is infinite there. x - x is 0 for finite numbers only.
  let sum = 0;
  if (vector instanceof Float32Array) {
    matrix.set(vector, start);
    for (let i = 0; i < dimension; i++) {
      const value = vector[i] as number;
      sum += value - value;
    }
  } else {
    for (let i = 0; i < dimension; i++) {
      const given: unknown = vector[i];
      // Not coerced: null would be 0, and "0.5" a half.
      if (typeof given !== "number") throw notFinite(column.name, vector);
      matrix[start + i] = given;
      const value = matrix[start + i] as number;
      sum += value - value;
    }
  }
  if (sum !== 0) throw notFinite(column.name, vector);
}

/** Takes in the matrix of the point of this row; a later one of the same row takes its place. Gives its bytes. */
export function addMatrix(column: Column, row: number, matrix: MatrixInput): number {
  const { name, dimension } = column;
  const begins = (column.begins ??= [0]);
  const { values, rows } = flatten(matrix, name);
  const first = begins[row] as number;
  const needed = (first + rows) * dimension;
  if (needed > column.matrix.length) {
    const grown = new Float32Array(Math.max(column.matrix.length * 2, needed));
    grown.set(column.matrix);
    column.matrix = grown;
  }
  column.matrix.set(values, first * dimension);
  begins[row + 1] = first + rows;
  return values.byteLength;
}

function notFinite(name: string, vector: VectorInput): KithError {
  for (let i = 0; i < vector.length; i++) {
    const value = vector[i];
    if (typeof value === "number" && Number.isFinite(Math.fround(value))) continue;
    return new KithError(
      "VECTOR_NOT_FINITE",
      `element ${i} of the vector${name === "" ? "" : ` "${name}"`} is ${shownElement(value)}; every element must be a number that f32 holds`,
      { details: { field: name, element: i, value: String(value) } },
    );
  }
  return new KithError("VECTOR_NOT_FINITE", "the vector has an element that is not a finite number");
}

function shownElement(value: unknown): string {
  if (typeof value === "string") return `the string ${JSON.stringify(value.slice(0, 40))}`;
  return typeof value === "bigint" ? `the bigint ${value}` : String(value);
}

/** INVALID_ARGUMENT, DIMENSION_MISMATCH where it is no vector. */
export function checkVector(name: string, vector: unknown): void {
  const of = name === "" ? "" : ` "${name}"`;
  if (!Array.isArray(vector) && !(vector instanceof Float32Array)) {
    throw new KithError("INVALID_ARGUMENT", `the vector${of} must be a number[] or a Float32Array`);
  }
  if (vector.length === 0) {
    throw new KithError("DIMENSION_MISMATCH", `the vector${of} is empty`, { details: { field: name, got: 0 } });
  }
}

/** The vector as a checked Float32Array; a Float32Array is not copied. */
export function toFloats(vector: VectorInput, name: string): Float32Array {
  checkVector(name, vector);
  if (!(vector instanceof Float32Array)) {
    const column: Column = { name, dimension: vector.length, matrix: new Float32Array(vector.length) };
    writeRow(column, 0, vector);
    return column.matrix;
  }
  checkFinite(vector, name);
  return vector;
}

export function checkFinite(vector: Float32Array, name: string): void {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) {
    const value = vector[i] as number;
    sum += value - value;
  }
  if (sum !== 0) throw notFinite(name, vector);
}

/** Whether what stands for a vector is a matrix: an array of vectors. An empty one is neither, and refused as a vector. */
export function isMatrix(value: VectorInput | MatrixInput): value is MatrixInput {
  return Array.isArray(value) && value.length > 0 && typeof value[0] === "object" && value[0] !== null;
}

/** A matrix with its rows one behind the other. DIMENSION_MISMATCH names the row that is not like the first. */
export function flatten(matrix: MatrixInput, name: string): { values: Float32Array; rows: number } {
  const of = name === "" ? "" : ` "${name}"`;
  if (matrix.length > limits.matrixRows) {
    throw new KithError(
      "LIMIT_OUT_OF_RANGE",
      `the matrix${of} has ${matrix.length} rows; at most ${limits.matrixRows} are allowed`,
      { details: { field: name, rows: matrix.length, limit: limits.matrixRows } },
    );
  }
  const rows = matrix.map((row, i) => {
    try {
      return toFloats(row, name);
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      throw new KithError(error.code, `row ${i} of the matrix${of}: ${error.message}`, {
        details: { ...error.details, row: i },
        cause: error,
      });
    }
  });
  const width = rows[0]?.length ?? 0;
  const values = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) {
    if (row.length !== width) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `row ${i} of the matrix${of} has ${row.length} dimensions, and row 0 has ${width}; all rows need the same`,
        { details: { field: name, row: i, expected: width, got: row.length } },
      );
    }
    values.set(row, i * width);
  }
  return { values, rows: rows.length };
}

/** A vector or a matrix as messages have it. */
export function vectorToWire(value: VectorInput | MatrixInput, name: string): pb.Vector {
  return isMatrix(value) ? { ...flatten(value, name), indices: [] } : { values: toFloats(value, name), indices: [] };
}

/** The rows of a matrix of an answer, without a copy. */
export function rowsOf({ values, rows = 1 }: pb.Vector): Float32Array[] {
  const width = values.length / rows;
  return Array.from({ length: rows }, (_, row) => values.subarray(row * width, (row + 1) * width));
}
