import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { datetimeMicros } from "../../../libs/filter/index.js";
import { pb } from "../../../libs/wire/index.js";
import { formulaOf } from "./formula.js";
import { filterOf } from "./filter.js";
import { idOf } from "./ids.js";
import { rankedName, textQueryOf } from "./ranked-texts.js";
import { isVectorObject, vectorOf } from "./vectors.js";
import {
  below,
  atLeast,
  countOf,
  InvalidValue,
  eachOf,
  flagOf,
  listOf,
  floatsIn,
  member,
  numberOf,
  objectOf,
  optional,
  required,
  textOf,
  wordOf,
  wrong,
} from "./values.js";
import { KithError } from "../../../libs/base/index.js";

type Case<K extends NonNullable<pb.Query["query"]>["$case"]> = Extract<
  NonNullable<pb.Query["query"]>,
  { $case: K }
>["value"];

/** A vector, or the id of a point whose vector it is. */
export function exampleOf(value: JsonValue | undefined, at: string): pb.Example {
  if (Array.isArray(value) || floatsIn(value) !== undefined || (isJsonObject(value) && isVectorObject(value))) {
    return { example: { $case: "vector", value: vectorOf(value, at) } };
  }
  return { example: { $case: "point", value: idOf(value, at) } };
}

const kinds = [
  "nearest",
  "recommend",
  "discover",
  "context",
  "order_by",
  "fusion",
  "rrf",
  "formula",
  "sample",
  "relevance_feedback",
  "text",
] as const;

/** One way to score points, from the `query` of a request or a prefetch. */
export function queryOf(value: JsonValue, at: string): pb.Query {
  if (!isJsonObject(value) || isVectorObject(value)) return nearest(exampleOf(value, at));
  const kind = kinds.find((name) => member(value, name) !== undefined);
  const inner = kind === undefined ? undefined : member(value, kind);
  const where = kind === undefined ? at : below(at, kind);
  switch (kind) {
    case "nearest": {
      const mmr = optional(value, "mmr", at, mmrOf);
      return nearest(exampleOf(inner, where), mmr);
    }
    case "recommend":
      return { query: { $case: "recommend", value: examplesOf(objectOf(inner, where), where) } };
    case "discover": {
      const object = objectOf(inner, where);
      const target = required(object, "target", where, exampleOf);
      return {
        query: { $case: "discover", value: { target, context: optional(object, "context", where, pairsOf) ?? [] } },
      };
    }
    case "context":
      return { query: { $case: "context", value: { context: pairsOf(inner, where) } } };
    case "order_by":
      return { query: { $case: "orderBy", value: orderOf(inner, where) } };
    case "fusion":
      return fusionOf(wordOf(["rrf", "dbsf"])(inner, where));
    case "rrf": {
      const object = objectOf(inner, where);
      const k = optional(object, "k", where, countOf) ?? 0;
      const weights = optional(object, "weights", where, (list, place) => eachOf(list, place, numberOf)) ?? [];
      return { query: { $case: "fusion", value: { method: { $case: "reciprocalRank", value: { k, weights } } } } };
    }
    case "formula":
      return { query: { $case: "formula", value: formulaOf(inner, member(value, "defaults"), at) } };
    case "sample":
      wordOf(["random"])(inner, where);
      return { query: { $case: "sample", value: {} } };
    case "relevance_feedback":
      return { query: { $case: "feedback", value: feedbackOf(objectOf(inner, where), where) } };
    case "text":
      return { query: { $case: "text", value: textQueryOf(inner, where) } };
    default:
      throw wrong(at, `expected a vector, an id, or one of ${kinds.join(", ")}`);
  }
}

function nearest(example: pb.Example, mmr?: pb.Mmr): pb.Query {
  return { query: { $case: "nearest", value: { example, mmr } } };
}

function fusionOf(method: "rrf" | "dbsf"): pb.Query {
  const value: Case<"fusion"> =
    method === "rrf"
      ? { method: { $case: "reciprocalRank", value: { k: 0, weights: [] } } }
      : { method: { $case: "distributionBased", value: {} } };
  return { query: { $case: "fusion", value } };
}

function mmrOf(value: JsonValue | undefined, at: string): pb.Mmr {
  const object = objectOf(value, at);
  const diversity = optional(object, "diversity", at, numberOf);
  if (diversity !== undefined && !(diversity >= 0 && diversity <= 1)) {
    throw new InvalidValue(below(at, "diversity"), `is ${diversity}; it must be from 0 to 1`);
  }
  const candidates = optional(object, "candidates_limit", at, countOf) ?? 0;
  return { candidates, ...(diversity !== undefined && { diversity }) };
}

const strategies = ["average_vector", "best_score", "sum_scores"] as const;

/** A query by examples has some; the deprecated call says otherwise that it has none. */
function examplesOf(object: JsonObject, at: string): pb.Recommend {
  const recommend = recommendOf(object, at);
  if (recommend.positive.length > 0 || recommend.negative.length > 0) return recommend;
  throw new InvalidValue(at, "at least one positive or negative example is needed");
}

/** Examples by id and by vector, mixed. */
export function recommendOf(object: JsonObject, at: string): pb.Recommend {
  const strategy = optional(object, "strategy", at, wordOf(strategies)) ?? "average_vector";
  return {
    positive: optional(object, "positive", at, (list, place) => eachOf(list, place, exampleOf)) ?? [],
    negative: optional(object, "negative", at, (list, place) => eachOf(list, place, exampleOf)) ?? [],
    strategy: {
      average_vector: pb.RecommendStrategy.AVERAGE,
      best_score: pb.RecommendStrategy.BEST_SCORE,
      sum_scores: pb.RecommendStrategy.SUM_SCORES,
    }[strategy],
  };
}

export function pairsOf(value: JsonValue | undefined, at: string): pb.ContextPair[] {
  return eachOf(value, at, (pair, place) => {
    const object = objectOf(pair, place);
    const positive = required(object, "positive", place, exampleOf);
    return { positive, negative: required(object, "negative", place, exampleOf) };
  });
}

/** Results that were judged, and how the judgements count; the strategy is an object with one member, its name. */
function feedbackOf(object: JsonObject, at: string): pb.Feedback {
  const place = below(at, "strategy");
  const naive = required(required(object, "strategy", at, objectOf), "naive", place, objectOf);
  const number = (name: string): number => required(naive, name, below(place, "naive"), numberOf);
  return {
    target: required(object, "target", at, exampleOf),
    judged: eachOf(required(object, "feedback", at, listOf), below(at, "feedback"), (value, where) => {
      const item = objectOf(value, where);
      return { example: required(item, "example", where, exampleOf), score: required(item, "score", where, numberOf) };
    }),
    ...{ a: number("a"), b: number("b"), c: number("c") },
  };
}

/** The name of a field, or that with a direction and a start. */
export function orderOf(value: JsonValue | undefined, at: string): pb.OrderBy {
  if (typeof value === "string") return { key: value, direction: pb.Direction.ASCENDING, startFrom: undefined };
  const object = objectOf(value, at);
  const key = required(object, "key", at, textOf);
  const direction = optional(object, "direction", at, wordOf(["asc", "desc"])) ?? "asc";
  return {
    key,
    direction: direction === "asc" ? pb.Direction.ASCENDING : pb.Direction.DESCENDING,
    startFrom: optional(object, "start_from", at, startOf),
  };
}

function startOf(value: JsonValue | undefined, at: string): NonNullable<pb.OrderBy["startFrom"]> {
  if (typeof value !== "string") return { $case: "number", value: numberOf(value, at) };
  const micros = datetimeMicros(value);
  if (micros === undefined) throw wrong(at, `${JSON.stringify(value.slice(0, 40))} is no datetime`);
  // Orders are of numbers: those of datetimes are microseconds.
  return { $case: "number", value: Number(micros) };
}

interface Params {
  ef: number;
  exact: boolean;
}

/** `params` of a search. What tunes indexes that Kith has not is taken without an effect. */
export function paramsOf(value: JsonValue | undefined, at: string): Params {
  if (value === undefined || value === null) return { ef: 0, exact: false };
  const object = objectOf(value, at);
  const idf = member(object, "idf");
  if (isJsonObject(idf)) throw new KithError("UNIMPLEMENTED", `${at}.idf: this version has no corpus to choose`);
  return {
    ef: Math.min(optional(object, "hnsw_ef", at, countOf) ?? 0, beamWidthMax),
    exact: optional(object, "exact", at, flagOf) ?? false,
  };
}

export interface Rescoring {
  /** How many times the wanted results are scored by the vectors as they were written; 0: what is usual. */
  oversampling: number;
  rescore?: boolean;
}

/** `params.quantization` of a search; undefined where it says nothing. To `ignore` codes is to score by what was written. */
export function rescoringOf(params: JsonValue | undefined, at: string): Rescoring | undefined {
  const given = isJsonObject(params) ? optional(params, "quantization", at, objectOf) : undefined;
  if (given === undefined) return undefined;
  const where = below(at, "quantization");
  const oversampling = optional(given, "oversampling", where, numberOf) ?? 0;
  if (oversampling !== 0 && !(oversampling >= 1)) throw wrong(below(where, "oversampling"), "must be at least 1");
  const isIgnored = optional(given, "ignore", where, flagOf) ?? false;
  const rescore = optional(given, "rescore", where, flagOf);
  return {
    oversampling: Math.min(oversampling, oversamplingMax),
    ...(rescore !== undefined && { rescore: rescore || isIgnored }),
  };
}

/** More than this is refused. */
const oversamplingMax = 1_000;

/** Wider beams find no more than this one, and are refused. */
export const beamWidthMax = 8_192;

/** Results of a query that does not say how many it wants. */
export const limitDefault = 10;

export function lookupOf(object: JsonObject, at: string): pb.Lookup | undefined {
  return optional(object, "lookup_from", at, (value, place) => {
    const lookup = objectOf(value, place);
    refuseShardKey(lookup, place);
    const using = optional(lookup, "vector", place, textOf) ?? "";
    return { collection: required(lookup, "collection", place, textOf), using };
  });
}

/** Points of another collection are looked up by their ids alone; UNIMPLEMENTED where a request names a shard key. */
function refuseShardKey(object: JsonObject, at: string): void {
  if (member(object, "shard_key") === undefined) return;
  throw new KithError(
    "UNIMPLEMENTED",
    `${below(at, "shard_key")}: points are looked up in collections without shard keys`,
  );
}

export function prefetchesOf(object: JsonObject, at: string): pb.Prefetch[] {
  return optional(object, "prefetch", at, (value, place) => eachOf(value, place, prefetchOf)) ?? [];
}

/** Refuses what is no sense without a query that scores, in Qdrant's words. */
export function checkScored(
  { query, prefetch, scoreThreshold }: Pick<pb.Prefetch, "query" | "prefetch" | "scoreThreshold">,
  at: string,
): void {
  const place = at === "" ? "" : `${at}: `;
  if (query === undefined && prefetch.length > 0) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `${place}A query is needed to merge the prefetches. Can't have prefetches without defining a query, for example a fusion.`,
    );
  }
  if (scoreThreshold === undefined) return;
  if (query === undefined) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `${place}A query is needed to use the score_threshold. Can't have score_threshold without defining a query.`,
    );
  }
  if (query.query?.$case === "orderBy") {
    throw new KithError("INVALID_ARGUMENT", `${place}Can't use score_threshold with an order_by query.`);
  }
}

const constantOne: pb.Query = {
  query: { $case: "formula", value: { expression: { expression: { $case: "constant", value: 1 } }, defaults: {} } },
};

/** What a formula works on: points that come without a score, in order of ids or of the payload or by chance, have 1 there. */
export function scoredFor(query: pb.Query | undefined, prefetches: pb.Prefetch[]): pb.Prefetch[] {
  if (query?.query?.$case !== "formula") return prefetches;
  return prefetches.map((each) => {
    const kind = each.query?.query?.$case;
    if (kind !== undefined && kind !== "orderBy" && kind !== "sample") return each;
    return { ...pb.Prefetch.create({ limit: each.limit, query: constantOne }), prefetch: [each] };
  });
}

const prefetchDefault = 10;
const depthMax = 64;

function prefetchOf(value: JsonValue | undefined, at: string): pb.Prefetch {
  if (at.split(".").length > depthMax) throw wrong(at, "too many prefetches within each other");
  const object = objectOf(value, at);
  const query = member(object, "query");
  const prefetch = prefetchesOf(object, at);
  const { ef, exact } = paramsOf(member(object, "params"), below(at, "params"));
  const scoreThreshold = optional(object, "score_threshold", at, numberOf);
  const asked = query === undefined ? undefined : queryOf(query, below(at, "query"));
  const using = optional(object, "using", at, textOf) ?? "";
  const stage: pb.Prefetch = {
    prefetch: scoredFor(asked, prefetch),
    query: asked,
    using: asked?.query?.$case === "text" ? rankedName(using) : using,
    filter: filterOf(member(object, "filter"), below(at, "filter")),
    limit: optional(object, "limit", at, atLeast(1)) ?? prefetchDefault,
    ...(scoreThreshold !== undefined && { scoreThreshold }),
    ef,
    exact,
    lookup: lookupOf(object, at),
  };
  checkScored(stage, at);
  return stage;
}
