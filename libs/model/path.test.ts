import * as fc from "fast-check";
import { expect, test } from "vitest";
import { limits } from "../base/index.js";
import { type JsonObject, parseJson } from "./json.js";
import { parsePath, type PathStep, pathOf, valuesAtPath } from "./path.js";

const key = (name: string): PathStep => ({ kind: "key", key: name });
const each: PathStep = { kind: "each" };
const index = (number: number): PathStep => ({ kind: "index", index: number });

test.each<[string, PathStep[], string?]>([
  ["a", [key("a")]],
  ["a.b", [key("a"), key("b")]],
  ["a[].b", [key("a"), each, key("b")]],
  ['foo[1][50].bar-baz[]."qux[.]quux"', [key("foo"), index(1), index(50), key("bar-baz"), each, key("qux[.]quux")]],
  ["ключ_1.鍵", [key("ключ_1"), key("鍵")]],
  ['"a"."b c"', [key("a"), key("b c")], 'a."b c"'],
  ['""', [key("")]],
  ['"say \\"x\\\\y\\""', [key('say "x\\y"')]],
  ["__proto__.constructor", [key("__proto__"), key("constructor")]],
  ["a[007]", [key("a"), index(7)], "a[7]"],
])("the path %s has its steps", (text, steps, printed) => {
  expect(parsePath(text)).toEqual({ steps, text: printed ?? text });
});

test.each([
  ["", 1],
  [".a", 1],
  ["a.", 3],
  ["a..b", 3],
  ["a b", 2],
  ["a[", 2],
  ["a[-1]", 2],
  ["a[x]", 2],
  ["[0]", 1],
  ["a[]b", 4],
  ['"a', 1],
  ['"a\\n"', 1],
  ["a[4294967296]", 3],
  ["a".repeat(limits.pathLength + 1), 1],
  [`a${"[]".repeat(limits.pathSteps)}`, 1 + 2 * limits.pathSteps + 1],
])("the path %s is refused at character %i", (text, character) => {
  expect(() => parsePath(text)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", details: expect.objectContaining({ character }) as unknown }),
  );
});

test("what is printed is read back as the same path", () => {
  const step = fc.oneof(
    fc.string({ unit: "binary", maxLength: 8 }).map(key),
    fc.constant(each),
    fc.nat(0xffff_ffff).map(index),
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 8 }), fc.array(step, { maxLength: 8 }), (first, rest) => {
      const path = pathOf([key(first), ...rest]);
      expect(parsePath(path.text)).toEqual(path);
    }),
  );
});

test.each<[string, unknown[]]>([
  ["a", [[{ b: 1 }, { b: [2, 3] }, 4, { c: 5 }]]],
  ["a[].b", [1, [2, 3]]],
  ["a[].b[]", [2, 3]],
  ["a[1].b[0]", [2]],
  ["a[7]", []],
  ["a.b", []],
  ["n", [null]],
  ["n.x", []],
  ["e", [[]]],
  ["e[]", []],
  ["s", ["text"]],
  ["s[0]", []],
  ["s.length", []],
  ["toString", []],
  ["constructor", []],
  ["__proto__", []],
  ["o.__proto__", [7]],
  ["o.__proto__.x", []],
  ["f.value", []],
])("the path %s leads to its values", (text, values) => {
  const payload = parseJson(
    '{"a": [{"b": 1}, {"b": [2, 3]}, 4, {"c": 5}], "n": null, "e": [], "s": "text", "o": {"__proto__": 7}, "f": 1.0}',
  ) as JsonObject;
  expect(valuesAtPath(payload, parsePath(text))).toEqual(values);
});
