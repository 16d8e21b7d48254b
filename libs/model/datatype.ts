/** How the index of a vector field keeps vectors in memory. From the finest to the coarsest. */
export type Datatype = "f32" | "f16" | "bf16" | "i8" | "i4" | "binary";

export const datatypes: readonly Datatype[] = ["f32", "f16", "bf16", "i8", "i4", "binary"];

/**
 * Whether an index keeps the vectors as they were written, too: for i4 and binary always, since their codes say no more than about where to look; in f32 they
 * are what is kept anyway.
 */
export function keepsOriginals({ datatype, originals = false }: { datatype: Datatype; originals?: boolean }): boolean {
  return datatype === "binary" || datatype === "i4" || (originals && datatype !== "f32");
}
