import { KithError } from "../base/index.js";
import { pb } from "../wire/index.js";
import { givenBoolean, givenList, givenNumber, givenObject, givenText, shownValue } from "./given.js";
import { vectorToWire } from "./vectors.js";
import { wholeNumber } from "./numbers.js";
import { analyzerToWire } from "./bm25.js";
import { filterOf } from "./filter.js";
import { idToWire } from "./ids.js";
import { onlyKeys } from "./only-keys.js";
import type {
  ContextPairInput,
  DecayInput,
  ExampleInput,
  ExpressionInput,
  FusionInput,
  GeoInput,
  LookupInput,
  OrderByInput,
  PrefetchInput,
  QueryExpression,
  TextInput,
} from "./types/expressions.js";
import { isSparseInput, sparseToWire } from "./sparse.js";
import { wellFormed } from "./well-formed.js";

/*
 * Queries as trees, on the wire. What TypeScript checks is checked again where it matters: of programs without types, and of JSON, an
 * unknown key would otherwise be lost without a word.
 */

const prefetchKeys = [
  "prefetch",
  "query",
  "using",
  "filter",
  "limit",
  "scoreThreshold",
  "ef",
  "exact",
  "lookup",
] as const satisfies readonly (keyof PrefetchInput)[];

export function prefetchToWire(input: PrefetchInput, at: string): pb.Prefetch {
  onlyKeys(input, prefetchKeys, at);
  const { prefetch = [], query, using = "", filter, limit = 0, scoreThreshold, ef = 0, exact = false, lookup } = input;
  return {
    prefetch: givenList(prefetch, `${at}.prefetch`).map((each, i) => prefetchToWire(each, `${at}.prefetch[${i}]`)),
    query: query === undefined ? undefined : expressionOfQuery(query, using, `${at}.query`),
    using: wellFormed(using, `${at}.using`),
    filter: filterOf(filter),
    limit: wholeNumber(limit, `${at}.limit`),
    scoreThreshold: scoreThreshold === undefined ? undefined : givenNumber(scoreThreshold, `${at}.scoreThreshold`),
    ef: wholeNumber(ef, `${at}.ef`),
    exact: givenBoolean(exact, `${at}.exact`),
    lookup: lookupToWire(lookup, `${at}.lookup`),
  };
}

export function lookupToWire(lookup: LookupInput | undefined, at: string): pb.Lookup | undefined {
  if (lookup === undefined) return undefined;
  onlyKeys(lookup, ["collection", "using"], at);
  return {
    collection: givenText(lookup.collection, `${at}.collection`),
    using: givenText(lookup.using ?? "", `${at}.using`),
  };
}

const sideKeys: Record<string, readonly string[]> = { nearest: ["mmr"], formula: ["defaults"] };

/** A way to score or order points; INVALID_ARGUMENT names the node at fault. */
export function expressionOfQuery(query: QueryExpression, using: string, at: string): pb.Query {
  const kind = kindOf(givenObject(query, at), at);
  onlyKeys(query, [kind, ...(sideKeys[kind] ?? [])], at);
  const example = (value: ExampleInput, where: string): pb.Example => exampleToWire(value, using, where);
  if ("nearest" in query) {
    const { mmr } = query;
    if (mmr !== undefined) onlyKeys(mmr, ["diversity", "candidates"], `${at}.mmr`);
    return wire("nearest", {
      example: example(query.nearest, `${at}.nearest`),
      mmr: mmr && {
        diversity: optionalNumber(mmr.diversity, `${at}.mmr.diversity`),
        candidates: wholeNumber(mmr.candidates ?? 0, `${at}.mmr.candidates`),
      },
    });
  }
  if ("recommend" in query) {
    onlyKeys(query.recommend, ["positive", "negative", "strategy"], `${at}.recommend`);
    const { positive = [], negative = [], strategy = "average" } = query.recommend;
    const examples = (list: readonly ExampleInput[], where: string): pb.Example[] =>
      givenList(list, where).map((each, i) => example(each, `${where}[${i}]`));
    return wire("recommend", {
      positive: examples(positive, `${at}.recommend.positive`),
      negative: examples(negative, `${at}.recommend.negative`),
      strategy: oneOf(strategies, strategy, `${at}.recommend.strategy`),
    });
  }
  if ("discover" in query) {
    onlyKeys(query.discover, ["target", "context"], `${at}.discover`);
    const { target, context = [] } = query.discover;
    return wire("discover", {
      target: example(target, `${at}.discover.target`),
      context: pairsToWire(context, using, `${at}.discover.context`),
    });
  }
  if ("context" in query) return wire("context", { context: pairsToWire(query.context, using, `${at}.context`) });
  if ("feedback" in query) {
    const where = `${at}.feedback`;
    onlyKeys(query.feedback, ["target", "judged", "a", "b", "c"], where);
    const { target, judged, a, b, c } = query.feedback;
    return wire("feedback", {
      a: givenNumber(a, `${where}.a`),
      b: givenNumber(b, `${where}.b`),
      c: givenNumber(c, `${where}.c`),
      target: example(target, `${where}.target`),
      judged: givenList(judged, `${where}.judged`).map((each, i) => {
        onlyKeys(each, ["example", "score"], `${where}.judged[${i}]`);
        return {
          example: example(each.example, `${where}.judged[${i}].example`),
          score: givenNumber(each.score, `${where}.judged[${i}].score`),
        };
      }),
    });
  }
  if ("fusion" in query) return wire("fusion", fusionToWire(query.fusion, `${at}.fusion`));
  if ("orderBy" in query) return wire("orderBy", orderByToWire(query.orderBy, `${at}.orderBy`));
  if ("sample" in query) {
    oneOf({ random: true }, query.sample, `${at}.sample`);
    return wire("sample", {});
  }
  if ("text" in query) {
    return wire("text", textToWire(query.text, `${at}.text`));
  }
  const given = givenObject(query.defaults ?? {}, `${at}.defaults`);
  const defaults = Object.entries(given).map(([key, value]): [string, pb.FormulaDefault] => {
    const where = `${at}.defaults.${key}`;
    wellFormed(key, `${at}.defaults`);
    if (typeof value === "number") return [key, { value: { $case: "number", value } }];
    if (typeof value === "string") return [key, { value: { $case: "datetime", value: wellFormed(value, where) } }];
    return [key, { value: { $case: "geo", value: geoToWire(value, where) } }];
  });
  return wire("formula", {
    expression: formulaToWire(query.formula, `${at}.formula`),
    defaults: Object.fromEntries(defaults),
  });
}

type Case = NonNullable<pb.Query["query"]>;

function wire<K extends Case["$case"]>($case: K, value: Extract<Case, { $case: K }>["value"]): pb.Query {
  return { query: { $case, value } as Case };
}

const kinds = [
  "nearest",
  "recommend",
  "discover",
  "context",
  "feedback",
  "fusion",
  "orderBy",
  "sample",
  "formula",
  "text",
] as const;

function kindOf(query: object, at: string): string {
  const given = kinds.filter((kind) => kind in query);
  const [kind] = given;
  if (kind !== undefined && given.length === 1) return kind;
  throw wrong(at, `has ${given.length === 0 ? "none" : "more than one"} of ${kinds.join(", ")}; give one of them`);
}

function exampleToWire(value: ExampleInput, using: string, at: string): pb.Example {
  if (typeof value !== "object" || (value as ExampleInput | null) === null) {
    if (value === undefined || typeof value === "object")
      throw wrong(at, "is missing; give a vector or the id of a point");
    return { example: { $case: "point", value: idToWire(value) } };
  }
  if (isSparseInput(value)) return { example: { $case: "vector", value: sparseToWire(value, using) } };
  return { example: { $case: "vector", value: vectorToWire(value, using) } };
}

function pairsToWire(pairs: readonly ContextPairInput[], using: string, at: string): pb.ContextPair[] {
  return givenList(pairs, at).map((pair, i) => {
    onlyKeys(pair, ["positive", "negative"], `${at}[${i}]`);
    return {
      positive: exampleToWire(pair.positive, using, `${at}[${i}].positive`),
      negative: exampleToWire(pair.negative, using, `${at}[${i}].negative`),
    };
  });
}

const strategies = {
  average: pb.RecommendStrategy.AVERAGE,
  bestScore: pb.RecommendStrategy.BEST_SCORE,
  sumScores: pb.RecommendStrategy.SUM_SCORES,
} as const;

const directions = { asc: pb.Direction.ASCENDING, desc: pb.Direction.DESCENDING } as const;

function oneOf<T>(table: Readonly<Record<string, T>>, name: string, at: string): T {
  const value = Object.hasOwn(table, name) ? table[name] : undefined;
  if (value !== undefined) return value;
  throw wrong(at, `is ${shownValue(name)}; use one of ${Object.keys(table).join(", ")}`);
}

function fusionToWire(fusion: FusionInput, at: string): pb.Fusion {
  if (typeof fusion === "string") {
    const methods: Record<string, NonNullable<pb.Fusion["method"]>> = {
      rrf: { $case: "reciprocalRank", value: { k: 0, weights: [] } },
      dbsf: { $case: "distributionBased", value: {} },
      relative: { $case: "relativeScore", value: { weights: [] } },
    };
    return { method: oneOf(methods, fusion, at) };
  }
  onlyKeys(fusion, ["rrf", "relative"], at);
  if ("rrf" in fusion) {
    onlyKeys(fusion.rrf, ["k", "weights"], `${at}.rrf`);
    const value = {
      k: wholeNumber(fusion.rrf.k ?? 0, `${at}.rrf.k`),
      weights: weightsToWire(fusion.rrf.weights, `${at}.rrf.weights`),
    };
    return { method: { $case: "reciprocalRank", value } };
  }
  onlyKeys(fusion.relative, ["weights"], `${at}.relative`);
  const weights = weightsToWire(fusion.relative.weights, `${at}.relative.weights`);
  return { method: { $case: "relativeScore", value: { weights } } };
}

function weightsToWire(weights: readonly number[] = [], at: string): number[] {
  return givenList(weights, at).map((weight, i) => givenNumber(weight, `${at}[${i}]`));
}

function optionalNumber(value: number | undefined, at: string): number | undefined {
  return value === undefined ? undefined : givenNumber(value, at);
}

function geoToWire(place: GeoInput, at: string): GeoInput {
  const { lat, lon } = givenObject(place, at);
  return { lat: givenNumber(lat, `${at}.lat`), lon: givenNumber(lon, `${at}.lon`) };
}

export function orderByToWire(order: string | OrderByInput, at: string): pb.OrderBy {
  if (typeof order === "string")
    return { key: wellFormed(order, at), direction: pb.Direction.ASCENDING, startFrom: undefined };
  onlyKeys(order, ["key", "direction", "startFrom"], at);
  const { key, direction = "asc", startFrom } = order;
  return {
    key: wellFormed(key, `${at}.key`),
    direction: oneOf(directions, direction, `${at}.direction`),
    startFrom: startToWire(startFrom, `${at}.startFrom`),
  };
}

function startToWire(start: OrderByInput["startFrom"], at: string): pb.OrderBy["startFrom"] {
  if (start === undefined) return undefined;
  if (!(start instanceof Date)) return { $case: "number", value: givenNumber(start, at) };
  if (Number.isNaN(start.getTime())) throw wrong(at, "is no valid Date");
  return { $case: "datetime", value: start };
}

type ExpressionCase = NonNullable<pb.Expression["expression"]>;

const lists = ["sum", "product", "max", "min"] as const;
const unaries = ["negate", "absolute", "sqrt", "exp", "ln", "log10", "acosh"] as const;
const decays = ["linearDecay", "exponentialDecay", "gaussDecay"] as const;
const expressionKeys = [
  ...lists,
  ...unaries,
  ...decays,
  "condition",
  "divide",
  "power",
  "datetime",
  "datetimeKey",
  "geoDistance",
] as const;

type Operator = (typeof expressionKeys)[number];
type OperatorValues = {
  [K in Operator]: Extract<ExpressionInput, Readonly<Record<K, unknown>>> extends Readonly<Record<K, infer V>>
    ? V
    : never;
};

function formulaToWire(input: ExpressionInput, at: string): pb.Expression {
  if (typeof input === "number") return { expression: { $case: "constant", value: input } };
  if (typeof input === "string") return { expression: { $case: "variable", value: wellFormed(input, at) } };
  onlyKeys(input, expressionKeys, at);
  const [operator] = Object.keys(input) as Operator[];
  if (operator === undefined || Object.keys(input).length > 1) throw wrong(at, "needs one operator");
  const values = input as OperatorValues;
  return { expression: operationToWire(operator, values, `${at}.${operator}`) };
}

function operationToWire(operator: Operator, values: OperatorValues, at: string): ExpressionCase {
  switch (operator) {
    case "sum":
    case "product":
    case "max":
    case "min": {
      const operands = givenList(values[operator], at).map((each, i) => formulaToWire(each, `${at}[${i}]`));
      return { $case: operator, value: { operands } };
    }
    case "negate":
    case "absolute":
    case "sqrt":
    case "exp":
    case "ln":
    case "log10":
    case "acosh":
      return { $case: operator, value: formulaToWire(values[operator], at) };
    case "linearDecay":
    case "exponentialDecay":
    case "gaussDecay":
      return { $case: operator, value: decayToWire(values[operator], at) };
    case "condition": {
      const filter = filterOf(values.condition);
      if (filter === undefined) throw wrong(at, "is missing");
      return { $case: "condition", value: filter };
    }
    case "divide": {
      onlyKeys(values.divide, ["left", "right", "byZero"], at);
      const { left, right, byZero } = values.divide;
      const sides = { left: formulaToWire(left, `${at}.left`), right: formulaToWire(right, `${at}.right`) };
      return { $case: "divide", value: { ...sides, byZero: optionalNumber(byZero, `${at}.byZero`) } };
    }
    case "power": {
      onlyKeys(values.power, ["base", "exponent"], at);
      const { base, exponent } = values.power;
      const value = { base: formulaToWire(base, `${at}.base`), exponent: formulaToWire(exponent, `${at}.exponent`) };
      return { $case: "power", value };
    }
    case "datetime":
    case "datetimeKey":
      return { $case: operator, value: wellFormed(values[operator], at) };
    case "geoDistance": {
      onlyKeys(values.geoDistance, ["origin", "to"], at);
      const { origin, to } = values.geoDistance;
      return {
        $case: "geoDistance",
        value: { origin: geoToWire(origin, `${at}.origin`), to: wellFormed(to, `${at}.to`) },
      };
    }
  }
}

function decayToWire(decay: DecayInput, at: string): pb.Decay {
  onlyKeys(decay, ["x", "target", "scale", "midpoint"], at);
  const { x, target, scale, midpoint } = decay;
  return {
    x: formulaToWire(x, `${at}.x`),
    target: target === undefined ? undefined : formulaToWire(target, `${at}.target`),
    scale: optionalNumber(scale, `${at}.scale`),
    midpoint: optionalNumber(midpoint, `${at}.midpoint`),
  };
}

function wrong(path: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${path} ${what}`, { details: { path } });
}

export function textToWire(given: string | TextInput, at: string): pb.TextQuery {
  if (typeof given === "string") return { text: wellFormed(given, at), analyzer: undefined, plain: false };
  onlyKeys(given, ["text", "analyzer", "plain"], at);
  const { text, analyzer, plain = false } = given;
  return {
    text: wellFormed(text, `${at}.text`),
    plain: givenBoolean(plain, `${at}.plain`),
    analyzer: analyzer && analyzerToWire(analyzer, `${at}.analyzer`),
  };
}
