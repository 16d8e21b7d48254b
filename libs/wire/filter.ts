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
  idFromKey,
  idFromName,
  idFromNum,
  idFromUuid,
  type Integer,
  invalidFilter,
  type Match,
  partitionedId,
  partitionOf,
  type Path,
  readPath,
} from "../model/index.js";
import * as pb from "./gen/pb.js";

/** Nested messages that a filter may have; the decoder itself ends at 100. `validateFilter` allows far fewer. */
const depthMax = 100;

/**
 * The filter behind a message. INVALID_FILTER, with the path of the node, where something is missing in it or a path or an id
 * cannot be read. What it says is not checked: that is `validateFilter`'s.
 */
export function filterFromWire(wire: pb.Filter, at = "filter"): Filter {
  return readFilter(wire, at, 1);
}

function readFilter(wire: pb.Filter, at: string, depth: number): Filter {
  if (depth > depthMax) throw invalidFilter(at, `filters are more than ${depthMax} deep`);
  const list = (conditions: pb.Condition[], name: string): Condition[] =>
    conditions.map((each, i) => readCondition(each, `${at}.${name}[${i}]`, depth));
  const { minShould } = wire;
  return filterOf({
    must: list(wire.must, "must"),
    should: list(wire.should, "should"),
    mustNot: list(wire.mustNot, "must_not"),
    minShould:
      minShould === undefined
        ? undefined
        : { conditions: list(minShould.conditions, "min_should.conditions"), count: minShould.minCount },
  });
}

function readCondition(wire: pb.Condition, at: string, depth: number): Condition {
  const { condition } = wire;
  if (condition === undefined)
    throw invalidFilter(at, "the condition is empty, or of a kind that this version does not know");
  switch (condition.$case) {
    case "match":
      return { kind: "match", path: readKey(condition.value, at), match: readMatch(condition.value, `${at}.match`) };
    case "range": {
      const range: { -readonly [K in keyof Bounds<Integer>]: Integer } = {};
      for (const name of boundNames) {
        const bound = condition.value[name];
        if (bound !== undefined) range[name] = present(bound.value, `${at}.range.${name}`).value;
      }
      return { kind: "range", path: readKey(condition.value, at), range };
    }
    case "datetimeRange": {
      const { gtUs, gteUs, ltUs, lteUs } = condition.value;
      const range = definedOf({ gt: gtUs, gte: gteUs, lt: ltUs, lte: lteUs });
      return { kind: "datetimeRange", path: readKey(condition.value, at), range };
    }
    case "geoRadius": {
      const { center, radiusMeters } = condition.value;
      const where = `${at}.geo_radius.center`;
      return { kind: "geoRadius", path: readKey(condition.value, at), center: present(center, where), radiusMeters };
    }
    case "geoBoundingBox": {
      const where = `${at}.geo_bounding_box`;
      const topLeft = present(condition.value.topLeft, `${where}.top_left`);
      const bottomRight = present(condition.value.bottomRight, `${where}.bottom_right`);
      return { kind: "geoBox", path: readKey(condition.value, at), topLeft, bottomRight };
    }
    case "geoPolygon": {
      const exterior = present(condition.value.exterior, `${at}.geo_polygon.exterior`).points;
      const interiors = condition.value.interiors.map((ring) => ring.points);
      return { kind: "geoPolygon", path: readKey(condition.value, at), exterior, interiors };
    }
    case "valuesCount": {
      const { gt, gte, lt, lte } = condition.value;
      return { kind: "valuesCount", path: readKey(condition.value, at), range: definedOf({ gt, gte, lt, lte }) };
    }
    case "isEmpty":
    case "isNull":
      return { kind: condition.$case, path: readKey(condition.value, at) };
    case "hasId":
      return { kind: "hasId", ids: readIds(condition.value, at) };
    case "hasVector":
      return { kind: "hasVector", name: condition.value.name };
    case "partition":
      return { kind: "partition", partition: condition.value };
    case "slice":
      return { kind: "slice", index: condition.value.index, total: condition.value.total };
    case "nested": {
      const where = `${at}.nested`;
      const filter = present(condition.value.filter, `${where}.filter`);
      return {
        kind: "nested",
        path: readKey(condition.value, where),
        filter: readFilter(filter, `${where}.filter`, depth + 1),
      };
    }
    case "filter":
      return { kind: "filter", filter: readFilter(condition.value, at, depth + 1) };
  }
}

function readMatch(wire: pb.MatchCondition, at: string): Match {
  const match = present(wire.match, at);
  switch (match.$case) {
    case "keyword":
    case "integer":
    case "boolean":
      return { kind: "value", value: match.value };
    case "anyKeywords":
    case "anyIntegers":
      return { kind: "any", values: match.value.values };
    case "exceptKeywords":
    case "exceptIntegers":
      return { kind: "except", values: match.value.values };
    default:
      return { kind: match.$case, text: match.value };
  }
}

function readKey({ key }: { key: string }, at: string): Path {
  const path = readPath(key);
  if ("steps" in path) return path;
  const shown = JSON.stringify(key.length <= 80 ? key : `${key.slice(0, 77)}...`);
  throw invalidFilter(`${at}.key`, `the path ${shown} is not valid: ${path.problem}, at character ${path.at + 1}`);
}

function readIds({ ids, partition = "" }: pb.HasIdCondition, at: string): IdKey[] {
  const keys = ids.map((id, i) => readId(id, `${at}.has_id[${i}]`));
  if (partition === "") return keys;
  if (Buffer.byteLength(partition) > limits.partitionBytes) {
    throw invalidFilter(`${at}.partition`, `longer than ${limits.partitionBytes} bytes`);
  }
  return keys.map((id) => partitionedId(partition, id));
}

/** All of them are of one partition, or of none: see `HasIdCondition`. */
function writeIds(ids: readonly IdKey[]): pb.HasIdCondition {
  const [first] = ids;
  const partition = first && partitionOf(first);
  const wire = ids.map((id) => ({ id: writeId(id) }));
  return partition === undefined ? { ids: wire } : { ids: wire, partition: Buffer.from(partition).toString() };
}

function readId(wire: pb.PointId, at: string): IdKey {
  const id = present(wire.id, at);
  try {
    if (id.$case === "num") return idFromNum(id.value);
    return id.$case === "uuid" ? idFromUuid(id.value) : idFromName(id.value);
  } catch (error) {
    if (error instanceof KithError && error.code === "INVALID_ID") throw invalidFilter(at, error.message);
    throw error;
  }
}

function present<T>(value: T | undefined, at: string): T {
  if (value === undefined) throw invalidFilter(at, "missing");
  return value;
}

function definedOf<T>(bounds: { [K in keyof Bounds<T>]: T | undefined }): Bounds<T> {
  return Object.fromEntries(Object.entries(bounds).filter(([, value]) => value !== undefined));
}

/** The message of a filter, which `filterFromWire` reads back as the same tree. */
export function filterToWire(filter: Filter): pb.Filter {
  const { minShould } = filter;
  return {
    must: filter.must.map(writeCondition),
    should: filter.should.map(writeCondition),
    mustNot: filter.mustNot.map(writeCondition),
    minShould:
      minShould === undefined
        ? undefined
        : { conditions: minShould.conditions.map(writeCondition), minCount: minShould.count },
  };
}

function writeCondition(condition: Condition): pb.Condition {
  return { condition: writeCase(condition) };
}

function writeCase(condition: Condition): NonNullable<pb.Condition["condition"]> {
  switch (condition.kind) {
    case "match":
      return { $case: "match", value: { key: condition.path.text, match: writeMatch(condition.match) } };
    case "range": {
      const { gt, gte, lt, lte } = condition.range;
      const bounds = { gt: writeBound(gt), gte: writeBound(gte), lt: writeBound(lt), lte: writeBound(lte) };
      return { $case: "range", value: { key: condition.path.text, ...bounds } };
    }
    case "datetimeRange": {
      const { gt, gte, lt, lte } = condition.range;
      return {
        $case: "datetimeRange",
        value: { key: condition.path.text, gtUs: gt, gteUs: gte, ltUs: lt, lteUs: lte },
      };
    }
    case "geoRadius": {
      const { center, radiusMeters } = condition;
      return { $case: "geoRadius", value: { key: condition.path.text, center, radiusMeters } };
    }
    case "geoBox": {
      const { topLeft, bottomRight } = condition;
      return { $case: "geoBoundingBox", value: { key: condition.path.text, topLeft, bottomRight } };
    }
    case "geoPolygon": {
      const exterior = writeRing(condition.exterior);
      return {
        $case: "geoPolygon",
        value: { key: condition.path.text, exterior, interiors: condition.interiors.map(writeRing) },
      };
    }
    case "valuesCount":
      return { $case: "valuesCount", value: { key: condition.path.text, ...condition.range } };
    case "isEmpty":
    case "isNull":
      return { $case: condition.kind, value: { key: condition.path.text } };
    case "hasId":
      return { $case: "hasId", value: writeIds(condition.ids) };
    case "hasVector":
      return { $case: "hasVector", value: { name: condition.name } };
    case "partition":
      return { $case: "partition", value: condition.partition };
    case "slice":
      return { $case: "slice", value: { index: condition.index, total: condition.total } };
    case "nested":
      return { $case: "nested", value: { key: condition.path.text, filter: filterToWire(condition.filter) } };
    case "filter":
      return { $case: "filter", value: filterToWire(condition.filter) };
  }
}

function writeMatch(match: Match): NonNullable<pb.MatchCondition["match"]> {
  switch (match.kind) {
    case "value":
      if (typeof match.value === "string") return { $case: "keyword", value: match.value };
      if (typeof match.value === "boolean") return { $case: "boolean", value: match.value };
      return { $case: "integer", value: match.value };
    case "any":
    case "except":
      return isStrings(match.values)
        ? { $case: `${match.kind}Keywords`, value: { values: [...match.values] } }
        : { $case: `${match.kind}Integers`, value: { values: [...match.values] } };
    default:
      return { $case: match.kind, value: match.text };
  }
}

function isStrings(values: readonly string[] | readonly Integer[]): values is readonly string[] {
  return typeof (values[0] ?? "") === "string";
}

function writeBound(value: Integer | undefined): pb.NumberBound | undefined {
  if (value === undefined) return undefined;
  return { value: typeof value === "bigint" ? { $case: "integer", value } : { $case: "number", value } };
}

function writeRing(ring: GeoRing): pb.GeoRing {
  return { points: ring.map((point): GeoPoint => point) };
}

function writeId(key: IdKey): NonNullable<pb.PointId["id"]> {
  const id = idFromKey(key);
  return id.kind === "num" ? { $case: "num", value: id.value } : { $case: id.kind, value: id.value };
}

/** Whether this release can read every condition of an encoded filter: one that it does not know, it would leave out. */
export function knowsFilter(bytes: Uint8Array): boolean {
  const knows = ({ must, should, mustNot, minShould }: pb.Filter): boolean =>
    [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])].every(({ condition }) => {
      switch (condition?.$case) {
        case undefined:
          return false;
        case "match":
          return condition.value.match !== undefined;
        case "nested":
          return condition.value.filter !== undefined && knows(condition.value.filter);
        case "filter":
          return knows(condition.value);
        default:
          return true;
      }
    });
  try {
    return knows(pb.Filter.decode(bytes));
  } catch {
    return false;
  }
}
