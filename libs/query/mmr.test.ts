import fc from "fast-check";
import { expect, test } from "vitest";
import { diversify, similarity } from "./index.js";
import { hitOf, numberOf, resultOf } from "./testing.js";

const query = Float32Array.of(1, 0);
const cosine = (a: Float32Array, b: Float32Array): number => similarity("cosine", a, b);
const candidates = [
  { hit: hitOf(1, 0.9), vector: Float32Array.of(1, 0.1) },
  { hit: hitOf(2, 0.8), vector: Float32Array.of(1, 0.11) },
  { hit: hitOf(3, 0.5), vector: Float32Array.of(0.4, -1) },
];

test("results that resemble one picked before give way, and keep their scores", () => {
  expect(resultOf(diversify(candidates, query, cosine, 0, 2)).map(numberOf)).toEqual([1, 2]);
  const diverse = resultOf(diversify(candidates, query, cosine, 0.7, 2));
  expect(diverse.map(({ score }) => score)).toEqual([0.9, 0.5]);
  expect(resultOf(diversify([], query, cosine, 0.5, 3))).toEqual([]);
});

test("each pick is the best by relevance and likeness to those before", () => {
  const vectors = fc.array(fc.tuple(fc.integer({ min: -5, max: 5 }), fc.integer({ min: 1, max: 5 })), { maxLength: 8 });
  const metric = fc.constantFrom("cosine" as const, "dot" as const, "l2" as const);
  fc.assert(
    fc.property(
      vectors,
      metric,
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.nat(8),
      (drawn, by, diversity, limit) => {
        const all = drawn.map(([x, y], id) => ({ hit: hitOf(id, 0), vector: Float32Array.of(x, y) }));
        const picked = resultOf(diversify(all, query, (a, b) => similarity(by, a, b), diversity, limit)).map(numberOf);
        expect(picked.length).toBe(Math.min(limit, all.length));
        const alike = (i: number, j: number): number =>
          similarity(by, (all[i] as (typeof all)[number]).vector, (all[j] as (typeof all)[number]).vector);
        picked.forEach((id, n) => {
          const before = picked.slice(0, n);
          const worth = (i: number): number => {
            const relevance = similarity(by, query, (all[i] as (typeof all)[number]).vector);
            if (n === 0) return relevance;
            return (1 - diversity) * relevance - diversity * Math.max(...before.map((j) => alike(i, j)));
          };
          const rest = [...all.keys()].filter((i) => !before.includes(i));
          expect(worth(id)).toBe(Math.max(...rest.map(worth)));
        });
      },
    ),
  );
});
