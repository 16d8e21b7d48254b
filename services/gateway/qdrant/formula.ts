import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { filterOf, zoned } from "./filter.js";
import { below, eachOf, listOf, member, numberOf, objectOf, optional, required, textOf, wrong } from "./values.js";

/** Expressions within each other; deeper ones are refused afterwards. */
const depthMax = 64;

type Node = NonNullable<pb.Expression["expression"]>;

/** A score made of the scores of prefetches and of the payload. */
export function formulaOf(value: JsonValue | undefined, defaults: JsonValue | undefined, at: string): pb.Formula {
  const result = pb.Formula.create({});
  result.expression = expressionOf(value, below(at, "formula"), 0);
  if (defaults === undefined) return result;
  for (const [key, each] of Object.entries(objectOf(defaults, below(at, "defaults")))) {
    // Nothing stands for what is missing, as where there is no default.
    if (each === null) continue;
    result.defaults[key] = { value: defaultOf(each, `${at}.defaults.${key}`) };
  }
  return result;
}

function defaultOf(value: JsonValue, at: string): NonNullable<pb.FormulaDefault["value"]> {
  if (typeof value === "string") return { $case: "datetime", value };
  if (isJsonObject(value)) return { $case: "geo", value: pointOf(value, at) };
  return { $case: "number", value: numberOf(value, at) };
}

function pointOf(value: JsonValue | undefined, at: string): pb.GeoPoint {
  const point = objectOf(value, at);
  return { lat: required(point, "lat", at, numberOf), lon: required(point, "lon", at, numberOf) };
}

const unary = {
  neg: "negate",
  abs: "absolute",
  sqrt: "sqrt",
  exp: "exp",
  ln: "ln",
  log10: "log10",
  acosh: "acosh",
} as const;
const several = { sum: "sum", mult: "product", max: "max", min: "min" } as const;
const decays = { lin_decay: "linearDecay", exp_decay: "exponentialDecay", gauss_decay: "gaussDecay" } as const;

function expressionOf(value: JsonValue | undefined, at: string, depth: number): pb.Expression {
  if (depth > depthMax) throw wrong(at, `expressions are more than ${depthMax} deep`);
  return { expression: nodeOf(value, at, depth) };
}

function nodeOf(value: JsonValue | undefined, at: string, depth: number): Node {
  if (typeof value === "string") return { $case: "variable", value };
  if (!isJsonObject(value)) return { $case: "constant", value: numberOf(value, at) };
  const inner = (name: string) => (each: JsonValue | undefined) => expressionOf(each, below(at, name), depth + 1);
  for (const [name, $case] of Object.entries(unary)) {
    const operand = member(value, name);
    if (operand !== undefined) return { $case, value: inner(name)(operand) };
  }
  for (const [name, $case] of Object.entries(several)) {
    const list = member(value, name);
    if (list === undefined) continue;
    const operands = eachOf(listOf(list, below(at, name)), below(at, name), (each, place) =>
      expressionOf(each, place, depth + 1),
    );
    return { $case, value: { operands } };
  }
  for (const [name, $case] of Object.entries(decays)) {
    const decay = member(value, name);
    if (decay !== undefined) return { $case, value: decayOf(objectOf(decay, below(at, name)), below(at, name), depth) };
  }
  return other(value, at, depth);
}

function decayOf(object: JsonObject, at: string, depth: number): pb.Decay {
  const read = (each: JsonValue | undefined, place: string): pb.Expression => expressionOf(each, place, depth + 1);
  const scale = optional(object, "scale", at, numberOf);
  const midpoint = optional(object, "midpoint", at, numberOf);
  return {
    x: required(object, "x", at, read),
    target: optional(object, "target", at, read),
    ...(scale !== undefined && { scale }),
    ...(midpoint !== undefined && { midpoint }),
  };
}

function other(value: JsonObject, at: string, depth: number): Node {
  const read = (each: JsonValue | undefined, place: string): pb.Expression => expressionOf(each, place, depth + 1);
  const div = optional(value, "div", at, objectOf);
  if (div !== undefined) {
    const place = below(at, "div");
    const byZero = optional(div, "by_zero_default", place, numberOf);
    const sides = { left: required(div, "left", place, read), right: required(div, "right", place, read) };
    return { $case: "divide", value: { ...sides, ...(byZero !== undefined && { byZero }) } };
  }
  const pow = optional(value, "pow", at, objectOf);
  if (pow !== undefined) {
    const place = below(at, "pow");
    const exponent = required(pow, "exponent", place, read);
    return { $case: "power", value: { base: required(pow, "base", place, read), exponent } };
  }
  const distance = optional(value, "geo_distance", at, objectOf);
  if (distance !== undefined) {
    const place = below(at, "geo_distance");
    const origin = required(distance, "origin", place, pointOf);
    return { $case: "geoDistance", value: { origin, to: required(distance, "to", place, textOf) } };
  }
  const datetime = optional(value, "datetime", at, textOf);
  if (datetime !== undefined) return { $case: "datetime", value: zoned(datetime) };
  const key = optional(value, "datetime_key", at, textOf);
  if (key !== undefined) return { $case: "datetimeKey", value: key };
  // One of a kind that this version does not know comes over gRPC as nothing.
  const isEmpty = Object.keys(value).length === 0;
  const filter = isEmpty ? undefined : filterOf({ must: [value] }, at);
  if (filter === undefined) throw wrong(at, "expected an expression or a condition");
  return { $case: "condition", value: filter };
}
