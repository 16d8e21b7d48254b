import { expect, test } from "vitest";
import type { Metric, VectorField } from "./collection.js";
import type { Datatype } from "./datatype.js";
import { checkQueryVector, checkVectors, checkWrittenVectors } from "./vector.js";

function fieldOf(metric: Metric, datatype: Datatype): VectorField {
  return { name: "v", dimension: 2, metric, datatype, m: 8, efConstruction: 64, efSearch: 64 };
}

function failure(check: () => void): unknown {
  try {
    check();
    return undefined;
  } catch (error) {
    return error;
  }
}

const at = (row: number): string => `points[${row}]`;

test.each(["l2", "dot"] as const)("f16 %s: a component that f16 does not hold is refused when written", (metric) => {
  const field = fieldOf(metric, "f16");
  checkWrittenVectors(field, Float32Array.of(65_504, -65_504, 60_000, 60_000), 2, at);
  const matrix = Float32Array.of(1, 2, 3, -70_000);
  expect(failure(() => checkWrittenVectors(field, matrix, 2, at))).toMatchObject({
    code: "VECTOR_OUT_OF_RANGE",
    message: expect.stringMatching(
      /points\[1\]: element 1 of the vector "v" is -70000; f16 holds numbers up to 65504/,
    ) as string,
    details: { field: "v", row: 1, element: 1, value: -70_000, most: 65_504 },
  });
  // A log may hold it, and a query is compared as it is.
  checkVectors(field, matrix, 2, at);
  checkQueryVector(field, matrix.subarray(2), () => "the query");
  for (const datatype of ["f32", "bf16", "i8"] as const) checkWrittenVectors(fieldOf(metric, datatype), matrix, 2, at);
  checkWrittenVectors(fieldOf("cosine", "f16"), matrix, 2, at);
});

test.each(["f32", "f16", "bf16", "i8"] as const)("%s: vectors whose distances leave f32 are refused", (datatype) => {
  const long = Float32Array.of(9e18, 9e18);
  const message = expect.stringMatching(
    /the vector "v" is 1.27e\+19 long; dot compares vectors up to 9.00e\+18/,
  ) as string;
  const dot = fieldOf("dot", datatype);
  const query = failure(() => checkQueryVector(dot, long, () => "the query"));
  expect(query).toMatchObject({ code: "VECTOR_OUT_OF_RANGE", message });
  const written = failure(() => checkWrittenVectors(dot, long, 1, at));
  expect(written).toMatchObject({ code: "VECTOR_OUT_OF_RANGE" });
  checkVectors(dot, long, 1, at);
  checkWrittenVectors(fieldOf("cosine", datatype), long, 1, at);
  const endless = Float32Array.of(3e38, 1);
  for (const check of [checkVectors, checkWrittenVectors]) {
    for (const metric of ["cosine", "dot", "l2"] as const) {
      expect(failure(() => check(fieldOf(metric, datatype), endless, 1, at))).toMatchObject({
        code: "VECTOR_OUT_OF_RANGE",
      });
    }
  }
});

test("what is not finite, zero or of another length is named", () => {
  const field = fieldOf("cosine", "f32");
  for (const check of [checkVectors, checkWrittenVectors]) {
    const codeOf = (...numbers: number[]): unknown => failure(() => check(field, Float32Array.from(numbers), 2, at));
    expect(codeOf(1, 2, Number.NaN, 0)).toMatchObject({ code: "VECTOR_NOT_FINITE", details: { row: 1, element: 0 } });
    expect(codeOf(1, 2, 0, Number.NEGATIVE_INFINITY)).toMatchObject({ code: "VECTOR_NOT_FINITE" });
    expect(codeOf(0, 0, 1, 2)).toMatchObject({ code: "ZERO_VECTOR", details: { row: 0 } });
    expect(codeOf(1, 2, 3)).toMatchObject({ code: "DIMENSION_MISMATCH" });
    expect(codeOf(1, 2, 3, 4)).toBeUndefined();
  }
});
