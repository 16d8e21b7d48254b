import * as fc from "fast-check";
import { expect, test } from "vitest";
import { filters } from "../filter/testing.js";
import { filterOf, parsePath } from "../model/index.js";
import { filterFromWire, filterToWire, pb } from "./index.js";

const path = parsePath("a");

test("every filter crosses the wire as the same tree", () => {
  fc.assert(
    fc.property(filters, (filter) => {
      const bytes = pb.Filter.encode(filterToWire(filter)).finish();
      expect(filterFromWire(pb.Filter.decode(bytes))).toEqual(filter);
    }),
    { numRuns: 500 },
  );
});

test.each<[string, pb.Condition["condition"], string, RegExp]>([
  ["no condition", undefined, "filter.must[0]", /of a kind that this version does not know/],
  ["no match", { $case: "match", value: { key: "a", match: undefined } }, "filter.must[0].match", /missing/],
  [
    "a bad path",
    { $case: "isEmpty", value: { key: "a." } },
    "filter.must[0].key",
    /the path "a." is not valid: expected a key/,
  ],
  [
    "no centre",
    { $case: "geoRadius", value: { key: "a", center: undefined, radiusMeters: 1 } },
    "filter.must[0].geo_radius.center",
    /missing/,
  ],
  [
    "no ring",
    { $case: "geoPolygon", value: { key: "a", exterior: undefined, interiors: [] } },
    "filter.must[0].geo_polygon.exterior",
    /missing/,
  ],
  ["no filter", { $case: "nested", value: { key: "a", filter: undefined } }, "filter.must[0].nested.filter", /missing/],
  [
    "an empty bound",
    { $case: "range", value: { key: "a", gt: { value: undefined }, gte: undefined, lt: undefined, lte: undefined } },
    "filter.must[0].range.gt",
    /missing/,
  ],
  ["no id", { $case: "hasId", value: { ids: [{ id: undefined }] } }, "filter.must[0].has_id[0]", /missing/],
  [
    "a bad UUID",
    { $case: "hasId", value: { ids: [{ id: { $case: "uuid", value: "x" } }] } },
    "filter.must[0].has_id[0]",
    /not a UUID/,
  ],
])("%s is refused with the node's path", (_, condition, node, message) => {
  const wire = { must: [{ condition }], should: [], mustNot: [], minShould: undefined };
  expect(() => filterFromWire(wire)).toThrow(
    expect.objectContaining({
      code: "INVALID_FILTER",
      message: expect.stringMatching(message) as unknown,
      details: { path: node },
    }),
  );
});

test("integers of 64 bits arrive whole, smaller ones as numbers", () => {
  const values = [1, -(2n ** 63n), 2n ** 63n - 1n, 2 ** 53 - 1, 2n ** 53n];
  const filter = filterOf({
    must: [
      { kind: "match", path, match: { kind: "any", values } },
      { kind: "range", path, range: { gt: 2n ** 53n + 1n, lt: 1e300, gte: -0.5 } },
      { kind: "datetimeRange", path, range: { gt: 0, lte: 253_402_300_799_999_999n } },
    ],
  });
  expect(filterFromWire(pb.Filter.decode(pb.Filter.encode(filterToWire(filter)).finish()))).toEqual(filter);
});

test("messages that nest too deeply end in an error, before the stack does", () => {
  let bytes = pb.Filter.encode(pb.Filter.fromPartial({})).finish();
  // Field 1 of Filter (must), field 14 of Condition (filter).
  for (let depth = 0; depth < 20_000; depth++) {
    const inner = Buffer.concat([Buffer.of((14 << 3) | 2), varint(bytes.length), bytes]);
    bytes = Buffer.concat([Buffer.of((1 << 3) | 2), varint(inner.length), inner]);
  }
  expect(() => pb.Filter.decode(bytes)).toThrow(/recursion limit/);
  let wire: pb.Filter = { must: [], should: [], mustNot: [], minShould: undefined };
  for (let depth = 0; depth < 20_000; depth++) {
    wire = { ...wire, must: [{ condition: { $case: "filter", value: wire } }] };
  }
  expect(() => filterFromWire(wire)).toThrow(expect.objectContaining({ code: "INVALID_FILTER" }));
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.of(...bytes, value);
}
