import { KithError } from "../base/index.js";
import { geoDistanceMeters } from "../filter/index.js";
import { operandsOf } from "./check.js";
import type { Decay, Expression, Filter, Formula, FormulaDefault, GeoPoint } from "../model/index.js";

/** What a formula may ask of one point. */
export interface FormulaInputs {
  /** The point's score in the results of a prefetch; undefined where it is not among them. */
  score(prefetch: number): number | undefined;
  /** The values at a path of the payload. */
  values(path: string): readonly unknown[];
  passes(filter: Filter): boolean;
  /** Seconds since the epoch of an RFC 3339 datetime; undefined where the text is none. */
  seconds(text: string): number | undefined;
}

/** Score of a point that a prefetch did not find, where the formula gives no other. */
const missingScore = 0;

/**
 * The score that a formula gives a point, as f32. Throws INVALID_ARGUMENT where a value is missing and has no default,
 * is of another type than the expression needs, or where the result is not finite; `details.path` names the node, by where the
 * formula's expression stands (`at`).
 *
 * A product ends at its first zero, and a division of zero is zero, so that later operands are not asked for.
 */
export function evaluate(formula: Formula, inputs: FormulaInputs, at: string): number {
  try {
    const score = Math.fround(valueOf(formula.expression, formula, inputs));
    if (!Number.isFinite(score)) throw notFinite(String(score));
    return score;
  } catch (error) {
    if (!(error instanceof KithError)) throw error;
    const path = faultIn(formula.expression, at, formula, inputs);
    throw new KithError(error.code, `${path}: ${error.message}`, { details: { ...error.details, path } });
  }
}

/** Where the node is that fails: what comes before it gives a value again, and nothing behind it was asked for. */
function faultIn(node: Expression, at: string, formula: Formula, inputs: FormulaInputs): string {
  for (const [name, inner] of operandsOf(node)) {
    try {
      valueOf(inner, formula, inputs);
    } catch {
      return faultIn(inner, `${at}.${name}`, formula, inputs);
    }
  }
  return ["constant", "score", "key"].includes(node.kind) ? at : `${at}.${node.kind}`;
}

/** Whether a formula asks which vectors points have: then they are read. */
export function needsVectors(node: Expression): boolean {
  if (node.kind === "condition") return asksForVectors(node.filter);
  return operandsOf(node).some(([, inner]) => needsVectors(inner));
}

function asksForVectors({ must, should, mustNot, minShould }: Filter): boolean {
  const conditions = [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])];
  return conditions.some(
    (each) => each.kind === "hasVector" || (each.kind === "filter" && asksForVectors(each.filter)),
  );
}

function valueOf(expression: Expression, formula: Formula, inputs: FormulaInputs): number {
  const of = (inner: Expression): number => valueOf(inner, formula, inputs);
  switch (expression.kind) {
    case "constant":
      return expression.value;
    case "score":
      return (
        inputs.score(expression.prefetch) ?? numberDefault(formula, `$score[${expression.prefetch}]`) ?? missingScore
      );
    case "key":
      return numberAt(expression.path, formula, inputs);
    case "condition":
      return inputs.passes(expression.filter) ? 1 : 0;
    case "sum":
      return expression.operands.reduce((sum, each) => sum + of(each), 0);
    case "product": {
      let product = 1;
      for (const each of expression.operands) {
        const factor = of(each);
        if (factor === 0) return 0;
        product *= factor;
      }
      return product;
    }
    case "max":
      return Math.max(...expression.operands.map(of));
    case "min":
      return Math.min(...expression.operands.map(of));
    case "negate":
      return -of(expression.operand);
    case "absolute":
      return Math.abs(of(expression.operand));
    case "sqrt":
    case "exp":
    case "ln":
    case "log10":
    case "acosh":
      return unary(expression.kind, of(expression.operand));
    case "divide":
      return divided(of(expression.left), () => of(expression.right), expression.byZero);
    case "power": {
      const base = of(expression.base);
      const exponent = of(expression.exponent);
      return finite(base ** exponent, () => `${base}^${exponent}`);
    }
    case "datetime":
      return expression.seconds;
    case "datetimeKey": {
      const text = valueAt(expression.path, formula, inputs);
      const seconds = typeof text === "string" ? inputs.seconds(text) : undefined;
      if (seconds === undefined) throw wrongType(expression.path, "a datetime (RFC 3339 text)", text);
      return seconds;
    }
    case "geoDistance": {
      const place = valueAt(expression.path, formula, inputs);
      if (!isGeoPoint(place)) throw wrongType(expression.path, "a geo point {lon, lat}", place);
      return geoDistanceMeters(expression.origin, place);
    }
    case "linearDecay":
    case "exponentialDecay":
    case "gaussDecay":
      return decayed(expression, of(expression.x) - (expression.target === undefined ? 0 : of(expression.target)));
  }
}

function unary(kind: "sqrt" | "exp" | "ln" | "log10" | "acosh", x: number): number {
  const functions = { sqrt: Math.sqrt, exp: Math.exp, ln: Math.log, log10: Math.log10, acosh: Math.acosh };
  return finite(functions[kind](x), () => `${kind}(${x})`);
}

function divided(left: number, right: () => number, byZero: number | undefined): number {
  if (left === 0) return 0;
  const divisor = right();
  if (divisor === 0 && byZero !== undefined) return byZero;
  return finite(left / divisor, () => `${left} / ${divisor}`);
}

function decayed({ kind, midpoint, scale }: Decay, difference: number): number {
  if (kind === "linearDecay") return Math.max(0, 1 - ((1 - midpoint) / scale) * Math.abs(difference));
  if (kind === "exponentialDecay") return Math.exp((Math.log(midpoint) / scale) * Math.abs(difference));
  return Math.exp((Math.log(midpoint) / (scale * scale)) * difference * difference);
}

function finite(value: number, what: () => string): number {
  if (!Number.isFinite(value)) throw notFinite(what());
  return value;
}

/** Users of Qdrant's clients know formulas' errors by their words, of which its tests look for some: these are within. */
function notFinite(what: string): KithError {
  return new KithError(
    "INVALID_ARGUMENT",
    `the expression ${what} produced a non-finite number for a point; give a default, or keep the value in range`,
    { details: { expression: what } },
  );
}

/** The one value at a path, or its default. A list of one is that one. */
function valueAt(path: string, formula: Formula, inputs: FormulaInputs): unknown {
  const values = inputs.values(path);
  if (values.length === 1) return values[0];
  if (values.length > 1) return values;
  const value = formula.defaults.get(path);
  if (value === undefined) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `a point has no value at "${path}" and the formula has no default for it; add one to the defaults`,
      { details: { key: path } },
    );
  }
  return value;
}

function numberAt(path: string, formula: Formula, inputs: FormulaInputs): number {
  const value = valueAt(path, formula, inputs);
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "number") throw wrongType(path, "a number", value);
  return value;
}

function numberDefault(formula: Formula, name: string): number | undefined {
  const value: FormulaDefault | undefined = formula.defaults.get(name);
  if (value === undefined || typeof value === "number") return value;
  throw wrongType(name, "a number", value);
}

function wrongType(path: string, wanted: string, value: unknown): KithError {
  const got = Array.isArray(value) ? `${value.length} values` : typeof value;
  return new KithError(
    "INVALID_ARGUMENT",
    `${path} must be ${wanted} in the payload and/or in the formula defaults, not ${got}`,
    { details: { key: path } },
  );
}

function isGeoPoint(value: unknown): value is GeoPoint {
  if (typeof value !== "object" || value === null) return false;
  const { lon, lat } = value as Partial<Record<keyof GeoPoint, unknown>>;
  return typeof lon === "number" && typeof lat === "number";
}
