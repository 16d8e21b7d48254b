import { KithError, limits } from "../base/index.js";
import type { VectorField } from "./collection.js";
import { rowsOfMatrix } from "./matrix.js";

/** The largest component that f16 holds. */
const f16Max = 65_504;
/** The longest vector of l2 and dot: the squared distance of two such is below the largest f32, 3.4e38. */
const lengthMax = 9e18;
/** Where a squared length leaves f32. */
const squaresMax = 3.4e38;

/** What a vector may be at most. */
interface Bounds {
  squares: number;
  component: number;
}

/**
 * Checks a row-major matrix of vectors for one field: length, finite numbers, no zero vector under cosine.
 * `describe` names the offending row in the error ("points[3]"); it is only called for an error.
 *
 * This is what a log may hold. Replicas of all releases must agree on it, so it never changes; what is written now is held
 * to `checkWrittenVectors`.
 */
export function checkVectors(
  field: VectorField,
  matrix: Float32Array,
  rowCount: number,
  describe: (row: number) => string,
): void {
  check(field, matrix, rowCount, describe, { squares: squaresMax, component: Number.POSITIVE_INFINITY });
}

/**
 * Checks vectors that are to be written, as `checkVectors` does, and that they can be kept and compared: VECTOR_OUT_OF_RANGE for a
 * component that the field's datatype does not hold, and for a vector whose distances would leave f32.
 */
export function checkWrittenVectors(
  field: VectorField,
  matrix: Float32Array,
  rowCount: number,
  describe: (row: number) => string,
): void {
  const isBounded = field.datatype === "f16" && field.metric !== "cosine";
  const component = isBounded ? f16Max : Number.POSITIVE_INFINITY;
  check(field, matrix, rowCount, describe, { squares: comparedSquares(field), component });
}

/** Checks a matrix that is to be written, row by row as a vector; gives its rows. */
export function checkWrittenMatrix(
  field: VectorField,
  values: Float32Array,
  said: number,
  describe: () => string,
): number {
  const rows = rowsOfMatrix(field, values, said, describe);
  checkWrittenVectors(field, values, rows, (row) => `${describe()}, row ${row} of the matrix`);
  return rows;
}

/** What a log may hold of matrices: one for each of the `rowCounts`. Never changes; see checkVectors. */
export function checkMatrices(
  field: VectorField,
  values: Float32Array,
  rowCounts: readonly number[],
  describe: (item: number) => string,
): void {
  let rows = 0;
  for (const [item, count] of rowCounts.entries()) {
    if (count < 1 || count > limits.matrixRows) {
      throw new KithError("LIMIT_OUT_OF_RANGE", `${describe(item)}: the matrix has ${count} rows`, {
        details: { field: field.name, rows: count, limit: limits.matrixRows },
      });
    }
    rows += count;
  }
  checkVectors(field, values, rows, (row) => `row ${row} of all matrices`);
}

/**
 * Checks the vector of a query, which is compared as it is, whatever the datatype of the field: VECTOR_OUT_OF_RANGE where its
 * distances would leave f32. For a field of matrices it is one.
 *
 * @param rows what the query says of its rows; 0: nothing
 */
export function checkQueryVector(field: VectorField, vector: Float32Array, describe: () => string, rows = 0): void {
  const bounds = { squares: comparedSquares(field), component: Number.POSITIVE_INFINITY };
  if (field.multivector !== undefined) {
    const count = rowsOfMatrix(field, vector, rows, describe);
    return check(field, vector, count, (row) => `${describe()}, row ${row} of the matrix`, bounds);
  }
  if (rows > 1) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${describe()}: the query has ${rows} rows; the field${nameOf(field)} holds single vectors`,
      { details: { field: field.name, rows } },
    );
  }
  check(field, vector, 1, describe, bounds);
}

/** Cosine compares directions: there only the length itself must be a number. */
function comparedSquares({ metric }: VectorField): number {
  return metric === "cosine" ? squaresMax : lengthMax * lengthMax;
}

function check(
  field: VectorField,
  matrix: Float32Array,
  rowCount: number,
  describe: (row: number) => string,
  bounds: Bounds,
): void {
  const { dimension } = field;
  if (matrix.length !== rowCount * dimension) {
    const got = rowCount === 0 ? matrix.length : matrix.length / rowCount;
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${describe(0)}: the vector${nameOf(field)} has ${formatCount(got)} dimensions; the field has ${dimension}`,
      { details: { field: field.name, expected: dimension, got } },
    );
  }
  const cosine = field.metric === "cosine";
  // A vector that is no longer than this has no component beyond its bound.
  const plain = Math.min(bounds.squares, bounds.component ** 2);
  for (let row = 0, at = 0; row < rowCount; row++) {
    // A sum of squares finds NaN, infinity, zero and what is out of range in one pass.
    let squares = 0;
    for (const end = at + dimension; at < end; at++) {
      const value = matrix[at] as number;
      squares += value * value;
    }
    if (!(squares <= plain)) checkRange(field, matrix.subarray(at - dimension, at), row, describe, bounds, squares);
    if (cosine && squares < 1e-36) {
      throw new KithError(
        "ZERO_VECTOR",
        `${describe(row)}: the vector${nameOf(field)} has length zero, and cosine similarity is undefined for it; leave it out or use another metric`,
        { details: { field: field.name, row } },
      );
    }
  }
}

/** Throws where the vector breaks a bound, and names the element that does, if it is one. */
function checkRange(
  field: VectorField,
  vector: Float32Array,
  row: number,
  describe: (row: number) => string,
  bounds: Bounds,
  squares: number,
): void {
  const most = Math.min(bounds.component, Number.MAX_VALUE);
  for (const [element, value] of vector.entries()) {
    if (Math.abs(value) <= most) continue;
    const where = `${describe(row)}: element ${element} of the vector${nameOf(field)} is ${value}`;
    if (!Number.isFinite(value)) {
      throw new KithError("VECTOR_NOT_FINITE", `${where}; every element must be a finite number`, {
        details: { field: field.name, row, element, value: String(value) },
      });
    }
    throw new KithError(
      "VECTOR_OUT_OF_RANGE",
      `${where}; ${field.datatype} holds numbers up to ${most}: scale the vectors, or use f32, bf16 or i8`,
      { details: { field: field.name, row, element, value, most } },
    );
  }
  if (squares <= bounds.squares) return;
  const length = Math.sqrt(squares);
  const lengthMost = Math.sqrt(bounds.squares);
  throw new KithError(
    "VECTOR_OUT_OF_RANGE",
    `${describe(row)}: the vector${nameOf(field)} is ${length.toPrecision(3)} long; ${field.metric} compares vectors up to ${lengthMost.toPrecision(3)}: scale the vectors`,
    { details: { field: field.name, row, length, most: lengthMost } },
  );
}

function nameOf(field: VectorField): string {
  return field.name === "" ? "" : ` "${field.name}"`;
}

function formatCount(count: number): string {
  return Number.isInteger(count) ? String(count) : count.toFixed(2);
}
