import { expect, test } from "vitest";
import { rescoringOf } from "./query.js";

test.each<[object, object | undefined]>([
  [{}, undefined],
  [{ quantization: null }, undefined],
  [{ quantization: {} }, { oversampling: 0 }],
  [{ quantization: { rescore: false } }, { oversampling: 0, rescore: false }],
  [{ quantization: { rescore: false, ignore: true, oversampling: 2.5 } }, { oversampling: 2.5, rescore: true }],
  [{ quantization: { oversampling: 1e9 } }, { oversampling: 1_000 }],
])("params %j are scored by %j", (params, expected) => {
  expect(rescoringOf(params as never, "params")).toEqual(expected);
});

test("less than all results cannot be scored", () => {
  const params = { quantization: { oversampling: 0.5 } };
  expect(() => rescoringOf(params, "params")).toThrow("params.quantization.oversampling: must be at least 1");
});
