import type { CallAccess, CallUsage, Decision, RowRule } from "../call/index.js";
import { compileFilter, StoredFilterPoint } from "../filter/index.js";
import { type Filter, filterOf, type IdKey } from "../model/index.js";
import { covers, everyCollection } from "./pattern.js";
import type { Role, RoleRule } from "./role.js";
import { rowVerbs, type RpcRule, type Verb } from "./verbs.js";

/** How callers say who they are. */
export type PrincipalKind = "anybody" | "bootstrap" | "key" | "token" | "certificate";

export interface PrincipalOptions {
  readonly kind: PrincipalKind;
  /** Id of the key, subject of the token or the certificate. */
  readonly id: string;
  /** For people; may be empty. */
  readonly name: string;
  readonly roles: readonly Role[];
  /** Patterns that narrow those of the roles. */
  readonly collections: readonly string[];
  /** Points that the caller is confined to, whatever the roles allow. */
  readonly filter?: Filter | undefined;
  /** What it has used of its limits; missing: there are none. */
  readonly usage?: CallUsage | undefined;
}

/** Decisions that are remembered of one caller: as many as it meets collections, and verbs. */
const decisionsMax = 10_000;

/** Somebody who was recognized. What it may do is decided once for each verb and collection, and remembered. */
export class Principal {
  readonly kind: PrincipalKind;
  readonly id: string;
  readonly name: string;
  readonly usage: CallUsage | undefined;
  readonly #rules: readonly RoleRule[];
  readonly #collections: readonly string[];
  readonly #filter: Filter | undefined;
  readonly #decisions = new Map<string, Decision>();
  readonly #accesses = new Map<string, CallAccess>();

  constructor(options: PrincipalOptions) {
    this.kind = options.kind;
    this.id = options.id;
    this.name = options.name;
    this.usage = options.usage;
    this.#rules = options.roles.flatMap(({ rules }) => rules);
    this.#collections = options.collections;
    this.#filter = options.filter;
  }

  /** For people and logs: `key 0a1b2c3d4e5f6071 ("ingest")`. Of text that callers chose, in quotes and with nothing that ends a line. */
  get title(): string {
    const id = this.kind === "key" ? ` ${this.id}` : this.id === "" ? "" : ` ${JSON.stringify(this.id)}`;
    return `${this.kind}${id}${this.name === "" ? "" : ` (${JSON.stringify(this.name)})`}`;
  }

  /** What it may do with a collection of this name, which is the collection's own. */
  decide(verb: Verb, collection: string): Decision {
    const key = `${verb} ${collection}`;
    const known = this.#decisions.get(key);
    if (known !== undefined) return known;
    const decision = this.#decide(verb, collection);
    if (this.#decisions.size >= decisionsMax) this.#decisions.clear();
    this.#decisions.set(key, decision);
    return decision;
  }

  /** Whether it may do this to the cluster as a whole. */
  mayEverywhere(verb: Verb): boolean {
    if (this.#filter !== undefined || !this.#collections.includes(everyCollection)) return false;
    return this.#rules.some(
      (rule) => rule.verbs.includes(verb) && rule.collections.includes(everyCollection) && rule.filter === undefined,
    );
  }

  /** What handlers of one kind of call ask; one object for each. */
  accessFor(path: string, { verb, isOfAllPoints }: RpcRule): CallAccess {
    let access = this.#accesses.get(path);
    if (access === undefined) {
      access = new PrincipalAccess(this, verb, isOfAllPoints === true);
      this.#accesses.set(path, access);
    }
    return access;
  }

  #decide(verb: Verb, collection: string): Decision {
    const matching = covers(this.#collections, collection)
      ? this.#rules.filter((rule) => covers(rule.collections, collection))
      : [];
    const isVisible = matching.length > 0;
    const allowing = verb === "describe" ? matching : matching.filter((rule) => rule.verbs.includes(verb));
    const filters = allowing.flatMap(({ filter }) => filter ?? []);
    const parts: Filter[] = this.#filter === undefined ? [] : [this.#filter];
    // Each rule allows by itself: one without a filter allows all points.
    if (filters.length === allowing.length && filters.length > 0) parts.push(anyOf(filters));
    const rule = parts.length === 0 ? undefined : new FilterRule(allOf(parts));
    const isAllowed = allowing.length > 0 && (rule === undefined || rowVerbs.includes(verb));
    return { isAllowed, isVisible, rule };
  }
}

class PrincipalAccess implements CallAccess {
  /** What was decided for its own verb, by collection. */
  readonly #decisions = new Map<string, Decision>();

  constructor(
    readonly principal: Principal,
    readonly verb: Verb,
    private readonly isOfAllPoints: boolean,
  ) {}

  get caller(): string {
    return this.principal.title;
  }

  get usage(): CallUsage | undefined {
    return this.principal.usage;
  }

  decide(collection: string, verb: Verb = this.verb): Decision {
    if (verb !== this.verb) return this.#decide(collection, verb);
    let decision = this.#decisions.get(collection);
    if (decision === undefined) {
      if (this.#decisions.size >= decisionsMax) this.#decisions.clear();
      decision = this.#decide(collection, verb);
      this.#decisions.set(collection, decision);
    }
    return decision;
  }

  #decide(collection: string, verb: Verb): Decision {
    const decision = this.principal.decide(verb, collection);
    return this.isOfAllPoints && decision.rule !== undefined ? { ...decision, isAllowed: false } : decision;
  }
}

const noVectors = { has: (): boolean => false };

class FilterRule implements RowRule {
  readonly #test: (point: StoredFilterPoint) => boolean;

  constructor(readonly filter: Filter) {
    this.#test = compileFilter(filter);
  }

  passes(id: IdKey, payload: Uint8Array): boolean {
    return this.#test(new StoredFilterPoint(id, payload, noVectors));
  }
}

function anyOf(filters: readonly Filter[]): Filter {
  const [only] = filters;
  if (filters.length === 1 && only !== undefined) return only;
  return filterOf({ should: filters.map((filter) => ({ kind: "filter", filter })) });
}

function allOf(filters: readonly Filter[]): Filter {
  const [only] = filters;
  if (filters.length === 1 && only !== undefined) return only;
  return filterOf({ must: filters.map((filter) => ({ kind: "filter", filter })) });
}
