import * as fc from "fast-check";
import { expect, test } from "vitest";
import { isJsonObject, JsonFloat, parseJson, printJson } from "./json.js";

test.each([
  ["9007199254740993", 9007199254740993n],
  ["-9223372036854775808", -9223372036854775808n],
  ["18446744073709551615", 18446744073709551615n],
  ["1234567890123456789012345", new JsonFloat(1.2345678901234568e24)],
  ["9007199254740991", 9007199254740991],
  ["1.0", new JsonFloat(1)],
  ["-0.0", new JsonFloat(-0)],
  ["1e3", new JsonFloat(1000)],
  ["15.0e-1", 1.5],
  ["1.5e1", new JsonFloat(15)],
  ["1e400", new JsonFloat(Infinity)],
  ["0.99999999999999999999", new JsonFloat(1)],
  ["1.00000000000000000001", new JsonFloat(1)],
  ["900000000000000.96", new JsonFloat(900000000000001)],
  ["0.30000000000000004", 0.30000000000000004],
  ["1.001", 1.001],
])("the number %s is read as %o", (text, value) => {
  expect(parseJson(text)).toEqual(value);
  expect(parseJson(`{"a": [${text} ,{"b":${text}}]}`)).toEqual({ a: [value, { b: value }] });
  expect(parseJson(printJson(value))).toEqual(value);
});

test("keys with a meaning of their own in JavaScript are ordinary keys", () => {
  const value = parseJson('{"__proto__": {"x": 1}, "constructor": 2, "a": 3, "a": 4}');
  expect(isJsonObject(value) && Object.hasOwn(value, "__proto__")).toBe(true);
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  expect(Object.keys(value as object)).toEqual(["__proto__", "constructor", "a"]);
  expect((value as { a: number }).a).toBe(4);
});

test.each([
  "",
  " ",
  "1.0]",
  "[1.0",
  "[1.0,]",
  '{"a":1.0,}',
  '{"a" 1.0}',
  "{a:1.0}",
  "01.0",
  "1.0.",
  "1.",
  ".5e1",
  "+1e1",
  "-",
  "nul1.0",
  '["\\x", 1.0]',
  '["abc, 1.0]',
  "[1.0 2]",
  "[1e]",
  "\uFEFF1",
  "NaN",
  "nul",
  '{"a":}',
  "{1:2}",
  "[,]",
  '["a" "b"]',
  '"a\\',
  '"\\u12"',
  "]",
])("the text %s is not JSON", (text) => {
  expect(() => parseJson(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
});

test("nesting as deep as the text allows is read without recursion", () => {
  const depth = 30_000;
  let value = parseJson(`${"[".repeat(depth)}1.0${"]".repeat(depth)}`);
  for (let i = 0; i < depth; i++) value = (value as (typeof value & object)[])[0] as typeof value;
  expect(value).toEqual(new JsonFloat(1));
});

test("where numbers are ordinary, the result is that of JSON.parse, with any spaces", () => {
  const json = fc.jsonValue({ stringUnit: "binary" });
  fc.assert(
    fc.property(json, fc.constantFrom(undefined, 1, "\t", "\n"), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent);
      expect(plain(parseJson(text))).toEqual(JSON.parse(text));
    }),
  );
});

test("what is printed is read back as the same value", () => {
  const leaf = fc.oneof(
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }).map((each) => (abs(each) < 2n ** 53n ? Number(each) : each)),
    fc
      .double({ noNaN: true })
      .map((each) => (Number.isInteger(each) || !Number.isFinite(each) ? new JsonFloat(each) : each)),
    fc.string({ unit: "binary" }),
    fc.constantFrom(null, true, false),
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie("tree")),
      fc.dictionary(fc.string(), tie("tree"), { noNullPrototype: true }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      expect(parseJson(printJson(value as never))).toEqual(value);
    }),
  );
});

function plain(value: unknown): unknown {
  if (value instanceof JsonFloat) return value.value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return typeof value === "bigint" ? Number(value) : value;
  const copy: Record<string, unknown> = {};
  for (const [key, each] of Object.entries(value)) {
    Object.defineProperty(copy, key, { value: plain(each), enumerable: true, configurable: true, writable: true });
  }
  return copy;
}

function abs(value: bigint): bigint {
  return value < 0n ? -value : value;
}
