import { expect, test } from "vitest";
import { type Hit, idFromNum, type VectorField } from "../model/index.js";
import { finishNearest, orderOf, planNearest, reaches, scoreOf } from "./index.js";

const field: VectorField = {
  name: "",
  dimension: 2,
  metric: "l2",
  datatype: "f32",
  m: 16,
  efConstruction: 100,
  efSearch: 64,
};
const collection = { name: "docs", fields: [field, { ...field, name: "dot", metric: "dot" as const }] };
const request = {
  using: "",
  vector: Float32Array.of(1, 2),
  limit: 0,
  ef: 0,
  exact: false,
  select: { payload: false, vectors: [] },
  scoreThreshold: undefined,
  exclude: undefined,
};
const hit = (id: number, score: number): Hit => ({ id: idFromNum(id), score, version: 1, payload: new Uint8Array() });
const idsOf = (hits: readonly Hit[]): number[] => hits.map(({ id }) => Number(Buffer.from(id).readBigUInt64BE(1)));

test("scores are what users read, as f32, and never -0", () => {
  expect(scoreOf("l2", 2)).toBe(Math.fround(Math.SQRT2));
  expect(scoreOf("cosine", 0.25)).toBe(0.75);
  expect(scoreOf("dot", -3)).toBe(3);
  expect(Object.is(scoreOf("dot", 0), 0)).toBe(true);
  expect([orderOf("l2"), orderOf("dot"), orderOf("cosine")]).toEqual(["lower", "higher", "higher"]);
  expect([reaches("lower", 2, 1.5), reaches("higher", 2, 1.5), reaches("lower", 2, undefined)]).toEqual([
    false,
    true,
    true,
  ]);
});

test("a plan has the defaults of field and limits, and one result more where a point is left out", () => {
  expect(planNearest(collection, request)).toMatchObject({ limit: 10, order: "lower", shardQuery: { k: 10, ef: 64 } });
  const byPoint = planNearest(collection, { ...request, limit: 100, exclude: idFromNum(7) });
  expect(byPoint).toMatchObject({ limit: 100, shardQuery: { k: 101, ef: 101 } });
  const lists = [
    [hit(7, 0), hit(2, 3)],
    [hit(1, 3), hit(3, 4)],
  ];
  expect(idsOf(finishNearest(byPoint, lists))).toEqual([1, 2, 3]);
});

test("the threshold keeps what is near: low distances, high products", () => {
  const near = planNearest(collection, { ...request, scoreThreshold: 3 });
  expect(idsOf(finishNearest(near, [[hit(1, 2), hit(2, 3), hit(3, 3.5)]]))).toEqual([1, 2]);
  const product = planNearest(collection, { ...request, using: "dot", scoreThreshold: 3 });
  expect(idsOf(finishNearest(product, [[hit(3, 3.5), hit(2, 3), hit(1, 2)]]))).toEqual([3, 2]);
});

test.each([
  [{ limit: 10_001 }, "LIMIT_OUT_OF_RANGE"],
  [{ ef: 8_193 }, "LIMIT_OUT_OF_RANGE"],
  [{ scoreThreshold: Number.NaN }, "INVALID_ARGUMENT"],
  [{ using: "none" }, "UNKNOWN_VECTOR"],
  [{ vector: Float32Array.of(1) }, "DIMENSION_MISMATCH"],
])("%j is refused as %s", (change, code) => {
  expect(() => planNearest(collection, { ...request, ...change })).toThrow(expect.objectContaining({ code }));
});
