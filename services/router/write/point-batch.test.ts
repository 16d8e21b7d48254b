import { expect, test } from "vitest";
import type { Collection } from "../../../libs/model/index.js";
import { floatsToBytes, type pb } from "../../../libs/wire/index.js";
import { batchesOfPoints, batchOfColumns } from "./point-batch.js";

const collection = {
  name: "things",
  fields: [{ name: "half", dimension: 2, metric: "l2", datatype: "f16", m: 8, efConstruction: 64, efSearch: 64 }],
} as unknown as Collection;

const refused = {
  code: "VECTOR_OUT_OF_RANGE",
  message: expect.stringMatching(/\[?1\]?: element 0 of the vector "half" is 70000/) as string,
};

function failure(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}

test("points with numbers that the field's datatype does not hold are refused, with field, index and value", () => {
  const point = (num: bigint, ...values: number[]): pb.Point => ({
    id: { id: { $case: "num", value: num } },
    vectors: { half: { values: Float32Array.from(values), indices: [] } },
    payload: new Uint8Array(),
    version: 0,
    expiresAtMs: 0,
  });
  expect(failure(() => batchesOfPoints(collection, [point(1n, 1, 2), point(2n, 70_000, 0)], undefined))).toMatchObject(
    refused,
  );
  expect(batchesOfPoints(collection, [point(1n, 65_504, 2)], undefined)).toHaveLength(1);
});

test("so are columns", () => {
  const request = (...values: number[]): pb.UpsertColumnsRequest =>
    ({
      idColumn: { $case: "nums", value: Buffer.from(new BigUint64Array([1n, 2n]).buffer) },
      vectors: [{ name: "half", matrix: Buffer.from(floatsToBytes(Float32Array.from(values))), rows: [] }],
      sparseVectors: [],
      payloads: [],
    }) as unknown as pb.UpsertColumnsRequest;
  expect(failure(() => batchOfColumns(collection, request(1, 2, 70_000, 0), undefined))).toMatchObject(refused);
});

test.each([[[1, 2]], [[2, 1]]])(
  "a point without vectors beside one with the unnamed vector keeps each as it is (%j)",
  (order) => {
    const unnamed = {
      name: "things",
      fields: [{ name: "", dimension: 2, metric: "l2", datatype: "f32", m: 8, efConstruction: 64, efSearch: 64 }],
    } as unknown as Collection;
    const points = order.map(
      (num): pb.Point => ({
        id: { id: { $case: "num", value: BigInt(num) } },
        vectors: num === 1 ? { "": { values: Float32Array.of(3, 4), indices: [] } } : {},
        payload: new Uint8Array(),
        version: 0,
        expiresAtMs: 0,
      }),
    );
    const batches = batchesOfPoints(unnamed, points, undefined, true);
    const matrices = batches.map(({ positions, columns }) => [positions, columns.map(({ matrix }) => [...matrix])]);
    const [with1, with2] = [order.indexOf(1), order.indexOf(2)];
    expect(matrices).toEqual(
      expect.arrayContaining([
        [[with1], [[3, 4]]],
        [[with2], []],
      ]),
    );
  },
);
