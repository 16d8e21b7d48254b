import { KithError, limits } from "../base/index.js";
import {
  checkAnalyzer,
  checkQueryVector,
  type ContextPair,
  type Decay,
  type Example,
  type Expression,
  type Feedback,
  fieldOf,
  type FieldsOfCollection,
  type Formula,
  type Fusion,
  isSparse,
  type OrderBy,
  type Query,
  type QueryStage,
  type QueryTree,
  readPath,
  type VectorField,
} from "../model/index.js";

/** Where a field of another collection is looked up; throws COLLECTION_NOT_FOUND, UNKNOWN_VECTOR. */
export type FindField = (collection: string, using: string) => VectorField;

/**
 * Checks everything about a query that can be told without running it. Throws KithError; the message and `details.path` name
 * the node at fault, such as "prefetch[1].query.discover.context[0].negative".
 */
export function checkQuery(collection: FieldsOfCollection, tree: QueryTree, findField: FindField): void {
  checkRange(tree.offset, 0, limits.queryLimit, "offset");
  if (tree.limit + tree.offset > limits.queryLimit) {
    throw outOfRange("limit + offset", tree.limit + tree.offset, 1, limits.queryLimit);
  }
  let stages = 0;
  const visit = (stage: QueryStage, path: string, depth: number): void => {
    if (++stages > limits.prefetchesMax) throw tooMany("prefetches", limits.prefetchesMax, path);
    if (depth > limits.prefetchDepth) throw tooMany("levels of prefetches", limits.prefetchDepth, path);
    checkStage(collection, stage, path, findField);
    stage.prefetch.forEach((each, i) => visit(each, `${path}prefetch[${i}].`, depth + 1));
  };
  visit(tree, "", 0);
}

function checkStage(collection: FieldsOfCollection, stage: QueryStage, path: string, findField: FindField): void {
  const { query, prefetch, scoreThreshold } = stage;
  checkRange(stage.limit, 0, limits.queryLimit, `${path}limit`);
  checkRange(stage.ef, 0, limits.efMax, `${path}ef`);
  if (Number.isNaN(scoreThreshold)) throw invalid(`${path}score_threshold`, "is NaN; give a number, or leave it out");
  if (query === undefined) {
    if (prefetch.length > 0)
      throw invalid(`${path}query`, "is missing: say what becomes of the results of the prefetches");
    return;
  }
  const at = `${path}query.${query.kind}`;
  if (query.kind === "fusion") return checkFusion(query.fusion, prefetch.length, at);
  if (query.kind === "formula") return checkFormula(query.formula, prefetch.length, at);
  if (query.kind === "sample") return;
  if (query.kind === "orderBy") return checkOrder(query.orderBy, at);
  if (query.kind === "text") {
    const { analyzer } = query.text;
    if (analyzer !== undefined) checkAnalyzer(analyzer, `${at}.analyzer`, "INVALID_ARGUMENT");
    return;
  }
  if (isSparse(collection, stage.using)) return checkSparseQuery(query, stage.using, at);
  const field = placed(`${path}using`, () => fieldOf(collection, stage.using));
  const { lookup } = stage;
  const lookedUp = lookup && placed(`${path}lookup`, () => findField(lookup.collection, lookup.using));
  if (lookedUp !== undefined && lookedUp.dimension !== field.dimension) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${path}lookup: the vectors have ${lookedUp.dimension} dimensions; the field "${field.name}" has ${field.dimension}`,
      { details: { path: `${path}lookup`, expected: field.dimension, got: lookedUp.dimension } },
    );
  }
  if (lookedUp !== undefined && lookedUp.multivector !== field.multivector) {
    const kind = (each: VectorField): string => (each.multivector === undefined ? "single vectors" : "matrices");
    throw new KithError(
      "DIMENSION_MISMATCH",
      `${path}lookup: the field there holds ${kind(lookedUp)}; the field "${field.name}" holds ${kind(field)}`,
      { details: { path: `${path}lookup`, field: field.name } },
    );
  }
  checkVectorQuery(query, field, at);
}

/** What is found of a name that stands at `at`, which errors tell. */
function placed<T>(at: string, find: () => T): T {
  try {
    return find();
  } catch (error) {
    if (!(error instanceof KithError)) throw error;
    throw new KithError(error.code, `${at}: ${error.message}`, { details: { ...error.details, path: at } });
  }
}

/** INVALID_ARGUMENT names what is wrong with an order that stands at `at`. */
export function checkOrder({ key, startFrom }: OrderBy, at: string): void {
  const path = readPath(key);
  if (!("steps" in path)) {
    throw invalid(`${at}.key`, `${JSON.stringify(key.slice(0, limits.pathLength))} is not valid: ${path.problem}`);
  }
  if (startFrom !== undefined && !Number.isFinite(startFrom)) {
    throw invalid(`${at}.start_from`, `is ${startFrom}; give a number`);
  }
}

type VectorQuery = Extract<Query, { kind: "nearest" | "recommend" | "discover" | "context" | "feedback" }>;

/** Sparse vectors were checked as they were read. */
function checkSparseQuery(query: VectorQuery, using: string, at: string): void {
  checkExamples(query, at, (example, where) => {
    if (example.kind !== "vector") return;
    throw invalid(where, `is a dense vector, and the field "${using}" is sparse: give indices with the values`);
  });
}

function checkVectorQuery(query: VectorQuery, field: VectorField, at: string): void {
  checkExamples(query, at, (example, where) => {
    if (example.kind === "vector") checkQueryVector(field, example.vector, () => where, example.rows);
    if (example.kind !== "sparse") return;
    throw invalid(where, `is a sparse vector, and the field "${field.name}" is dense: give values without indices`);
  });
}

/** What all fields ask of a query by examples; `check` is told of each of these, with its place. */
function checkExamples(query: VectorQuery, at: string, check: (example: Example, where: string) => void): void {
  const checkPairs = (pairs: readonly ContextPair[]): void => {
    if (pairs.length > limits.examplesMax) throw tooMany("pairs", limits.examplesMax, at);
    pairs.forEach(({ positive, negative }, i) => {
      check(positive, `${at}.context[${i}].positive`);
      check(negative, `${at}.context[${i}].negative`);
    });
  };
  switch (query.kind) {
    case "nearest":
      // Named as users know it where it is the whole query.
      check(query.example, at === "query.nearest" ? "the query" : at);
      if (query.mmr !== undefined) {
        const { diversity, candidates } = query.mmr;
        if (!(diversity >= 0 && diversity <= 1)) throw outOfRange(`${at}.mmr.diversity`, diversity, 0, 1);
        checkRange(candidates, 0, limits.queryLimit, `${at}.mmr.candidates`);
      }
      return;
    case "recommend": {
      const { positive, negative, strategy } = query;
      if (positive.length + negative.length > limits.examplesMax) throw tooMany("examples", limits.examplesMax, at);
      if (strategy === "average" && positive.length === 0)
        throw invalid(`${at}.positive`, "is empty; an average needs at least one positive example");
      if (positive.length + negative.length === 0)
        throw invalid(at, "has no examples; give a positive or a negative one");
      positive.forEach((each, i) => check(each, `${at}.positive[${i}]`));
      negative.forEach((each, i) => check(each, `${at}.negative[${i}]`));
      return;
    }
    case "discover":
      check(query.target, `${at}.target`);
      checkPairs(query.context);
      return;
    case "context":
      if (query.context.length === 0) throw invalid(`${at}.context`, "is empty; give at least one pair");
      checkPairs(query.context);
      return;
    case "feedback":
      checkFeedback(query, at);
      check(query.target, `${at}.target`);
      query.judged.forEach(({ example }, i) => check(example, `${at}.judged[${i}].example`));
  }
}

function checkFeedback({ judged, a, b, c }: Feedback, at: string): void {
  if (judged.length > limits.examplesMax) throw tooMany("examples", limits.examplesMax, at);
  for (const [name, value] of Object.entries({ a, b, c })) {
    if (!Number.isFinite(value)) throw invalid(`${at}.${name}`, `is ${value}; give a finite number`);
  }
  if (b < 0) throw invalid(`${at}.b`, `is ${b}; it must be 0 or more`);
  judged.forEach(({ score }, i) => {
    if (!Number.isFinite(score)) throw invalid(`${at}.judged[${i}].score`, `is ${score}; give a finite number`);
  });
}

function checkFusion(fusion: Fusion, prefetchCount: number, at: string): void {
  if (prefetchCount === 0) throw invalid(at, "has no prefetches to work on; give at least one");
  if (fusion.method === "rrf" && fusion.k !== undefined && !(Number.isInteger(fusion.k) && fusion.k >= 1)) {
    throw invalid(`${at}.k`, `is ${fusion.k}; it must be a whole number of 1 or more`);
  }
  const weights = fusion.method === "dbsf" ? undefined : fusion.weights;
  if (weights === undefined) return;
  if (weights.length !== prefetchCount) {
    throw invalid(`${at}.weights`, `has ${weights.length} weights for ${prefetchCount} prefetches; give one for each`);
  }
  weights.forEach((weight, i) => {
    if (!(weight >= 0 && weight < Number.POSITIVE_INFINITY)) {
      throw invalid(`${at}.weights[${i}]`, `is ${weight}; it must be a finite number of 0 or more`);
    }
  });
}

function checkFormula({ expression, defaults }: Formula, prefetchCount: number, at: string): void {
  if (prefetchCount === 0) throw invalid(at, "has no prefetches to work on; give at least one");
  let nodes = 0;
  const visit = (node: Expression, path: string, depth: number): void => {
    if (++nodes > limits.formulaNodes) throw tooMany("expressions", limits.formulaNodes, at);
    if (depth > limits.formulaDepth) throw tooMany("levels of expressions", limits.formulaDepth, path);
    checkExpression(node, path);
    for (const [name, inner] of operandsOf(node)) visit(inner, `${path}.${name}`, depth + 1);
  };
  visit(expression, `${at}.expression`, 1);
  for (const [key, value] of defaults) {
    if (typeof value === "number" && !Number.isFinite(value))
      throw invalid(`${at}.defaults["${key}"]`, `is ${value}; give a finite number`);
  }
}

function checkExpression(node: Expression, path: string): void {
  switch (node.kind) {
    case "constant":
      if (!Number.isFinite(node.value)) throw invalid(path, `is ${node.value}; give a finite number`);
      return;
    case "max":
    case "min":
      if (node.operands.length === 0) throw invalid(`${path}.${node.kind}`, "has no operands; give at least one");
      return;
    case "geoDistance":
      if (!(Math.abs(node.origin.lat) <= 90 && Math.abs(node.origin.lon) <= 180)) {
        throw invalid(
          `${path}.geoDistance.origin`,
          `is ${node.origin.lat}, ${node.origin.lon}; latitude is in -90..90, longitude in -180..180`,
        );
      }
      return;
    case "linearDecay":
    case "exponentialDecay":
    case "gaussDecay":
      checkDecay(node, path);
      return;
    case "divide":
      if (node.byZero !== undefined && !Number.isFinite(node.byZero))
        throw invalid(`${path}.divide.by_zero`, `is ${node.byZero}; give a finite number`);
      return;
    default:
  }
}

function checkDecay({ kind, scale, midpoint }: Decay, path: string): void {
  if (!(scale > 0 && Number.isFinite(scale)))
    throw invalid(`${path}.${kind}.scale`, `is ${scale}; it must be greater than 0`);
  const inside = kind === "linearDecay" ? midpoint >= 0 && midpoint <= 1 : midpoint > 0 && midpoint < 1;
  if (!inside) throw invalid(`${path}.${kind}.midpoint`, `is ${midpoint}; it must be between 0 and 1`);
}

/** The inner expressions, with how they are named. */
export function operandsOf(node: Expression): [string, Expression][] {
  switch (node.kind) {
    case "sum":
    case "product":
    case "max":
    case "min":
      return node.operands.map((operand, i) => [`${node.kind}[${i}]`, operand]);
    case "negate":
    case "absolute":
    case "sqrt":
    case "exp":
    case "ln":
    case "log10":
    case "acosh":
      return [[node.kind, node.operand]];
    case "divide":
      return [
        ["divide.left", node.left],
        ["divide.right", node.right],
      ];
    case "power":
      return [
        ["power.base", node.base],
        ["power.exponent", node.exponent],
      ];
    case "linearDecay":
    case "exponentialDecay":
    case "gaussDecay": {
      const x: [string, Expression] = [`${node.kind}.x`, node.x];
      return node.target === undefined ? [x] : [x, [`${node.kind}.target`, node.target]];
    }
    default:
      return [];
  }
}

function invalid(path: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${path} ${what}`, { details: { path } });
}

function tooMany(what: string, limit: number, path: string): KithError {
  const where = path === "" ? "the query" : path;
  return new KithError("LIMIT_OUT_OF_RANGE", `${where}: more than ${limit} ${what}; ask for less at once`, {
    details: { path: where, limit },
  });
}

function outOfRange(name: string, value: number, min: number, max: number): KithError {
  return new KithError("LIMIT_OUT_OF_RANGE", `${name} is ${value}; it must be in ${min}..${max}`, {
    details: { field: name, path: name, value, min, max },
  });
}

function checkRange(value: number, min: number, max: number, name: string): void {
  if (!Number.isInteger(value) || value < min || value > max) throw outOfRange(name, value, min, max);
}
