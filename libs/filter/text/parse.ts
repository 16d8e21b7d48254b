import { KithError, limits } from "../../base/index.js";
import {
  type Bounds,
  type Condition,
  type Filter,
  filterOf,
  type GeoPoint,
  type GeoRing,
  type IdKey,
  idFromName,
  idFromNum,
  idFromUuid,
  type Integer,
  JsonFloat,
  type MatchList,
  type Path,
  parseJson,
} from "../../model/index.js";
import { zonedDatetimeMicros } from "../datetime.js";
import { validateFilter } from "../validate.js";
import { Lexer } from "./lexer.js";

/** Words that are no names of fields and no values unless they stand in quotes. */
export const reservedWords: ReadonlySet<string> = new Set([
  "and",
  "or",
  "not",
  "in",
  "except",
  "between",
  "is",
  "null",
  "empty",
  "true",
  "false",
]);

/**
 * Reads the textual form of a filter (docs/filters.md has its grammar): `year > 1990 and genre in (drama, crime) and not
 * exists(deleted)`. INVALID_FILTER with the column, and the line with a caret under it, where it is none. A text without
 * anything in it is the filter that lets all points through.
 */
export function parseFilter(text: string): Filter {
  if (text.length > limits.filterTextLength) {
    throw new KithError(
      "INVALID_FILTER",
      `the filter has ${text.length} characters; at most ${limits.filterTextLength} are allowed`,
      { details: { limit: limits.filterTextLength } },
    );
  }
  const filter = new Parser(new Lexer(text)).filter();
  // Conditions were checked where they stand; what is left are the bounds of the whole.
  validateFilter(filter);
  return filter;
}

/** Each level is one of recursion, whatever tree comes out of it: trees of the greatest depth have fewer. */
const parenthesesDepth = 2 * limits.filterDepth;

type Relation = "<" | "<=" | ">" | ">=";
type Bound = { readonly kind: "number" | "datetime"; readonly value: Integer };

const boundOf = { ">": "gt", ">=": "gte", "<": "lt", "<=": "lte" } as const;
const mirrored = { ">": "<", ">=": "<=", "<": ">", "<=": ">=" } as const;

/** What is compared: a field, or the number of its values. */
interface Subject {
  readonly path: Path;
  readonly counted: boolean;
  readonly start: number;
}

class Parser {
  readonly #lexer: Lexer;
  /** Where the parts of the condition that is being read begin, by what errors call them. */
  readonly #places = new Map<string, number>();
  #depth = 0;

  constructor(lexer: Lexer) {
    this.#lexer = lexer;
  }

  filter(): Filter {
    if (this.#lexer.atEnd) return filterOf({});
    const condition = this.#or();
    if (!this.#lexer.atEnd) throw this.#lexer.expected('"and", "or" or the end');
    return filterFrom(condition);
  }

  #or(): Condition {
    this.#depth++;
    if (this.#depth > parenthesesDepth) {
      throw this.#lexer.error(`parentheses are more than ${parenthesesDepth} deep`, this.#lexer.peek.start);
    }
    const terms = [this.#and()];
    while (this.#lexer.takeWord("or")) terms.push(this.#and());
    this.#depth--;
    return anyOf(terms);
  }

  #and(): Condition {
    const terms = [this.#not()];
    while (this.#lexer.takeWord("and")) terms.push(this.#not());
    return allOf(terms);
  }

  #not(): Condition {
    let negations = 0;
    while (this.#lexer.takeWord("not")) negations++;
    let condition = this.#primary();
    for (; negations > 0; negations--) condition = negated(condition);
    return condition;
  }

  #primary(): Condition {
    const { kind, text, start } = this.#lexer.peek;
    if (this.#lexer.take("(")) {
      const condition = this.#or();
      this.#lexer.expect(")");
      return condition;
    }
    if (kind === "number" || kind === "datetime") return this.#chain();
    if (kind === "name" && text.toLowerCase() !== "count" && this.#lexer.isCall()) return this.#call();
    if (kind === "name" && reservedWords.has(text.toLowerCase())) {
      throw this.#lexer.error(`"${text}" is a word of the language: a field of that name stands in quotes`, start);
    }
    const subject = this.#subject();
    return subject.counted ? this.#countComparison(subject) : this.#comparison(subject);
  }

  #subject(): Subject {
    const { start } = this.#lexer.peek;
    if (!this.#lexer.isWord("count") || !this.#lexer.isCall()) {
      return { path: this.#lexer.path(), counted: false, start };
    }
    this.#lexer.next();
    this.#lexer.expect("(");
    const path = this.#lexer.path();
    this.#lexer.expect(")");
    return { path, counted: true, start };
  }

  #comparison(subject: Subject): Condition {
    const { path, start } = subject;
    if (this.#lexer.take("[any:")) {
      const filter = filterFrom(this.#or());
      this.#lexer.expect("]");
      return this.#checked({ kind: "nested", path, filter }, start);
    }
    if (this.#lexer.take("=")) return this.#equals(path, start);
    if (this.#lexer.take("!=")) return negated(this.#equals(path, start));
    if (this.#lexer.take("~")) return this.#text(path, start);
    if (this.#lexer.takeWord("in")) return this.#list("any", path, start);
    if (this.#lexer.takeWord("except")) return this.#list("except", path, start);
    if (this.#lexer.takeWord("not")) {
      if (!this.#lexer.takeWord("in")) throw this.#lexer.expected('"in"');
      return negated(this.#list("any", path, start));
    }
    if (this.#lexer.takeWord("is")) return this.#is(path);
    const range = this.#range(subject);
    if (range !== undefined) return range;
    throw this.#lexer.expected("an operator: =, !=, <, <=, >, >=, between, in, not in, except, ~, is or [any: ...]");
  }

  #countComparison(subject: Subject): Condition {
    if (this.#lexer.take("=")) {
      const { value } = this.#bound("gte");
      return this.#ranged(subject, [
        ["gte", { kind: "number", value }],
        ["lte", { kind: "number", value }],
      ]);
    }
    const range = this.#range(subject);
    if (range !== undefined) return range;
    throw this.#lexer.expected("=, <, <=, >, >= or between");
  }

  /** `< bound`, `between bound and bound`; undefined where neither follows. */
  #range(subject: Subject): Condition | undefined {
    const relation = this.#relation();
    if (relation !== undefined) {
      const name = boundOf[relation];
      return this.#ranged(subject, [[name, this.#bound(name)]]);
    }
    if (!this.#lexer.takeWord("between")) return undefined;
    const low = this.#bound("gte");
    if (!this.#lexer.takeWord("and")) throw this.#lexer.expected('"and"');
    return this.#ranged(subject, [
      ["gte", low],
      ["lte", this.#bound("lte")],
    ]);
  }

  /** `1990 < year <= 2000`: one value of the field lies between both. */
  #chain(): Condition {
    const firstAt = this.#lexer.peek.start;
    const first = this.#bound();
    const relation = this.#relation();
    if (relation === undefined) throw this.#lexer.expected("<, <=, > or >=");
    const subject = this.#subject();
    const name = boundOf[mirrored[relation]];
    this.#noteBound(name, firstAt);
    const bounds: [keyof Bounds<Integer>, Bound][] = [[name, first]];
    const { text, start } = this.#lexer.peek;
    const second = this.#relation();
    if (second !== undefined) {
      if (second[0] !== relation[0]) {
        throw this.#lexer.error(`"${relation}" and "${text}" point in different directions`, start);
      }
      bounds.push([boundOf[second], this.#bound(boundOf[second])]);
    }
    return this.#ranged(subject, bounds);
  }

  #relation(): Relation | undefined {
    for (const relation of ["<=", ">=", "<", ">"] as const) if (this.#lexer.take(relation)) return relation;
    return undefined;
  }

  #ranged({ path, counted, start }: Subject, all: readonly [keyof Bounds<Integer>, Bound][]): Condition {
    const kinds = new Set(all.map(([, bound]) => bound.kind));
    if (kinds.size > 1) throw this.#lexer.error("one bound is a number and the other a datetime", start);
    const range = Object.fromEntries(all.map(([name, bound]) => [name, bound.value]));
    if (kinds.has("datetime")) {
      if (counted) throw this.#lexer.error("a count is compared with numbers", start);
      return this.#checked({ kind: "datetimeRange", path, range }, start);
    }
    if (!counted) return this.#checked({ kind: "range", path, range }, start);
    return this.#checked({ kind: "valuesCount", path, range: range }, start);
  }

  #noteBound(name: keyof Bounds<Integer>, start: number): void {
    this.#places.set(`range.${name}`, start).set(`values_count.${name}`, start);
  }

  /** A number, a datetime, or a string with a datetime in it. */
  #bound(name?: keyof Bounds<Integer>): Bound {
    const token = this.#lexer.peek;
    if (name !== undefined) this.#noteBound(name, token.start);
    if (token.kind === "number") return { kind: "number", value: this.#number() };
    if (token.kind !== "datetime" && token.kind !== "string") throw this.#lexer.expected("a number or a datetime");
    const value = zonedDatetimeMicros(token.text);
    if (value === "no zone") {
      throw this.#lexer.error('the datetime has no zone: add "Z" for UTC, or an offset like "+02:00"', token.start);
    }
    if (value === undefined) {
      throw this.#lexer.error("not a datetime of RFC 3339, like 2024-05-01T12:00:00Z", token.start);
    }
    this.#lexer.next();
    return { kind: "datetime", value };
  }

  #number(): Integer {
    const { kind, text, start } = this.#lexer.peek;
    if (kind !== "number") throw this.#lexer.expected("a number");
    if (/^-?0\d/.test(text)) throw this.#lexer.error("a number does not begin with 0", start);
    const value = parseJson(text);
    this.#lexer.next();
    return value instanceof JsonFloat ? value.value : (value as Integer);
  }

  /** A number that is a double anyway: a coordinate, a count. Errors call it by this name. */
  #double(name: string): number {
    this.#places.set(name, this.#lexer.peek.start);
    return Number(this.#number());
  }

  #point(name: string): GeoPoint {
    const lat = this.#double(`${name}.lat`);
    return { lat, lon: this.#double(`${name}.lon`) };
  }

  #equals(path: Path, start: number): Condition {
    const { kind, text } = this.#lexer.peek;
    if (kind === "name" && (text.toLowerCase() === "true" || text.toLowerCase() === "false")) {
      this.#lexer.next();
      return this.#checked(
        { kind: "match", path, match: { kind: "value", value: text.toLowerCase() === "true" } },
        start,
      );
    }
    return this.#checked({ kind: "match", path, match: { kind: "value", value: this.#scalar() } }, start);
  }

  #list(kind: "any" | "except", path: Path, start: number): Condition {
    const values = this.#parenthesized(() => this.#scalar());
    return this.#checked({ kind: "match", path, match: { kind, values: values as MatchList } }, start);
  }

  /** A string, with or without quotes, or an integer. */
  #scalar(): string | Integer {
    const { kind, text, start } = this.#lexer.peek;
    if (kind === "number") {
      if (/[.eE]/.test(text)) {
        throw this.#lexer.error("only integers are matched exactly; use between for floats", start);
      }
      if (!isInteger(text)) throw this.#lexer.error(`${text} is outside of the 64-bit integers`, start);
      return this.#number();
    }
    if (kind === "name" && text.toLowerCase() === "null") throw this.#lexer.error('use "is null"', start);
    if (kind === "datetime") {
      throw this.#lexer.error("datetimes are compared with <, <=, >, >= and between; its text stands in quotes", start);
    }
    return this.#string("a string or an integer");
  }

  #string(what = "a string"): string {
    const { kind, text, start } = this.#lexer.peek;
    if (kind === "name" && reservedWords.has(text.toLowerCase())) {
      throw this.#lexer.error(`"${text}" is a word of the language: as a value it stands in quotes`, start);
    }
    if (kind !== "string" && kind !== "name" && kind !== "uuid") throw this.#lexer.expected(what);
    this.#lexer.next();
    return text;
  }

  #text(path: Path, start: number): Condition {
    const kinds = { any: "textAny", phrase: "phrase", prefix: "prefix", substring: "substring" } as const;
    for (const [word, kind] of Object.entries(kinds)) {
      // `~ any` with nothing behind it asks for the word "any".
      if (!this.#lexer.isWord(word)) continue;
      const name = this.#lexer.next();
      const { kind: following } = this.#lexer.peek;
      const text = following === "string" || following === "name" || following === "uuid" ? this.#string() : undefined;
      if (text === undefined) throw this.#lexer.error(`"${name.text}" is followed by a string`, name.start);
      return this.#checked({ kind: "match", path, match: { kind, text } }, start);
    }
    return this.#checked({ kind: "match", path, match: { kind: "text", text: this.#string() } }, start);
  }

  #is(path: Path): Condition {
    const not = this.#lexer.takeWord("not");
    const kind = this.#lexer.takeWord("null") ? "isNull" : this.#lexer.takeWord("empty") ? "isEmpty" : undefined;
    if (kind === undefined) throw this.#lexer.expected('"null" or "empty"');
    return not ? negated({ kind, path }) : { kind, path };
  }

  #call(): Condition {
    const { text, start } = this.#lexer.next();
    switch (text.toLowerCase()) {
      case "exists":
        return negated(this.#arguments(() => ({ kind: "isEmpty", path: this.#lexer.path() })));
      case "near":
        return this.#checked(
          this.#arguments(() => this.#near()),
          start,
        );
      case "within":
        return this.#checked(
          this.#arguments(() => this.#within()),
          start,
        );
      case "has_id":
        return this.#checked({ kind: "hasId", ids: this.#parenthesized(() => this.#id()) }, start);
      case "has_vector":
        return this.#checked(
          this.#arguments(() => ({ kind: "hasVector", name: this.#string() })),
          start,
        );
      case "slice":
        return this.#checked(
          this.#arguments(() => this.#slice()),
          start,
        );
      case "partition":
        return this.#checked(
          this.#arguments(() => ({ kind: "partition", partition: this.#string() })),
          start,
        );
      case "at_least":
        return this.#checked(
          this.#arguments(() => this.#atLeast()),
          start,
        );
      default:
        throw this.#lexer.error(
          `unknown function "${text}"; known: count, exists, near, within, has_id, has_vector, slice, partition, at_least`,
          start,
        );
    }
  }

  #near(): Condition {
    const path = this.#lexer.path();
    this.#lexer.expect(",");
    const lat = this.#double("geo_radius.center.lat");
    this.#lexer.expect(",");
    const center = { lat, lon: this.#double("geo_radius.center.lon") };
    this.#lexer.expect(",");
    this.#places.set("geo_radius.radius", this.#lexer.peek.start);
    return { kind: "geoRadius", path, center, radiusMeters: this.#distance() };
  }

  #distance(): number {
    const { kind, text } = this.#lexer.peek;
    if (kind !== "distance") throw this.#lexer.expected('a distance, like "500m" or "10km"');
    this.#lexer.next();
    return text.endsWith("km") ? Number(text.slice(0, -2)) * 1000 : Number(text.slice(0, -1));
  }

  #within(): Condition {
    const path = this.#lexer.path();
    this.#lexer.expect(",");
    const box = "geo_bounding_box";
    if (this.#lexer.takeWord("box")) {
      return this.#arguments(() => {
        const [north, west] = [this.#double(`${box}.top_left.lat`), this.#after(`${box}.top_left.lon`)];
        const [south, east] = [this.#after(`${box}.bottom_right.lat`), this.#after(`${box}.bottom_right.lon`)];
        return { kind: "geoBox", path, topLeft: { lat: north, lon: west }, bottomRight: { lat: south, lon: east } };
      });
    }
    if (!this.#lexer.takeWord("polygon")) throw this.#lexer.expected("box(...) or polygon(...)");
    const [exterior, ...interiors] = this.#parenthesized((ring) =>
      this.#ring(`geo_polygon.${ring === 0 ? "exterior" : `interiors[${ring - 1}]`}`),
    );
    return { kind: "geoPolygon", path, exterior: exterior ?? [], interiors };
  }

  #after(name: string): number {
    this.#lexer.expect(",");
    return this.#double(name);
  }

  #ring(name: string): GeoRing {
    this.#places.set(name, this.#lexer.peek.start);
    return this.#parenthesized((i) => this.#point(`${name}.points[${i}]`));
  }

  #id(): IdKey {
    const { kind, text, start } = this.#lexer.peek;
    try {
      if (kind === "number") return idFromNum(this.#number());
      const name = this.#string("a number, a UUID or a string");
      return kind === "uuid" ? idFromUuid(text) : idFromName(name);
    } catch (error) {
      throw error instanceof KithError && error.code === "INVALID_ID" ? this.#lexer.error(error.message, start) : error;
    }
  }

  #slice(): Condition {
    const index = this.#double("slice.index");
    this.#lexer.expect(",");
    return { kind: "slice", index, total: this.#double("slice.total") };
  }

  #atLeast(): Condition {
    const { start } = this.#lexer.peek;
    const count = this.#double("min_should.min_count");
    const conditions: Condition[] = [];
    while (this.#lexer.take(",")) conditions.push(this.#or());
    this.#places.set("min_should.min_count", start);
    return { kind: "filter", filter: filterOf({ minShould: { conditions, count } }) };
  }

  #arguments<T>(read: () => T): T {
    this.#lexer.expect("(");
    const value = read();
    this.#lexer.expect(")");
    return value;
  }

  /** `(a, b)`, also empty. */
  #parenthesized<T>(read: (index: number) => T): T[] {
    this.#lexer.expect("(");
    const values: T[] = [];
    if (this.#lexer.take(")")) return values;
    do values.push(read(values.length));
    while (this.#lexer.take(","));
    this.#lexer.expect(")");
    return values;
  }

  /** Refuses what is wrong with a condition at the part that is wrong, or else where the condition begins. */
  #checked(condition: Condition, start: number): Condition {
    try {
      validateFilter(filterOf({ must: [condition] }));
      return condition;
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      const path = String(error.details["path"]);
      throw this.#lexer.error(error.message.slice(path.length + 2), this.#placeOf(path) ?? start);
    } finally {
      this.#places.clear();
    }
  }

  /** Of what lies nearest around a node of the one condition. */
  #placeOf(node: string): number | undefined {
    for (let name = node.slice("filter.must[0].".length); name !== ""; ) {
      const place = this.#places.get(name);
      if (place !== undefined) return place;
      name = name.slice(0, Math.max(0, name.lastIndexOf(".")));
    }
    return undefined;
  }
}

function isInteger(digits: string): boolean {
  return BigInt.asIntN(64, BigInt(digits)) === BigInt(digits);
}

function filterFrom(condition: Condition): Filter {
  return condition.kind === "filter" ? condition.filter : filterOf({ must: [condition] });
}

/** Filters that have nothing but this part give it to the one around them. */
function onlyPart(condition: Condition, part: "must" | "should" | "mustNot"): readonly Condition[] | undefined {
  if (condition.kind !== "filter") return undefined;
  const { must, should, mustNot, minShould } = condition.filter;
  const own = condition.filter[part].length;
  return minShould === undefined && own > 0 && own === must.length + should.length + mustNot.length
    ? condition.filter[part]
    : undefined;
}

function anyOf(terms: readonly Condition[]): Condition {
  const [only] = terms;
  if (only !== undefined && terms.length === 1) return only;
  const should = terms.flatMap((term) => onlyPart(term, "should") ?? [term]);
  return { kind: "filter", filter: filterOf({ should }) };
}

function allOf(terms: readonly Condition[]): Condition {
  const [only] = terms;
  if (only !== undefined && terms.length === 1) return only;
  const must: Condition[] = [];
  const mustNot: Condition[] = [];
  for (const term of terms) {
    const refused = onlyPart(term, "mustNot");
    if (refused !== undefined) mustNot.push(...refused);
    else if (term.kind === "filter" && isConjunction(term.filter)) {
      must.push(...term.filter.must);
      mustNot.push(...term.filter.mustNot);
    } else must.push(term);
  }
  return { kind: "filter", filter: filterOf({ must, mustNot }) };
}

function isConjunction(filter: Filter): boolean {
  return filter.should.length === 0 && filter.minShould === undefined;
}

function negated(condition: Condition): Condition {
  const refused = onlyPart(condition, "mustNot");
  const [only] = refused ?? [];
  if (refused?.length === 1 && only !== undefined) return only;
  return { kind: "filter", filter: filterOf({ mustNot: [condition] }) };
}
