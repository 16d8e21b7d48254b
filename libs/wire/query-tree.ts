import { KithError } from "../base/index.js";
import {
  type ContextPair,
  type Decay,
  type Example,
  type Expression,
  type Formula,
  type FormulaDefault,
  type Fusion,
  type IdKey,
  type Lookup,
  type OrderBy,
  type Query,
  type QueryStage,
  type RecommendStrategy,
  sparseOf,
} from "../model/index.js";
import { textQueryFrom } from "./bm25.js";
import { filterFromWire } from "./filter.js";
import * as pb from "./gen/pb.js";

/** How ids and datetimes are read: by whoever knows what is wrong with one. */
export interface QueryReaders {
  /** INVALID_ID, with `where`. */
  idOf(id: pb.PointId | undefined, where: () => string): IdKey;
  /** Seconds since the epoch; undefined where the text is no RFC 3339 datetime. */
  secondsOf(text: string): number | undefined;
}

/** Messages may be nested to 100 levels by the decoder; more than this is no query. */
const depthMax = 64;

/** A prefetch as a stage of a query. INVALID_ARGUMENT names the node by `at`, such as "prefetch[1].". */
export function stageFromWire(wire: pb.Prefetch, readers: QueryReaders, at: string, depth = 1): QueryStage {
  if (depth > depthMax) throw invalid(at, `prefetches are more than ${depthMax} deep`);
  const { using, limit, scoreThreshold, ef, exact, lookup } = wire;
  return {
    prefetch: wire.prefetch.map((each, i) => stageFromWire(each, readers, `${at}prefetch[${i}].`, depth + 1)),
    query: wire.query && queryFromWire(wire.query, readers, `${at}query`),
    using,
    filter: wire.filter && filterFromWire(wire.filter, `${at}filter`),
    limit,
    scoreThreshold,
    ef,
    exact,
    lookup: lookupFromWire(lookup),
  };
}

export function lookupFromWire(wire: pb.Lookup | undefined): Lookup | undefined {
  return wire && { collection: wire.collection, using: wire.using };
}

export function queryFromWire({ query }: pb.Query, readers: QueryReaders, at: string): Query {
  switch (query?.$case) {
    case undefined:
      throw invalid(at, "is empty; say how points are scored or ordered");
    case "nearest": {
      const { example, mmr } = query.value;
      const nearest = { kind: "nearest" as const, example: exampleFromWire(example, readers, `${at}.nearest`) };
      return mmr === undefined
        ? nearest
        : { ...nearest, mmr: { diversity: mmr.diversity ?? 0.5, candidates: mmr.candidates } };
    }
    case "recommend": {
      const examples = (list: readonly pb.Example[], name: string): Example[] =>
        list.map((each, i) => exampleFromWire(each, readers, `${at}.recommend.${name}[${i}]`));
      const { positive, negative, strategy } = query.value;
      return {
        kind: "recommend",
        positive: examples(positive, "positive"),
        negative: examples(negative, "negative"),
        strategy: strategyFromWire(strategy, `${at}.recommend.strategy`),
      };
    }
    case "discover":
      return {
        kind: "discover",
        target: exampleFromWire(query.value.target, readers, `${at}.discover.target`),
        context: pairsFromWire(query.value.context, readers, `${at}.discover.context`),
      };
    case "context":
      return { kind: "context", context: pairsFromWire(query.value.context, readers, `${at}.context.context`) };
    case "feedback": {
      const { target, judged, a, b, c } = query.value;
      return {
        ...{ kind: "feedback", a, b, c },
        target: exampleFromWire(target, readers, `${at}.feedback.target`),
        judged: judged.map(({ example, score }, i) => ({
          example: exampleFromWire(example, readers, `${at}.feedback.judged[${i}].example`),
          score,
        })),
      };
    }
    case "fusion":
      return { kind: "fusion", fusion: fusionFromWire(query.value, `${at}.fusion`) };
    case "orderBy":
      return { kind: "orderBy", orderBy: orderFromWire(query.value, `${at}.order_by`) };
    case "sample":
      return { kind: "sample" };
    case "text":
      return { kind: "text", text: textQueryFrom(query.value, `${at}.text`) };
    case "formula":
      return { kind: "formula", formula: formulaFromWire(query.value, readers, `${at}.formula`) };
  }
}

function exampleFromWire(wire: pb.Example | undefined, readers: QueryReaders, at: string): Example {
  const example = wire?.example;
  if (example === undefined) throw invalid(at, "is missing; give a vector or a point");
  if (example.$case === "vector") {
    const { values, indices, rows = 0 } = example.value;
    if (indices.length > 0) return { kind: "sparse", vector: sparseOf(indices, values, () => `${at}.vector`) };
    return rows === 0 ? { kind: "vector", vector: values } : { kind: "vector", vector: values, rows };
  }
  return { kind: "point", id: readers.idOf(example.value, () => `${at}.point`) };
}

function pairsFromWire(pairs: readonly pb.ContextPair[], readers: QueryReaders, at: string): ContextPair[] {
  return pairs.map(({ positive, negative }, i) => ({
    positive: exampleFromWire(positive, readers, `${at}[${i}].positive`),
    negative: exampleFromWire(negative, readers, `${at}[${i}].negative`),
  }));
}

const strategies: Record<number, RecommendStrategy | undefined> = {
  [pb.RecommendStrategy.UNSPECIFIED]: "average",
  [pb.RecommendStrategy.AVERAGE]: "average",
  [pb.RecommendStrategy.BEST_SCORE]: "bestScore",
  [pb.RecommendStrategy.SUM_SCORES]: "sumScores",
};

function strategyFromWire(wire: pb.RecommendStrategy, at: string): RecommendStrategy {
  const strategy = strategies[wire];
  if (strategy === undefined) throw invalid(at, `${wire} does not exist; use AVERAGE, BEST_SCORE or SUM_SCORES`);
  return strategy;
}

function fusionFromWire({ method }: pb.Fusion, at: string): Fusion {
  const weightsOf = (weights: ArrayLike<number>): number[] | undefined =>
    weights.length === 0 ? undefined : Array.from(weights);
  switch (method?.$case) {
    case undefined:
      throw invalid(at, "has no method; choose reciprocal_rank, distribution_based or relative_score");
    case "reciprocalRank": {
      const { k, weights } = method.value;
      return { method: "rrf", k: k === 0 ? undefined : k, weights: weightsOf(weights) };
    }
    case "distributionBased":
      return { method: "dbsf" };
    case "relativeScore":
      return { method: "relative", weights: weightsOf(method.value.weights) };
  }
}

/** INVALID_ARGUMENT names the node by `at`. */
export function orderFromWire({ key, direction, startFrom }: pb.OrderBy, at: string): OrderBy {
  if (direction < pb.Direction.UNSPECIFIED || direction > pb.Direction.DESCENDING) {
    throw invalid(`${at}.direction`, `${direction} does not exist; use ASCENDING or DESCENDING`);
  }
  const start = startFrom?.$case === "datetime" ? startFrom.value.getTime() * 1000 : startFrom?.value;
  return {
    key,
    direction: direction === pb.Direction.DESCENDING ? "descending" : "ascending",
    startFrom: start,
  };
}

function formulaFromWire(wire: pb.Formula, readers: QueryReaders, at: string): Formula {
  const defaults = Object.entries(wire.defaults).map(([key, { value }]): [string, FormulaDefault] => {
    if (value === undefined) throw invalid(`${at}.defaults["${key}"]`, "has no value");
    return [key, value.$case === "geo" ? { lon: value.value.lon, lat: value.value.lat } : value.value];
  });
  return {
    expression: expressionFromWire(wire.expression, readers, `${at}.expression`, 1),
    defaults: new Map(defaults),
  };
}

function expressionFromWire(
  wire: pb.Expression | undefined,
  readers: QueryReaders,
  at: string,
  depth: number,
): Expression {
  if (depth > depthMax) throw invalid(at, `expressions are more than ${depthMax} deep`);
  const expression = wire?.expression;
  if (expression === undefined) throw invalid(at, "is missing");
  const inner = (each: pb.Expression | undefined, name: string): Expression =>
    expressionFromWire(each, readers, `${at}.${name}`, depth + 1);
  switch (expression.$case) {
    case "constant":
      return { kind: "constant", value: expression.value };
    case "variable":
      return variableOf(expression.value, at);
    case "condition":
      return { kind: "condition", filter: filterFromWire(expression.value, `${at}.condition`) };
    case "sum":
    case "product":
    case "max":
    case "min": {
      const kind = expression.$case;
      const operands = expression.value.operands.map((each, i) => inner(each, `${kind}[${i}]`));
      return { kind, operands };
    }
    case "negate":
    case "absolute":
    case "sqrt":
    case "exp":
    case "ln":
    case "log10":
    case "acosh":
      return { kind: expression.$case, operand: inner(expression.value, expression.$case) };
    case "divide": {
      const { left, right, byZero } = expression.value;
      return { kind: "divide", left: inner(left, "divide.left"), right: inner(right, "divide.right"), byZero };
    }
    case "power": {
      const { base, exponent } = expression.value;
      return { kind: "power", base: inner(base, "power.base"), exponent: inner(exponent, "power.exponent") };
    }
    case "datetime": {
      const seconds = readers.secondsOf(expression.value);
      if (seconds === undefined) {
        throw invalid(`${at}.datetime`, `"${expression.value}" is no RFC 3339 datetime with a zone`);
      }
      return { kind: "datetime", seconds };
    }
    case "datetimeKey":
      return { kind: "datetimeKey", path: expression.value };
    case "geoDistance": {
      const { origin, to } = expression.value;
      if (origin === undefined) throw invalid(`${at}.geo_distance.origin`, "is missing");
      return { kind: "geoDistance", origin: { lon: origin.lon, lat: origin.lat }, path: to };
    }
    case "linearDecay":
      return decayFromWire("linearDecay", expression.value, inner);
    case "exponentialDecay":
      return decayFromWire("exponentialDecay", expression.value, inner);
    case "gaussDecay":
      return decayFromWire("gaussDecay", expression.value, inner);
  }
}

function decayFromWire(
  kind: Decay["kind"],
  { x, target, scale, midpoint }: pb.Decay,
  inner: (each: pb.Expression | undefined, name: string) => Expression,
): Decay {
  return {
    kind,
    x: inner(x, `${kind}.x`),
    target: target && inner(target, `${kind}.target`),
    scale: scale ?? 1,
    midpoint: midpoint ?? 0.5,
  };
}

/** "$score", "$score[n]", or a path. */
function variableOf(text: string, at: string): Expression {
  if (!text.startsWith("$score")) return { kind: "key", path: text };
  const match = /^\$score(?:\[(\d{1,6})\])?$/.exec(text);
  if (match === null) throw invalid(at, `"${text}" is no score; write $score or $score[0]`);
  return { kind: "score", prefetch: Number(match[1] ?? 0) };
}

function invalid(path: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${path} ${what}`, { details: { path } });
}
