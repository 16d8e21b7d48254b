import type { Filter, IdKey, Stored } from "../model/index.js";

/** The points of a collection that a caller may see and write: for it, others do not exist. */
export interface RowRule {
  readonly filter: Filter;
  /** Whether a point with this payload (JSON text, empty for none) is among them. */
  passes(id: IdKey, payload: Uint8Array): boolean;
}

/** What a caller may do with a collection. */
export interface Decision {
  readonly isAllowed: boolean;
  /** Whether the caller may know that the collection is there. */
  readonly isVisible: boolean;
  /** Undefined: all points. */
  readonly rule: RowRule | undefined;
}

/** Who makes a call, and what it may do: found out by the door through which the call came. */
export interface CallAccess {
  /** For people: `key 0a1b2c3d4e5f6071 ("ingest")`. */
  readonly caller: string;
  /** What the call is about to do. */
  readonly verb: string;
  /** Where what the caller may do is limited. */
  readonly usage?: CallUsage | undefined;
  /** By the collection's own name, never by an alias. */
  decide(collection: string, verb?: string): Decision;
}

/** What a caller has used of its limits. RESOURCE_EXHAUSTED, with a time to wait, where it has used them up. */
export interface CallUsage {
  /** A call begins, or several: takes them, where neither requests nor points nor bytes are used up. */
  begin(requests?: number): void;
  /** Points that were written or come back: also beyond what is left. */
  spend(points: number, bytes: number): void;
  /** Something is to be added to a collection, which holds so much. */
  room(collection: string, stored: Stored): void;
  /** A query begins; what it gives is called at its end. */
  query(): () => void;
}

/** Of calls that no door asks about: those of the process itself, and all where nobody has to say who it is. */
export function fullAccess(verb: string): CallAccess {
  return { caller: "anybody", verb, decide: () => allAllowed };
}

const allAllowed: Decision = { isAllowed: true, isVisible: true, rule: undefined };
