import type { TextQuery } from "./bm25.js";
import type { Filter } from "./filter.js";
import type { IdKey } from "./id.js";
import type { Select } from "./query.js";
import type { SparseVector } from "./sparse.js";

/** What a query compares with: a vector, or the stored one of a point, which then is no result itself. */
export type Example =
  | {
      kind: "vector";
      /** Of a field of matrices: its rows, one behind the other. */
      vector: Float32Array;
      /** Of a matrix, as far as the query says. */
      rows?: number | undefined;
    }
  | { kind: "sparse"; vector: SparseVector }
  | { kind: "point"; id: IdKey };

export interface ContextPair {
  positive: Example;
  negative: Example;
}

export type RecommendStrategy = "average" | "bestScore" | "sumScores";

/** How results of several queries become one list: see fuse of libs/query. */
export type Fusion =
  | {
      method: "rrf";
      /** Undefined: 2. */
      k?: number | undefined;
      /** One for each prefetch; undefined: 1 each. */
      weights?: readonly number[] | undefined;
    }
  | { method: "dbsf" }
  | { method: "relative"; weights?: readonly number[] | undefined };

/** A number, or microseconds since the epoch for a datetime. */
export type OrderValue = number;

export interface OrderBy {
  /** Path of a number or datetime in the payload. */
  key: string;
  direction: "ascending" | "descending";
  /** Results begin here, itself included. */
  startFrom?: OrderValue | undefined;
}

/** One way to score or order points. */
export type Query =
  | { kind: "nearest"; example: Example; mmr?: Mmr | undefined }
  | { kind: "recommend"; positive: readonly Example[]; negative: readonly Example[]; strategy: RecommendStrategy }
  | { kind: "discover"; target: Example; context: readonly ContextPair[] }
  | { kind: "context"; context: readonly ContextPair[] }
  | Feedback
  | { kind: "fusion"; fusion: Fusion }
  | { kind: "orderBy"; orderBy: OrderBy }
  | { kind: "sample" }
  | { kind: "formula"; formula: Formula }
  /** By BM25; the stage names the index in `using`. */
  | { kind: "text"; text: TextQuery };

/** Results that were judged, by which others are looked for: see weightsOfFeedback of libs/query. */
export interface Feedback {
  kind: "feedback";
  target: Example;
  judged: readonly { example: Example; score: number }[];
  /** What the similarity to the target counts. */
  a: number;
  /** The power of the difference of two scores, and what it counts: how far the pair of them is trusted. */
  b: number;
  c: number;
}

export interface Mmr {
  /** 0 (only the query counts) to 1. */
  diversity: number;
  /** Of how many nearest points results are picked; 0: as many as are wanted. */
  candidates: number;
}

/** Where the vectors of points named as examples come from, if not from the collection itself. */
export interface Lookup {
  collection: string;
  /** Name of the vector field there. */
  using: string;
}

/** What a query and each of its prefetches have in common. */
export interface QueryStage {
  /** Stages whose results this one works on; none: it works on the whole collection. */
  prefetch: readonly QueryStage[];
  /** Undefined: in order of id; with prefetches not allowed. */
  query: Query | undefined;
  /** Name of the vector field. */
  using: string;
  /** Also holds for all prefetches below. */
  filter: Filter | undefined;
  /** 0: the default. */
  limit: number;
  scoreThreshold: number | undefined;
  /** Beam width; 0: the field's. */
  ef: number;
  exact: boolean;
  lookup: Lookup | undefined;
}

/** A query as it was asked, not yet checked. */
export interface QueryTree extends QueryStage {
  /** Results to leave out at the beginning. */
  offset: number;
  select: Select;
}

export type Variable = { kind: "score"; prefetch: number } | { kind: "key"; path: string };

/** An arithmetic expression over scores of the prefetches and the payload; see evaluate of libs/query. */
export type Expression =
  | { kind: "constant"; value: number }
  | Variable
  /** 1 where the point passes, else 0. */
  | { kind: "condition"; filter: Filter }
  | { kind: "sum" | "product" | "max" | "min"; operands: readonly Expression[] }
  | { kind: "negate" | "absolute" | "sqrt" | "exp" | "ln" | "log10" | "acosh"; operand: Expression }
  | { kind: "divide"; left: Expression; right: Expression; byZero?: number | undefined }
  | { kind: "power"; base: Expression; exponent: Expression }
  /** Seconds since the epoch. */
  | { kind: "datetime"; seconds: number }
  | { kind: "datetimeKey"; path: string }
  /** Metres from `origin` to the geo point in the payload. */
  | { kind: "geoDistance"; origin: { lon: number; lat: number }; path: string }
  | Decay;

/** 1 at the target, `midpoint` at the distance `scale` from it. */
export interface Decay {
  kind: "linearDecay" | "exponentialDecay" | "gaussDecay";
  x: Expression;
  /** Undefined: 0. */
  target?: Expression | undefined;
  scale: number;
  midpoint: number;
}

/** What stands for a missing value: a number, an RFC 3339 datetime, or a geo point. */
export type FormulaDefault = number | string | { lon: number; lat: number };

export interface Formula {
  expression: Expression;
  /** By path; "$score[n]" for the score of the prefetch n. */
  defaults: ReadonlyMap<string, FormulaDefault>;
}
