import { type ErrorDetails, KithError } from "../base/index.js";
import type { IdKey } from "./id.js";
import type { Path } from "./path.js";

/** A whole number: a bigint beyond 2^53, else a number (see `integer`). */
export type Integer = number | bigint;

/**
 * Which points a filter lets through: those for which all of `must` hold, one of `should` at least (where there are any), none
 * of `mustNot`, and `minShould.count` of `minShould.conditions`. Without a condition: all points. What each condition means is
 * written in libs/filter/matches.ts alone.
 */
export interface Filter {
  readonly must: readonly Condition[];
  readonly should: readonly Condition[];
  readonly mustNot: readonly Condition[];
  readonly minShould?: MinShould;
}

export interface MinShould {
  readonly conditions: readonly Condition[];
  readonly count: number;
}

export type Condition =
  | MatchCondition
  | RangeCondition
  | DatetimeRangeCondition
  | GeoRadiusCondition
  | GeoBoxCondition
  | GeoPolygonCondition
  | ValuesCountCondition
  | IsEmptyCondition
  | IsNullCondition
  | HasIdCondition
  | HasVectorCondition
  | SliceCondition
  | PartitionCondition
  | NestedCondition
  | FilterCondition;

export type FieldCondition = Extract<Condition, { readonly path: Path }>;

/** One of the values of a field matches. */
export interface MatchCondition {
  readonly kind: "match";
  readonly path: Path;
  readonly match: Match;
}

export type Match =
  /** Equal to it, and of its type. */
  | { readonly kind: "value"; readonly value: string | boolean | Integer }
  /** Equal to one of these, all strings or all integers. */
  | { readonly kind: "any"; readonly values: MatchList }
  /** Neither null nor equal to one of these. */
  | { readonly kind: "except"; readonly values: MatchList }
  /** A text that has all words of this one, in any order. */
  | { readonly kind: "text"; readonly text: string }
  /** A text that has one word of this one at least. */
  | { readonly kind: "textAny"; readonly text: string }
  /** A text that has the words of this one in a row. */
  | { readonly kind: "phrase"; readonly text: string }
  /** A string that begins with this one, character by character. */
  | { readonly kind: "prefix"; readonly text: string }
  /** A string that has this one somewhere in it, character by character. */
  | { readonly kind: "substring"; readonly text: string };

export type MatchList = readonly string[] | readonly Integer[];

export interface Bounds<T> {
  readonly gt?: T;
  readonly gte?: T;
  readonly lt?: T;
  readonly lte?: T;
}

export const boundNames = ["gt", "gte", "lt", "lte"] as const;

/** One of the values of a field is a number within all bounds. */
export interface RangeCondition {
  readonly kind: "range";
  readonly path: Path;
  readonly range: Bounds<Integer>;
}

/** One of the values of a field is a datetime within all bounds, in microseconds since the Unix epoch. */
export interface DatetimeRangeCondition {
  readonly kind: "datetimeRange";
  readonly path: Path;
  readonly range: Bounds<Integer>;
}

/** Degrees. */
export interface GeoPoint {
  readonly lat: number;
  readonly lon: number;
}

/** One of the values of a field is a point nearer than `radiusMeters` to the centre, on a sphere. */
export interface GeoRadiusCondition {
  readonly kind: "geoRadius";
  readonly path: Path;
  readonly center: GeoPoint;
  readonly radiusMeters: number;
}

/** One of the values of a field is a point within the box, which crosses the date line where its west is east of its east. */
export interface GeoBoxCondition {
  readonly kind: "geoBox";
  readonly path: Path;
  readonly topLeft: GeoPoint;
  readonly bottomRight: GeoPoint;
}

/** The last point of a ring is the first again. */
export type GeoRing = readonly GeoPoint[];

/** One of the values of a field is a point inside of the exterior and outside of all interiors, in the plane of degrees. */
export interface GeoPolygonCondition {
  readonly kind: "geoPolygon";
  readonly path: Path;
  readonly exterior: GeoRing;
  readonly interiors: readonly GeoRing[];
}

/** The field has that many values: the length of an array, 0 for null and for a missing field, 1 for everything else. */
export interface ValuesCountCondition {
  readonly kind: "valuesCount";
  readonly path: Path;
  readonly range: Bounds<number>;
}

/** The field is missing, null or an empty array. */
export interface IsEmptyCondition {
  readonly kind: "isEmpty";
  readonly path: Path;
}

/** The field is null, or an array with a null element. */
export interface IsNullCondition {
  readonly kind: "isNull";
  readonly path: Path;
}

/** In a collection with a partition key the ids are those of points (`partitionedId`), all with the same value of it. */
export interface HasIdCondition {
  readonly kind: "hasId";
  readonly ids: readonly IdKey[];
}

/** The point has a vector in this field; "" is the unnamed one. */
export interface HasVectorCondition {
  readonly kind: "hasVector";
  readonly name: string;
}

/** The point's id falls into part `index` of `total` parts of about the same size. */
export interface SliceCondition {
  readonly kind: "slice";
  readonly index: number;
  readonly total: number;
}

/** The point has this value of the partition key of its collection. */
export interface PartitionCondition {
  readonly kind: "partition";
  readonly partition: string;
}

/** One of the objects in an array passes the filter, whose paths begin in that object. */
export interface NestedCondition {
  readonly kind: "nested";
  readonly path: Path;
  readonly filter: Filter;
}

export interface FilterCondition {
  readonly kind: "filter";
  readonly filter: Filter;
}

/** A filter of these parts; of none: all points. */
export function filterOf(parts: Partial<Filter>): Filter {
  const { must = [], should = [], mustNot = [], minShould } = parts;
  return minShould === undefined ? { must, should, mustNot } : { must, should, mustNot, minShould };
}

/** Whether a filter has no condition at all: it lets all points through. */
export function isEmptyFilter(filter: Filter): boolean {
  const { must, should, mustNot, minShould } = filter;
  return must.length + should.length + mustNot.length === 0 && minShould === undefined;
}

/** A whole number in its one form. */
export function integer(value: bigint): Integer {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/**
 * The error for a filter that cannot be used. The message and `details.path` name the node: `filter.must[1].range.gte`,
 * with the names of the JSON form.
 */
export function invalidFilter(path: string, problem: string, details: ErrorDetails = {}): KithError {
  return new KithError("INVALID_FILTER", `${path}: ${problem}`, { details: { path, ...details } });
}
