/**
 * The id of a point. A number must be a whole, non-negative one that a double holds exactly; up to 2^64 - 1 as a bigint.
 * A string in the 8-4-4-4-12 form is a UUID, which comes back in lower case; any other is a name of 1 to 256 bytes. `1` and `"1"` are different ids.
 * The server's ids come back as a number where that is exact, else as a bigint or a string.
 */
export type Id = number | bigint | string;

/** One vector: any array of numbers; a Float32Array is sent without conversion. */
export type VectorInput = readonly number[] | Float32Array;

/** A matrix, of a field of matrices: its rows, all of the field's dimension. */
export type MatrixInput = readonly VectorInput[];

/** A sparse vector: values by index. Each index once, in any order. */
export interface SparseInput {
  readonly indices: readonly number[] | Uint32Array;
  readonly values: readonly number[] | Float32Array;
}

/** A sparse vector as the server gives it out: indices ascend. */
export interface SparseVector {
  indices: Uint32Array;
  values: Float32Array;
}

/** A payload is a JSON object. */
export type JsonObject = Record<string, unknown>;

/**
 * Which points a read is about: the textual form (`year > 1990 and genre in (drama, crime)`) or the JSON form
 * (`{ must: [{ key: "year", range: { gt: 1990 } }] }`); see docs/filters.md.
 */
export type FilterInput = string | JsonObject;
