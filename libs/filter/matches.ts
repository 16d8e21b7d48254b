import {
  type Bounds,
  compareIds,
  type Condition,
  type Filter,
  type IdKey,
  idMapKey,
  type Integer,
  integer,
  isJsonObject,
  JsonFloat,
  type JsonObject,
  type JsonValue,
  type Match,
  type MatchList,
  type NestedCondition,
  type Path,
  pathOf,
  someAtPath,
} from "../model/index.js";
import { datetimeMicros } from "./datetime.js";
import { type GeoCondition, geoPointOf, geoTest } from "./geo.js";
import type { FilterPoint } from "./point.js";
import { partitionTest } from "./partition.js";
import { sliceOf } from "./slice.js";
import { defaultTokenizer, hasAllWords, hasAnyWord, hasPhrase, Tokenizer, type TokenizerOptions } from "./tokens.js";

/** What a filter means beside its own text: part of a collection's schema, the same on every replica. */
export interface FilterSchema {
  /** How texts are split, by the text of the field's path; others with `defaultTokenizer`. */
  readonly tokenizers?: ReadonlyMap<string, TokenizerOptions>;
}

export type PointTest = (point: FilterPoint) => boolean;
export type ValueTest = (value: JsonValue) => boolean;

/** Whether a point passes a filter. For more than one point compile the filter once. */
export function matches(filter: Filter, point: FilterPoint, schema: FilterSchema = {}): boolean {
  return compileFilter(filter, schema)(point);
}

/**
 * The one meaning of filters, as a test: indexes only find sooner what it says. It depends on the point, the filter and the schema
 * alone, so that all replicas decide alike. The semantics are Qdrant's; where its versions differ, those of 1.20. The filter
 * must be valid (see `validateFilter`).
 */
export function compileFilter(filter: Filter, schema: FilterSchema = {}): PointTest {
  return compileParts(filter, new Compiler(schema, []));
}

function compileParts(filter: Filter, compiler: Compiler): PointTest {
  const tests: PointTest[] = [];
  const all = (conditions: readonly Condition[]): PointTest[] =>
    [...conditions].sort((a, b) => costOf(a) - costOf(b)).map((condition) => compiler.condition(condition));
  tests.push(...all(filter.must));
  for (const test of all(filter.mustNot)) tests.push((point) => !test(point));
  if (filter.should.length > 0) tests.push(someOf(all(filter.should)));
  if (filter.minShould !== undefined) tests.push(countOf(all(filter.minShould.conditions), filter.minShould.count));
  return everyOf(tests);
}

function everyOf(tests: readonly PointTest[]): PointTest {
  const [first, second] = tests;
  if (first === undefined) return () => true;
  if (second === undefined) return first;
  if (tests.length === 2) return (point) => first(point) && second(point);
  return (point) => {
    for (const test of tests) if (!test(point)) return false;
    return true;
  };
}

function someOf(tests: readonly PointTest[]): PointTest {
  return (point) => {
    for (const test of tests) if (test(point)) return true;
    return false;
  };
}

function countOf(tests: readonly PointTest[], count: number): PointTest {
  return (point) => {
    let found = 0;
    for (let i = 0; i < tests.length && found < count; i++) if ((tests[i] as PointTest)(point)) found++;
    return found >= count;
  };
}

/** Conditions that cost less are tried first: those without the payload, then single values, then texts and areas. */
function costOf(condition: Condition): number {
  switch (condition.kind) {
    case "hasId":
    case "hasVector":
    case "slice":
    case "partition":
      return 0;
    case "geoRadius":
    case "geoPolygon":
      return 2;
    case "match":
      return condition.match.kind === "value" || condition.match.kind === "any" ? 1 : 2;
    case "nested":
    case "filter":
      return 3;
    default:
      return 1;
  }
}

class Compiler {
  readonly #schema: FilterSchema;
  /** Steps from the payload to the object that paths begin in; with a schema of paths from the payload. */
  readonly #base: Path["steps"];

  constructor(schema: FilterSchema, base: Path["steps"]) {
    this.#schema = schema;
    this.#base = base;
  }

  condition(condition: Condition): PointTest {
    switch (condition.kind) {
      case "hasId": {
        const has = idTest(condition.ids);
        return (point) => has(point.id);
      }
      case "hasVector":
        return (point) => point.hasVector(condition.name);
      case "slice":
        return (point) => sliceOf(point.id, condition.total) === condition.index;
      case "partition": {
        const within = partitionTest(condition.partition);
        return (point) => within(point.id);
      }
      case "filter":
        return compileParts(condition.filter, this);
      case "nested":
        return this.#nested(condition);
      case "isEmpty":
        return (point) => !someAtPath(point.payload, condition.path, isSomething);
      case "isNull":
        return (point) => someAtPath(point.payload, condition.path, hasNull);
      case "valuesCount": {
        const within = boundsTest(condition.range);
        const withNone = within(0);
        return (point) => {
          let found = false;
          const some = someAtPath(point.payload, condition.path, (value) => {
            found = true;
            return within(countOfValues(value));
          });
          return some || (!found && withNone);
        };
      }
      default: {
        const test = flattened(valueTest(condition, this.tokenizer(condition.path)));
        return (point) => someAtPath(point.payload, condition.path, test);
      }
    }
  }

  tokenizer(path: Path): TokenizerOptions {
    const { tokenizers } = this.#schema;
    if (tokenizers === undefined) return defaultTokenizer;
    const full = this.#base.length === 0 ? path : pathOf([...this.#base, ...path.steps]);
    return tokenizers.get(full.text) ?? defaultTokenizer;
  }

  /** An array may be named with or without `[]` at the end. Elements that are not objects never pass. */
  #nested({ path, filter }: NestedCondition): PointTest {
    const each = eachElement(path);
    const test = compileParts(filter, new Compiler(this.#schema, [...this.#base, ...each.steps]));
    return (point) => someAtPath(point.payload, each, (value) => isJsonObject(value) && test(new ElementPoint(value)));
  }
}

/** The elements of the array that a path leads to: `cast` and `cast[]` both give `cast[]`. */
export function eachElement(path: Path): Path {
  return path.steps.at(-1)?.kind === "each" ? path : pathOf([...path.steps, { kind: "each" }]);
}

/** An element of an array: it has no id and no vectors. */
class ElementPoint implements FilterPoint {
  readonly id = new Uint8Array();
  readonly payload: JsonObject;

  constructor(payload: JsonObject) {
    this.payload = payload;
  }

  hasVector(): boolean {
    return false;
  }
}

/** Conditions on values hold for an array when they hold for one of its elements; not for arrays within it. */
export function flattened(test: ValueTest): ValueTest {
  return (value) => {
    if (!Array.isArray(value)) return test(value);
    for (const each of value) if (test(each)) return true;
    return false;
  };
}

/** The test on single values of a condition that some value of its field must meet. */
export function valueTest(condition: ValueCondition, tokenizer: TokenizerOptions): ValueTest {
  switch (condition.kind) {
    case "match":
      return matchTest(condition.match, tokenizer);
    case "range": {
      const within = boundsTest(condition.range);
      return (value) => {
        const number = numberOf(value);
        return number !== undefined && within(number);
      };
    }
    case "datetimeRange": {
      const within = boundsTest(condition.range);
      return (value) => {
        const micros = typeof value === "string" ? datetimeMicros(value) : undefined;
        return micros !== undefined && within(micros);
      };
    }
    default: {
      const within = geoTest(condition);
      return (value) => {
        const point = geoPointOf(value);
        return point !== undefined && within(point.lat, point.lon);
      };
    }
  }
}

export type ValueCondition = Extract<Condition, { kind: "match" | "range" | "datetimeRange" }> | GeoCondition;

function matchTest(match: Match, options: TokenizerOptions): ValueTest {
  switch (match.kind) {
    case "value": {
      const wanted = canonical(match.value);
      return (value) => value === wanted;
    }
    case "any":
      return listTest(match.values);
    case "except": {
      const listed = listTest(match.values);
      return (value) => value !== null && !listed(value);
    }
    case "prefix":
      return (value) => typeof value === "string" && value.startsWith(match.text);
    case "substring":
      return (value) => typeof value === "string" && value.includes(match.text);
    default: {
      const tokenizer = new Tokenizer(options);
      const words = [...new Set(tokenizer.words(match.text))];
      if (match.kind === "text") return (value) => typeof value === "string" && hasAllWords(tokenizer, words, value);
      if (match.kind === "textAny") return (value) => typeof value === "string" && hasAnyWord(tokenizer, words, value);
      const phrase = tokenizer.words(match.text);
      return (value) => typeof value === "string" && hasPhrase(tokenizer, phrase, value);
    }
  }
}

/** Strings and integers never equal one another, nor 1 and `1.0`: a set of the values as they are parsed tells them apart. */
function listTest(values: MatchList): ValueTest {
  const set = new Set<unknown>(values.map(canonical));
  const [first] = set;
  if (set.size === 1) return (value) => value === first;
  return (value) => set.has(value);
}

/** As payloads are parsed: a number where it holds the integer, else a bigint. */
function canonical<T>(value: T): T | Integer {
  return typeof value === "bigint" ? integer(value) : value;
}

/** The number of a value: exact for integers; undefined for what is none. */
export function numberOf(value: JsonValue): number | bigint | undefined {
  if (typeof value === "number" || typeof value === "bigint") return value;
  return value instanceof JsonFloat ? value.value : undefined;
}

/** Whether a number is within all bounds. Comparing a bigint with a number is exact. */
export function boundsTest<T extends number | bigint>({
  gt,
  gte,
  lt,
  lte,
}: Bounds<T>): (value: number | bigint) => boolean {
  return (value) =>
    (gt === undefined || value > gt) &&
    (gte === undefined || value >= gte) &&
    (lt === undefined || value < lt) &&
    (lte === undefined || value <= lte);
}

export function isSomething(value: JsonValue): boolean {
  return value !== null && !(Array.isArray(value) && value.length === 0);
}

export function hasNull(value: JsonValue): boolean {
  return value === null || (Array.isArray(value) && value.includes(null));
}

function countOfValues(value: JsonValue): number {
  if (value === null) return 0;
  return Array.isArray(value) ? value.length : 1;
}

/** Few ids are compared one by one, more are looked up. */
function idTest(ids: readonly IdKey[]): (id: IdKey) => boolean {
  if (ids.length <= 4) return (id) => ids.some((each) => compareIds(each, id) === 0);
  const keys = new Set(ids.map(idMapKey));
  return (id) => keys.has(idMapKey(id));
}
