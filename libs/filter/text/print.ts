import {
  type Bounds,
  type Condition,
  type Filter,
  formatId,
  type GeoRing,
  type Match,
  type Path,
  printPathKey,
} from "../../model/index.js";
import { formatDatetime } from "../datetime.js";
import { Lexer } from "./lexer.js";
import { reservedWords } from "./parse.js";

/**
 * The textual form of a filter, or undefined where it has none: ranges without a bound, or with two on one side. `parseFilter`
 * reads it as a filter of the same meaning; as the same tree where the filter came from a text.
 */
export function printFilter(filter: Filter): string | undefined {
  try {
    return printParts(filter, "or");
  } catch (error) {
    if (error instanceof NoText) return undefined;
    throw error;
  }
}

/** What may stand at a place without parentheses: all, all but `or`, a single condition. */
type Place = "or" | "and" | "not";

class NoText extends Error {}

function printParts({ must, should, mustNot, minShould }: Filter, place: Place): string {
  const all = [
    ...must.map((condition) => (term: Place) => printCondition(condition, term)),
    ...(should.length === 0 ? [] : [(term: Place) => printShould(should, term)]),
    ...(minShould === undefined ? [] : [() => printAtLeast(minShould.conditions, minShould.count)]),
    ...mustNot.map((condition) => () => printNegated(condition)),
  ];
  const [only] = all;
  if (only === undefined) return "";
  if (all.length === 1) return only(place);
  return parenthesized(all.map((print) => print("and")).join(" and "), place === "not");
}

function printShould(conditions: readonly Condition[], place: Place): string {
  const [only] = conditions;
  if (only !== undefined && conditions.length === 1) return printCondition(only, place);
  return parenthesized(conditions.map((each) => printCondition(each, "and")).join(" or "), place !== "or");
}

function printAtLeast(conditions: readonly Condition[], count: number): string {
  return `at_least(${[String(count), ...conditions.map((each) => printCondition(each, "or"))].join(", ")})`;
}

function parenthesized(text: string, needed: boolean): string {
  return needed ? `(${text})` : text;
}

function printNegated(condition: Condition): string {
  if (condition.kind === "isEmpty") return `exists(${printPath(condition.path)})`;
  if (condition.kind === "isNull") return `${printPath(condition.path)} is not null`;
  if (condition.kind === "match") {
    const { path, match } = condition;
    if (match.kind === "value") return `${printPath(path)} != ${printValue(match.value)}`;
    if (match.kind === "any") return `${printPath(path)} not in ${printList(match.values)}`;
  }
  return `not ${printCondition(condition, "not")}`;
}

function printCondition(condition: Condition, place: Place): string {
  switch (condition.kind) {
    case "filter":
      return printParts(condition.filter, place);
    case "match":
      return `${printPath(condition.path)} ${printMatch(condition.match)}`;
    case "range":
      return printRange(printPath(condition.path), condition.range, printNumber);
    case "datetimeRange":
      return printRange(printPath(condition.path), condition.range, formatDatetime);
    case "valuesCount":
      return printCount(`count(${printPath(condition.path)})`, condition.range);
    case "geoRadius": {
      const { center, radiusMeters } = condition;
      return `near(${printPath(condition.path)}, ${center.lat}, ${center.lon}, ${printDistance(radiusMeters)})`;
    }
    case "geoBox": {
      const { topLeft, bottomRight } = condition;
      const sides = [topLeft.lat, topLeft.lon, bottomRight.lat, bottomRight.lon];
      return `within(${printPath(condition.path)}, box(${sides.join(", ")}))`;
    }
    case "geoPolygon": {
      const rings = [condition.exterior, ...condition.interiors].map(printRing);
      return `within(${printPath(condition.path)}, polygon(${rings.join(", ")}))`;
    }
    case "isEmpty":
      return `${printPath(condition.path)} is empty`;
    case "isNull":
      return `${printPath(condition.path)} is null`;
    case "hasId":
      return `has_id(${condition.ids.map(formatId).join(", ")})`;
    case "hasVector":
      return `has_vector(${printValue(condition.name)})`;
    case "slice":
      return `slice(${condition.index}, ${condition.total})`;
    case "partition":
      return `partition(${printValue(condition.partition)})`;
    case "nested":
      return `${printPath(condition.path)}[any: ${printParts(condition.filter, "or")}]`;
  }
}

function printMatch(match: Match): string {
  switch (match.kind) {
    case "value":
      return `= ${printValue(match.value)}`;
    case "any":
      return `in ${printList(match.values)}`;
    case "except":
      return `except ${printList(match.values)}`;
    case "text":
      return `~ ${JSON.stringify(match.text)}`;
    case "textAny":
      return `~ any ${JSON.stringify(match.text)}`;
    default:
      return `~ ${match.kind} ${JSON.stringify(match.text)}`;
  }
}

function printList(values: readonly (string | number | bigint)[]): string {
  return `(${values.map(printValue).join(", ")})`;
}

function printValue(value: string | number | bigint | boolean): string {
  return typeof value === "string" && !isPlainName(value) ? JSON.stringify(value) : String(value);
}

function printCount(subject: string, bounds: Bounds<number>): string {
  const { gt, gte, lt, lte } = bounds;
  if (gte !== undefined && gte === lte && gt === undefined && lt === undefined) return `${subject} = ${gte}`;
  return printRange(subject, bounds, String);
}

function printRange<T>(subject: string, { gt, gte, lt, lte }: Bounds<T>, print: (value: T) => string): string {
  if ((gt !== undefined && gte !== undefined) || (lt !== undefined && lte !== undefined)) throw new NoText();
  const low = gt ?? gte;
  const high = lt ?? lte;
  if (low === undefined && high === undefined) throw new NoText();
  const lower = gt !== undefined ? "<" : "<=";
  const upper = lt !== undefined ? "<" : "<=";
  if (low === undefined) return `${subject} ${upper} ${print(high as T)}`;
  if (high === undefined) return `${subject} ${gt !== undefined ? ">" : ">="} ${print(low)}`;
  if (gte !== undefined && lte !== undefined) return `${subject} between ${print(low)} and ${print(high)}`;
  return `${print(low)} ${lower} ${subject} ${upper} ${print(high)}`;
}

/** A large float is not printed as digits: they would be read as an integer, which is compared exactly. */
function printNumber(value: number | bigint): string {
  const text = String(value);
  return typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && !text.includes("e")
    ? `${text}.0`
    : text;
}

function printDistance(meters: number): string {
  return meters >= 1000 && Number.isSafeInteger(meters) && meters % 1000 === 0 ? `${meters / 1000}km` : `${meters}m`;
}

function printRing(ring: GeoRing): string {
  return `(${ring.map((point) => `${point.lat} ${point.lon}`).join(", ")})`;
}

/** A first key that would be read as something else stands in quotes. */
function printPath(path: Path): string {
  const [first] = path.steps;
  if (first?.kind !== "key" || isPlainName(first.key)) return path.text;
  const plain = printPathKey(first.key);
  return plain.startsWith('"') ? path.text : `"${first.key}"${path.text.slice(plain.length)}`;
}

/** Whether a text is read as one name. */
function isPlainName(text: string): boolean {
  if (printPathKey(text).startsWith('"') || reservedWords.has(text.toLowerCase())) return false;
  const token = new Lexer(text).peek;
  return token.kind === "name" && token.end === text.length;
}
