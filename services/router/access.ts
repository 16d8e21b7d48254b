import { assert, KithError } from "../../libs/base/index.js";
import type { CallAccess, CallContext, RowRule } from "../../libs/call/index.js";
import { checkRule } from "./partitions.js";
import { type Filter, filterOf, type IdKey, isEmptyFilter, type Select } from "../../libs/model/index.js";

/** What the call's caller may do. A call that came past the door is a fault of ours, and gets nothing. */
export function accessOf({ access }: CallContext): CallAccess {
  assert(access !== undefined, "a call reached the router without anybody asking what its caller may do");
  return access;
}

/**
 * Refuses what the caller may not do with a collection, by its own name. `asked`: the name in the request, the collection's or an alias. What it
 * may not even know of is answered as what does not exist: COLLECTION_NOT_FOUND, else PERMISSION_DENIED.
 */
export function checkAllowed(call: CallContext, collection: string, asked: string, at = "", verb?: string): void {
  const access = accessOf(call);
  const { isAllowed, isVisible } = access.decide(collection, verb);
  if (isAllowed) return;
  throw isVisible ? denied(verb ?? access.verb, asked, at) : notFound(asked, undefined, at);
}

/** For a name that is to be given: whether something has it already is not told to those who may not use it. */
export function checkMayName(call: CallContext, name: string, at = "", verb?: string): void {
  const access = accessOf(call);
  if (!access.decide(name, verb).isAllowed) throw denied(verb ?? access.verb, name, at);
}

export function isVisible(call: CallContext, collection: string): boolean {
  return accessOf(call).decide(collection).isVisible;
}

/** The points of the collection that are there for the caller; undefined: all. PERMISSION_DENIED where the rule says nothing there. */
export function ruleOf(
  call: CallContext,
  { name, partitionKey }: { name: string; partitionKey?: string },
): RowRule | undefined {
  const { rule } = accessOf(call).decide(name);
  checkRule(rule, partitionKey, name);
  return rule;
}

function denied(verb: string, name: string, at: string): KithError {
  return new KithError(
    "PERMISSION_DENIED",
    `${at}the caller may not do this ("${verb}") with the collection "${name}"`,
    {
      details: { verb, collection: name },
    },
  );
}

export function notFound(name: string, cause?: unknown, at = ""): KithError {
  return new KithError("COLLECTION_NOT_FOUND", `${at}there is no collection "${name}"`, {
    details: { collection: name },
    cause,
  });
}

/** What tells of points that the caller may not see. */
export function refuseTelling(rule: RowRule | undefined, what: string): void {
  if (rule === undefined) return;
  throw new KithError(
    "PERMISSION_DENIED",
    `${what} tells of all points of the collection, and the caller may see some of them alone`,
  );
}

/** Both the filter and the rule. */
export function narrowed(filter: Filter | undefined, rule: RowRule | undefined): Filter | undefined {
  if (rule === undefined) return filter;
  if (filter === undefined || isEmptyFilter(filter)) return rule.filter;
  return filterOf({
    must: [
      { kind: "filter", filter: rule.filter },
      { kind: "filter", filter },
    ],
  });
}

/** With the payload, by which a rule decides. */
export function seeing(select: Select, rule: RowRule | undefined): Select {
  return rule === undefined || select.payload ? select : { ...select, payload: true };
}

/**
 * Those that the caller may see, of points that were read with `seeing(select)`; with no payload where none was selected. Every point that
 * leaves the router passes here, also where it was found by the rule: what was found may have been written again before it was read.
 */
export function seen<T extends { id: IdKey; payload: Uint8Array }>(
  points: readonly T[],
  select: Select,
  rule: RowRule | undefined,
): readonly T[] {
  if (rule === undefined) return points;
  const passing = points.filter(({ id, payload }) => rule.passes(id, payload));
  return select.payload ? passing : passing.map((point) => ({ ...point, payload: noPayload }));
}

const noPayload = new Uint8Array(0);
