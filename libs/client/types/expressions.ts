import type { AnalyzerOptions } from "../../model/index.js";
import type { FilterInput, Id, MatrixInput, SparseInput, VectorInput } from "./values.js";

/** What a query compares with: a vector (a matrix or a sparse one for such a field), or the stored one of a point, which then is no result itself. */
export type ExampleInput = VectorInput | MatrixInput | SparseInput | Id;

export interface ContextPairInput {
  positive: ExampleInput;
  negative: ExampleInput;
}

/** Maximal marginal relevance: results that are near to the query and unlike each other. */
export interface MmrInput {
  /** 0 (only the query counts) to 1. Default: 0.5. */
  diversity?: number;
  /** Of how many nearest points results are picked. Default: as many as are wanted. */
  candidates?: number;
}

export interface OrderByInput {
  /** Path of a number or datetime in the payload. */
  key: string;
  /** Default: "asc". */
  direction?: "asc" | "desc";
  /** Results begin here, itself included. */
  startFrom?: number | Date;
}

/** How the results of all prefetches become one list. */
export type FusionInput =
  | "rrf"
  | "dbsf"
  | "relative"
  | { rrf: { k?: number; weights?: readonly number[] } }
  | { relative: { weights?: readonly number[] } };

export interface GeoInput {
  lat: number;
  lon: number;
}

export interface DecayInput {
  x: ExpressionInput;
  /** Default: 0. */
  target?: ExpressionInput;
  /** Default: 1. */
  scale?: number;
  /** Default: 0.5. */
  midpoint?: number;
}

/**
 * An arithmetic expression: a number, a path in the payload, `$score` or `$score[n]` for the score in a prefetch, or one of these
 * with one key.
 */
export type ExpressionInput =
  | number
  | string
  /** 1 where the point passes, else 0. */
  | { condition: FilterInput }
  | { sum: readonly ExpressionInput[] }
  | { product: readonly ExpressionInput[] }
  | { max: readonly ExpressionInput[] }
  | { min: readonly ExpressionInput[] }
  | { negate: ExpressionInput }
  | { absolute: ExpressionInput }
  | { sqrt: ExpressionInput }
  | { exp: ExpressionInput }
  | { ln: ExpressionInput }
  | { log10: ExpressionInput }
  | { acosh: ExpressionInput }
  | { divide: { left: ExpressionInput; right: ExpressionInput; byZero?: number } }
  | { power: { base: ExpressionInput; exponent: ExpressionInput } }
  /** RFC 3339, with a zone; in seconds since the epoch. */
  | { datetime: string }
  /** The same of one in the payload. */
  | { datetimeKey: string }
  /** In metres. */
  | { geoDistance: { origin: GeoInput; to: string } }
  /** 1 at the target, `midpoint` at the distance `scale` from it. */
  | { linearDecay: DecayInput }
  | { exponentialDecay: DecayInput }
  | { gaussDecay: DecayInput };

/** How a text becomes tokens; what is missing is the default. */
export type AnalyzerInput = Partial<AnalyzerOptions>;

/** By BM25; `using` names the index. */
export interface TextInput {
  /** word, +must, -not, "a phrase" (which must be there), pre*, fuzzy~, weighed^2, (one OR another), AND, NOT. */
  text: string;
  /** How the text is split, where not as the index does it. */
  analyzer?: AnalyzerInput;
  /** All of that is nothing but text. */
  plain?: boolean;
}

/** Results that were judged, on any scale (higher is better), by which others are looked for. */
export interface FeedbackInput {
  target: ExampleInput;
  judged: readonly { example: ExampleInput; score: number }[];
  /** What the similarity to the target counts. */
  a: number;
  /** Each pair of judged examples, of which one has the higher score by d, counts c * d^b; `b` is 0 or more. */
  b: number;
  c: number;
}

/** One way to score or order points. */
export type QueryExpression =
  | { nearest: ExampleInput; mmr?: MmrInput }
  | {
      recommend: {
        positive?: readonly ExampleInput[];
        negative?: readonly ExampleInput[];
        /** Default: "average". */
        strategy?: "average" | "bestScore" | "sumScores";
      };
    }
  | { discover: { target: ExampleInput; context?: readonly ContextPairInput[] } }
  | { context: readonly ContextPairInput[] }
  /** Like the target, and more so like examples with high scores than like those with low ones. */
  | { feedback: FeedbackInput }
  | { fusion: FusionInput }
  | { orderBy: string | OrderByInput }
  | { sample: "random" }
  | { text: string | TextInput }
  | {
      formula: ExpressionInput;
      /** By path in the payload, or "$score[n]": what stands for a missing value. Text is a datetime. */
      defaults?: Readonly<Record<string, number | string | GeoInput>>;
    };

/** Where the vectors of points named as examples come from. */
export interface LookupInput {
  collection: string;
  /** Name of the vector field there. Default: the unnamed one. */
  using?: string;
}

/** A query whose results another one works on. */
export interface PrefetchInput {
  prefetch?: readonly PrefetchInput[];
  /** Without it: points in order of id. */
  query?: QueryExpression;
  using?: string;
  filter?: FilterInput;
  /** Default: 10. */
  limit?: number;
  scoreThreshold?: number;
  ef?: number;
  exact?: boolean;
  lookup?: LookupInput;
}
