import { expect, test } from "vitest";
import type { Scorer } from "../model/index.js";
import { averageOf, combineSimilarities, examplesOf, similarity, similarityOf } from "./index.js";

const v = (...x: number[]): Float32Array => Float32Array.from(x);
const squash = (x: number): number => x / (1 + Math.abs(x));
const half = (x: number): number => 0.5 * (squash(x) + 1);

test("similarity is higher for what is nearer, from vectors as from an index's distance", () => {
  expect(similarity("l2", v(1, 2), v(4, 6))).toBe(-25);
  expect(similarityOf("l2", 25)).toBe(-25);
  expect(similarity("dot", v(1, 2), v(4, 6))).toBe(16);
  expect(similarityOf("dot", -16)).toBe(16);
  expect(similarity("cosine", v(3, 0), v(3, 3))).toBeCloseTo(Math.SQRT1_2, 12);
  expect(similarityOf("cosine", 0.25)).toBe(0.75);
  expect(similarity("cosine", v(0, 0), v(3, 3))).toBe(0);
});

test("the best score is that of the nearest example, negated where that is a negative one", () => {
  const scorer: Scorer = { kind: "bestScore", positive: [v(1), v(2)], negative: [v(3)] };
  expect(examplesOf(scorer)).toEqual([v(1), v(2), v(3)]);
  expect(combineSimilarities(scorer, [1, 4, 2])).toBeCloseTo(half(4), 12);
  expect(combineSimilarities(scorer, [1, 2, 3])).toBeCloseTo(-half(3), 12);
  expect(combineSimilarities({ ...scorer, positive: [] }, [2])).toBeCloseTo(-half(2), 12);
  expect(combineSimilarities({ ...scorer, negative: [] }, [-2, -3])).toBeCloseTo(half(-2), 12);
});

test("sums count positive examples for and negative ones against", () => {
  expect(combineSimilarities({ kind: "sumScores", positive: [v(1), v(2)], negative: [v(3)] }, [1, 4, 2])).toBe(3);
});

test("discovery ranks by the pairs first, then by the target", () => {
  const pairs = [
    { positive: v(1), negative: v(2) },
    { positive: v(3), negative: v(4) },
  ];
  const scorer: Scorer = { kind: "discover", target: v(0), pairs };
  expect(examplesOf(scorer)).toEqual([v(0), v(1), v(2), v(3), v(4)]);
  expect(combineSimilarities(scorer, [5, 2, 1, 1, 2])).toBeCloseTo(half(5), 12);
  expect(combineSimilarities(scorer, [5, 2, 1, 3, 2])).toBeCloseTo(2 + half(5), 12);
  expect(combineSimilarities({ kind: "context", pairs }, [2, 1, 1, 3])).toBeCloseTo(squash(-2 - 2 ** -23), 12);
  expect(combineSimilarities({ kind: "context", pairs }, [2, 1, 3, 1])).toBe(0);
});

test("the average leads away from negative examples", () => {
  expect(averageOf([v(2, 0), v(4, 2)], [])).toEqual(v(3, 1));
  expect(averageOf([v(2, 0), v(4, 2)], [v(1, 1)])).toEqual(v(5, 1));
});
