import * as fc from "fast-check";
import { expect, test } from "vitest";
import { KithError, limits } from "../base/index.js";
import { parseJson, printJson } from "../model/index.js";
import { filterFromJson } from "./json.js";
import { filterToJson } from "./print-json.js";
import { filters } from "./testing.js";

test("what is printed is read back as the same tree, as values and as text", () => {
  fc.assert(
    fc.property(filters, (filter) => {
      const json = filterToJson(filter);
      expect(filterFromJson(json)).toEqual(filter);
      expect(filterFromJson(parseJson(printJson(json)))).toEqual(filter);
    }),
    { numRuns: 500 },
  );
});

test("other spellings that Qdrant reads too", () => {
  const empty = { is_empty: { key: "a" } };
  expect(filterFromJson({ must: empty })).toEqual(filterFromJson({ must: [empty] }));
  expect(filterFromJson({ must: [{ key: "a", is_empty: true }] })).toEqual(filterFromJson({ must: [empty] }));
  expect(filterFromJson({ must: [{ key: "a", is_empty: false }] })).toEqual(
    filterFromJson({ must: [{ must_not: [empty] }] }),
  );
  expect(filterFromJson({ must: [{ key: "a", is_null: true, match: null }], should: null })).toEqual(
    filterFromJson({ must: [{ is_null: { key: "a" } }] }),
  );
  expect(filterFromJson({})).toEqual({ must: [], should: [], mustNot: [] });
});

const key = "a";
const one = { key, match: { value: 1 } };
const square = [
  [0, 0],
  [0, 1],
  [1, 1],
  [1, 0],
  [0, 0],
].map(([lat, lon]) => ({ lat, lon }));
const deep = (depth: number): unknown => (depth === 1 ? { must: [one] } : { must: [deep(depth - 1)] });

test.each<[string, unknown, string, RegExp]>([
  ["no object", [], "filter", /expected an object, not a list/],
  ["null", null, "filter", /expected an object, not null/],
  ["an unknown key", { musst: [] }, "filter.musst", /unknown key "musst"; known here: must, should/],
  ["a key of the prototype", JSON.parse('{"__proto__": []}'), "filter.__proto__", /unknown key "__proto__"/],
  ["an empty list", { must: [] }, "filter.must", /leave it out/],
  [
    "an empty list in min_should",
    { min_should: { conditions: [], min_count: 1 } },
    "filter.min_should.conditions",
    /leave/,
  ],
  ["no conditions in min_should", { min_should: { min_count: 1 } }, "filter.min_should.conditions", /missing/],
  ["no count", { min_should: { conditions: [one] } }, "filter.min_should.min_count", /expected a number, not nothing/],
  ["a count of 0", { min_should: { conditions: [one], min_count: 0 } }, "filter.min_should.min_count", /not in 1..1/],
  [
    "a count that is too large",
    { min_should: { conditions: [one], min_count: 2 } },
    "filter.min_should.min_count",
    /2 is/,
  ],
  ["a broken count", { min_should: { conditions: [one], min_count: 0.5 } }, "filter.min_should.min_count", /0.5/],
  ["an empty filter in a list", { must: [one, {}] }, "filter.must[1]", /no condition/],
  ["an unknown condition", { should: [{ has_ids: [1] }] }, "filter.should[0].has_ids", /unknown key "has_ids"/],
  ["two conditions in one", { must: [{ has_id: [1], is_null: { key } }] }, "filter.must[0].has_id", /unknown key/],
  ["a field without operator", { must: [{ key }] }, "filter.must[0]", /no operator/],
  ["two operators", { must: [{ ...one, range: { gt: 1 } }] }, "filter.must[0]", /match, range; use one condition/],
  ["an unknown operator", { must: [{ key, equals: 1 }] }, "filter.must[0].equals", /unknown key "equals"/],
  ["an unknown match", { must: [{ key, match: { like: "x" } }] }, "filter.must[0].match.like", /unknown key/],
  ["two matches", { must: [{ key, match: { value: 1, any: [1] } }] }, "filter.must[0].match", /value, any/],
  ["an empty match", { must: [{ key, match: {} }] }, "filter.must[0].match", /found: none/],
  [
    "a key that is a number",
    { must: [{ ...one, key: 1 }] },
    "filter.must[0].key",
    /expected a string, not the number 1/,
  ],
  ["a bad path", { must: [{ ...one, key: "a..b" }] }, "filter.must[0].key", /"a..b" is not valid: .* character 3/],
  ["a float", { must: [{ key, match: { value: 1.5 } }] }, "filter.must[0].match.value", /not an integer/],
  [
    "a whole float",
    parseJson('{"must":[{"key":"a","match":{"value":1.0}}]}'),
    "filter.must[0].match.value",
    /as a float/,
  ],
  ["a list as a value", { must: [{ key, match: { value: [1] } }] }, "filter.must[0].match.value", /not a list/],
  [
    "a mixed list",
    { must: [{ key, match: { any: ["a", 1] } }] },
    "filter.must[0].match.any[1]",
    /all strings or all integers/,
  ],
  [
    "booleans in a list",
    { must: [{ key, match: { except: [true] } }] },
    "filter.must[0].match.except[0]",
    /boolean true/,
  ],
  ["a large integer", { must: [{ key, match: { value: 2n ** 63n } }] }, "filter.must[0].match.value", /64-bit/],
  ["an unsafe number", { must: [{ key, match: { value: 2 ** 60 } }] }, "filter.must[0].match.value", /not an integer/],
  [
    "a text that is a number",
    { must: [{ key, match: { text: 1 } }] },
    "filter.must[0].match.text",
    /expected a string/,
  ],
  [
    "a long text",
    { must: [{ key, match: { text_any: "x".repeat(limits.filterStringLength + 1) } }] },
    "filter.must[0].match.text_any",
    /8193 characters/,
  ],
  [
    "NaN",
    { must: [one, { key, range: { gte: Number.NaN } }] },
    "filter.must[1].range.gte",
    /NaN is not a finite number/,
  ],
  ["infinity", { must: [{ key, range: { lt: Infinity } }] }, "filter.must[0].range.lt", /finite/],
  ["a bound that is a bool", { must: [{ key, range: { lt: true } }] }, "filter.must[0].range.lt", /boolean true/],
  ["an unknown bound", { must: [{ key, range: { from: 1 } }] }, "filter.must[0].range.from", /unknown key/],
  [
    "a datetime without zone",
    { must_not: [{ key, range: { gte: "2024-05-01T00:00:00" } }] },
    "filter.must_not[0].range.gte",
    /no zone/,
  ],
  [
    "no datetime",
    { must: [{ key, range: { gte: "yesterday" } }] },
    "filter.must[0].range.gte",
    /not a datetime of RFC 3339/,
  ],
  [
    "a datetime and a number",
    { must: [{ key, range: { gte: "2024-05-01T00:00:00Z", lt: 1 } }] },
    "filter.must[0].range.lt",
    /like the other bound/,
  ],
  [
    "a latitude out of range",
    { must: [{ key, geo_radius: { center: { lat: 91, lon: 0 }, radius: 1 } }] },
    "filter.must[0].geo_radius.center.lat",
    /91 is not in -90..90/,
  ],
  [
    "a longitude out of range",
    { must: [{ key, geo_bounding_box: { top_left: { lat: 1, lon: 181 }, bottom_right: { lat: 0, lon: 0 } } }] },
    "filter.must[0].geo_bounding_box.top_left.lon",
    /181/,
  ],
  [
    "a box upside down",
    { must: [{ key, geo_bounding_box: { top_left: { lat: 0, lon: 0 }, bottom_right: { lat: 1, lon: 1 } } }] },
    "filter.must[0].geo_bounding_box.top_left.lat",
    /south of/,
  ],
  [
    "a negative radius",
    { must: [{ key, geo_radius: { center: { lat: 0, lon: 0 }, radius: -1 } }] },
    "filter.must[0].geo_radius.radius",
    /-1/,
  ],
  [
    "a radius of NaN",
    { must: [{ key, geo_radius: { center: { lat: 0, lon: 0 }, radius: Number.NaN } }] },
    "filter.must[0].geo_radius.radius",
    /NaN/,
  ],
  [
    "a missing longitude",
    { must: [{ key, geo_radius: { center: { lat: 0 }, radius: 1 } }] },
    "filter.must[0].geo_radius.center.lon",
    /nothing/,
  ],
  [
    "an open polygon",
    { must: [{ key, geo_polygon: { exterior: { points: square.slice(0, 4) } } }] },
    "filter.must[0].geo_polygon.exterior",
    /not closed/,
  ],
  [
    "a polygon that crosses itself",
    { must: [{ key, geo_polygon: { exterior: { points: [0, 2, 1, 3, 0].map((i) => square[i]) } } }] },
    "filter.must[0].geo_polygon.exterior",
    /crosses itself/,
  ],
  [
    "an open hole",
    { must: [{ key, geo_polygon: { exterior: { points: square }, interiors: [{ points: square.slice(1) }] } }] },
    "filter.must[0].geo_polygon.interiors[0]",
    /not closed/,
  ],
  [
    "a point out of range",
    { must: [{ key, geo_polygon: { exterior: { points: [{ lat: 0, lon: 200 }, ...square] } } }] },
    "filter.must[0].geo_polygon.exterior.points[0].lon",
    /200/,
  ],
  [
    "too many points",
    {
      must: [
        {
          key,
          geo_polygon: {
            exterior: { points: Array.from({ length: limits.filterPolygonPoints + 1 }, () => square[0]) },
          },
        },
      ],
    },
    "filter.must[0].geo_polygon.exterior",
    /more than 2000 points/,
  ],
  [
    "a negative count",
    { must: [{ key, values_count: { gt: -1 } }] },
    "filter.must[0].values_count.gt",
    /-1 is not a whole number in 0/,
  ],
  ["an id that is negative", { must: [{ has_id: [1, -1] }] }, "filter.must[0].has_id[1]", /outside of 0/],
  ["an id that is broken", { must: [{ has_id: [0.5] }] }, "filter.must[0].has_id[0]", /not a whole number/],
  ["an id that is empty", { must: [{ has_id: [""] }] }, "filter.must[0].has_id[0]", /must not be empty/],
  ["an id that is a list", { must: [{ has_id: [[1]] }] }, "filter.must[0].has_id[0]", /expected an object/],
  [
    "an id that is too long",
    { must: [{ has_id: [{ name: "x".repeat(257) }] }] },
    "filter.must[0].has_id[0].name",
    /257 bytes/,
  ],
  [
    "too many ids",
    { must: [{ has_id: Array.from({ length: limits.filterValues + 1 }, (_, i) => i) }] },
    "filter.must[0].has_id",
    /more than 16384/,
  ],
  [
    "too many values",
    { must: [{ key, match: { any: Array.from({ length: limits.filterValues + 1 }, (_, i) => i) } }] },
    "filter.must[0].match.any",
    /more than 16384/,
  ],
  ["a vector's name that is a number", { must: [{ has_vector: 1 }] }, "filter.must[0].has_vector", /expected a string/],
  [
    "a slice beyond the last",
    { must: [{ slice: { index: 4, total: 4 } }] },
    "filter.must[0].slice.index",
    /4 is not in 0..3/,
  ],
  ["a partition without a value", { must: [{ partition: "" }] }, "filter.must[0].partition", /1 to 255/],
  ["ids of no partition", { must: [{ has_id: [1], partition: "" }] }, "filter.must[0].partition", /1 to 255/],
  [
    "a partition of an element",
    { must: [{ nested: { key, filter: { must: [{ partition: "acme" }] } } }] },
    "filter.must[0].nested.filter.must[0]",
    /no id/,
  ],
  [
    "no slices",
    { must: [{ slice: { index: 0, total: 0 } }] },
    "filter.must[0].slice.total",
    /0 is not a number of slices/,
  ],
  [
    "an id in an element",
    { must: [{ nested: { key, filter: { must: [{ should: [{ has_id: [1] }] }] } } }] },
    "filter.must[0].nested.filter.must[0].should[0]",
    /no id/,
  ],
  [
    "an empty nested filter",
    { must: [{ nested: { key, filter: {} } }] },
    "filter.must[0].nested.filter",
    /no condition/,
  ],
  [
    "a bad nested key",
    { must: [{ nested: { key: "a[", filter: { must: [one] } } }] },
    "filter.must[0].nested.key",
    /not valid/,
  ],
  [
    "too many conditions",
    { must: Array.from({ length: limits.filterConditions + 1 }, () => one) },
    "filter.must",
    /more than 1024 conditions/,
  ],
  ["too deep", deep(limits.filterDepth + 1), `filter${".must[0]".repeat(limits.filterDepth)}`, /more than 16 deep/],
  ["deep beyond all", deep(5000), `filter${".must[0]".repeat(100)}`, /more than 100 deep/],
])("%s is refused with the node's path", (_, json, path, message) => {
  const error = thrownBy(() => filterFromJson(json));
  expect(error).toMatchObject({ code: "INVALID_FILTER", details: { path } });
  expect(error.message).toMatch(message);
  expect(error.message.startsWith(`${path}: `)).toBe(true);
});

test("limits are reached without an error", () => {
  filterFromJson(deep(limits.filterDepth));
  filterFromJson({ must: Array.from({ length: limits.filterConditions }, () => one) });
  filterFromJson({ must: [{ has_id: Array.from({ length: limits.filterValues }, (_, i) => i) }] });
});

test("values that are no error in Qdrant are none here: empty lists of values, empty ranges, empty texts", () => {
  filterFromJson({
    must: [
      { key, match: { any: [] } },
      { key, match: { except: [] } },
      { has_id: [] },
      { key, range: {} },
      { key, values_count: {} },
      { key, match: { text: "" } },
    ],
  });
});

function thrownBy(call: () => unknown): KithError {
  try {
    call();
  } catch (error) {
    if (error instanceof KithError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
