import { KithError } from "../base/index.js";
import type { FusionInput, PrefetchInput, TextInput } from "./types/expressions.js";
import type { QueryInput } from "./types/queries.js";
import type { Id, MatrixInput, SparseInput, VectorInput } from "./types/values.js";

/** What is looked for at once: two at least of a text, a dense vector (or points like it), and sparse vectors. */
export interface HybridInput extends Omit<QueryInput, "query" | "prefetch" | "vector" | "sparse" | "point" | "lookup"> {
  text?: string | TextInput;
  /** Of the text, by whatever made the vectors of the collection. */
  vector?: VectorInput | MatrixInput;
  /** Instead of a vector: points like these, such as the best ones by the text alone. */
  like?: readonly Id[];
  /** By the names of their fields. */
  sparse?: Readonly<Record<string, SparseInput>>;
  /** Index by BM25. Default: the only one. */
  textIndex?: string;
  /** How the results of all become one list. Default: "rrf". */
  fusion?: "rrf" | "dbsf" | "relative";
  /** Of the text, against the vector: 0 to 1. Default: both count in full, as with weights of 1. Not with "dbsf", and not beside `weights`. */
  textWeight?: number;
  /** What each counts, 0 or more; `sparse`: each of the sparse vectors. Default: 1. Not with "dbsf". */
  weights?: HybridWeights;
  /** Results of each that are looked at. Default: five times the limit and the offset, 50 at least. */
  candidates?: number;
}

export interface HybridWeights {
  text?: number;
  /** Of the vector, or of the points like it. */
  vector?: number;
  sparse?: number;
}

const candidatesMin = 50;
const candidateFactor = 5;
const candidatesMax = 10_000;
const parts = ["text", "vector", "sparse"] as const;
type Part = (typeof parts)[number];

/** The query that finds by text, vector and sparse vectors: a prefetch of each and a fusion. `using` names the dense vector field. */
export function hybridQuery(input: HybridInput): QueryInput {
  const {
    text,
    vector,
    like = [],
    sparse = {},
    textIndex = "",
    fusion = "rrf",
    textWeight,
    weights,
    candidates,
    using = "",
    ef,
    exact,
    ...rest
  } = input;
  if (vector !== undefined && like.length > 0) {
    throw new KithError("INVALID_ARGUMENT", "a hybrid query takes either a vector or points that are like it");
  }
  const wanted = (input.limit ?? 10) + (input.offset ?? 0);
  const limit = candidates ?? Math.min(candidatesMax, Math.max(candidatesMin, candidateFactor * wanted));
  const found: { part: Part; prefetch: PrefetchInput }[] = [];
  if (text !== undefined) found.push({ part: "text", prefetch: { query: { text }, using: textIndex, limit } });
  if (vector !== undefined || like.length > 0) {
    const prefetch: PrefetchInput = {
      query: vector === undefined ? { recommend: { positive: like } } : { nearest: vector },
      using,
      limit,
      ...(ef !== undefined && { ef }),
      ...(exact !== undefined && { exact }),
    };
    found.push({ part: "vector", prefetch });
  }
  for (const [name, nearest] of Object.entries(sparse)) {
    found.push({ part: "sparse", prefetch: { query: { nearest }, using: name, limit } });
  }
  if (found.length < 2) {
    throw new KithError(
      "INVALID_ARGUMENT",
      "a hybrid query needs two at least of a text, a vector (or points that are like it), and sparse vectors",
    );
  }
  const held = found.map(({ part }) => part);
  return {
    ...rest,
    prefetch: found.map(({ prefetch }) => prefetch),
    query: { fusion: fusionOf(fusion, weightsOf(held, textWeight, weights, fusion)) },
  };
}

/** The weight of each prefetch; undefined where all count the same. */
function weightsOf(
  held: readonly Part[],
  textWeight: number | undefined,
  weights: HybridWeights | undefined,
  fusion: string,
): number[] | undefined {
  if (textWeight === undefined && weights === undefined) return undefined;
  if (fusion === "dbsf") {
    throw new KithError("INVALID_ARGUMENT", 'the fusion "dbsf" takes no weights; use "rrf" or "relative"');
  }
  if (textWeight !== undefined) {
    if (weights !== undefined) {
      throw new KithError("INVALID_ARGUMENT", "give either textWeight or weights");
    }
    if (!(textWeight >= 0 && textWeight <= 1)) {
      throw new KithError("INVALID_ARGUMENT", `textWeight is ${textWeight}; give a number in 0..1`);
    }
    if (held.length !== 2 || held[0] !== "text") {
      throw new KithError("INVALID_ARGUMENT", "textWeight is of a text against one other; give weights");
    }
    return [textWeight, 1 - textWeight];
  }
  for (const [name, weight] of Object.entries(weights ?? {})) {
    const part = parts.find((each) => each === name);
    if (part === undefined) {
      throw new KithError("INVALID_ARGUMENT", `weights.${name} is unknown; there are text, vector and sparse`);
    }
    if (typeof weight !== "number" || !(weight >= 0 && weight < Infinity)) {
      throw new KithError("INVALID_ARGUMENT", `weights.${name} is ${String(weight)}; give a number of 0 or more`);
    }
    if (!held.includes(part)) {
      throw new KithError("INVALID_ARGUMENT", `weights.${name} is of nothing that is looked for`);
    }
  }
  return held.map((part) => weights?.[part] ?? 1);
}

function fusionOf(method: "rrf" | "dbsf" | "relative", weights: number[] | undefined): FusionInput {
  if (weights === undefined || method === "dbsf") return method;
  return method === "rrf" ? { rrf: { weights } } : { relative: { weights } };
}
