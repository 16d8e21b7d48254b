import { assert, KithError, limits } from "../base/index.js";

/** A vector of which only some numbers are kept, by index; all others are 0. */
export interface SparseVector {
  /** Ascending, each once. */
  indices: Uint32Array;
  /** One for each index. */
  values: Float32Array;
}

const entryBytes = 8;
/** Beyond it sums of products could leave f32: 16,384 products of two such are below 3.4e38. */
const valueMost = 1e17;
const indexMost = 2 ** 32 - 1;

/**
 * A sparse vector as it was given: sorted by index. INVALID_ARGUMENT for none or two entries of an index, DIMENSION_MISMATCH where there are not as many
 * values as indices, VECTOR_NOT_FINITE, VECTOR_OUT_OF_RANGE, and LIMIT_OUT_OF_RANGE for too many entries.
 *
 * @param where names the vector in errors ("points[3]")
 * @param field its name, where it is known
 */
export function sparseOf(
  indices: ArrayLike<number>,
  values: ArrayLike<number>,
  where: () => string,
  field?: string,
): SparseVector {
  const count = indices.length;
  const wrong = (code: KithError["code"], what: string, details: Record<string, string | number> = {}): KithError =>
    new KithError(code, `${where()}: the sparse vector${field === undefined ? "" : ` "${field}"`} ${what}`, {
      details: { ...(field !== undefined && { field }), ...details },
    });
  if (values.length !== count) {
    throw wrong(
      "DIMENSION_MISMATCH",
      `has ${count} indices and ${values.length} values; give one value for each index`,
      {
        expected: count,
        got: values.length,
      },
    );
  }
  if (count === 0) throw wrong("INVALID_ARGUMENT", "has no entries; give one at least, or leave it out");
  if (count > limits.sparseEntries) {
    throw wrong("LIMIT_OUT_OF_RANGE", `has ${count} entries; at most ${limits.sparseEntries} are allowed`, {
      count,
      limit: limits.sparseEntries,
    });
  }
  let isSorted = true;
  for (let i = 0; i < count; i++) {
    const index = indices[i] as number;
    if (!Number.isInteger(index) || index < 0 || index > indexMost) {
      throw wrong("INVALID_ARGUMENT", `has the index ${index}; indices are whole numbers of 0 to ${indexMost}`, {
        element: i,
      });
    }
    if (i > 0 && index <= (indices[i - 1] as number)) isSorted = false;
    const value = values[i] as number;
    if (Math.abs(value) <= valueMost) continue;
    const what = `has the value ${value} at the index ${index}`;
    if (!Number.isFinite(value)) {
      throw wrong("VECTOR_NOT_FINITE", `${what}; every value must be a finite number`, {
        element: i,
        index,
        value: String(value),
      });
    }
    throw wrong("VECTOR_OUT_OF_RANGE", `${what}; values of sparse vectors go up to ${valueMost}: scale the vectors`, {
      element: i,
      index,
      value,
      most: valueMost,
    });
  }
  if (isSorted) return { indices: Uint32Array.from(indices), values: Float32Array.from(values) };
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  order.sort((a, b) => (indices[a] as number) - (indices[b] as number));
  const sorted = { indices: new Uint32Array(count), values: new Float32Array(count) };
  for (const [to, from] of order.entries()) {
    const index = indices[from] as number;
    if (to > 0 && sorted.indices[to - 1] === index) {
      throw wrong("INVALID_ARGUMENT", `has the index ${index} twice; give each index once`, { index });
    }
    sorted.indices[to] = index;
    sorted.values[to] = values[from] as number;
  }
  return sorted;
}

/** The form in which it is stored, and in the log: u32 indices, then f32 values, little-endian. */
export function sparseToBytes({ indices, values }: SparseVector): Uint8Array {
  const bytes = new Uint8Array(indices.length * entryBytes);
  bytes.set(new Uint8Array(indices.buffer, indices.byteOffset, indices.byteLength), 0);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), indices.byteLength);
  return bytes;
}

/** What `sparseToBytes` gave. */
export function sparseFromBytes(bytes: Uint8Array): SparseVector {
  assert(bytes.length % entryBytes === 0, `${bytes.length} bytes are no sparse vector`);
  const count = bytes.length / entryBytes;
  const words = new Uint8Array(bytes.length);
  words.set(bytes);
  return { indices: new Uint32Array(words.buffer, 0, count), values: new Float32Array(words.buffer, count * 4, count) };
}

/**
 * Whether bytes are a sparse vector as `sparseOf` makes them. What a log may hold: replicas of all releases must agree on it, so it never changes.
 */
export function isSparseBytes(bytes: Uint8Array): boolean {
  if (bytes.length === 0 || bytes.length % entryBytes !== 0) return false;
  const { indices, values } = sparseFromBytes(bytes);
  for (let i = 0; i < indices.length; i++) {
    if (i > 0 && (indices[i] as number) <= (indices[i - 1] as number)) return false;
    if (!Number.isFinite(values[i])) return false;
  }
  return true;
}

/** Sum of the products of the values at indices that both have. */
export function sparseDot(a: SparseVector, b: SparseVector): number {
  let sum = 0;
  for (let i = 0, j = 0; i < a.indices.length && j < b.indices.length; ) {
    const left = a.indices[i] as number;
    const right = b.indices[j] as number;
    if (left === right) sum += (a.values[i++] as number) * (b.values[j++] as number);
    else if (left < right) i++;
    else j++;
  }
  return sum;
}

/** The sum of vectors, each times its weight. */
export function sparseSum(parts: readonly { vector: SparseVector; weight: number }[]): SparseVector {
  const sums = new Map<number, number>();
  for (const { vector, weight } of parts) {
    for (const [i, index] of vector.indices.entries()) {
      sums.set(index, (sums.get(index) ?? 0) + weight * (vector.values[i] as number));
    }
  }
  const indices = Uint32Array.from(sums.keys()).sort();
  return { indices, values: Float32Array.from(indices, (index) => sums.get(index) ?? 0) };
}
