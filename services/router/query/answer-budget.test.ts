import { expect, test } from "vitest";
import { AnswerBudget, facetBytes } from "./answer-budget.js";

const select = { payload: true, vectors: [], allVectors: false, include: [], exclude: [] };
const shape = { collectionId: "a", select, count: 10 };

test("answers are refused before they are read where those in flight leave no room", () => {
  const budget = new AnswerBudget(100_000);
  const first = budget.reserve(shape);
  first.settle(60_000);
  expect(budget.inFlightBytes).toBe(60_000);
  expect(budget.expectedBytes({ ...shape, count: 5 })).toBe(30_000);
  expect(() => budget.reserve(shape)).toThrow(/60000 bytes are in flight, and 100000 are allowed/);
  const small = budget.reserve({ ...shape, count: 5 });
  expect(() => budget.reserve({ ...shape, collectionId: "b", count: 1_000 })).toThrow(/RESOURCE|in flight/);
  first.release();
  small.release();
  first.release();
  expect(budget.inFlightBytes).toBe(0);
  // However large it will be, one answer alone always has room.
  budget.reserve({ ...shape, count: 1_000 }).release();
});

test("what clients have not taken counts, and what is expected follows what was seen", () => {
  let unsent = 90_000;
  const budget = new AnswerBudget(100_000);
  budget.countUnsent(() => unsent);
  expect(() => budget.reserve(shape)).toThrow(/90000/);
  unsent = 0;
  const large = budget.reserve(shape);
  large.settle(50_000);
  large.release();
  for (let i = 0; i < 200; i++) {
    const small = budget.reserve(shape);
    small.settle(1_000);
    small.release();
  }
  expect(budget.expectedBytes(shape)).toBeLessThan(1_100);
  // Without payload and vectors results are small, whatever the collection holds.
  expect(budget.expectedBytes({ ...shape, select: { ...select, payload: false } })).toBe(640);
});

test("facets are known by their field, and what is counted by bytes is refused as all else is", () => {
  const budget = new AnswerBudget(100_000);
  const genres = { collectionId: "a", select: undefined, count: 1, kind: "facet genre" };
  const first = budget.reserve(genres);
  first.settle(60_000);
  expect(budget.expectedBytes(genres)).toBe(60_000);
  expect(budget.expectedBytes({ ...genres, kind: "facet year" })).toBe(64);
  expect(() => budget.reserve(genres)).toThrow(/in flight/);
  expect(() => budget.reserveBytes(50_000)).toThrow(/in flight/);
  budget.reserveBytes(30_000).release();
  first.release();
  expect(budget.inFlightBytes).toBe(0);
  expect(facetBytes([{ value: "abc" }, { value: 7n }])).toBe(134);
});
