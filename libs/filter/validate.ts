import { limits } from "../base/index.js";
import {
  type Bounds,
  boundNames,
  type Condition,
  type Filter,
  type GeoPoint,
  type GeoPolygonCondition,
  type Integer,
  invalidFilter,
  isEmptyFilter,
  isIdKey,
  type Match,
  readPath,
} from "../model/index.js";
import { isDatetime } from "./datetime.js";
import { ringProblem } from "./geo.js";

const i64Min = -(2n ** 63n);
const i64Max = 2n ** 63n - 1n;
const u32Max = 0xffff_ffff;

/**
 * Refuses a filter that cannot be used: INVALID_FILTER, with the node in the message and in `details.path`
 * (`filter.must[1].range.gte`). What comes from outside passes here once, before it is compiled, sent or written to a log.
 */
export function validateFilter(filter: Filter, path = "filter"): void {
  new Validator().filter(filter, path, 1, false);
}

class Validator {
  #conditions = 0;
  #values = 0;
  #polygonPoints = 0;

  filter(filter: Filter, at: string, depth: number, nested: boolean): void {
    if (depth > limits.filterDepth) {
      throw invalidFilter(at, `filters are more than ${limits.filterDepth} deep`, { limit: limits.filterDepth });
    }
    if (depth > 1 && isEmptyFilter(filter)) throw invalidFilter(at, "the filter has no condition");
    const { must, should, mustNot, minShould } = filter;
    this.#list(must, `${at}.must`, depth, nested);
    this.#list(should, `${at}.should`, depth, nested);
    this.#list(mustNot, `${at}.must_not`, depth, nested);
    if (minShould === undefined) return;
    const { conditions, count } = minShould;
    this.#list(conditions, `${at}.min_should.conditions`, depth, nested);
    if (Number.isInteger(count) && count >= 1 && count <= conditions.length) return;
    throw invalidFilter(
      `${at}.min_should.min_count`,
      `${count} is not in 1..${conditions.length}, the number of conditions beside it`,
      { value: count },
    );
  }

  #list(conditions: readonly Condition[], at: string, depth: number, nested: boolean): void {
    this.#conditions += conditions.length;
    if (this.#conditions > limits.filterConditions) {
      throw invalidFilter(at, `the filter has more than ${limits.filterConditions} conditions`, {
        limit: limits.filterConditions,
      });
    }
    for (const [i, condition] of conditions.entries()) this.#condition(condition, `${at}[${i}]`, depth, nested);
  }

  #condition(condition: Condition, at: string, depth: number, nested: boolean): void {
    if ("path" in condition) {
      const path = readPath(condition.path.text);
      const key = condition.kind === "nested" ? `${at}.nested.key` : `${at}.key`;
      if ("problem" in path) {
        throw invalidFilter(key, `the path ${quote(condition.path.text)} is not valid: ${path.problem}`);
      }
    } else if (nested && condition.kind !== "filter") {
      throw invalidFilter(at, "elements of arrays have no id and no vectors; put this condition beside the nested one");
    }
    switch (condition.kind) {
      case "match":
        return this.#match(condition.match, `${at}.match`);
      case "range":
        return eachBound(condition.range, `${at}.range`, (value, where) => {
          if (typeof value === "bigint") checkInteger(value, where);
          else if (!Number.isFinite(value)) throw invalidFilter(where, `${value} is not a finite number`);
        });
      case "datetimeRange":
        if (boundNames.every((name) => condition.range[name] === undefined)) {
          throw invalidFilter(`${at}.range`, "a range of datetimes has at least one of gt, gte, lt and lte");
        }
        return eachBound(condition.range, `${at}.range`, (value, where) => {
          const whole = typeof value === "bigint" || Number.isSafeInteger(value);
          if (!whole || !isDatetime(value)) {
            throw invalidFilter(where, `${value} microseconds are outside of the years 0000 to 9999`);
          }
        });
      case "geoRadius":
        checkPoint(condition.center, `${at}.geo_radius.center`);
        if (condition.radiusMeters >= 0 && Number.isFinite(condition.radiusMeters)) return;
        throw invalidFilter(
          `${at}.geo_radius.radius`,
          `${condition.radiusMeters} is not a number of metres of 0 or more`,
        );
      case "geoBox": {
        const { topLeft, bottomRight } = condition;
        checkPoint(topLeft, `${at}.geo_bounding_box.top_left`);
        checkPoint(bottomRight, `${at}.geo_bounding_box.bottom_right`);
        if (topLeft.lat >= bottomRight.lat) return;
        throw invalidFilter(
          `${at}.geo_bounding_box.top_left.lat`,
          `${topLeft.lat} is south of bottom_right.lat, ${bottomRight.lat}`,
        );
      }
      case "geoPolygon":
        return this.#polygon(condition, `${at}.geo_polygon`);
      case "valuesCount":
        return eachBound(condition.range, `${at}.values_count`, (value, where) => {
          if (Number.isInteger(value) && value >= 0 && value <= u32Max) return;
          throw invalidFilter(where, `${value} is not a whole number in 0..${u32Max}`);
        });
      case "hasId":
        this.#countValues(condition.ids.length, `${at}.has_id`);
        for (const [i, id] of condition.ids.entries()) {
          if (!isIdKey(id)) throw invalidFilter(`${at}.has_id[${i}]`, "not the key form of an id");
        }
        return;
      case "hasVector":
        if (condition.name.length <= limits.nameLength) return;
        throw invalidFilter(`${at}.has_vector`, `a vector's name has at most ${limits.nameLength} characters`);
      case "partition": {
        const sizeBytes = Buffer.byteLength(condition.partition);
        if (sizeBytes > 0 && sizeBytes <= limits.partitionBytes) return;
        throw invalidFilter(
          `${at}.partition`,
          `the value has ${sizeBytes} bytes; it has 1 to ${limits.partitionBytes}`,
        );
      }
      case "slice": {
        const { index, total } = condition;
        if (!Number.isInteger(total) || total < 1 || total > u32Max) {
          throw invalidFilter(`${at}.slice.total`, `${total} is not a number of slices in 1..${u32Max}`);
        }
        if (Number.isInteger(index) && index >= 0 && index < total) return;
        throw invalidFilter(`${at}.slice.index`, `${index} is not in 0..${total - 1}`);
      }
      case "isEmpty":
      case "isNull":
        return;
      case "nested":
        return this.filter(condition.filter, `${at}.nested.filter`, depth + 1, true);
      case "filter":
        return this.filter(condition.filter, at, depth + 1, nested);
    }
  }

  #match(match: Match, at: string): void {
    switch (match.kind) {
      case "value":
        return checkScalar(match.value, `${at}.value`);
      case "any":
      case "except": {
        const where = `${at}.${match.kind}`;
        const { values } = match;
        this.#countValues(values.length, where);
        for (const [i, value] of values.entries()) {
          if (typeof value === "string") checkString(value, `${where}[${i}]`);
          else checkInteger(value, `${where}[${i}]`);
          if (typeof value === typeof values[0] || (typeof value !== "string" && typeof values[0] !== "string"))
            continue;
          throw invalidFilter(`${where}[${i}]`, "the values of a list are all strings or all integers");
        }
        return;
      }
      case "textAny":
        return checkString(match.text, `${at}.text_any`);
      default:
        return checkString(match.text, `${at}.${match.kind}`);
    }
  }

  #polygon({ exterior, interiors }: GeoPolygonCondition, at: string): void {
    const rings = [exterior, ...interiors];
    for (const [i, ring] of rings.entries()) {
      const where = i === 0 ? `${at}.exterior` : `${at}.interiors[${i - 1}]`;
      this.#polygonPoints += ring.length;
      if (this.#polygonPoints > limits.filterPolygonPoints) {
        throw invalidFilter(where, `the polygons of the filter have more than ${limits.filterPolygonPoints} points`, {
          limit: limits.filterPolygonPoints,
        });
      }
      for (const [j, point] of ring.entries()) checkPoint(point, `${where}.points[${j}]`);
      const problem = ringProblem(ring);
      if (problem !== undefined) throw invalidFilter(where, problem);
    }
  }

  #countValues(count: number, at: string): void {
    this.#values += count;
    if (this.#values <= limits.filterValues) return;
    throw invalidFilter(at, `the lists of the filter have more than ${limits.filterValues} values`, {
      limit: limits.filterValues,
    });
  }
}

function eachBound<T>(bounds: Bounds<T>, at: string, check: (value: T, at: string) => void): void {
  for (const name of boundNames) {
    const value = bounds[name];
    if (value !== undefined) check(value, `${at}.${name}`);
  }
}

function checkScalar(value: string | boolean | Integer, at: string): void {
  if (typeof value === "string") checkString(value, at);
  else if (typeof value !== "boolean") checkInteger(value, at);
}

function checkInteger(value: Integer, at: string): void {
  if (typeof value === "number") {
    if (Number.isSafeInteger(value)) return;
    throw invalidFilter(at, `${value} is not an integer; only integers, strings and booleans are matched exactly`);
  }
  if (value >= i64Min && value <= i64Max) return;
  throw invalidFilter(at, `${value} is outside of the 64-bit integers ${i64Min}..${i64Max}`);
}

function checkString(text: string, at: string): void {
  if (text.length <= limits.filterStringLength) return;
  throw invalidFilter(at, `a string of ${text.length} characters; at most ${limits.filterStringLength} are allowed`, {
    limit: limits.filterStringLength,
  });
}

function checkPoint(point: GeoPoint, at: string): void {
  if (!(point.lat >= -90 && point.lat <= 90)) throw invalidFilter(`${at}.lat`, `${point.lat} is not in -90..90`);
  if (!(point.lon >= -180 && point.lon <= 180)) throw invalidFilter(`${at}.lon`, `${point.lon} is not in -180..180`);
}

function quote(text: string): string {
  return JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 77)}...`);
}
