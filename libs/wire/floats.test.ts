import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { afterEach, expect, test, vi } from "vitest";
import { limits } from "../base/index.js";
import { appendFloat, emptyFloats, pb } from "./index.js";

const dimension = 10_000;
const values = Float32Array.from({ length: dimension }, (_, i) => i / 8);

/** A QueryRequest whose vector is written one value at a time: unpacked, or as packed chunks of one value. */
function piecemeal(form: "unpacked" | "chunks", floats: Float32Array): Uint8Array {
  const writer = new BinaryWriter().uint32(10).string("c");
  for (const value of floats) {
    if (form === "unpacked") writer.uint32(21).float(value);
    else writer.uint32(18).fork().float(value).join();
  }
  return writer.finish();
}

afterEach(() => vi.restoreAllMocks());

test.each(["unpacked", "chunks"] as const)("a vector in pieces (%s) costs a few copies of it", (form) => {
  const bytes = piecemeal(form, values);
  const set = vi.spyOn(Float32Array.prototype, "set");
  const { vector } = pb.QueryRequest.decode(bytes);
  expect(vector).toEqual(values);
  const copied = set.mock.calls.reduce((sum, [from]) => sum + from.length, 0);
  expect(copied).toBeLessThan(4 * dimension);
});

test("a megabyte of unpacked vectors is read as it was written, each into memory of its own", () => {
  const rows = 20;
  const writer = new BinaryWriter();
  for (let row = 0; row < rows; row++) {
    writer.uint32(18).fork(); // points
    writer.uint32(18).fork(); // vectors: a map of "" to a Vector
    writer.uint32(18).fork();
    for (const value of values) writer.uint32(13).float(value + row);
    writer.join().join().join();
  }
  const bytes = writer.finish();
  expect(bytes.length).toBeGreaterThan(1e6);
  const { points } = pb.UpsertRequest.decode(bytes);
  expect(points).toHaveLength(rows);
  points.forEach((point, row) => expect(point.vectors[""]?.values).toEqual(values.map((value) => value + row)));
});

test("what goes on from the same beginning twice does not write over the first", () => {
  const beginning = appendFloat(appendFloat(emptyFloats, 1), 2);
  const first = appendFloat(beginning, 3);
  const second = appendFloat(beginning, 4);
  expect([...first, ...second]).toEqual([1, 2, 3, 1, 2, 4]);
});

test.each(["unpacked", "chunks"] as const)("more values than the largest dimension (%s) are refused", (form) => {
  const most = new Float32Array(limits.dimensionMax);
  expect(pb.QueryRequest.decode(piecemeal(form, most)).vector).toHaveLength(limits.dimensionMax);
  const over = new Float32Array(limits.dimensionMax + 1);
  expect(() => pb.QueryRequest.decode(piecemeal(form, over))).toThrow(
    expect.objectContaining({ code: "DIMENSION_MISMATCH", message: expect.stringContaining("16384") as string }),
  );
});
