import { KithError, limits } from "../base/index.js";
import {
  type ContextPair,
  type Example,
  fieldOf,
  type FieldsOfCollection,
  type Filter,
  filterOf,
  type Hit,
  type IdKey,
  idMapKey,
  isSparse,
  type Lookup,
  type Mmr,
  type OrderBy,
  type PairOf,
  type Query,
  type QueryStage,
  type QueryTree,
  type Scorer,
  type ScorerOf,
  type Select,
  sparseDot,
  type SparseField,
  sparseFieldOf,
  type SparseScorer,
  sparseSum,
  type SparseVector,
  type StoredPoint,
  type TextQuery,
  type VectorField,
} from "../model/index.js";
import { averageOf, joinedRows, weightsOfFeedback } from "./examples.js";
import { evaluate, type FormulaInputs, needsVectors } from "./formula.js";
import { byScore, fuse, withScore } from "./fuse.js";
import { limitOf } from "./limits.js";
import { type Candidate, diversify } from "./mmr.js";
import { type Order, orderOf, reaches } from "./score.js";
import { fieldSimilarity } from "./similarity.js";

/** Which points a read of a stage is about. */
export interface Scope {
  filter: Filter | undefined;
  /** Only these, where given. */
  ids: readonly IdKey[] | undefined;
  /** All but these. */
  exclude: readonly IdKey[];
}

export interface VectorSearch extends Scope {
  field: VectorField;
  scorer: Scorer;
  limit: number;
  /** Scores beyond it are left out; see scoreOf for "nearest", else higher is better. */
  threshold: number | undefined;
  /** Beam width; 0: the field's. */
  ef: number;
  exact: boolean;
  select: Select;
}

export interface TextSearch extends Scope {
  /** Path of the index by BM25. */
  using: string;
  text: TextQuery;
  limit: number;
  /** Lower scores are left out. */
  threshold: number | undefined;
  select: Select;
}

export interface SparseSearch extends Scope {
  field: SparseField;
  /** Its vectors before their entries are weighed as the field says. */
  scorer: SparseScorer;
  limit: number;
  /** Lower scores are left out. */
  threshold: number | undefined;
  exact: boolean;
  select: Select;
}

/** The collection that a query runs on: every read is of all its shards, merged. */
export interface QuerySource {
  readonly collection: FieldsOfCollection;
  search(search: VectorSearch): Promise<Hit[]>;
  /** By BM25, best first. */
  text(search: TextSearch): Promise<Hit[]>;
  /** By dot products of sparse vectors, or scores made of several of them, best first. */
  sparse(search: SparseSearch): Promise<Hit[]>;
  /** In the order, ties by id; a point once for each of its values. */
  ordered(scope: Scope, orderBy: OrderBy, limit: number, select: Select): Promise<Hit[]>;
  /** In order of id. */
  page(scope: Scope, limit: number, select: Select): Promise<Hit[]>;
  /** So many points, drawn by chance. */
  sample(scope: Scope, limit: number, select: Select): Promise<Hit[]>;
  /** By map key of the id (see idMapKey); those that are gone are missing. */
  fetch(ids: readonly IdKey[], select: Select): Promise<Map<string, StoredPoint>>;
  /** The stored vectors of points, of this or another collection. POINT_NOT_FOUND where one is missing. */
  examples(ids: readonly IdKey[], using: string, lookup: Lookup | undefined): Promise<Float32Array[]>;
  /** The same of a sparse field. */
  sparseExamples(ids: readonly IdKey[], using: string, lookup: Lookup | undefined): Promise<SparseVector[]>;
  /** What formulas ask of a point's content. */
  formulaInputs(point: StoredPoint): Omit<FormulaInputs, "score">;
  /** The same source for one stage of a query, or a part of it: what is read of it is told apart until it is left. */
  enter(name: string, kind: string): QuerySource;
  leave(): void;
  /** Does what a stage does without a read. */
  work<T>(name: string, work: () => T): T;
  /** The same of what takes long: others run between its steps, and it ends with the call. */
  workInSteps<T>(name: string, steps: Generator<void, T>): Promise<T>;
}

const defaultLimit = 10;
const nothing: Select = { payload: false, vectors: [] };

/** Runs a query that was checked (see checkQuery); hits come best first, without those of the offset. */
export async function runQuery(source: QuerySource, tree: QueryTree): Promise<Hit[]> {
  const limit = limitOf(tree.limit, defaultLimit, limits.queryLimit, "limit") + tree.offset;
  const hits = await runStage(source, tree, { filter: undefined, exclude: [], at: "" }, limit, tree.select, "query");
  return tree.offset === 0 ? hits : hits.slice(tree.offset);
}

/** What a stage has of those around it. */
interface Inherited extends Pick<Scope, "filter" | "exclude"> {
  /** Where the stage stands, as errors name it: "prefetch[1]." */
  at: string;
}

async function runStage(
  parent: QuerySource,
  stage: QueryStage,
  inherited: Inherited,
  limit: number,
  select: Select,
  name: string,
): Promise<Hit[]> {
  const source = parent.enter(name, stage.query?.kind ?? "in order of id");
  try {
    return await runEntered(source, stage, inherited, limit, select);
  } finally {
    source.leave();
  }
}

async function runEntered(
  source: QuerySource,
  stage: QueryStage,
  inherited: Inherited,
  limit: number,
  select: Select,
): Promise<Hit[]> {
  const filter = both(inherited.filter, stage.filter);
  const exclude = [...inherited.exclude, ...mentionedIn(stage, source.collection.name)];
  if (stage.prefetch.length === 0) {
    return scoreWithin(source, stage, { filter, ids: undefined, exclude }, limit, select);
  }
  const lists = await Promise.all(
    stage.prefetch.map((each, i) => {
      const prefetchLimit = limitOf(each.limit, defaultLimit, limits.queryLimit, "prefetch limit");
      const within = { filter, exclude, at: `${inherited.at}prefetch[${i}].` };
      return runStage(source, each, within, prefetchLimit, nothing, `prefetch[${i}]`);
    }),
  );
  const { query, scoreThreshold } = stage;
  if (query?.kind === "fusion") {
    const orders = stage.prefetch.map((each) => orderOfStage(each, source.collection));
    const fused = source.work("fuse", () =>
      fuse(lists, query.fusion, limit, orders).filter(({ score }) => reaches("higher", score, scoreThreshold)),
    );
    return hydrate(source, fused, select);
  }
  if (query?.kind === "formula") {
    const at = `${inherited.at}query.formula.expression`;
    return scoreByFormula(source, query, at, lists, limit, scoreThreshold, select);
  }
  const ids = idsOf(lists);
  if (ids.length === 0) return [];
  return scoreWithin(source, stage, { filter, ids, exclude }, limit, select);
}

/** Which of the scores that a stage gives are better. */
function orderOfStage({ query, using }: QueryStage, collection: FieldsOfCollection): Order {
  if (isSparse(collection, using)) return "higher";
  const isByMetric = query?.kind === "nearest" || (query?.kind === "recommend" && query.strategy === "average");
  return isByMetric ? orderOf(fieldOf(collection, using).metric) : "higher";
}

/** Points of the collection that a stage names as examples: they are no results of it, nor of its prefetches. */
function mentionedIn({ query, lookup }: QueryStage, collection: string): IdKey[] {
  if (query === undefined || !isByVectors(query) || (lookup !== undefined && lookup.collection !== collection))
    return [];
  return examplesIn(query).flatMap((example) => (example.kind === "point" ? [example.id] : []));
}

function isByVectors(query: Query): query is VectorQuery {
  return ["nearest", "recommend", "discover", "context", "feedback"].includes(query.kind);
}

/** The filter of points that pass both. One without a condition lets all points through, and may not stand within another. */
export function both(a: Filter | undefined, b: Filter | undefined): Filter | undefined {
  if (a === undefined || isEmpty(a)) return b;
  if (b === undefined || isEmpty(b)) return a;
  return filterOf({ must: [a, b].map((filter) => ({ kind: "filter", filter })) });
}

function isEmpty({ must, should, mustNot, minShould }: Filter): boolean {
  return must.length + should.length + mustNot.length === 0 && minShould === undefined;
}

/** Each id of the lists once. */
function idsOf(lists: readonly (readonly Hit[])[]): IdKey[] {
  const ids = new Map<string, IdKey>();
  for (const { id } of lists.flat()) ids.set(idMapKey(id), id);
  return [...ids.values()];
}

async function scoreWithin(
  source: QuerySource,
  stage: QueryStage,
  scope: Scope,
  limit: number,
  select: Select,
): Promise<Hit[]> {
  const { query } = stage;
  switch (query?.kind) {
    case undefined:
      return source.page(scope, limit, select);
    case "orderBy":
      return source.ordered(scope, query.orderBy, limit, select);
    case "text": {
      const { using, scoreThreshold: threshold } = stage;
      return source.text({ ...scope, using, text: query.text, limit, threshold, select });
    }
    case "sample":
      return source.sample(scope, limit, select);
    case "fusion":
    case "formula":
      throw new KithError("INVALID_ARGUMENT", `a ${query.kind} needs prefetches to work on; give at least one`);
    case "nearest":
    case "recommend":
    case "discover":
    case "context":
    case "feedback":
      return isSparse(source.collection, stage.using)
        ? scoreBySparse(source, stage, query, scope, limit, select)
        : scoreByVectors(source, stage, query, scope, limit, select);
  }
}

type VectorQuery = Extract<Query, { kind: "nearest" | "recommend" | "discover" | "context" | "feedback" }>;

async function scoreByVectors(
  source: QuerySource,
  stage: QueryStage,
  query: VectorQuery,
  scope: Scope,
  limit: number,
  select: Select,
): Promise<Hit[]> {
  const field = fieldOf(source.collection, stage.using);
  const average = field.multivector === undefined ? averageOf : matrixAverage(field);
  const scorer = scorerOf(query, await resolve(source, stage, examplesIn(query)), average);
  const { ef, exact, scoreThreshold: threshold } = stage;
  const search: VectorSearch = { ...scope, field, scorer, limit, threshold, ef, exact, select };
  if (query.kind !== "nearest" || query.mmr === undefined || scorer.kind !== "nearest") return source.search(search);
  const { mmr } = query;
  const found = await source.search(forMmr(search, mmr, field.name));
  const candidates = withVectors(found, (hit) => hit.vectors?.get(field.name));
  const similarity = (a: Float32Array, b: Float32Array): number => fieldSimilarity(field, a, b);
  const picking = diversify(candidates, scorer.vector, similarity, mmr.diversity, limit);
  const chosen = await source.workInSteps("diversify", picking);
  return hydrate(source, chosen, select);
}

async function scoreBySparse(
  source: QuerySource,
  stage: QueryStage,
  query: VectorQuery,
  scope: Scope,
  limit: number,
  select: Select,
): Promise<Hit[]> {
  const { using, lookup, exact, scoreThreshold: threshold } = stage;
  const ids = distinctIds(examplesIn(query));
  const stored = ids.size === 0 ? [] : await source.sparseExamples([...ids.values()], using, lookup);
  const byKey = new Map([...ids.keys()].map((key, i) => [key, stored[i] as SparseVector]));
  const vectorOf = (example: Example): SparseVector => {
    if (example.kind === "sparse") return example.vector;
    const found = example.kind === "point" ? byKey.get(idMapKey(example.id)) : undefined;
    if (found !== undefined) return found;
    throw new KithError("INTERNAL", "an example that is no sparse vector was let through");
  };
  const field = sparseFieldOf(source.collection, using);
  const scorer = scorerOf(query, vectorOf, sparseAverage);
  const search: SparseSearch = { ...scope, field, scorer, limit, threshold, exact, select };
  if (query.kind !== "nearest" || query.mmr === undefined || scorer.kind !== "nearest") return source.sparse(search);
  const { mmr } = query;
  const found = await source.sparse(forMmr(search, mmr, field.name));
  const candidates = withVectors(found, (hit) => hit.sparse?.get(field.name));
  const picking = diversify(candidates, scorer.vector, sparseDot, mmr.diversity, limit);
  const chosen = await source.workInSteps("diversify", picking);
  return hydrate(source, chosen, select);
}

/** As averageOf makes the vector of a recommendation. */
function sparseAverage(positive: readonly SparseVector[], negative: readonly SparseVector[]): SparseVector {
  const toward = (negative.length === 0 ? 1 : 2) / positive.length;
  const vector = sparseSum([
    ...positive.map((each) => ({ vector: each, weight: toward })),
    ...negative.map((each) => ({ vector: each, weight: -1 / negative.length })),
  ]);
  const { length } = vector.indices;
  if (length <= limits.sparseEntries) return vector;
  throw new KithError(
    "LIMIT_OUT_OF_RANGE",
    `the examples have ${length} indices together; at most ${limits.sparseEntries} are allowed: give fewer examples`,
    { details: { count: length, limit: limits.sparseEntries } },
  );
}

/** As averageOf, of matrices. */
function matrixAverage(field: VectorField): typeof joinedRows {
  return (positive, negative) => {
    const joined = joinedRows(positive, negative);
    const rows = joined.length / field.dimension;
    if (rows <= limits.matrixRows) return joined;
    throw new KithError(
      "LIMIT_OUT_OF_RANGE",
      `the examples have ${rows} rows together; at most ${limits.matrixRows} are allowed: give fewer examples`,
      { details: { count: rows, limit: limits.matrixRows } },
    );
  };
}

/** The search for the candidates of which MMR picks. */
function forMmr<S extends { limit: number; select: Select }>(search: S, { candidates }: Mmr, field: string): S {
  return {
    ...search,
    limit: candidates === 0 ? search.limit : candidates,
    select: { payload: false, vectors: [field] },
  };
}

function withVectors<V>(hits: readonly Hit[], vectorOf: (hit: Hit) => V | undefined): Candidate<V>[] {
  return hits.flatMap((hit) => {
    const vector = vectorOf(hit);
    return vector === undefined ? [] : [{ hit, vector }];
  });
}

/** Of those examples that are points, each once. */
function distinctIds(examples: readonly Example[]): Map<string, IdKey> {
  const ids = new Map<string, IdKey>();
  for (const example of examples) if (example.kind === "point") ids.set(idMapKey(example.id), example.id);
  return ids;
}

function examplesIn(query: VectorQuery): Example[] {
  switch (query.kind) {
    case "nearest":
      return [query.example];
    case "recommend":
      return [...query.positive, ...query.negative];
    case "discover":
      return [query.target, ...query.context.flatMap(({ positive, negative }) => [positive, negative])];
    case "context":
      return query.context.flatMap(({ positive, negative }) => [positive, negative]);
    case "feedback":
      return [query.target, ...query.judged.map(({ example }) => example)];
  }
}

/** Finds the vectors of examples that are points. */
async function resolve(
  source: QuerySource,
  stage: QueryStage,
  examples: readonly Example[],
): Promise<(example: Example) => Float32Array> {
  const ids = distinctIds(examples);
  const keys = [...ids.keys()];
  const vectors = keys.length === 0 ? [] : await source.examples([...ids.values()], stage.using, stage.lookup);
  const byKey = new Map(keys.map((key, i) => [key, vectors[i] as Float32Array]));
  return (example) => {
    if (example.kind === "vector") return example.vector;
    const found = example.kind === "point" ? byKey.get(idMapKey(example.id)) : undefined;
    if (found !== undefined) return found;
    throw new KithError("INTERNAL", "an example that is no dense vector was let through");
  };
}

function scorerOf<V>(
  query: VectorQuery,
  vectorOf: (example: Example) => V,
  average: (positive: readonly V[], negative: readonly V[]) => V,
): ScorerOf<V> {
  const pairsOf = (pairs: readonly ContextPair[]): PairOf<V>[] =>
    pairs.map(({ positive, negative }) => ({ positive: vectorOf(positive), negative: vectorOf(negative) }));
  switch (query.kind) {
    case "nearest":
      return { kind: "nearest", vector: vectorOf(query.example) };
    case "recommend": {
      const positive = query.positive.map(vectorOf);
      const negative = query.negative.map(vectorOf);
      if (query.strategy === "average") return { kind: "nearest", vector: average(positive, negative) };
      return { kind: query.strategy, positive, negative };
    }
    case "discover":
      return { kind: "discover", target: vectorOf(query.target), pairs: pairsOf(query.context) };
    case "context":
      return { kind: "context", pairs: pairsOf(query.context) };
    case "feedback": {
      const { target, judged } = query;
      const weights = weightsOfFeedback(
        judged.map(({ score }) => score),
        query,
      );
      const examples = judged.map(({ example }, i) => ({ vector: vectorOf(example), weight: weights.judged[i] ?? 0 }));
      return { kind: "weighted", examples: [{ vector: vectorOf(target), weight: weights.target }, ...examples] };
    }
  }
}

async function scoreByFormula(
  source: QuerySource,
  { formula }: Extract<Query, { kind: "formula" }>,
  at: string,
  lists: readonly (readonly Hit[])[],
  limit: number,
  threshold: number | undefined,
  select: Select,
): Promise<Hit[]> {
  const scores = lists.map((list) => new Map(list.map(({ id, score }) => [idMapKey(id), score])));
  const vectors = needsVectors(formula.expression) ? "all" : [];
  const points = await source.fetch(idsOf(lists), { payload: true, vectors });
  const evaluated = function* (): Generator<void, Hit[]> {
    const hits: Hit[] = [];
    for (const [key, point] of points) {
      const { id, version } = point;
      const inputs: FormulaInputs = {
        ...source.formulaInputs(point),
        score: (prefetch) => scores[prefetch]?.get(key),
      };
      const score = evaluate(formula, inputs, at);
      if (reaches("higher", score, threshold)) hits.push({ id, score, version, payload: noPayload });
      yield;
    }
    return hits.sort(byScore).slice(0, limit);
  };
  return hydrate(source, await source.workInSteps("evaluate", evaluated()), select);
}

const noPayload = new Uint8Array(0);

/** Adds what was asked of each point, as it is now: one that was deleted meanwhile is no result any more. */
export async function hydrate(source: QuerySource, hits: readonly Hit[], select: Select): Promise<Hit[]> {
  if (hits.length === 0 || (!select.payload && select.vectors.length === 0)) return [...hits];
  const ids = hits.map(({ id }) => id);
  const points = await source.fetch(ids, select);
  return hits.flatMap((hit) => {
    const point = points.get(idMapKey(hit.id));
    if (point === undefined) return [];
    const whole = withScore({ ...point, score: hit.score }, hit.score);
    if (hit.order !== undefined) whole.order = hit.order;
    return [whole];
  });
}

/** What a nearest search finds under a metric, or a scorer of several examples. */
export function orderOfScorer(scorer: Scorer, field: VectorField): Order {
  return scorer.kind === "nearest" ? orderOf(field.metric) : "higher";
}
