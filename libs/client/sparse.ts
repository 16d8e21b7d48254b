import { KithError } from "../base/index.js";
import { sparseOf } from "../model/index.js";
import { pb, sparseFieldFrom, sparseVectorTo } from "../wire/index.js";
import { onlyKeys } from "./only-keys.js";
import { sparseSpecKeys } from "./option-keys.js";
import type { SparseInfo, SparseSpec } from "./types/collections.js";
import type { SparseInput, SparseVector } from "./types/values.js";
import { wellFormed } from "./well-formed.js";

/** Whether an example or a query is a sparse vector. */
export function isSparseInput(value: unknown): value is SparseInput {
  return typeof value === "object" && value !== null && "indices" in value;
}

/** Sorted and checked: see sparseOf of libs/model for what is refused. */
export function checkedSparse(input: SparseInput, name: string): SparseVector {
  const what = `sparse${name === "" ? "" : `.${name}`}`;
  if (!isSparseInput(input)) {
    throw new KithError("INVALID_ARGUMENT", `${what} must be {indices, values}`, { details: { field: name } });
  }
  onlyKeys(input, ["indices", "values"], what);
  for (const [key, list] of Object.entries<unknown>({ indices: input.indices, values: input.values })) {
    const isList = Array.isArray(list) || list instanceof Float32Array || list instanceof Uint32Array;
    // Not coerced: null would be 0, and "0.5" a half.
    if (isList && !(list as unknown[]).some((each) => typeof each !== "number")) continue;
    throw new KithError("INVALID_ARGUMENT", `${what}.${key} must be an array of numbers`, { details: { field: name } });
  }
  return sparseOf(input.indices, input.values, () => what, name);
}

export function sparseToWire(input: SparseInput, name: string): pb.Vector {
  return sparseVectorTo(checkedSparse(input, name));
}

export function sparseFromWire({ indices, values }: pb.Vector): SparseVector {
  return { indices: Uint32Array.from(indices), values };
}

export function sparseFieldToWire(name: string, spec: SparseSpec): pb.SparseVectorField {
  onlyKeys(spec, sparseSpecKeys, `sparse.${name}`);
  const { modifier } = spec;
  if (modifier !== undefined && modifier !== "idf") {
    throw new KithError(
      "INVALID_SCHEMA",
      `the modifier of "${name}" is ${JSON.stringify(modifier)}; give "idf", or leave it out`,
    );
  }
  return {
    name: wellFormed(name, "sparse"),
    modifier: modifier === "idf" ? pb.SparseModifier.IDF : pb.SparseModifier.UNSPECIFIED,
  };
}

export function sparseInfoFromWire(wire: pb.SparseVectorField): SparseInfo {
  return sparseFieldFrom(wire) ?? { name: wire.name };
}
