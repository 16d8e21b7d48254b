import { KithError, limits } from "../base/index.js";
import { filterFromJson, filterToJson, validateFilter } from "../filter/index.js";
import { type Condition, type Filter, isEmptyFilter, parseJson, printJson } from "../model/index.js";
import { checkPattern, everyCollection } from "./pattern.js";
import { type AccessLimits, checkLimits } from "./usage.js";
import { rowVerbs, type Verb, verbs } from "./verbs.js";

/** What a role allows on the collections whose names match. */
export interface RoleRule {
  readonly verbs: readonly Verb[];
  /** Patterns: see pattern.ts. */
  readonly collections: readonly string[];
  /** Only these points are there; all others are as if they did not exist. */
  readonly filter?: Filter | undefined;
}

export interface Role {
  readonly name: string;
  readonly rules: readonly RoleRule[];
  /** Of each caller that has the role. */
  readonly limits?: AccessLimits | undefined;
}

const everywhere = (...allowed: Verb[]): RoleRule => ({ verbs: allowed, collections: [everyCollection] });

/** Roles that every cluster has. They cannot be changed. */
export const builtInRoles: readonly Role[] = [
  { name: "admin", rules: [everywhere(...verbs)] },
  {
    name: "operator",
    rules: [everywhere("describe", "create", "alter", "drop", "backup", "monitor", "operate")],
  },
  { name: "writer", rules: [everywhere("describe", "read", "write")] },
  { name: "reader", rules: [everywhere("describe", "read")] },
];

/** INVALID_ARGUMENT and INVALID_FILTER say what is wrong with a role that is to be kept. */
export function checkRole({ name, rules, limits: own }: Role): void {
  checkRoleName(name, "name");
  if (builtInRoles.some((each) => each.name === name)) {
    throw new KithError("INVALID_ARGUMENT", `the role "${name}" is built in; choose another name`, {
      details: { role: name },
    });
  }
  checkCount(rules.length, limits.roleRules, "rules");
  for (const [i, rule] of rules.entries()) checkRule(rule, `rules[${i}]`);
  if (own !== undefined) checkLimits(own, "limits");
}

export function checkRoleName(name: string, at: string): void {
  if (name.length <= limits.nameLength && /^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(name)) return;
  throw new KithError(
    "INVALID_NAME",
    `${at}: ${JSON.stringify(name.slice(0, limits.nameLength))} is no name of a role; use 1..${limits.nameLength} letters, digits, _ and -, beginning with a letter or digit`,
  );
}

export function checkPatterns(patterns: readonly string[], at: string): void {
  checkCount(patterns.length, limits.rolePatterns, at);
  for (const [i, pattern] of patterns.entries()) checkPattern(pattern, `${at}[${i}]`);
}

function checkRule({ verbs: allowed, collections, filter }: RoleRule, at: string): void {
  checkCount(allowed.length, verbs.length, `${at}.verbs`);
  for (const verb of allowed) {
    if (verbs.includes(verb)) continue;
    throw new KithError(
      "INVALID_ARGUMENT",
      `${at}.verbs: there is no verb ${JSON.stringify(verb)}; there are ${verbs.join(", ")}`,
    );
  }
  checkPatterns(collections, `${at}.collections`);
  if (filter === undefined) return;
  checkRowFilter(filter, `${at}.filter`);
  const tooMuch = allowed.find((verb) => !rowVerbs.includes(verb));
  if (tooMuch === undefined) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${at}: "${tooMuch}" is not about single points, so no filter can restrict it; put it into a rule without one`,
  );
}

/**
 * Refuses what must not decide who sees a point: words of texts, which an index of the collection says how to split, and vectors, which
 * may be written apart from the payload. What a rule says depends on a point's id and payload alone.
 */
export function checkRowFilter(filter: Filter, at: string): void {
  validateFilter(filter, at);
  if (isEmptyFilter(filter))
    throw new KithError("INVALID_FILTER", `${at}: it has no condition; leave it out for all points`);
  const visit = ({ must, should, mustNot, minShould }: Filter): void => {
    for (const each of [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])]) visitCondition(each);
  };
  const visitCondition = (condition: Condition): void => {
    if (condition.kind === "filter" || condition.kind === "nested") visit(condition.filter);
    const isOfWords = condition.kind === "match" && ["text", "textAny", "phrase"].includes(condition.match.kind);
    if (!isOfWords && condition.kind !== "hasVector") return;
    throw new KithError(
      "INVALID_FILTER",
      `${at}: who may see a point cannot be decided by ${isOfWords ? "the words of a text" : "its vectors"}; use values of the payload`,
    );
  };
  visit(filter);
}

function checkCount(count: number, max: number, at: string): void {
  if (count >= 1 && count <= max) return;
  throw new KithError("INVALID_ARGUMENT", `${at}: there are ${count}; give 1 to ${max}`, {
    details: { field: at, count, limit: max },
  });
}

/** As it stands in the catalog. */
export function roleToJson({ name, rules, limits: own }: Role): object {
  return {
    name,
    ...(own && { limits: own }),
    rules: rules.map(({ verbs: allowed, collections, filter }) => ({
      verbs: allowed,
      collections,
      // As text, which keeps every digit.
      ...(filter && { filter: printJson(filterToJson(filter)) }),
    })),
  };
}

/** A verb that a newer release wrote allows nothing here; a rule whose filter cannot be read allows nothing either. */
export function parseRole(json: string): Role {
  const {
    name,
    rules,
    limits: own,
  } = JSON.parse(json) as {
    name: string;
    limits?: AccessLimits;
    rules: { verbs: string[]; collections: string[]; filter?: string }[];
  };
  const known = (text: string): text is Verb => (verbs as readonly string[]).includes(text);
  return {
    name,
    ...(own && { limits: own }),
    rules: rules.flatMap((rule): RoleRule[] => {
      const allowed = rule.verbs.filter(known);
      if (rule.filter === undefined) return [{ verbs: allowed, collections: rule.collections }];
      try {
        const filter = filterFromJson(parseJson(rule.filter));
        return [{ verbs: allowed, collections: rule.collections, filter }];
      } catch (error) {
        if (error instanceof KithError) return [];
        throw error;
      }
    }),
  };
}
