import { filterFromJson, parseFilter, validateFilter } from "../filter/index.js";
import { filterToWire, type pb } from "../wire/index.js";
import type { FilterInput } from "./types/values.js";

/** A filter as JSON or in its textual form, on the wire; INVALID_FILTER says what is wrong, and where. */
export function filterOf(filter: FilterInput | undefined): pb.Filter | undefined {
  if (filter === undefined) return undefined;
  const tree = typeof filter === "string" ? parseFilter(filter) : filterFromJson(filter);
  validateFilter(tree);
  return filterToWire(tree);
}
