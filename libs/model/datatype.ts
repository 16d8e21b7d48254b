/** How the index of a vector field keeps vectors in memory. */
export type Datatype = "f32" | "f16" | "bf16" | "i8";

export const datatypes: readonly Datatype[] = ["f32", "f16", "bf16", "i8"];
