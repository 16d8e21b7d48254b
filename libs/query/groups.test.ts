import { expect, test } from "vitest";
import { groupHits, mergeFacets, mergeOrdered } from "./index.js";
import { hitOf, numberOf } from "./testing.js";

type Grouped = Parameters<typeof groupHits<{ hit: ReturnType<typeof hitOf>; values: (string | number | bigint)[] }>>[0];
const hits: Grouped = [
  { hit: hitOf(1, 9), values: ["b", "a"] },
  { hit: hitOf(2, 8), values: ["b"] },
  { hit: hitOf(3, 7), values: [] },
  { hit: hitOf(4, 6), values: ["c", 7n, 7] },
  { hit: hitOf(5, 5), values: ["b", "a"] },
];

test("groups come by their best hit, ties by value, with so many hits each", () => {
  const plain = (groups: number, size: number): unknown =>
    groupHits(
      hits,
      ({ values }) => [...new Set(values.map((value) => (typeof value === "bigint" ? Number(value) : value)))],
      groups,
      size,
    ).map(({ value, hits: inside }) => [value, inside.map(({ hit }) => numberOf(hit))]);
  expect(plain(10, 2)).toEqual([
    ["a", [1, 5]],
    ["b", [1, 2]],
    [7, [4]],
    ["c", [4]],
  ]);
  expect(plain(1, 9)).toEqual([["a", [1, 5]]]);
});

test("ordered lists merge in both directions, ties by id", () => {
  const at = (id: number, value: number): { id: Uint8Array; value: number } => ({ id: hitOf(id, 0).id, value });
  const lists = [
    [at(3, 1), at(1, 5)],
    [at(2, 1), at(4, 2)],
  ];
  const ids = (direction: "ascending" | "descending", limit: number): number[] =>
    mergeOrdered(lists, direction, limit).map(numberOf);
  expect(ids("ascending", 9)).toEqual([2, 3, 4, 1]);
  expect(ids("descending", 3)).toEqual([1, 4, 2]);
});

test("facet counts of shards are added up: most first, ties by value", () => {
  const lists = [
    [
      { value: "x", count: 2 },
      { value: "y", count: 1 },
    ],
    [
      { value: "y", count: 3 },
      { value: "a", count: 2 },
    ],
  ];
  expect(mergeFacets(lists, 10)).toEqual([
    { value: "y", count: 4 },
    { value: "a", count: 2 },
    { value: "x", count: 2 },
  ]);
  expect(mergeFacets([[{ value: true, count: 1 }], [{ value: false, count: 1 }]], 1)).toEqual([
    { value: false, count: 1 },
  ]);
});
