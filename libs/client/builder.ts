import { KithError } from "../base/index.js";
import { readPath } from "../model/index.js";
import type { JsonObject } from "./types/values.js";

/** A value that a condition can compare with. */
type Scalar = string | number | boolean | Date | null | undefined;

type ElementOf<T> = T extends readonly (infer E)[] ? E : T;

/** One key, with what lies below it in an object. */
type Below<K extends string, V, D extends unknown[]> = D["length"] extends 5
  ? K
  : NonNullable<V> extends Scalar
    ? K
    : NonNullable<V> extends readonly (infer E)[]
      ? K | `${K}[]` | (NonNullable<E> extends Scalar ? never : `${K}[].${PathOf<NonNullable<E>, [...D, 0]>}`)
      : K | `${K}.${PathOf<NonNullable<V>, [...D, 0]>}`;

/** The paths into a payload of a type, five levels deep at most: "year", "crew[].name", "meta.source". */
export type PathOf<P, D extends unknown[] = []> = P extends object
  ? { [K in Extract<keyof P, string>]: Below<K, P[K], D> }[Extract<keyof P, string>]
  : string;

/** What lies at a path; of an array its elements. */
export type ValueAt<P, Path extends string> = Path extends `${infer Head}[].${infer Rest}`
  ? Head extends keyof P
    ? ValueAt<NonNullable<ElementOf<NonNullable<P[Head]>>>, Rest>
    : unknown
  : Path extends `${infer Head}[]`
    ? Head extends keyof P
      ? ElementOf<NonNullable<P[Head]>>
      : unknown
    : Path extends keyof P
      ? ElementOf<NonNullable<P[Path]>>
      : Path extends `${infer Head}.${infer Rest}`
        ? Head extends keyof P
          ? ValueAt<NonNullable<P[Head]>, Rest>
          : unknown
        : unknown;

type Comparable<V> = Extract<NonNullable<V>, string | number | boolean>;
/** Numbers compare with numbers, texts (RFC 3339 datetimes in payloads) with datetimes. */
type BoundOf<V> = NonNullable<V> extends number ? number : NonNullable<V> extends string ? Date : never;

interface RangeOf<B> {
  gt?: B;
  gte?: B;
  lt?: B;
  lte?: B;
}

/** A condition, or a filter made of some: what `filter` takes. */
export type TypedFilter = JsonObject;

/**
 * Makes filters for payloads of a type, whose paths and values TypeScript checks:
 *
 * ```ts
 * const film = where<Film>();
 * await films.query({ vector, filter: film.all(film.range("year", { gte: 1990 }), film.not(film.equals("crew[].name", "ann"))) });
 * ```
 *
 * The paths are checked again when they are used: INVALID_FILTER for one that is none.
 */
export class FilterBuilder<P> {
  /** The value, or one of an array's, is equal. */
  equals<K extends PathOf<P>>(path: K, value: Comparable<ValueAt<P, K>>): TypedFilter {
    return field(path, { match: { value } });
  }

  /** One of these. */
  oneOf<K extends PathOf<P>>(path: K, values: readonly Exclude<Comparable<ValueAt<P, K>>, boolean>[]): TypedFilter {
    return field(path, { match: { any: [...values] } });
  }

  /** Neither null nor one of these; a missing field does not match. */
  noneOf<K extends PathOf<P>>(path: K, values: readonly Exclude<Comparable<ValueAt<P, K>>, boolean>[]): TypedFilter {
    return field(path, { match: { except: [...values] } });
  }

  /** A number, or a datetime, within all bounds. */
  range<K extends PathOf<P>>(path: K, bounds: RangeOf<BoundOf<ValueAt<P, K>>>): TypedFilter {
    const range: Record<string, number | string> = {};
    for (const [name, bound] of Object.entries(bounds) as [string, number | Date | undefined][]) {
      if (bound !== undefined) range[name] = bound instanceof Date ? bound.toISOString() : bound;
    }
    return field(path, { range });
  }

  /** A text with all words of this one, in any order. */
  words<K extends PathOf<P>>(path: K, text: ValueAt<P, K> extends string | undefined ? string : never): TypedFilter {
    return field(path, { match: { text } });
  }

  /** A text that begins with this one. */
  startsWith<K extends PathOf<P>>(
    path: K,
    text: ValueAt<P, K> extends string | undefined ? string : never,
  ): TypedFilter {
    return field(path, { match: { prefix: text } });
  }

  /** A text that has this one somewhere in it, character by character. */
  hasSubstring<K extends PathOf<P>>(
    path: K,
    text: ValueAt<P, K> extends string | undefined ? string : never,
  ): TypedFilter {
    return field(path, { match: { substring: text } });
  }

  /** The field is missing, null or an empty array. */
  isEmpty(path: PathOf<P>): TypedFilter {
    return { must: [{ is_empty: { key: checked(path) } }] };
  }

  exists(path: PathOf<P>): TypedFilter {
    return { must_not: [{ is_empty: { key: checked(path) } }] };
  }

  all(...conditions: readonly TypedFilter[]): TypedFilter {
    return conditions.length === 0 ? {} : { must: [...conditions] };
  }

  /** INVALID_FILTER for no condition at all: nothing would pass. */
  any(...conditions: readonly TypedFilter[]): TypedFilter {
    if (conditions.length === 0) throw invalid("any", "has no conditions; give at least one");
    return { should: [...conditions] };
  }

  not(...conditions: readonly TypedFilter[]): TypedFilter {
    if (conditions.length === 0) throw invalid("not", "has no conditions; give at least one");
    return { must_not: [...conditions] };
  }
}

/** Filters for payloads of the type `P`; see FilterBuilder. */
export function where<P>(): FilterBuilder<P> {
  return new FilterBuilder<P>();
}

function field(path: string, condition: Record<string, unknown>): TypedFilter {
  return { must: [{ key: checked(path), ...condition }] };
}

function checked(path: string): string {
  const read = readPath(path);
  if ("steps" in read) return path;
  throw invalid(JSON.stringify(path), `is no path into a payload: ${read.problem}, at character ${read.at + 1}`);
}

function invalid(what: string, why: string): KithError {
  return new KithError("INVALID_FILTER", `${what} ${why}`, { details: { path: what } });
}
