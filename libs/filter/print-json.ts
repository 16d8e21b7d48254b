import {
  type Bounds,
  boundNames,
  type Condition,
  type Filter,
  type GeoPoint,
  type GeoRing,
  type IdKey,
  partitionOf,
  idFromKey,
  integer,
  isUuid,
  JsonFloat,
  type JsonObject,
  type JsonValue,
  type Match,
} from "../model/index.js";
import { formatDatetime } from "./datetime.js";

/** The JSON form of a filter, which `filterFromJson` reads back as the same tree; `printJson` makes text of it. */
export function filterToJson(filter: Filter): JsonObject {
  const { must, should, mustNot, minShould } = filter;
  const json: JsonObject = {};
  if (must.length > 0) json["must"] = must.map(conditionToJson);
  if (should.length > 0) json["should"] = should.map(conditionToJson);
  if (mustNot.length > 0) json["must_not"] = mustNot.map(conditionToJson);
  if (minShould !== undefined) {
    json["min_should"] = { conditions: minShould.conditions.map(conditionToJson), min_count: minShould.count };
  }
  return json;
}

function conditionToJson(condition: Condition): JsonObject {
  switch (condition.kind) {
    case "match":
      return { key: condition.path.text, match: matchToJson(condition.match) };
    case "range":
      return { key: condition.path.text, range: boundsToJson(condition.range, numberToJson) };
    case "datetimeRange":
      return { key: condition.path.text, range: boundsToJson(condition.range, formatDatetime) };
    case "geoRadius": {
      const { center, radiusMeters } = condition;
      return { key: condition.path.text, geo_radius: { center: pointToJson(center), radius: radiusMeters } };
    }
    case "geoBox": {
      const box = { top_left: pointToJson(condition.topLeft), bottom_right: pointToJson(condition.bottomRight) };
      return { key: condition.path.text, geo_bounding_box: box };
    }
    case "geoPolygon": {
      const polygon: JsonObject = { exterior: ringToJson(condition.exterior) };
      if (condition.interiors.length > 0) polygon["interiors"] = condition.interiors.map(ringToJson);
      return { key: condition.path.text, geo_polygon: polygon };
    }
    case "valuesCount":
      return { key: condition.path.text, values_count: boundsToJson(condition.range, (count) => count) };
    case "isEmpty":
      return { is_empty: { key: condition.path.text } };
    case "isNull":
      return { is_null: { key: condition.path.text } };
    case "hasId":
      return { has_id: condition.ids.map(idToJson), ...partitionOfIds(condition.ids) };
    case "partition":
      return { partition: condition.partition };
    case "hasVector":
      return { has_vector: condition.name };
    case "slice":
      return { slice: { index: condition.index, total: condition.total } };
    case "nested":
      return { nested: { key: condition.path.text, filter: filterToJson(condition.filter) } };
    case "filter":
      return filterToJson(condition.filter);
  }
}

/** All of them have the same, or none. */
function partitionOfIds([first]: readonly IdKey[]): JsonObject {
  const partition = first && partitionOf(first);
  return partition === undefined ? {} : { partition: Buffer.from(partition).toString() };
}

function matchToJson(match: Match): JsonObject {
  switch (match.kind) {
    case "value":
      return { value: match.value };
    case "any":
    case "except":
      return { [match.kind]: [...match.values] };
    case "textAny":
      return { text_any: match.text };
    default:
      return { [match.kind]: match.text };
  }
}

function boundsToJson<T>(bounds: Bounds<T>, print: (value: T) => JsonValue): JsonObject {
  const json: JsonObject = {};
  for (const name of boundNames) {
    const value = bounds[name];
    if (value !== undefined) json[name] = print(value);
  }
  return json;
}

/** A large float is not printed as digits: they would be read as an integer, which is compared exactly. */
function numberToJson(value: number | bigint): JsonValue {
  return typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)
    ? new JsonFloat(value)
    : value;
}

function pointToJson(point: GeoPoint): JsonObject {
  return { lat: point.lat, lon: point.lon };
}

function ringToJson(ring: GeoRing): JsonObject {
  return { points: ring.map(pointToJson) };
}

function idToJson(key: IdKey): JsonValue {
  const id = idFromKey(key);
  if (id.kind === "num") return integer(id.value);
  return id.kind === "name" && isUuid(id.value) ? { name: id.value } : id.value;
}
