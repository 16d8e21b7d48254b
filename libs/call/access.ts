import type { Filter, IdKey } from "../model/index.js";

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
  /** By the collection's own name, never by an alias. */
  decide(collection: string, verb?: string): Decision;
}

/** Of calls that no door asks about: those of the process itself, and all where nobody has to say who it is. */
export function fullAccess(verb: string): CallAccess {
  return { caller: "anybody", verb, decide: () => allAllowed };
}

const allAllowed: Decision = { isAllowed: true, isVisible: true, rule: undefined };
