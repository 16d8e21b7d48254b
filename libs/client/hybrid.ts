import { KithError } from "../base/index.js";
import type { FusionInput, PrefetchInput, TextInput } from "./query-types.js";
import type { QueryInput } from "./types.js";
import type { Id, MatrixInput, VectorInput } from "./value-types.js";

/** A text and a vector that are looked for at once. */
export interface HybridInput extends Omit<QueryInput, "query" | "prefetch" | "vector" | "point" | "lookup"> {
  text: string | TextInput;
  /** Of the text, by whatever made the vectors of the collection. */
  vector?: VectorInput | MatrixInput;
  /** Instead of a vector: points like these, such as the best ones by the text alone. */
  like?: readonly Id[];
  /** Index by BM25. Default: the only one. */
  textIndex?: string;
  /** How the results of both become one list. Default: "rrf". */
  fusion?: "rrf" | "dbsf" | "relative";
  /** Of the text, against the vector: 0 to 1. Default: both count in full, as with weights of 1. Not with "dbsf". */
  textWeight?: number;
  /** Results of each that are looked at. Default: five times the limit and the offset, 50 at least. */
  candidates?: number;
}

const candidatesMin = 50;
const candidateFactor = 5;
const candidatesMax = 10_000;

/** The query that finds by text and by vector: two prefetches and a fusion. `using` names the vector field. */
export function hybridQuery(input: HybridInput): QueryInput {
  const {
    text,
    vector,
    like = [],
    textIndex = "",
    fusion = "rrf",
    textWeight,
    candidates,
    using = "",
    ef,
    exact,
    ...rest
  } = input;
  if (textWeight !== undefined && !(textWeight >= 0 && textWeight <= 1)) {
    throw new KithError("INVALID_ARGUMENT", `textWeight is ${textWeight}; give a number in 0..1`);
  }
  if (textWeight !== undefined && fusion === "dbsf") {
    throw new KithError("INVALID_ARGUMENT", 'the fusion "dbsf" takes no weights; use "rrf" or "relative"');
  }
  if ((vector === undefined) === (like.length === 0)) {
    throw new KithError("INVALID_ARGUMENT", "a hybrid query needs either a vector or points that are like it");
  }
  const wanted = (input.limit ?? 10) + (input.offset ?? 0);
  const limit = candidates ?? Math.min(candidatesMax, Math.max(candidatesMin, candidateFactor * wanted));
  const near: PrefetchInput = {
    query: vector === undefined ? { recommend: { positive: like } } : { nearest: vector },
    using,
    limit,
    ...(ef !== undefined && { ef }),
    ...(exact !== undefined && { exact }),
  };
  return {
    ...rest,
    prefetch: [{ query: { text }, using: textIndex, limit }, near],
    query: { fusion: fusionOf(fusion, textWeight) },
  };
}

function fusionOf(method: "rrf" | "dbsf" | "relative", textWeight: number | undefined): FusionInput {
  if (textWeight === undefined || method === "dbsf") return method;
  const weights = [textWeight, 1 - textWeight];
  return method === "rrf" ? { rrf: { weights } } : { relative: { weights } };
}
