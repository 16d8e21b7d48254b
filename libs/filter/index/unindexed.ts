import { type Condition, type Filter, type Match, type Path, pathOf, payloadIndexKinds } from "../../model/index.js";
import { eachElement } from "../matches.js";
import type { IndexKind } from "./types.js";

/** A condition on a field that no index can answer. */
export interface UnindexedCondition {
  /** Its place in the filter, with the names of the JSON form: `filter.must[1]`. */
  readonly at: string;
  /** The field, from the payload on. */
  readonly path: string;
  /** Kinds of index that would answer it, the best first. */
  readonly kinds: readonly IndexKind[];
}

/** What there is of an index: of which field, by the text of its path, and of which kind. */
export interface IndexedField {
  readonly path: string;
  readonly kind: IndexKind;
}

const anyKind: readonly IndexKind[] = payloadIndexKinds;

/** All conditions of a filter on fields, whether or not there is an index that answers them. */
export function fieldConditions(filter: Filter): UnindexedCondition[] {
  return unindexedConditions(filter, []);
}

/** Conditions of a filter on fields that none of the indexes can answer: for them points are read and tested. `at`: where the filter stands. */
export function unindexedConditions(
  filter: Filter,
  indexes: readonly IndexedField[],
  at = "filter",
): UnindexedCondition[] {
  const found: UnindexedCondition[] = [];
  collect(filter, at, [], (place, path, kinds) => {
    const isIndexed = indexes.some((index) => index.path === path && kinds.includes(index.kind));
    if (!isIndexed) found.push({ at: place, path, kinds });
  });
  return found;
}

type Visit = (at: string, path: string, kinds: readonly IndexKind[]) => void;

function collect(filter: Filter, at: string, base: Path["steps"], visit: Visit): void {
  const { must, should, mustNot, minShould } = filter;
  const lists: [string, readonly Condition[]][] = [
    ["must", must],
    ["should", should],
    ["must_not", mustNot],
    ["min_should.conditions", minShould?.conditions ?? []],
  ];
  for (const [name, conditions] of lists) {
    for (const [i, condition] of conditions.entries()) {
      const place = `${at}.${name}[${i}]`;
      if (condition.kind === "filter") collect(condition.filter, place, base, visit);
      else if (condition.kind === "nested") {
        const inner = [...base, ...eachElement(condition.path).steps];
        collect(condition.filter, `${place}.nested.filter`, inner, visit);
      } else if ("path" in condition) {
        const path = base.length === 0 ? condition.path : pathOf([...base, ...condition.path.steps]);
        visit(place, path.text, kindsFor(condition));
      }
    }
  }
}

function kindsFor(condition: Exclude<Condition, { kind: "filter" | "nested" }>): readonly IndexKind[] {
  switch (condition.kind) {
    case "match":
      return kindsForMatch(condition.match);
    case "range":
      return ["integer", "float"];
    case "datetimeRange":
      return ["datetime"];
    case "geoRadius":
    case "geoBox":
    case "geoPolygon":
      return ["geo"];
    default:
      return anyKind;
  }
}

function kindsForMatch(match: Match): readonly IndexKind[] {
  switch (match.kind) {
    case "value":
      if (typeof match.value === "boolean") return ["bool"];
      return typeof match.value === "string" ? ["keyword", "uuid"] : ["integer", "float"];
    case "any":
      if (match.values.length === 0) return anyKind;
      return typeof match.values[0] === "string" ? ["keyword", "uuid"] : ["integer", "float"];
    case "except":
      if (match.values.length === 0) return ["keyword", "integer", "uuid"];
      return typeof match.values[0] === "string" ? ["keyword", "uuid"] : ["integer"];
    case "prefix":
    case "substring":
      return ["keyword"];
    default:
      return ["text"];
  }
}
