import { KithError } from "../base/index.js";
import type { VectorField } from "./collection.js";

/**
 * Checks a row-major matrix of vectors for one field: length, finite numbers, no zero vector under cosine.
 * `describe` names the offending row in the error ("points[3]"); it is only called for an error.
 */
export function checkVectors(
  field: VectorField,
  matrix: Float32Array,
  rowCount: number,
  describe: (row: number) => string,
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
  for (let row = 0, at = 0; row < rowCount; row++) {
    // A sum of squares finds NaN, infinity and zero in one pass; it may overflow to infinity for huge finite values,
    // which are refused as well: their distances would be infinite.
    let squares = 0;
    for (const end = at + dimension; at < end; at++) {
      const value = matrix[at] as number;
      squares += value * value;
    }
    if (squares - squares !== 0 || squares > 3.4e38) throw notFinite(field, matrix, row, describe(row));
    if (cosine && squares < 1e-36) {
      throw new KithError(
        "ZERO_VECTOR",
        `${describe(row)}: the vector${nameOf(field)} has length zero, and cosine similarity is undefined for it; leave it out or use another metric`,
        { details: { field: field.name, row } },
      );
    }
  }
}

function notFinite(field: VectorField, matrix: Float32Array, row: number, where: string): KithError {
  const start = row * field.dimension;
  for (let i = 0; i < field.dimension; i++) {
    const value = matrix[start + i] as number;
    if (!Number.isFinite(value)) {
      return new KithError(
        "VECTOR_NOT_FINITE",
        `${where}: element ${i} of the vector${nameOf(field)} is ${value}; every element must be a finite number`,
        { details: { field: field.name, row, element: i, value: String(value) } },
      );
    }
  }
  return new KithError(
    "VECTOR_NOT_FINITE",
    `${where}: the length of the vector${nameOf(field)} is beyond what f32 holds; scale it down`,
    { details: { field: field.name, row } },
  );
}

function nameOf(field: VectorField): string {
  return field.name === "" ? "" : ` "${field.name}"`;
}

function formatCount(count: number): string {
  return Number.isInteger(count) ? String(count) : count.toFixed(2);
}
