import { expect, test } from "vitest";
import type { Expression, Formula } from "../model/index.js";
import { needsVectors } from "./formula.js";
import { evaluate, type FormulaInputs } from "./index.js";

const payload: Record<string, unknown> = {
  price: 4,
  big: 9007199254740993n,
  tags: [1, 2],
  one: [3],
  when: "2024-01-01T00:00:00Z",
  place: { lon: 13.405, lat: 52.52 },
  text: "x",
};
const inputs: FormulaInputs = {
  score: (prefetch) => [0.5, undefined][prefetch],
  values: (path) => (path in payload ? [payload[path]].flat() : []),
  passes: (filter) => filter.must.length > 0,
  seconds: (text) => (Number.isNaN(Date.parse(text)) ? undefined : Date.parse(text) / 1000),
};
const of = (expression: Expression, defaults: Formula["defaults"] = new Map()): number =>
  evaluate({ expression, defaults }, inputs, "expression");
const n = (value: number): Expression => ({ kind: "constant", value });
const key = (path: string): Expression => ({ kind: "key", path });
const empty = { must: [], should: [], mustNot: [], minShould: undefined };

test.each<[string, Expression, number]>([
  ["score", { kind: "score", prefetch: 0 }, 0.5],
  ["a score that is missing", { kind: "score", prefetch: 1 }, 0],
  ["a number of the payload", key("price"), 4],
  ["a list of one", key("one"), 3],
  ["a big integer", key("big"), Math.fround(9007199254740992)],
  ["sum", { kind: "sum", operands: [n(1), key("price")] }, 5],
  ["product", { kind: "product", operands: [n(3), key("price")] }, 12],
  ["product that ends at zero", { kind: "product", operands: [n(0), key("missing")] }, 0],
  ["max", { kind: "max", operands: [n(3), n(8)] }, 8],
  ["min", { kind: "min", operands: [n(3), n(8)] }, 3],
  ["negate", { kind: "negate", operand: n(3) }, -3],
  ["absolute", { kind: "absolute", operand: n(-3) }, 3],
  ["sqrt", { kind: "sqrt", operand: n(16) }, 4],
  ["exp", { kind: "exp", operand: n(0) }, 1],
  ["ln", { kind: "ln", operand: n(Math.E) }, 1],
  ["log10", { kind: "log10", operand: n(1000) }, 3],
  ["acosh", { kind: "acosh", operand: n(Math.cosh(2)) }, 2],
  ["divide", { kind: "divide", left: n(1), right: n(4) }, 0.25],
  ["zero divided", { kind: "divide", left: n(0), right: n(0) }, 0],
  ["divide by zero with a default", { kind: "divide", left: n(1), right: n(0), byZero: 7 }, 7],
  ["power", { kind: "power", base: n(2), exponent: n(10) }, 1024],
  ["datetime", { kind: "datetime", seconds: 12 }, 12],
  ["datetime of the payload", { kind: "datetimeKey", path: "when" }, Math.fround(1704067200)],
  ["linear decay", { kind: "linearDecay", x: n(2), scale: 4, midpoint: 0.5 }, 0.75],
  ["linear decay that is over", { kind: "linearDecay", x: n(99), scale: 4, midpoint: 0.5 }, 0],
  ["exponential decay", { kind: "exponentialDecay", x: n(4), target: n(0), scale: 4, midpoint: 0.25 }, 0.25],
  ["gauss decay", { kind: "gaussDecay", x: n(3), target: n(7), scale: 4, midpoint: 0.5 }, 0.5],
])("%s", (_, expression, expected) => {
  expect(of(expression)).toBeCloseTo(expected, 6);
});

test("an error names the node that fails, and none that was not asked for", () => {
  const zero: Expression = { kind: "divide", left: n(1), right: { kind: "sum", operands: [] } };
  const skipped: Expression = { kind: "product", operands: [n(0), key("missing")] };
  const failing: [Expression, string][] = [
    [{ kind: "sum", operands: [skipped, { kind: "negate", operand: zero }] }, "expression.sum[1].negate.divide"],
    [{ kind: "gaussDecay", x: n(1), target: key("text"), scale: 1, midpoint: 0.5 }, "expression.gaussDecay.target"],
    [{ kind: "power", base: n(10), exponent: n(39) }, "expression.power"],
    [key("missing"), "expression"],
  ];
  for (const [expression, path] of failing) {
    expect(() => of(expression), path).toThrow(
      expect.objectContaining({
        message: expect.stringContaining(`${path}: `) as string,
        details: expect.objectContaining({ path }) as unknown,
      }),
    );
  }
});

test("vectors are read where a condition asks for them", () => {
  const hasVector = { kind: "hasVector" as const, name: "a" };
  const inner = { kind: "filter" as const, filter: { ...empty, should: [hasVector] } };
  const asking: Expression = { kind: "condition", filter: { ...empty, mustNot: [inner] } };
  expect(needsVectors({ kind: "sum", operands: [n(1), asking] })).toBe(true);
  expect(needsVectors({ kind: "sum", operands: [n(1), { kind: "condition", filter: empty }] })).toBe(false);
});

test("a geo distance is in metres on the sphere", () => {
  const origin = { lon: -0.1278, lat: 51.5074 };
  expect(of({ kind: "geoDistance", origin, path: "place" })).toBeCloseTo(930_000, -5);
});

test("a condition counts 1 or 0", () => {
  const filter = { ...empty, must: [{ kind: "isNull" as const, key: "x" }] } as never;
  expect(of({ kind: "condition", filter })).toBe(1);
  expect(of({ kind: "condition", filter: empty })).toBe(0);
});

test("defaults stand for what is missing", () => {
  expect(of(key("missing"), new Map([["missing", 5]]))).toBe(5);
  expect(of({ kind: "score", prefetch: 1 }, new Map([["$score[1]", 2]]))).toBe(2);
});

test.each<[string, Expression, RegExp]>([
  ["a value that is missing", key("missing"), /no value at "missing"/],
  ["text", key("text"), /text must be a number.*string/],
  ["many values", key("tags"), /2 values/],
  ["no datetime", { kind: "datetimeKey", path: "text" }, /RFC 3339/],
  ["no geo point", { kind: "geoDistance", origin: { lon: 0, lat: 0 }, path: "price" }, /geo point/],
  ["a division by zero", { kind: "divide", left: n(1), right: n(0) }, /1 \/ 0/],
  ["a root of less than zero", { kind: "sqrt", operand: n(-1) }, /sqrt\(-1\)/],
  ["a logarithm of zero", { kind: "ln", operand: n(0) }, /ln\(0\)/],
  ["a power out of range", { kind: "power", base: n(10), exponent: n(400) }, /10\^400/],
  ["more than f32 holds", n(1e300), /Infinity/],
])("%s is refused", (_, expression, message) => {
  expect(() => of(expression)).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringMatching(message) as string }),
  );
});
