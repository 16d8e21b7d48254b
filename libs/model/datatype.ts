/** How the index of a vector field keeps vectors in memory. From the finest to the coarsest. */
export type Datatype = "f32" | "f16" | "bf16" | "i8" | "i4" | "pq16" | "pq32" | "binary" | "pq64";

export const datatypes: readonly Datatype[] = ["f32", "f16", "bf16", "i8", "i4", "pq16", "pq32", "binary", "pq64"];

/** Of a component of a vector. */
export const bytesPerNumber: Readonly<Record<Datatype, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i8: 1,
  i4: 1 / 2,
  pq16: 1 / 4,
  pq32: 1 / 8,
  binary: 1 / 8,
  pq64: 1 / 16,
};

/**
 * Whether an index keeps the vectors as they were written, too: always where codes take less than a byte of a component,
 * since these say no more than about where to look; in f32 they are what is kept anyway.
 */
export function keepsOriginals({ datatype, originals = false }: { datatype: Datatype; originals?: boolean }): boolean {
  return bytesPerNumber[datatype] < 1 || (originals && datatype !== "f32");
}
