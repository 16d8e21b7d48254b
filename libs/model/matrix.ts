import { KithError, limits } from "../base/index.js";
import type { VectorField } from "./collection.js";

/*
 * A matrix goes wherever a vector of its field would: as its rows, one behind the other. The dimension of the field tells where each begins.
 */

/**
 * How many rows a matrix has. DIMENSION_MISMATCH where its values are none of the field's dimension, or `said` is another number; LIMIT_OUT_OF_RANGE for too
 * many rows.
 *
 * @param said 0: nothing
 */
export function rowsOfMatrix(field: VectorField, values: Float32Array, said: number, describe: () => string): number {
  const rows = values.length / field.dimension;
  const of = field.name === "" ? "" : ` "${field.name}"`;
  if (values.length === 0) {
    throw new KithError("DIMENSION_MISMATCH", `${describe()}: the matrix${of} has no rows; give one at least`, {
      details: { field: field.name, rows: 0 },
    });
  }
  if (!Number.isInteger(rows) || (said !== 0 && said !== rows)) {
    const got = said === 0 ? `${values.length} numbers` : `${said} rows with ${values.length} numbers in all`;
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${describe()}: the matrix${of} has ${got}; each row must have the ${field.dimension} dimensions of the field`,
      { details: { field: field.name, expected: field.dimension, got: values.length } },
    );
  }
  if (rows > limits.matrixRows) {
    throw new KithError(
      "LIMIT_OUT_OF_RANGE",
      `${describe()}: the matrix${of} has ${rows} rows; at most ${limits.matrixRows} are allowed: leave some out, or take the mean of rows that are alike`,
      { details: { field: field.name, rows, limit: limits.matrixRows } },
    );
  }
  return rows;
}
