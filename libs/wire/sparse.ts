import type { SparseField, SparseVector } from "../model/index.js";
import type { Vector } from "./gen/kith/v1/common.js";
import * as pb from "./gen/kith/v1/sparse.js";

/** Undefined for a modifier that this release does not know. */
export function sparseFieldFrom({ name, modifier }: pb.SparseVectorField): SparseField | undefined {
  if (modifier === pb.SparseModifier.UNSPECIFIED) return { name };
  return modifier === pb.SparseModifier.IDF ? { name, modifier: "idf" } : undefined;
}

export function sparseFieldTo({ name, modifier }: SparseField): pb.SparseVectorField {
  return { name, modifier: modifier === "idf" ? pb.SparseModifier.IDF : pb.SparseModifier.UNSPECIFIED };
}

export function sparseVectorTo({ indices, values }: SparseVector): Vector {
  return { indices: Array.from(indices), values };
}
