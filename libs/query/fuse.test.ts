import fc from "fast-check";
import { expect, test } from "vitest";
import type { Hit } from "../model/index.js";
import { fuse } from "./index.js";
import { hitOf, numberOf, plain } from "./testing.js";

const a = [hitOf(1, 9), hitOf(2, 8), hitOf(3, 4)];
const b = [hitOf(2, 0.9), hitOf(4, 0.5)];
const f32 = Math.fround;

test("reciprocal ranks are summed, with the constant and the weights", () => {
  expect(plain(fuse([a, b], { method: "rrf", k: 2 }, 10))).toEqual([
    [2, f32(1 / 3 + 1 / 2)],
    [1, f32(1 / 2)],
    [4, f32(1 / 3)],
    [3, f32(1 / 4)],
  ]);
  // 1 / ((rank + 1) / weight + k - 1)
  expect(plain(fuse([a, b], { method: "rrf", k: 60, weights: [3, 0] }, 2))).toEqual([
    [1, f32(1 / (1 / 3 + 59))],
    [2, f32(1 / (2 / 3 + 59))],
  ]);
});

test("by distribution, three deviations around the mean become 0 to 1", () => {
  const deviation = Math.sqrt((2 ** 2 + 1 ** 2 + 3 ** 2) / 2);
  const share = (score: number): number => (score - (7 - 3 * deviation)) / (6 * deviation);
  const fused = new Map(plain(fuse([a, [hitOf(1, 5)]], { method: "dbsf" }, 10)));
  expect(fused.get(1)).toBe(f32(share(9) + 0.5));
  expect(fused.get(3)).toBe(f32(share(4)));
  expect(plain(fuse([[hitOf(1, 3), hitOf(2, 3)]], { method: "dbsf" }, 10))).toEqual([
    [1, 0.5],
    [2, 0.5],
  ]);
});

test("relative scores run from 0 to the weight of their list", () => {
  expect(plain(fuse([a, b], { method: "relative", weights: [1, 2] }, 10))).toEqual([
    [2, f32(0.8 + 2)],
    [1, 1],
    [3, 0],
    [4, 0],
  ]);
});

test.each(["dbsf", "relative"] as const)(
  "%s keeps the order of distances, of which lower ones are better",
  (method) => {
    const near = [hitOf(1, 0), hitOf(2, 1), hitOf(3, 4)];
    const ids = (hits: readonly Hit[]): unknown[] => plain(hits).map(([id]) => id);
    expect(ids(fuse([near, near], { method }, 10, ["lower", "lower"]))).toEqual([1, 2, 3]);
    const far = near.map(({ id, score, version, payload }) => ({ id, score: -score, version, payload }));
    expect(plain(fuse([near, a], { method }, 10, ["lower", "higher"]))).toEqual(plain(fuse([far, a], { method }, 10)));
  },
);

const lists = fc.array(
  fc.uniqueArray(fc.record({ id: fc.nat(30), score: fc.double({ min: -5, max: 5, noNaN: true }) }), {
    maxLength: 10,
    selector: ({ id }) => id,
  }),
  { minLength: 1, maxLength: 4 },
);

test.each(["rrf", "dbsf", "relative"] as const)(
  "%s gives each point once, best first, ties by id, whatever the order of the lists",
  (method) => {
    fc.assert(
      fc.property(lists, fc.nat(40), (drawn, limit) => {
        const sorted = drawn.map((list) =>
          list.map(({ id, score }) => hitOf(id, score)).sort((x, y) => y.score - x.score),
        );
        const fusion = method === "rrf" ? { method, k: 2 } : { method };
        const fused = fuse(sorted, fusion, limit);
        const ids = new Set(sorted.flat().map(numberOf));
        expect(new Set(fused.map(numberOf)).size).toBe(fused.length);
        expect(fused.length).toBe(Math.min(limit, ids.size));
        fused.slice(1).forEach((hit, i) => {
          const before = fused[i] as typeof hit;
          expect(before.score > hit.score || (before.score === hit.score && numberOf(before) < numberOf(hit))).toBe(
            true,
          );
        });
        const turned = new Map(plain(fuse([...sorted].reverse(), fusion, 100)));
        for (const [id, score] of plain(fused)) expect(turned.get(id)).toBeCloseTo(score, 5);
      }),
    );
  },
);
