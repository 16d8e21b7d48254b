import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { KithError, limits } from "../../base/index.js";
import type { Filter } from "../../model/index.js";
import { filterFromJson } from "../json.js";
import { compileFilter } from "../matches.js";
import { filterToJson } from "../print-json.js";
import { filters, payloads, pointIds } from "../testing.js";
import { parseFilter } from "./parse.js";
import { printFilter } from "./print.js";

const has = (key: string, value: unknown): object => ({ key, match: { value } });

test.each<[string, object, string?]>([
  ["", {}],
  ["genre = drama", { must: [has("genre", "drama")] }],
  [
    "year > 1990 and genre in (drama, crime) and not exists(deleted)",
    {
      must: [
        { key: "year", range: { gt: 1990 } },
        { key: "genre", match: { any: ["drama", "crime"] } },
        { is_empty: { key: "deleted" } },
      ],
    },
    "year > 1990 and genre in (drama, crime) and deleted is empty",
  ],
  // Precedence: not, and, or.
  [
    "a = 1 or b = 2 and not c = 3",
    { should: [has("a", 1), { must: [has("b", 2)], must_not: [has("c", 3)] }] },
    "a = 1 or b = 2 and c != 3",
  ],
  ["(a = 1 or b = 2) and c = 3", { must: [{ should: [has("a", 1), has("b", 2)] }, has("c", 3)] }],
  ["not (a = 1 and b = 2)", { must_not: [{ must: [has("a", 1), has("b", 2)] }] }],
  [
    "NOT a = 1 AND NOT (b = 2 OR c = 3)",
    { must_not: [has("a", 1), { should: [has("b", 2), has("c", 3)] }] },
    "a != 1 and not (b = 2 or c = 3)",
  ],
  ["not not a = 1", { must: [has("a", 1)] }, "a = 1"],
  ["((a = 1))", { must: [has("a", 1)] }, "a = 1"],
  ["a = 1 or (b = 2 or c = 3)", { should: [has("a", 1), has("b", 2), has("c", 3)] }, "a = 1 or b = 2 or c = 3"],
  ["a = true and b != false", { must: [has("a", true)], must_not: [has("b", false)] }],
  ["a = 9007199254740993", { must: [has("a", 9007199254740993n)] }],
  ["a = -5", { must: [has("a", -5)] }],
  ["a = 'it\\'s \"x\"'", { must: [has("a", 'it\'s "x"')] }, 'a = "it\'s \\"x\\""'],
  ['a = "\\u00e9\\n\\\\"', { must: [has("a", "é\n\\")] }, 'a = "é\\n\\\\"'],
  ['a = "and"', { must: [has("a", "and")] }],
  [
    "a = 550e8400-e29b-41d4-a716-446655440000",
    { must: [has("a", "550e8400-e29b-41d4-a716-446655440000")] },
    'a = "550e8400-e29b-41d4-a716-446655440000"',
  ],
  ["a not in (1, 2)", { must_not: [{ key: "a", match: { any: [1, 2] } }] }],
  ["not a in ()", { must_not: [{ key: "a", match: { any: [] } }] }, "a not in ()"],
  ["a except (x, y)", { must: [{ key: "a", match: { except: ["x", "y"] } }] }],
  ['title ~ "red car"', { must: [{ key: "title", match: { text: "red car" } }] }],
  ["title ~ red", { must: [{ key: "title", match: { text: "red" } }] }, 'title ~ "red"'],
  ['title ~ any "red car"', { must: [{ key: "title", match: { text_any: "red car" } }] }],
  ['title ~any"red car"', { must: [{ key: "title", match: { text_any: "red car" } }] }, 'title ~ any "red car"'],
  ['title ~ phrase "red car"', { must: [{ key: "title", match: { phrase: "red car" } }] }],
  ['title ~ prefix "Re"', { must: [{ key: "title", match: { prefix: "Re" } }] }],
  ['title ~ substring "ed c"', { must: [{ key: "title", match: { substring: "ed c" } }] }],
  ["x between 1 and 2.5 and y = 1", { must: [{ key: "x", range: { gte: 1, lte: 2.5 } }, has("y", 1)] }],
  ["1990 < year <= 2000", { must: [{ key: "year", range: { gt: 1990, lte: 2000 } }] }],
  ["2000 >= year > 1990", { must: [{ key: "year", range: { gt: 1990, lte: 2000 } }] }, "1990 < year <= 2000"],
  ["5 < x", { must: [{ key: "x", range: { gt: 5 } }] }, "x > 5"],
  ["x <= 1e300", { must: [{ key: "x", range: { lte: 1e300 } }] }, "x <= 1e+300"],
  ["t >= 2024-05-01T00:00:00Z", { must: [{ key: "t", range: { gte: "2024-05-01T00:00:00Z" } }] }],
  [
    't < "2024-05-01 02:00:00.5+02:00"',
    { must: [{ key: "t", range: { lt: "2024-05-01T00:00:00.5Z" } }] },
    "t < 2024-05-01T00:00:00.5Z",
  ],
  [
    "2024-01-01T00:00:00Z <= t < 2025-01-01T00:00:00Z",
    { must: [{ key: "t", range: { gte: "2024-01-01T00:00:00Z", lt: "2025-01-01T00:00:00Z" } }] },
  ],
  ["count(tags) >= 2", { must: [{ key: "tags", values_count: { gte: 2 } }] }],
  ["count(tags) = 2", { must: [{ key: "tags", values_count: { gte: 2, lte: 2 } }] }],
  [
    "1 < count(tags) < 4 or count > 1",
    {
      should: [
        { key: "tags", values_count: { gt: 1, lt: 4 } },
        { key: "count", range: { gt: 1 } },
      ],
    },
  ],
  [
    "exists(a.b[0]) and a is null",
    { must: [{ is_null: { key: "a" } }], must_not: [{ is_empty: { key: "a.b[0]" } }] },
    "a is null and exists(a.b[0])",
  ],
  [
    "a is not null or a is not empty",
    { should: [{ must_not: [{ is_null: { key: "a" } }] }, { must_not: [{ is_empty: { key: "a" } }] }] },
    "a is not null or exists(a)",
  ],
  [
    "near(location, 52.5, 13.4, 10km)",
    { must: [{ key: "location", geo_radius: { center: { lat: 52.5, lon: 13.4 }, radius: 10_000 } }] },
  ],
  [
    "near(location, -52.5, 13.4, 12.5m)",
    { must: [{ key: "location", geo_radius: { center: { lat: -52.5, lon: 13.4 }, radius: 12.5 } }] },
  ],
  [
    "within(location, box(52.6, 13.2, 52.4, 13.6))",
    {
      must: [
        {
          key: "location",
          geo_bounding_box: { top_left: { lat: 52.6, lon: 13.2 }, bottom_right: { lat: 52.4, lon: 13.6 } },
        },
      ],
    },
  ],
  [
    "within(p, polygon((0 0, 0 9, 9 0, 0 0), (1 1, 1 2, 2 1, 1 1)))",
    {
      must: [
        {
          key: "p",
          geo_polygon: {
            exterior: ring([0, 0], [0, 9], [9, 0], [0, 0]),
            interiors: [ring([1, 1], [1, 2], [2, 1], [1, 1])],
          },
        },
      ],
    },
  ],
  [
    'has_id(7, "order-7", x, 550e8400-e29b-41d4-a716-446655440000)',
    { must: [{ has_id: [7, "order-7", "x", "550e8400-e29b-41d4-a716-446655440000"] }] },
    'has_id(7, "order-7", "x", 550e8400-e29b-41d4-a716-446655440000)',
  ],
  [
    'has_id("550e8400-e29b-41d4-a716-446655440000")',
    { must: [{ has_id: [{ name: "550e8400-e29b-41d4-a716-446655440000" }] }] },
  ],
  ['has_vector(image) and has_vector("")', { must: [{ has_vector: "image" }, { has_vector: "" }] }],
  ["slice(1, 4)", { must: [{ slice: { index: 1, total: 4 } }] }],
  ['partition(acme) or partition("a b")', { should: [{ partition: "acme" }, { partition: "a b" }] }],
  [
    "at_least(2, a = 1, b = 2 or c = 3, not d = 4)",
    {
      min_should: {
        conditions: [has("a", 1), { should: [has("b", 2), has("c", 3)] }, { must_not: [has("d", 4)] }],
        min_count: 2,
      },
    },
    "at_least(2, a = 1, b = 2 or c = 3, d != 4)",
  ],
  [
    'cast[any: name = "x" and role = "y"]',
    { must: [{ nested: { key: "cast", filter: { must: [has("name", "x"), has("role", "y")] } } }] },
    "cast[any: name = x and role = y]",
  ],
  [
    "film.cast[][any: a = 1 or tags[any: b = 2]]",
    {
      must: [
        {
          nested: {
            key: "film.cast[]",
            filter: { should: [has("a", 1), { nested: { key: "tags", filter: { must: [has("b", 2)] } } }] },
          },
        },
      ],
    },
  ],
  ['"a.b"."c d"[].e = 1', { must: [has('"a.b"."c d"[].e', 1)] }],
  [
    '"not" = 1 and "7" = 1 and "10km" = 1 and "2024-05-01" = 1',
    { must: [has("not", 1), has("7", 1), has("10km", 1), has("2024-05-01", 1)] },
  ],
  ["release-year = 1 and größe = 2 and 3d = 3", { must: [has("release-year", 1), has("größe", 2), has("3d", 3)] }],
  ["a = 1\n  and\tb = 2", { must: [has("a", 1), has("b", 2)] }, "a = 1 and b = 2"],
])("%s", (text, json, printed) => {
  const filter = filterFromJson(json);
  expect(parseFilter(text)).toEqual(filter);
  expect(printFilter(filter)).toBe(printed ?? text);
  expect(parseFilter(printed ?? text)).toEqual(filter);
});

function ring(...points: [number, number][]): object {
  return { points: points.map(([lat, lon]) => ({ lat, lon })) };
}

test.each<[string, number, string]>([
  ["year > and genre = x", 8, 'expected a number or a datetime, found "and"'],
  ["year >", 7, "expected a number or a datetime, found the end"],
  ["year", 5, "expected an operator"],
  ["year 1990", 6, "expected an operator"],
  ["= 1", 1, 'expected a field, found "="'],
  ["year = 1 genre = x", 10, 'expected "and", "or" or the end, found "genre"'],
  ["(year = 1", 10, 'expected ")", found the end'],
  ["year = 1)", 9, 'expected "and", "or" or the end, found ")"'],
  ["and = 1", 1, "a field of that name stands in quotes"],
  ["a = or", 5, "as a value it stands in quotes"],
  ["a = null", 5, 'use "is null"'],
  ["a = 1.5", 5, "use between for floats"],
  ["a = 007", 5, "does not begin with 0"],
  ["a = 9223372036854775808", 5, "outside of the 64-bit integers"],
  ["a = 2024-05-01T00:00:00Z", 5, "compared with <"],
  ["a = 'x", 5, "no closing quote"],
  ["a = 'it''s'", 9, 'expected "and", "or" or the end'],
  ['a = "\\u12"', 5, "four hexadecimal digits"],
  ["a # 1", 3, 'the character "#" has no meaning'],
  ["a..b = 1", 3, "expected a key"],
  ["a[x] = 1", 2, "expected an operator"],
  ["a in (1, x)", 1, "all strings or all integers"],
  ["a in (true)", 7, "as a value it stands in quotes"],
  ["a in 1", 6, 'expected "("'],
  ["a not like x", 7, 'expected "in", found "like"'],
  ["a ~ any", 5, '"any" is followed by a string'],
  ["a is 1", 6, 'expected "null" or "empty"'],
  ["1 < a > 2", 7, "different directions"],
  ["1 < a < 2024-05-01T00:00:00Z", 5, "one bound is a number and the other a datetime"],
  ["a between 1", 12, 'expected "and", found the end'],
  ["t > 2024-05-01", 5, "no zone"],
  ["t > 2024-05-01T00:00:00", 5, "no zone"],
  ["t > 2024-13-01T00:00:00Z", 5, "not a datetime"],
  ["t > 'soon'", 5, "not a datetime"],
  ["count(a) > 2024-05-01T00:00:00Z", 1, "a count is compared with numbers"],
  ["count(a) > -1", 12, "-1 is not a whole number in 0"],
  ["count(a) is null", 10, "expected =, <"],
  ["like(a, 1)", 1, 'unknown function "like"; known: count, exists'],
  ["near(a, 91, 0, 1km)", 9, "91 is not in -90..90"],
  ["b = 1 and near(a, 9, -181, 1km)", 22, "-181 is not in -180..180"],
  ["within(a, box(1, 0, 2, 0))", 15, "1 is south of"],
  ["1 <= a < 9 and count(b) between 0 and 1.5", 39, "1.5 is not a whole number"],
  ["a = 99999999999999999999", 5, "99999999999999999999 is outside of the 64-bit integers"],
  ['a = "\\ud800"', 5, "lone surrogate"],
  ["a = \udc00", 5, "lone surrogate"],
  ["near(a, 1, 0, 5)", 15, "expected a distance"],
  ["within(a, circle(1))", 11, "expected box(...) or polygon(...)"],
  ["within(a, polygon((0 0, 1 1, 0 1)))", 19, "at least 4 points"],
  ["within(a, polygon((0 0, 1 1, 0 1, 1 0, 0 0)))", 19, "crosses itself"],
  ["has_id(-1)", 8, "outside of 0"],
  ['has_id("")', 8, "must not be empty"],
  ["slice(4, 4)", 7, "4 is not in 0..3"],
  ["at_least(3, a = 1, b = 2)", 10, "3 is not in 1..2"],
  ["cast[any: has_id(1)]", 1, "no id"],
  ["größe = größer and 𝒳 > x", 24, "expected a number"],
  ["(".repeat(40), 2 * limits.filterDepth + 1, "deep"],
])("%s is refused at column %i", (text, column, message) => {
  const error = thrownBy(() => parseFilter(text));
  expect(error).toMatchObject({ code: "INVALID_FILTER", details: { column, line: 1 } });
  expect(error.message).toContain(message);
  expect(error.message.split("\n").at(-1)).toBe(`  ${" ".repeat(column - 1)}^`);
});

test("the line with the error is shown, and of a long one what stands around it", () => {
  expect(thrownBy(() => parseFilter("a = 1\nand b >\n\nand c = 1")).message).toBe(
    'line 4, column 1: expected a number or a datetime, found "and"\n  and c = 1\n  ^',
  );
  const long = `a in (${"x, ".repeat(200)}`;
  expect(thrownBy(() => parseFilter(`${long}) and b ! 1`)).message).toMatch(/^column 607: .*\n {2}.{71}\n {62}\^$/);
  expect(() => parseFilter("x".repeat(limits.filterTextLength + 1))).toThrow(/65537 characters/);
});

test("every filter that has a text means the same when it is read back, and comes back as the same tree from then on", () => {
  let printed = 0;
  const point = fc.record({ id: pointIds, payload: payloads });
  fc.assert(
    fc.property(filters, fc.array(point, { minLength: 3, maxLength: 3 }), (filter, points) => {
      const text = printFilter(filter);
      if (text === undefined) return;
      printed++;
      const tree = parseFilter(text);
      const again = printFilter(tree);
      expect(parseFilter(again as string), text).toEqual(tree);
      for (const each of points) {
        const asked = { ...each, hasVector: (name: string) => name === "" };
        expect(compileFilter(tree)(asked), text).toBe(compileFilter(filter)(asked));
      }
    }),
    { numRuns: 1000 },
  );
  expect(printed).toBeGreaterThan(400);
});

test("the examples of the documentation are filters", () => {
  const page = readFileSync(new URL("../../../docs/filters.md", import.meta.url), "utf8");
  const [, meanings = ""] = page.split("\n## ");
  const rows = meanings.split("\n").filter((line) => line.startsWith("| `"));
  const examples = rows.flatMap((row) =>
    [...(row.split(" | ")[0] as string).matchAll(/`([^`]+)`/g)].map((match) => match[1]),
  );
  expect(examples.length).toBeGreaterThan(30);
  for (const example of examples) expect(printFilter(parseFilter(example as string)), example).toBeDefined();
});

test("a filter without a text is not printed", () => {
  for (const range of [{}, { gt: 1, gte: 2 }, { lt: 1, lte: 2, gt: 0 }]) {
    const filter = filterFromJson({ must: [{ should: [{ key: "a", range }] }] });
    expect(printFilter(filter)).toBeUndefined();
    expect(filterFromJson(filterToJson(filter))).toEqual<Filter>(filter);
  }
});

test("texts of any characters are read or refused, never anything else", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      "and",
      "or",
      "not",
      "(",
      ")",
      "a",
      "=",
      "in",
      "1",
      "'x'",
      ",",
      "[any:",
      "]",
      "<",
      "between",
      "count(",
      "~",
    ),
    fc.string({ unit: "binary", maxLength: 3 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      try {
        parseFilter(pieces.join(" "));
      } catch (error) {
        expect(error).toMatchObject({ code: "INVALID_FILTER" });
      }
    }),
    { numRuns: 2000 },
  );
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
