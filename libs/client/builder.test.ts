import { expect, expectTypeOf, test } from "vitest";
import { filterFromJson, parseFilter, validateFilter } from "../filter/index.js";
import type { JsonValue } from "../model/index.js";
import { type PathOf, type ValueAt, where } from "./index.js";

interface Film {
  title: string;
  year?: number;
  seen: boolean;
  genres: string[];
  released: string;
  meta: { source: string; votes: { count: number } };
  crew: { name: string; age: number }[];
}

const film = where<Film>();

test("paths and values are those of the payload's type", () => {
  expectTypeOf<"crew[].name">().toExtend<PathOf<Film>>();
  expectTypeOf<"meta.votes.count">().toExtend<PathOf<Film>>();
  expectTypeOf<ValueAt<Film, "crew[].age">>().toEqualTypeOf<number>();
  expectTypeOf<ValueAt<Film, "genres">>().toEqualTypeOf<string>();
  expectTypeOf<ValueAt<Film, "year">>().toEqualTypeOf<number>();
  // @ts-expect-error -- there is no such field
  film.equals("yeer", 1990);
  // @ts-expect-error -- a year is a number
  film.equals("year", "1990");
  // @ts-expect-error -- a number is no datetime
  film.range("year", { gt: new Date(0) });
  // @ts-expect-error -- a bound has another name
  film.range("year", { above: 3 });
  // @ts-expect-error -- words are looked for in texts
  film.words("year", "red");
  // @ts-expect-error -- age is of a person
  film.exists("crew.age");
});

test("what it makes is the filter that the text says", () => {
  const cases: [object, string][] = [
    [film.equals("genres", "drama"), "genres = drama"],
    [film.oneOf("year", [1990, 1991]), "year in (1990, 1991)"],
    [film.noneOf("meta.source", ["tv"]), "meta.source except (tv)"],
    [film.range("year", { gte: 1990, lt: 2000 }), "1990 <= year < 2000"],
    [film.range("released", { gt: new Date("2024-05-01T00:00:00Z") }), "released > 2024-05-01T00:00:00Z"],
    [film.words("title", "red car"), 'title ~ "red car"'],
    [film.startsWith("title", "Re"), 'title ~ prefix "Re"'],
    [film.hasSubstring("title", "ed c"), 'title ~ substring "ed c"'],
    [film.isEmpty("crew[].name"), "crew[].name is empty"],
    [film.exists("year"), "exists(year)"],
  ];
  for (const [made, text] of cases) {
    const tree = filterFromJson(made);
    validateFilter(tree);
    expect(tree, text).toEqual(parseFilter(text));
  }
  const whole = film.all(film.any(film.equals("seen", true), film.exists("year")), film.not(film.equals("year", 1990)));
  expect(() => validateFilter(filterFromJson(whole as JsonValue))).not.toThrow();
  expect(film.all()).toEqual({});
});

test("what programs without types may get wrong is refused", () => {
  const untyped = where<Record<string, never>>() as unknown as {
    exists(path: string): object;
    any(): object;
    not(): object;
  };
  expect(() => untyped.exists("a..b")).toThrow(/no path into a payload/);
  expect(() => untyped.any()).toThrow(/any has no conditions/);
  expect(() => untyped.not()).toThrow(/not has no conditions/);
});
