import { KithError, limits } from "../base/index.js";
import {
  type Bounds,
  boundNames,
  type Condition,
  type Filter,
  filterOf,
  type GeoPoint,
  type GeoRing,
  type IdKey,
  idFromName,
  idFromNum,
  isWellFormed,
  idFromUuid,
  integer,
  invalidFilter,
  isUuid,
  JsonFloat,
  type Match,
  type MatchList,
  partitionedId,
  type Path,
  readPath,
} from "../model/index.js";
import { zonedDatetimeMicros } from "./datetime.js";
import { validateFilter } from "./validate.js";

/**
 * Reads the JSON form of a filter, which is Qdrant's: `{"must": [{"key": "year", "range": {"gt": 1990}}]}`. From values as
 * JSON.parse gives them, with bigints for large integers, or as `parseJson` does. INVALID_FILTER, with the path of the node, for
 * unknown keys, wrong types, lists of conditions that are empty, and all that `validateFilter` refuses.
 */
export function filterFromJson(value: unknown, at = "filter"): Filter {
  const filter = readFilter(value, at, 1);
  validateFilter(filter, at);
  return filter;
}

type Fields = { readonly [key: string]: unknown };

const filterKeys = ["must", "should", "must_not", "min_should"];
const fieldOperators = [
  "match",
  "range",
  "geo_bounding_box",
  "geo_radius",
  "geo_polygon",
  "values_count",
  "is_empty",
  "is_null",
] as const;
type FieldOperator = (typeof fieldOperators)[number];
const matchOperators = ["value", "any", "except", "text", "text_any", "phrase", "prefix", "substring"] as const;
type MatchOperator = (typeof matchOperators)[number];
const pointOperators = ["is_empty", "is_null", "has_id", "has_vector", "slice", "partition", "nested"] as const;

/** Deeper ones end here, before the recursion does: `validateFilter` refuses them long before. */
const depthMax = 100;

function readFilter(value: unknown, at: string, depth: number): Filter {
  if (depth > depthMax) throw invalidFilter(at, `filters are more than ${depthMax} deep`);
  const fields = readObject(value, at, filterKeys);
  return filterOf({
    must: readConditions(fields["must"], `${at}.must`, depth),
    should: readConditions(fields["should"], `${at}.should`, depth),
    mustNot: readConditions(fields["must_not"], `${at}.must_not`, depth),
    minShould: readMinShould(fields["min_should"], `${at}.min_should`, depth),
  });
}

function readMinShould(value: unknown, at: string, depth: number): Filter["minShould"] {
  if (isAbsent(value)) return undefined;
  const fields = readObject(value, at, ["conditions", "min_count"]);
  const conditions = readConditions(fields["conditions"], `${at}.conditions`, depth);
  if (conditions === undefined) throw invalidFilter(`${at}.conditions`, "missing");
  return { conditions, count: readNumber(fields["min_count"], `${at}.min_count`) };
}

/** One condition may stand for a list of one, as in Qdrant. */
function readConditions(value: unknown, at: string, depth: number): Condition[] | undefined {
  if (isAbsent(value)) return undefined;
  if (!Array.isArray(value)) return [readCondition(value, at, depth)];
  if (value.length === 0) throw invalidFilter(at, "the list has no condition; leave it out where there is none");
  return value.map((each, i) => readCondition(each, `${at}[${i}]`, depth));
}

function readCondition(value: unknown, at: string, depth: number): Condition {
  const fields = readObject(value, at);
  if (Object.hasOwn(fields, "key")) return readFieldCondition(fields, at);
  const operator = pointOperators.find((name) => Object.hasOwn(fields, name));
  if (operator === undefined) {
    const known = ["key", ...pointOperators, ...filterKeys];
    checkKeys(fields, at, known);
    return { kind: "filter", filter: readFilter(value, at, depth + 1) };
  }
  checkKeys(fields, at, operator === "has_id" ? [operator, "partition"] : [operator]);
  const inner = fields[operator];
  const where = `${at}.${operator}`;
  switch (operator) {
    case "is_empty":
      return { kind: "isEmpty", path: readKey(readObject(inner, where, ["key"]), where) };
    case "is_null":
      return { kind: "isNull", path: readKey(readObject(inner, where, ["key"]), where) };
    case "has_id":
      return { kind: "hasId", ids: within(readList(inner, where, readId), fields["partition"], at) };
    case "partition":
      return { kind: "partition", partition: readString(inner, where) };
    case "has_vector":
      return { kind: "hasVector", name: readString(inner, where) };
    case "slice": {
      const slice = readObject(inner, where, ["index", "total"]);
      const index = readNumber(slice["index"], `${where}.index`);
      return { kind: "slice", index, total: readNumber(slice["total"], `${where}.total`) };
    }
    case "nested": {
      const nested = readObject(inner, where, ["key", "filter"]);
      const filter = readFilter(nested["filter"], `${where}.filter`, depth + 1);
      return { kind: "nested", path: readKey(nested, where), filter };
    }
  }
}

/** As points with this value of the partition key have the ids, where it stands beside them. */
function within(ids: readonly IdKey[], given: unknown, at: string): readonly IdKey[] {
  if (isAbsent(given)) return ids;
  const partition = readString(given, `${at}.partition`);
  if (partition === "" || Buffer.byteLength(partition) > limits.partitionBytes) {
    throw invalidFilter(`${at}.partition`, `a value of a partition key has 1 to ${limits.partitionBytes} bytes`);
  }
  return ids.map((id) => partitionedId(partition, id));
}

function readFieldCondition(all: Fields, at: string): Condition {
  checkKeys(all, at, ["key", ...fieldOperators]);
  const path = readKey(all, at);
  const operators = fieldOperators.filter((name) => !isAbsent(all[name]));
  const [operator] = operators;
  if (operator === undefined)
    throw invalidFilter(at, `no operator beside the key: one of ${fieldOperators.join(", ")}`);
  if (operators.length > 1) {
    throw invalidFilter(at, `more than one operator: ${operators.join(", ")}; use one condition for each`);
  }
  return readOperator(operator, all[operator], path, `${at}.${operator}`);
}

function readOperator(operator: FieldOperator, value: unknown, path: Path, at: string): Condition {
  switch (operator) {
    case "match":
      return { kind: "match", path, match: readMatch(value, at) };
    case "range":
      return readRange(value, path, at);
    case "geo_bounding_box": {
      const box = readObject(value, at, ["top_left", "bottom_right"]);
      const topLeft = readPoint(box["top_left"], `${at}.top_left`);
      return { kind: "geoBox", path, topLeft, bottomRight: readPoint(box["bottom_right"], `${at}.bottom_right`) };
    }
    case "geo_radius": {
      const circle = readObject(value, at, ["center", "radius"]);
      const center = readPoint(circle["center"], `${at}.center`);
      return { kind: "geoRadius", path, center, radiusMeters: readNumber(circle["radius"], `${at}.radius`) };
    }
    case "geo_polygon": {
      const polygon = readObject(value, at, ["exterior", "interiors"]);
      const exterior = readRing(polygon["exterior"], `${at}.exterior`);
      const holes = polygon["interiors"];
      return {
        kind: "geoPolygon",
        path,
        exterior,
        interiors: isAbsent(holes) ? [] : readList(holes, `${at}.interiors`, readRing),
      };
    }
    case "values_count":
      return { kind: "valuesCount", path, range: readBounds(value, at, readNumber) };
    case "is_empty":
      return negatedUnless(readBoolean(value, at), { kind: "isEmpty", path });
    case "is_null":
      return negatedUnless(readBoolean(value, at), { kind: "isNull", path });
  }
}

function negatedUnless(positive: boolean, condition: Condition): Condition {
  return positive ? condition : { kind: "filter", filter: filterOf({ mustNot: [condition] }) };
}

function readMatch(value: unknown, at: string): Match {
  const fields = readObject(value, at, matchOperators);
  const operators = matchOperators.filter((name) => !isAbsent(fields[name]));
  const [operator] = operators;
  if (operator === undefined || operators.length > 1) {
    const found = operators.length === 0 ? "none" : operators.join(", ");
    throw invalidFilter(at, `a match has exactly one of ${matchOperators.join(", ")}; found: ${found}`);
  }
  return readMatchOperator(operator, fields[operator], `${at}.${operator}`);
}

function readMatchOperator(operator: MatchOperator, value: unknown, at: string): Match {
  switch (operator) {
    case "value":
      return { kind: "value", value: typeof value === "boolean" ? value : readScalar(value, at) };
    case "any":
    case "except":
      // That all are of one type is checked afterwards.
      return { kind: operator, values: readList(value, at, readScalar) as MatchList };
    case "text_any":
      return { kind: "textAny", text: readString(value, at) };
    default:
      return { kind: operator, text: readString(value, at) };
  }
}

/** Bounds that are strings are datetimes, as in Qdrant. */
function readRange(value: unknown, path: Path, at: string): Condition {
  const fields = readObject(value, at, boundNames);
  if (boundNames.some((name) => typeof fields[name] === "string")) {
    return { kind: "datetimeRange", path, range: readBounds(value, at, readDatetime) };
  }
  return { kind: "range", path, range: readBounds(value, at, readBound) };
}

function readBounds<T>(value: unknown, at: string, read: (value: unknown, at: string) => T): Bounds<T> {
  const fields = readObject(value, at, boundNames);
  const bounds: { -readonly [K in keyof Bounds<T>]: Bounds<T>[K] } = {};
  for (const name of boundNames) {
    if (!isAbsent(fields[name])) bounds[name] = read(fields[name], `${at}.${name}`);
  }
  return bounds;
}

function readDatetime(value: unknown, at: string): number | bigint {
  if (typeof value !== "string")
    throw invalidFilter(at, `expected a datetime like the other bound, not ${nameOf(value)}`);
  const micros = zonedDatetimeMicros(value);
  if (micros === "no zone") {
    throw invalidFilter(at, `the datetime ${show(value)} has no zone: add "Z" for UTC, or an offset like "+02:00"`);
  }
  if (micros === undefined) {
    throw invalidFilter(at, `${show(value)} is not a datetime of RFC 3339, like 2024-05-01T12:00:00Z`);
  }
  return micros;
}

function readPoint(value: unknown, at: string): GeoPoint {
  const fields = readObject(value, at, ["lat", "lon"]);
  return { lat: readNumber(fields["lat"], `${at}.lat`), lon: readNumber(fields["lon"], `${at}.lon`) };
}

function readRing(value: unknown, at: string): GeoRing {
  return readList(readObject(value, at, ["points"])["points"], `${at}.points`, readPoint);
}

/** A number, a UUID, any other string as a name; `{"name": "..."}` for a name that looks like a UUID. */
function readId(value: unknown, at: string): IdKey {
  try {
    if (typeof value === "number" || typeof value === "bigint") return idFromNum(value);
    if (typeof value === "string") return isUuid(value) ? idFromUuid(value) : idFromName(value);
  } catch (cause) {
    if (cause instanceof KithError) throw invalidFilter(at, cause.message);
    throw cause;
  }
  const name = readString(readObject(value, at, ["name"])["name"], `${at}.name`);
  try {
    return idFromName(name);
  } catch (cause) {
    if (cause instanceof KithError) throw invalidFilter(`${at}.name`, cause.message);
    throw cause;
  }
}

function readKey(fields: Fields, at: string): Path {
  const text = readString(fields["key"], `${at}.key`);
  const path = readPath(text);
  if ("steps" in path) return path;
  throw invalidFilter(`${at}.key`, `the path ${show(text)} is not valid: ${path.problem}, at character ${path.at + 1}`);
}

function readScalar(value: unknown, at: string): string | number | bigint {
  if (typeof value === "string") return wellFormed(value, at);
  if (typeof value === "number") return value;
  if (typeof value === "bigint") return integer(value);
  if (value instanceof JsonFloat) {
    throw invalidFilter(
      at,
      `${value.value} is written as a float; only integers, strings and booleans are matched exactly`,
    );
  }
  throw invalidFilter(at, `expected a string or an integer, not ${nameOf(value)}`);
}

function readBound(value: unknown, at: string): number | bigint {
  return typeof value === "bigint" ? integer(value) : readNumber(value, at);
}

function readNumber(value: unknown, at: string): number {
  if (typeof value === "number") return value;
  if (value instanceof JsonFloat) return value.value;
  if (typeof value === "bigint") return Number(value);
  throw invalidFilter(at, `expected a number, not ${nameOf(value)}`);
}

function readBoolean(value: unknown, at: string): boolean {
  if (typeof value === "boolean") return value;
  throw invalidFilter(at, `expected true or false, not ${nameOf(value)}`);
}

function readString(value: unknown, at: string): string {
  if (typeof value === "string") return wellFormed(value, at);
  throw invalidFilter(at, `expected a string, not ${nameOf(value)}`);
}

/** On its way to the server the text would become another one, which points may have. */
function wellFormed(text: string, at: string): string {
  if (isWellFormed(text)) return text;
  throw invalidFilter(at, `${show(text)} has a lone surrogate, which UTF-8 cannot hold`);
}

function readList<T>(value: unknown, at: string, read: (value: unknown, at: string) => T): T[] {
  if (!Array.isArray(value)) throw invalidFilter(at, `expected a list, not ${nameOf(value)}`);
  return value.map((each, i) => read(each, `${at}[${i}]`));
}

function readObject(value: unknown, at: string, known?: readonly string[]): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof JsonFloat) {
    throw invalidFilter(at, `expected an object, not ${nameOf(value)}`);
  }
  if (known !== undefined) checkKeys(value as Fields, at, known);
  return value as Fields;
}

function checkKeys(fields: Fields, at: string, known: readonly string[]): void {
  for (const key of Object.keys(fields)) {
    if (known.includes(key)) continue;
    throw invalidFilter(`${at}.${key}`, `unknown key ${show(key)}; known here: ${known.join(", ")}`);
  }
}

/** Clients that print what they have not set as null mean nothing by it. */
function isAbsent(value: unknown): boolean {
  return value === undefined || value === null;
}

function nameOf(value: unknown): string {
  if (isAbsent(value)) return value === null ? "null" : "nothing";
  if (Array.isArray(value)) return "a list";
  if (value instanceof JsonFloat) return `the number ${value.value}`;
  switch (typeof value) {
    case "string":
      return `the string ${show(value)}`;
    case "number":
    case "bigint":
    case "boolean":
      return `the ${typeof value} ${value}`;
    default:
      return typeof value === "object" ? "an object" : `a ${typeof value}`;
  }
}

function show(text: string): string {
  return JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 77)}...`);
}
