import { expect, test } from "vitest";
import { limits } from "../base/index.js";
import { isSparseBytes, sparseDot, sparseFromBytes, sparseOf, sparseSum, sparseToBytes } from "./sparse.js";

const at = (): string => "points[3]";

test("a sparse vector is sorted by index, and comes back from its bytes", () => {
  const vector = sparseOf([7, 0, 4_294_967_295], [1.5, -2, 3], at);
  expect(vector).toEqual({ indices: Uint32Array.of(0, 7, 4_294_967_295), values: Float32Array.of(-2, 1.5, 3) });
  const bytes = sparseToBytes(vector);
  expect(bytes.length).toBe(24);
  expect(sparseFromBytes(bytes)).toEqual(vector);
  // As a part of a longer buffer, at any place.
  const within = Buffer.concat([Buffer.alloc(3), bytes]);
  expect(sparseFromBytes(within.subarray(3))).toEqual(vector);
  expect(isSparseBytes(bytes)).toBe(true);
});

test.each([
  [[1, 2], [1], "DIMENSION_MISMATCH", /points\[3\]: the sparse vector "words" has 2 indices and 1 values/],
  [[], [], "INVALID_ARGUMENT", /has no entries/],
  [[1, 5, 1], [1, 2, 3], "INVALID_ARGUMENT", /the index 1 twice/],
  [[-1], [1], "INVALID_ARGUMENT", /the index -1;/],
  [[1.5], [1], "INVALID_ARGUMENT", /the index 1.5;/],
  [[4_294_967_296], [1], "INVALID_ARGUMENT", /the index 4294967296;/],
  [[Number.NaN], [1], "INVALID_ARGUMENT", /the index NaN;/],
  [[3, 9], [1, Number.NaN], "VECTOR_NOT_FINITE", /the value NaN at the index 9/],
  [[3], [Number.POSITIVE_INFINITY], "VECTOR_NOT_FINITE", /the value Infinity at the index 3/],
  [[3], [1e38], "VECTOR_OUT_OF_RANGE", /the value 1e\+38 at the index 3/],
] as const)("%j with the values %j is refused", (indices, values, code, message) => {
  expect(() => sparseOf(indices, values, at, "words")).toThrow(expect.objectContaining({ code }));
  expect(() => sparseOf(indices, values, at, "words")).toThrow(message);
});

test("as many entries as are allowed, and one more", () => {
  const entries = Array.from({ length: limits.sparseEntries + 1 }, (_, i) => i);
  expect(sparseOf(entries.slice(1), entries.slice(1), at).indices.length).toBe(limits.sparseEntries);
  expect(() => sparseOf(entries, entries, at)).toThrow(expect.objectContaining({ code: "LIMIT_OUT_OF_RANGE" }));
});

test("what a log may not hold is told from its bytes", () => {
  const good = sparseToBytes(sparseOf([1, 2], [1, 2], at));
  const twice = sparseToBytes({ indices: Uint32Array.of(1, 1), values: Float32Array.of(1, 2) });
  const infinite = sparseToBytes({ indices: Uint32Array.of(1), values: Float32Array.of(Number.POSITIVE_INFINITY) });
  for (const bytes of [good.subarray(0, 12), new Uint8Array(0), twice, infinite]) {
    expect(isSparseBytes(bytes)).toBe(false);
  }
});

test("products and sums are over the indices that both have, or one has", () => {
  const a = sparseOf([1, 3, 5], [1, 2, -3], at);
  const b = sparseOf([3, 4, 5], [10, 100, 1], at);
  expect(sparseDot(a, b)).toBe(17);
  expect(sparseDot(a, sparseOf([2], [1], at))).toBe(0);
  const sum = sparseSum([
    { vector: a, weight: 2 },
    { vector: b, weight: -1 },
  ]);
  expect(sum).toEqual({ indices: Uint32Array.of(1, 3, 4, 5), values: Float32Array.of(2, -6, -100, -7) });
});
