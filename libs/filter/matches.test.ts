import { expect, test } from "vitest";
import { idFromName, idFromNum, idFromUuid } from "../model/index.js";
import { filterFromJson } from "./json.js";
import { compileFilter, type FilterSchema, matches } from "./matches.js";
import { StoredFilterPoint } from "./point.js";

const payload = `{
  "title": "The Naïve Café, 2nd ed.", "year": 1994, "price": 10.0, "rating": 7.5, "big": 9007199254740993, "huge": 18446744073709551615,
  "old": true, "none": null, "empty": [], "nulls": [null], "mixed": [1, "one", null, true, [5], {"x": 6}],
  "tags": ["red", "green"], "years": [1990, 2010], "when": "2024-05-01T12:00:00.000001Z", "day": "2024-05-01", "days": ["2024-01-01", "soon"],
  "place": {"lat": 52.52, "lon": 13.405}, "places": [{"lat": 48.86, "lon": 2.35}, {"lat": 52.52, "lon": 13.405}, {"lat": 200, "lon": 0}],
  "cast": [{"name": "Ann", "role": "lead", "year": 1}, {"name": "Bob", "role": "cameo", "year": 2}, "Cid", [{"name": "Dan", "role": "lead"}]],
  "deep": {"list": [{"v": [1, 2]}, {"v": 3}, {"w": 4}, {"v": null}]},
  "__proto__": {"constructor": "own"}, "a.b": 1
}`;
const point = new StoredFilterPoint(idFromNum(7), Buffer.from(payload), new Set(["", "image"]));
const passes = (condition: object, schema?: FilterSchema): boolean =>
  matches(filterFromJson({ must: [condition] }), point, schema);

test.each<[string, object, boolean]>([
  ["title", { value: "The Naïve Café, 2nd ed." }, true],
  ["title", { value: "the naïve café, 2nd ed." }, false],
  ["year", { value: 1994 }, true],
  ["year", { value: "1994" }, false],
  ["year", { any: [1, 1994] }, true],
  ["year", { any: [] }, false],
  ["year", { except: [1994] }, false],
  ["year", { except: [1, 2] }, true],
  ["year", { except: ["1994"] }, true],
  ["year", { except: [] }, true],
  // A float is no integer, as in Qdrant.
  ["price", { value: 10 }, false],
  ["price", { except: [10] }, true],
  ["big", { value: 9007199254740993n }, true],
  ["big", { value: 9007199254740991 }, false],
  ["big", { any: [9007199254740992n, 9007199254740993n] }, true],
  ["old", { value: true }, true],
  ["old", { value: false }, false],
  ["old", { value: 1 }, false],
  // Neither missing nor null.
  ["missing", { except: ["x"] }, false],
  ["none", { except: ["x"] }, false],
  ["empty", { except: ["x"] }, false],
  ["nulls", { except: ["x"] }, false],
  ["mixed", { value: "one" }, true],
  ["mixed", { value: 1 }, true],
  ["mixed", { value: true }, true],
  ["mixed", { value: 5 }, false],
  ["mixed[]", { value: 5 }, true],
  ["mixed[4][0]", { value: 5 }, true],
  ["mixed[].x", { value: 6 }, true],
  ["mixed", { except: [1] }, true],
  ["tags", { value: "green" }, true],
  ["tags", { any: ["blue", "red"] }, true],
  ["tags", { except: ["red"] }, true],
  ["tags", { except: ["red", "green"] }, false],
  ["tags[1]", { value: "green" }, true],
  ["tags[1]", { value: "red" }, false],
  ["title", { prefix: "The N" }, true],
  ["title", { prefix: "the N" }, false],
  ["title", { prefix: "" }, true],
  ["year", { prefix: "" }, false],
  ["title", { substring: "he N" }, true],
  ["title", { substring: "he n" }, false],
  ["title", { substring: "" }, true],
  ["year", { substring: "" }, false],
  ["title", { text: "cafe\u0301 THE" }, true],
  ["title", { text: "caf" }, false],
  ["title", { text: "cafe the" }, false],
  ["title", { text: "" }, false],
  ["title", { text_any: "tea café" }, true],
  ["title", { text_any: "tea" }, false],
  ["title", { phrase: "naïve café 2nd" }, true],
  ["title", { phrase: "naïve 2nd" }, false],
  ["year", { text: "1994" }, false],
  ["tags", { text: "red green" }, false],
  ["deep.list[].v", { value: 2 }, true],
  ["deep.list[].v", { value: 3 }, true],
  ["deep.list.v", { value: 3 }, false],
  ["__proto__.constructor", { value: "own" }, true],
  ["constructor", { except: ["x"] }, false],
  ["toString.name", { except: ["x"] }, false],
  ['"a.b"', { value: 1 }, true],
])("%s matches %o: %s", (key, match, expected) => {
  expect(passes({ key, match })).toBe(expected);
});

test.each<[string, object, boolean]>([
  ["year", { gt: 1993, lt: 1995 }, true],
  ["year", { gt: 1994 }, false],
  ["year", { gte: 1994, lte: 1994 }, true],
  ["year", {}, true],
  ["title", {}, false],
  ["old", { gte: 0 }, false],
  ["price", { gte: 10, lte: 10 }, true],
  ["rating", { gt: 7.25, lt: 7.75 }, true],
  ["big", { gt: 9007199254740992n }, true],
  ["big", { gt: 9007199254740993n }, false],
  ["big", { gt: 9007199254740992, lt: 9007199254740994 }, true],
  ["huge", { gt: 9223372036854775807n }, true],
  // One value within all bounds, not one for each.
  ["years", { gt: 1991, lt: 2009 }, false],
  ["years", { gt: 2000 }, true],
  ["when", { gt: "2024-05-01T12:00:00Z", lt: "2024-05-01T12:00:00.000002Z" }, true],
  ["when", { gt: "2024-05-01T12:00:00.000001Z" }, false],
  ["when", { gte: "2024-05-01T14:00:00.000001+02:00", lte: "2024-05-01T14:00:00.000001+02:00" }, true],
  // Without a zone payloads are in UTC.
  ["day", { gte: "2024-05-01T00:00:00Z", lte: "2024-05-01T00:00:00Z" }, true],
  ["days", { lt: "2024-02-01T00:00:00Z" }, true],
  ["year", { gt: "1000-01-01T00:00:00Z" }, false],
  ["when", { gt: 0 }, false],
])("%s in the range %o: %s", (key, range, expected) => {
  expect(passes({ key, range })).toBe(expected);
});

test.each<[string, object, boolean]>([
  ["place", { geo_radius: { center: { lat: 52.5, lon: 13.4 }, radius: 3000 } }, true],
  ["place", { geo_radius: { center: { lat: 52.5, lon: 13.4 }, radius: 1000 } }, false],
  ["places", { geo_radius: { center: { lat: 48.8, lon: 2.3 }, radius: 10000 } }, true],
  ["place.lat", { geo_radius: { center: { lat: 52.5, lon: 13.4 }, radius: 3e7 } }, false],
  ["places", { geo_bounding_box: { top_left: { lat: 53, lon: 13 }, bottom_right: { lat: 52, lon: 14 } } }, true],
  ["places", { geo_bounding_box: { top_left: { lat: 53, lon: 14 }, bottom_right: { lat: 52, lon: 13 } } }, false],
  ["tags", { values_count: { gte: 2, lt: 3 } }, true],
  ["title", { values_count: { gte: 1, lte: 1 } }, true],
  ["none", { values_count: { lt: 1 } }, true],
  ["missing", { values_count: { lt: 1 } }, true],
  ["missing", { values_count: { gte: 1 } }, false],
  ["empty", { values_count: { lt: 1 } }, true],
  ["nulls", { values_count: { gt: 0 } }, true],
  ["deep.list[].v", { values_count: { gt: 1 } }, true],
  ["deep.list[].v", { values_count: { lt: 1 } }, true],
  ["missing", { is_empty: true }, true],
  ["none", { is_empty: true }, true],
  ["empty", { is_empty: true }, true],
  ["nulls", { is_empty: true }, false],
  ["title", { is_empty: true }, false],
  ["title", { is_empty: false }, true],
  // Empty where all of its values are.
  ["deep.list[].v", { is_empty: true }, false],
  ["deep.list[3].v", { is_empty: true }, true],
  ["none", { is_null: true }, true],
  ["nulls", { is_null: true }, true],
  ["mixed", { is_null: true }, true],
  ["missing", { is_null: true }, false],
  ["missing", { is_null: false }, true],
  ["empty", { is_null: true }, false],
  ["deep.list[].v", { is_null: true }, true],
])("%s with %j: %s", (key, operator, expected) => {
  expect(passes({ key, ...operator })).toBe(expected);
});

test.each<[object, boolean]>([
  [{ nested: { key: "cast", filter: { must: [has("name", "Ann"), has("role", "lead")] } } }, true],
  [{ nested: { key: "cast[]", filter: { must: [has("name", "Ann"), has("role", "lead")] } } }, true],
  [{ nested: { key: "cast", filter: { must: [has("name", "Bob"), has("role", "lead")] } } }, false],
  // Only objects in the array itself are elements.
  [{ nested: { key: "cast", filter: { must: [has("name", "Dan")] } } }, false],
  [{ nested: { key: "cast", filter: { must_not: [has("role", "lead")] } } }, true],
  [{ nested: { key: "cast", filter: { must_not: [{ key: "year", range: { gte: 0 } }] } } }, false],
  [{ nested: { key: "place", filter: { must: [{ key: "lat", range: { gt: 0 } }] } } }, false],
  [{ nested: { key: "missing", filter: { must_not: [has("x", 1)] } } }, false],
  [{ nested: { key: "deep.list", filter: { must: [{ key: "v", match: { value: 3 } }] } } }, true],
  [{ has_id: [1, 7] }, true],
  [{ has_id: ["7"] }, false],
  [{ has_id: [] }, false],
  [{ has_id: [1, 2, 3, 4, 5, 7] }, true],
  [{ has_vector: "image" }, true],
  [{ has_vector: "" }, true],
  [{ has_vector: "text" }, false],
])("%j: %s", (condition, expected) => {
  expect(passes(condition)).toBe(expected);
});

function has(key: string, value: string | number): object {
  return { key, match: { value } };
}

test("ids of each kind are themselves alone", () => {
  const uuid = "550e8400-e29b-41d4-a716-446655440000";
  const ids = [idFromNum(1), idFromName("1"), idFromUuid(uuid), idFromName(uuid)];
  const filter = { has_id: [1, "1", uuid.toUpperCase(), { name: uuid }] };
  for (const [i, id] of ids.entries()) {
    for (const [j, each] of filter.has_id.entries()) {
      const found = matches(
        filterFromJson({ must: [{ has_id: [each] }] }),
        new StoredFilterPoint(id, Buffer.of(), new Set()),
      );
      expect(found).toBe(i === j);
    }
  }
});

test("every slice holds a point once", () => {
  const slices = [0, 1, 2, 3, 4].filter((index) => passes({ slice: { index, total: 5 } }));
  expect(slices).toHaveLength(1);
});

test("must, should, must_not and min_should hold together", () => {
  const yes = has("year", 1994);
  const no = has("year", 1);
  const ask = (filter: object): boolean => compileFilter(filterFromJson(filter))(point);
  expect(ask({})).toBe(true);
  expect(ask({ must: [yes, no] })).toBe(false);
  expect(ask({ should: [no, yes] })).toBe(true);
  expect(ask({ should: [no, no] })).toBe(false);
  expect(ask({ must: [yes], should: [no] })).toBe(false);
  expect(ask({ must: [yes], must_not: [no], should: [yes] })).toBe(true);
  expect(ask({ must_not: [no, yes] })).toBe(false);
  expect(ask({ min_should: { conditions: [yes, no, yes], min_count: 2 } })).toBe(true);
  expect(ask({ min_should: { conditions: [yes, no, no], min_count: 2 } })).toBe(false);
  expect(ask({ must: [{ should: [no, { must_not: [no] }] }] })).toBe(true);
});

test("a schema says how the texts of a field are split, also in elements of an array", () => {
  const schema: FilterSchema = {
    tokenizers: new Map([
      ["title", { kind: "prefix" }],
      ["cast[].name", { kind: "prefix", minLength: 2 }],
    ]),
  };
  expect(passes({ key: "title", match: { text: "naï caf" } }, schema)).toBe(true);
  expect(passes({ key: "title", match: { text: "naï caf" } })).toBe(false);
  const nested = (text: string): object => ({
    nested: { key: "cast", filter: { must: [{ key: "name", match: { text } }] } },
  });
  expect(passes(nested("an"), schema)).toBe(true);
  expect(passes(nested("a"), schema)).toBe(false);
  expect(passes(nested("an"))).toBe(false);
});

test("a point without a payload passes what asks for nothing of it", () => {
  const bare = new StoredFilterPoint(idFromNum(1), Buffer.of(), new Set());
  expect(matches(filterFromJson({ must: [{ is_empty: { key: "a" } }] }), bare)).toBe(true);
  expect(matches(filterFromJson({ must: [has("a", 1)] }), bare)).toBe(false);
});

test("a stored payload that is no JSON object is reported as damaged, when a condition asks for it", () => {
  for (const bytes of ["[1]", "{", "1.0", "\u00ff"]) {
    const damaged = new StoredFilterPoint(idFromNum(1), Buffer.from(bytes), new Set());
    expect(matches(filterFromJson({ must: [{ has_id: [1] }] }), damaged)).toBe(true);
    const ask = (): boolean => matches(filterFromJson({ must: [has("a", 1)] }), damaged);
    expect(ask).toThrow(expect.objectContaining({ code: "CORRUPT_DATA" }));
  }
});
