import { expect, test } from "vitest";
import { hybridQuery } from "./hybrid.js";

const words = { indices: [3], values: [1] };
const vector = [1, 2];

test("a prefetch of each, and a fusion of all", () => {
  expect(hybridQuery({ text: "boundary layer", vector, using: "dense", limit: 20, filter: "year > 1990" })).toEqual({
    limit: 20,
    filter: "year > 1990",
    prefetch: [
      { query: { text: "boundary layer" }, using: "", limit: 100 },
      { query: { nearest: vector }, using: "dense", limit: 100 },
    ],
    query: { fusion: "rrf" },
  });
  const all = hybridQuery({
    ...{ text: "layer", textIndex: "title", vector, sparse: { words, other: words }, exact: true, candidates: 7 },
    ...{ fusion: "relative", weights: { vector: 2, sparse: 0.5 } },
  });
  expect(all).toEqual({
    prefetch: [
      { query: { text: "layer" }, using: "title", limit: 7 },
      { query: { nearest: vector }, using: "", limit: 7, exact: true },
      { query: { nearest: words }, using: "words", limit: 7 },
      { query: { nearest: words }, using: "other", limit: 7 },
    ],
    query: { fusion: { relative: { weights: [1, 2, 0.5, 0.5] } } },
  });
  const two = hybridQuery({ like: [4, 5], sparse: { words } });
  expect(two.prefetch?.map(({ query }) => query)).toEqual([{ recommend: { positive: [4, 5] } }, { nearest: words }]);
  const shared = hybridQuery({ text: "layer", sparse: { words }, textWeight: 0.75 });
  expect(shared.query).toEqual({ fusion: { rrf: { weights: [0.75, 0.25] } } });
});

test.each([
  [{ text: "one" }, /two at least/],
  [{ sparse: { words } }, /two at least/],
  [{ text: "one", vector, like: [1] }, /either a vector or points/],
  [{ text: "one", vector, textWeight: 2 }, /textWeight is 2/],
  [{ text: "one", vector, sparse: { words }, textWeight: 0.5 }, /give weights/],
  [{ text: "one", vector, textWeight: 0.5, weights: {} }, /either textWeight or weights/],
  [{ text: "one", vector, weights: { text: 1 }, fusion: "dbsf" as const }, /takes no weights/],
  [{ text: "one", vector, weights: { sparse: 1 } }, /nothing that is looked for/],
  [{ text: "one", vector, weights: { vector: -1 } }, /weights\.vector is -1/],
  [{ text: "one", vector, weights: { dense: 1 } as object }, /weights\.dense is unknown/],
])("refuses %j", (input, message) => {
  expect(() => hybridQuery(input)).toThrow(message);
});
