import fc from "fast-check";
import { expect, test } from "vitest";
import { formatJson, jsonDepth, jsonMembers } from "./index.js";

test("members keep their text, spaces and digits and all", () => {
  const text = ' { "a\\"b" : 12345678901234567890123 , "n":1.0, "o": {"x":[1,"]}"]} ,"a\\"b":-0.10e5 }';
  expect(jsonMembers(text)).toEqual([
    { key: 'a"b', keyText: '"a\\"b"', valueText: "-0.10e5" },
    { key: "n", keyText: '"n"', valueText: "1.0" },
    { key: "o", keyText: '"o"', valueText: '{"x":[1,"]}"]}' },
  ]);
  expect(jsonMembers(" {} ")).toEqual([]);
});

test("formatted text is that of JSON.stringify, but for numbers, which stay as they were written", () => {
  fc.assert(
    fc.property(fc.json(), fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 3 }), (json, before, indent) => {
      const text = JSON.stringify(JSON.parse(json), null, before);
      expect(formatJson(text, indent)).toBe(JSON.stringify(JSON.parse(json), null, indent));
    }),
  );
  expect(formatJson(' {"a" : [ 1.0 , 12345678901234567890123 ] } ')).toBe('{"a":[1.0,12345678901234567890123]}');
});

test("depth counts arrays and objects, not what strings look like", () => {
  const nested = (levels: number): string => `${'{"a":'.repeat(levels)}"[[[\\"{"${"}".repeat(levels)}`;
  expect(jsonDepth(nested(100), 100)).toBe(100);
  expect(jsonDepth(nested(101), 100)).toBe(101);
  expect(jsonDepth(nested(9_000), 100)).toBe(101);
  expect(jsonDepth(`[${"[],".repeat(500)}1]`, 100)).toBe(2);
});
