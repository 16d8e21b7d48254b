import { limits } from "../../base/index.js";
import type { IdKey } from "../../model/index.js";
import { type ipb, knowsFilter, pb } from "../../wire/index.js";
import { adoptedIds, isKnownAdoption } from "./adopt.js";
import { isKnownChange } from "./schema-change.js";

type Mutation = Exclude<NonNullable<ipb.Operation["mutation"]>, { $case: "restricted" }>;

/** A mutation that is about a target: points by ids or by filter, with conditions. */
export type TargetedMutation = Exclude<
  Mutation,
  { $case: "upsert" | "delete" | "changeSchema" | "truncate" | "seal" | "adopt" }
>;

export function isTargeted(mutation: Mutation): mutation is TargetedMutation {
  switch (mutation.$case) {
    case "upsert":
    case "delete":
    case "changeSchema":
    case "truncate":
    case "seal":
    case "adopt":
      return false;
    default:
      return true;
  }
}

/** What an operation does, whether or not to all points. */
export function mutationOf({ mutation }: ipb.Operation): Mutation | undefined {
  return mutation?.$case === "restricted" ? mutation.value.mutation : mutation;
}

/** The filter of those points that exist for the operation's caller; undefined: all. */
export function ruleOf({ mutation }: ipb.Operation): Uint8Array | undefined {
  return mutation?.$case === "restricted" ? mutation.value.rule : undefined;
}

/** Whether this version knows what the operation is: skipped, it would make replicas of different versions differ. */
export function isKnown(operation: ipb.Operation): boolean {
  const mutation = mutationOf(operation);
  const rule = ruleOf(operation);
  if (mutation === undefined || (rule !== undefined && !knowsFilter(rule))) return false;
  switch (mutation.$case) {
    case "upsert":
      return isKnownMode(mutation.value.mode);
    case "delete":
    case "truncate":
    case "seal":
      return true;
    case "adopt":
      return isKnownAdoption(mutation.value);
    case "changeSchema":
      return isKnownChange(mutation.value);
    case "put":
      return isKnownMode(mutation.value.mode) && isKnownTarget(mutation.value.target);
    default:
      return isKnownTarget(mutation.value.target);
  }
}

function isKnownMode(mode: pb.UpsertMode): boolean {
  return mode >= pb.UpsertMode.UNSPECIFIED && mode <= pb.UpsertMode.UPDATE_ONLY;
}

function isKnownTarget(target: ipb.Target | undefined): boolean {
  return (
    target === undefined || [target.filter, target.onlyIf].every((bytes) => bytes.length === 0 || knowsFilter(bytes))
  );
}

/** The points that the operation names by their ids. */
export function idsOf(operation: ipb.Operation): readonly IdKey[] {
  const mutation = mutationOf(operation);
  if (mutation === undefined) return [];
  if (isTargeted(mutation)) return mutation.value.target?.ids ?? [];
  if (mutation.$case === "adopt") return adoptedIds(mutation.value);
  return mutation.$case === "upsert" || mutation.$case === "delete" ? mutation.value.ids : [];
}

/**
 * Whether the operation's record is applied by itself: a batch of records knows one schema before and one after it, and a filter, or
 * the end of all points, is about what is in memory and on the disk alike.
 */
export function isAlone(operation: ipb.Operation): boolean {
  const mutation = mutationOf(operation);
  if (mutation === undefined) return false;
  if (isTargeted(mutation)) return (mutation.value.target?.filter.length ?? 0) > 0;
  return ["changeSchema", "truncate", "seal", "adopt"].includes(mutation.$case);
}

/** So many points of one record can be read whole, whatever they hold, before it is refused for what it reads. */
const pointsSurelyRead = Math.floor(limits.rewrittenBytes / limits.pointBytes);

/**
 * Whether what the record's operations do may depend on points that they are about and that are not looked at: a limit for a whole record, or for
 * what a filter selects, refuses all of an operation.
 */
export function mayBeRefusedForAll({ operations }: Pick<ipb.LogRecord, "operations">): boolean {
  let read = 0;
  for (const operation of operations) {
    const mutation = mutationOf(operation);
    if (mutation === undefined || !isTargeted(mutation)) continue;
    if ((mutation.value.target?.filter.length ?? 0) > 0) return true;
    read += idsOf(operation).length;
  }
  return read > pointsSurelyRead;
}

/** Whether the mutation needs to know parts of its points as they are, and whether these are vectors. */
export function readsParts(operation: ipb.Operation): boolean {
  const mutation = mutationOf(operation);
  if (mutation === undefined || !isTargeted(mutation)) return false;
  if (ruleOf(operation) !== undefined) return true;
  const { $case, value } = mutation;
  if (($case === "put" || $case === "remove" || $case === "setExpiry") && value.target?.onlyIf.length === 0)
    return false;
  return true;
}

export function readsVectors(operation: ipb.Operation): boolean {
  const $case = mutationOf(operation)?.$case;
  return $case === "updateVectors" || $case === "deleteVectors";
}
