import { setOwn } from "../../../libs/base/index.js";
import { filterFromJson } from "../../../libs/filter/index.js";
import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { filterToWire, type pb } from "../../../libs/wire/index.js";
import { idOf } from "./ids.js";
import { wrong } from "./values.js";

/** A filter; undefined where it has no conditions. INVALID_FILTER, with the path of the node. */
export function filterOf(value: JsonValue | undefined, at: string): pb.Filter | undefined {
  const cleaned = clean(value ?? null, at, 0);
  if (cleaned === null || (isJsonObject(cleaned) && Object.keys(cleaned).length === 0)) return undefined;
  return filterToWire(filterFromJson(cleaned, at));
}

const depthMax = 100;
const clauses = ["must", "should", "must_not"];
const operators = [
  "match",
  "range",
  "geo_bounding_box",
  "geo_radius",
  "geo_polygon",
  "values_count",
  "is_empty",
  "is_null",
];

/**
 * The filter as Kith reads it: no empty lists of conditions (which say nothing), ids in one spelling, and a condition of several operators as
 * one of each.
 */
function clean(value: JsonValue, at: string, depth: number): JsonValue {
  if (depth > depthMax) throw wrong(at, `filters are more than ${depthMax} deep`);
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  // Last that which may add to the others.
  const members = Object.entries(value).sort(([a], [b]) => Number(a === "min_should") - Number(b === "min_should"));
  for (const [key, each] of members) {
    if (each === null) continue;
    if (clauses.includes(key)) {
      const conditions = (Array.isArray(each) ? each : [each]).map((condition, i) =>
        cleanCondition(condition, `${at}.${key}[${i}]`, depth + 1),
      );
      if (conditions.length > 0) result[key] = conditions;
    } else if (key === "min_should" && isJsonObject(each) && Array.isArray(each["conditions"])) {
      const conditions = each["conditions"].map((condition, i) =>
        cleanCondition(condition, `${at}.min_should.conditions[${i}]`, depth + 1),
      );
      Object.assign(result, minShould(each, conditions, result));
    } else setOwn(result, key, each);
  }
  return result;
}

/** As members of the filter: where so many of the conditions are asked for that no point or every point has them, a filter without them says it. */
function minShould(given: JsonObject, conditions: JsonValue[], filter: JsonObject): JsonObject {
  const { min_count: count } = given;
  const isWithin = typeof count !== "number" || (count >= 1 && count <= conditions.length);
  if (isWithin) return conditions.length === 0 ? {} : { min_should: { ...given, conditions } };
  if (count < 1) return {};
  const must = filter["must"];
  return { must: [...(Array.isArray(must) ? must : []), nothing] };
}

function cleanCondition(value: JsonValue, at: string, depth: number): JsonValue {
  if (!isJsonObject(value)) return value;
  if (Object.hasOwn(value, "has_id") && Array.isArray(value["has_id"])) {
    const ids = value["has_id"].map((id, i) => idOf(id, `${at}.has_id[${i}]`).id?.value ?? null);
    return { has_id: ids };
  }
  if (Object.hasOwn(value, "nested") && isJsonObject(value["nested"])) {
    const { nested } = value as { nested: JsonObject };
    return { nested: { ...nested, filter: clean(nested["filter"] ?? {}, `${at}.nested.filter`, depth) } };
  }
  if (Object.hasOwn(value, "key")) return cleanField(value);
  if (Object.keys(value).some((key) => ["is_empty", "is_null", "has_vector", "slice"].includes(key))) return value;
  const filter = clean(value, at, depth);
  // One without conditions holds for every point.
  return isJsonObject(filter) && Object.keys(filter).length === 0 ? everything : filter;
}

/** What no point and what every point fulfils, in the words that filters have. */
const nothing: JsonObject = { has_id: [] };
const everything: JsonObject = { must_not: [nothing] };

/** Qdrant takes a box whose north is south of its south, in which nothing is. */
function isUpsideDown(box: JsonValue | undefined): boolean {
  const latOf = (corner: string): number => {
    const point = isJsonObject(box) ? box[corner] : undefined;
    return isJsonObject(point) && typeof point["lat"] === "number" ? point["lat"] : Number.NaN;
  };
  return latOf("top_left") < latOf("bottom_right");
}

function cleanField(value: JsonObject): JsonValue {
  if (isUpsideDown(value["geo_bounding_box"])) return nothing;
  const found = operators.filter((name) => Object.hasOwn(value, name) && value[name] !== null);
  const one = (operator: string): JsonObject => ({ key: value["key"] ?? null, [operator]: operand(operator, value) });
  if (found.length <= 1) return found.length === 1 ? one(found[0] as string) : value;
  return { must: found.map(one) };
}

function operand(operator: string, value: JsonObject): JsonValue {
  const inner = value[operator] ?? null;
  if (operator !== "range" || !isJsonObject(inner)) return inner;
  // Datetimes without a zone are in UTC.
  return Object.fromEntries(
    Object.entries(inner)
      .filter(([, bound]) => bound !== null)
      .map(([name, bound]) => [name, typeof bound === "string" ? zoned(bound) : bound]),
  );
}

const unzoned = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d+)?)?)?$/;

/** A datetime with its zone, which is UTC where it names none. */
export function zoned(text: string): string {
  const match = unzoned.exec(text.trim());
  if (match === null) return text.trim().replace(/^(\S{10}) /, "$1T");
  const [, day, minutes = "00:00", seconds = ":00"] = match;
  return `${day}T${minutes}${seconds}Z`;
}
