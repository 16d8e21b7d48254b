import { expect, test } from "vitest";
import { isJsonObject, type JsonObject, parseJson, printJson } from "./json.js";
import { parsePath } from "./path.js";
import { mergeIntoPayload, removeFromPayload } from "./payload-edit.js";

function objectOf(text: string): JsonObject {
  const value = parseJson(text);
  if (!isJsonObject(value)) throw new Error(`${text} is no object`);
  return value;
}

test.each([
  ["", '{"a":1,"b":{"c":2}}', '{"b":{"d":3},"e":4}', '{"a":1,"b":{"d":3},"e":4}'],
  ["", '{"a":1,"b":2}', '{"a":null,"x":null}', '{"b":2}'],
  ["b", '{"a":1,"b":{"c":2}}', '{"d":3}', '{"a":1,"b":{"c":2,"d":3}}'],
  ["x.y", '{"a":1}', '{"d":3}', '{"a":1,"x":{"y":{"d":3}}}'],
  ["a.y", '{"a":1}', '{"d":3}', '{"a":{"y":{"d":3}}}'],
  ["a", '{"a":[1]}', '{"d":3}', '{"a":{"d":3}}'],
  ["a[]", '{"a":[{"q":1},{"q":2},5]}', '{"d":3}', '{"a":[{"q":1,"d":3},{"q":2,"d":3},{"d":3}]}'],
  ["a[1]", '{"a":[{"q":1},{"q":2}]}', '{"d":3}', '{"a":[{"q":1},{"q":2,"d":3}]}'],
  ["a[2]", '{"a":[{"q":1}]}', '{"d":3}', '{"a":[{"q":1}]}'],
  ["a[]", '{"a":7}', '{"d":3}', '{"a":[]}'],
  ["", '{"a":1}', '{"__proto__":{"x":1},"constructor":2}', '{"a":1,"__proto__":{"x":1},"constructor":2}'],
  ['"__proto__"', "{}", '{"x":1}', '{"__proto__":{"x":1}}'],
  ["toString", "{}", '{"x":1}', '{"toString":{"x":1}}'],
  [
    "",
    '{"big":18446744073709551615,"f":1.0}',
    '{"n":9007199254740993}',
    '{"big":18446744073709551615,"f":1.0,"n":9007199254740993}',
  ],
])("keys set at %j of %s with %s give %s", (path, before, values, after) => {
  const payload = objectOf(before);
  mergeIntoPayload(payload, path === "" ? undefined : parsePath(path), objectOf(values));
  expect(printJson(payload)).toBe(after);
});

test.each([
  ["a", '{"a":1,"b":2}', '{"b":2}'],
  ["a.b", '{"a":{"b":1,"c":2}}', '{"a":{"c":2}}'],
  ["a[].b", '{"a":[{"b":1,"c":2},{"b":3},4]}', '{"a":[{"c":2},{},4]}'],
  ["a[0].b", '{"a":[{"b":1},{"b":3}]}', '{"a":[{},{"b":3}]}'],
  ["a[]", '{"a":[1,2],"d":4}', '{"a":[],"d":4}'],
  ["a[0]", '{"a":[1,2]}', '{"a":[1,2]}'],
  ["a.b.c", '{"a":1}', '{"a":1}'],
  ["toString", "{}", "{}"],
  ['"__proto__"', '{"__proto__":{"x":1},"y":2}', '{"y":2}'],
])("without %s, %s is %s", (path, before, after) => {
  const payload = objectOf(before);
  removeFromPayload(payload, parsePath(path));
  expect(printJson(payload)).toBe(after);
});

test("a payload as deep as its bytes allow is edited and printed", () => {
  const deep = `{"a":${"[".repeat(30_000)}${"]".repeat(30_000)}}`;
  const payload = objectOf(deep);
  mergeIntoPayload(payload, undefined, objectOf('{"b":1}'));
  expect(printJson(payload)).toBe(`${deep.slice(0, -1)},"b":1}`);
});
