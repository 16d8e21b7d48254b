import { expect, test } from "vitest";
import { sparseDot } from "../model/index.js";
import { bm25Document, bm25Query, bm25WeightDefaults } from "./index.js";

test("a token counts by how often it stands in a text of how many tokens", () => {
  // Twice of five tokens, where five are expected: 2 * 2.2 / (1.2 * 1 + 2).
  const document = bm25Document(["the", "cat", "sat", "on", "the"], { k: 1.2, b: 0.75, averageLength: 5 });
  expect(sparseDot(document, bm25Query(["the", "the"]))).toBeCloseTo(1.375, 6);
  expect(sparseDot(document, bm25Query(["cat"]))).toBeCloseTo(1, 6);
  expect(sparseDot(document, bm25Query(["dog"]))).toBe(0);
  expect(document.indices.length).toBe(4);
  expect([...document.indices]).toEqual([...document.indices].sort((a, b) => a - b));
});

test("indices are the absolute values of the hashes, as signed numbers", () => {
  // MurmurHash3 of "hello" is 0x248bfa47, that of "test" 0xba6bd213, which as a signed number is below 0.
  expect([...bm25Query(["hello"]).indices]).toEqual([0x248bfa47]);
  expect([...bm25Query(["test"]).indices]).toEqual([2 ** 32 - 0xba6bd213]);
});

test("a text without tokens has no entries", () => {
  expect(bm25Document([], bm25WeightDefaults).indices.length).toBe(0);
  expect(bm25Query([]).values.length).toBe(0);
});
