import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Example,
  type Filter,
  filterOf,
  type Hit,
  type IdKey,
  idFromNum,
  idMapKey,
  type Metric,
  parsePath,
  type Query,
  type QueryStage,
  type QueryTree,
  type StoredPoint,
  type VectorField,
} from "../model/index.js";
import { matches } from "../filter/index.js";
import {
  checkQuery,
  combineSimilarities,
  examplesOf,
  mergeHits,
  mergeOrdered,
  orderOfScorer,
  type QuerySource,
  reaches,
  runQuery,
  type Scope,
  scoreOf,
  similarity,
} from "./index.js";
import { numberOf, plain, resultOf } from "./testing.js";

const nothing = { payload: false, vectors: [] };
const field = (metric: Metric): VectorField => ({
  name: "",
  dimension: 2,
  metric,
  datatype: "f32",
  m: 16,
  efConstruction: 100,
  efSearch: 64,
});

interface Row {
  id: number;
  vector: Float32Array;
  price: number;
}

/** Exact answers from rows that lie on several shards; every read asks each shard and merges, as a router does. */
class MemorySource implements QuerySource {
  readonly collection;
  readonly #shards: Row[][];
  left = 0;

  constructor(
    readonly metric: Metric,
    readonly rows: readonly Row[],
    shardCount: number,
  ) {
    this.collection = { name: "docs", fields: [field(metric)] };
    this.#shards = Array.from({ length: shardCount }, (_, shard) => rows.filter(({ id }) => id % shardCount === shard));
  }

  #rowsOf(shard: readonly Row[], { filter, ids, exclude }: Scope): Row[] {
    const among = (list: readonly IdKey[], id: number): boolean =>
      list.some((each) => idMapKey(each) === idMapKey(idFromNum(id)));
    return shard.filter(
      ({ id, price }) =>
        (filter === undefined || matches(filter, { id: idFromNum(id), payload: { price }, hasVector: () => true })) &&
        (ids === undefined || among(ids, id)) &&
        !among(exclude, id),
    );
  }

  #hit({ id, vector, price }: Row, score: number): Hit {
    const payload = Buffer.from(JSON.stringify({ price }));
    return { id: idFromNum(id), score, version: 1, payload, vectors: new Map([["", vector]]) };
  }

  async search({ scorer, limit, threshold, ...scope }: Parameters<QuerySource["search"]>[0]): Promise<Hit[]> {
    const [own] = this.collection.fields as [VectorField];
    const order = orderOfScorer(scorer, own);
    const scoreFor = (row: Row): number => {
      const similarities = examplesOf(scorer).map((example) => similarity(this.metric, example, row.vector));
      const score = combineSimilarities(scorer, similarities);
      if (scorer.kind !== "nearest") return Math.fround(score);
      return scoreOf(this.metric, this.metric === "cosine" ? 1 - score : -score);
    };
    const lists = this.#shards.map((shard) =>
      mergeHits(
        this.#rowsOf(shard, scope).map((row) => [this.#hit(row, scoreFor(row))]),
        limit,
        order,
      ),
    );
    return mergeHits(lists, limit, order).filter(({ score }) => reaches(order, score, threshold));
  }

  async ordered(
    scope: Scope,
    { direction, startFrom }: { direction: "ascending" | "descending"; startFrom?: number | undefined },
    limit: number,
  ): Promise<Hit[]> {
    const isIn = (price: number): boolean =>
      startFrom === undefined || (direction === "ascending" ? price >= startFrom : price <= startFrom);
    const lists = this.#shards.map((shard) =>
      this.#rowsOf(shard, scope)
        .filter(({ price }) => isIn(price))
        .map((row) => ({ ...this.#hit(row, 0), value: row.price })),
    );
    return mergeOrdered(lists, direction, limit);
  }

  async page(scope: Scope, limit: number): Promise<Hit[]> {
    return this.#shards
      .flatMap((shard) => this.#rowsOf(shard, scope))
      .sort((a, b) => a.id - b.id)
      .slice(0, limit)
      .map((row) => this.#hit(row, 0));
  }

  async sample(scope: Scope, limit: number): Promise<Hit[]> {
    return (await this.page(scope, limit)).reverse();
  }

  async fetch(ids: readonly IdKey[]): Promise<Map<string, StoredPoint>> {
    return new Map(
      ids.flatMap((id) => {
        const row = this.rows.find((each) => each.id === numberOf({ id }));
        return row === undefined ? [] : [[idMapKey(id), this.#hit(row, 0)] as const];
      }),
    );
  }

  async examples(ids: readonly IdKey[]): Promise<Float32Array[]> {
    return ids.map((id) => {
      const row = this.rows.find((each) => each.id === numberOf({ id }));
      if (row === undefined) throw new Error("no such point");
      return row.vector;
    });
  }

  sparse(): Promise<Hit[]> {
    throw new Error("not asked for here");
  }
  sparseExamples(): ReturnType<QuerySource["sparseExamples"]> {
    throw new Error("not asked for here");
  }
  text(): Promise<Hit[]> {
    throw new Error("not asked for here");
  }

  enter(): this {
    return this;
  }

  leave(): void {
    this.left++;
  }

  work<T>(_name: string, work: () => T): T {
    return work();
  }

  workInSteps<T>(_name: string, steps: Generator<void, T>): Promise<T> {
    return Promise.resolve(resultOf(steps));
  }

  formulaInputs({ payload }: StoredPoint): ReturnType<QuerySource["formulaInputs"]> {
    const values = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
    return { values: (path) => (path in values ? [values[path]] : []), passes: () => false, seconds: () => undefined };
  }
}

function atLeast(least: number): Filter {
  return filterOf({ must: [{ kind: "range", path: parsePath("price"), range: { gte: least } }] });
}

function stage(query: Query | undefined, more: Partial<QueryStage> = {}): QueryStage {
  return {
    prefetch: [],
    query,
    using: "",
    filter: undefined,
    limit: 0,
    scoreThreshold: undefined,
    ef: 0,
    exact: false,
    lookup: undefined,
    ...more,
  };
}

function tree(query: Query | undefined, more: Partial<QueryTree> = {}): QueryTree {
  return { ...stage(query), offset: 0, select: nothing, ...more };
}

const rows: Row[] = [
  { id: 1, vector: Float32Array.of(1, 0), price: 5 },
  { id: 2, vector: Float32Array.of(2, 1), price: 3 },
  { id: 3, vector: Float32Array.of(0, 3), price: 9 },
  { id: 4, vector: Float32Array.of(4, 0), price: 1 },
];
const of = (...vector: number[]): Example => ({ kind: "vector", vector: Float32Array.from(vector) });
const point = (id: number): Example => ({ kind: "point", id: idFromNum(id) });
const nearest = (example: Example): Query => ({ kind: "nearest", example });
const run = async (query: QueryTree, metric: Metric = "l2"): Promise<number[]> =>
  (await runQuery(new MemorySource(metric, rows, 2), query)).map(numberOf);

test("nearest, with offset, threshold and filter; a point that is the example is no result", async () => {
  expect(await run(tree(nearest(of(1, 0))))).toEqual([1, 2, 4, 3]);
  expect(await run(tree(nearest(of(1, 0)), { offset: 1, limit: 2 }))).toEqual([2, 4]);
  expect(await run(tree(nearest(of(1, 0)), { scoreThreshold: 3 }))).toEqual([1, 2, 4]);
  expect(await run(tree(nearest(of(1, 0)), { filter: atLeast(3) }))).toEqual([1, 2, 3]);
  expect(await run(tree(nearest(point(1))))).toEqual([2, 4, 3]);
  // The vector of another collection's point: the one with its id here is as good as any.
  expect(await run(tree(nearest(point(1)), { lookup: { collection: "other", using: "" } }))).toEqual([1, 2, 4, 3]);
});

test("a point that is an example is no result of the prefetches below either, so that their places go to others", async () => {
  const inner = stage(nearest(of(1, 0)), { limit: 1 });
  expect(await run(tree(nearest(point(1)), { prefetch: [inner] }))).toEqual([2]);
  const ownName = new MemorySource("l2", rows, 2).collection.name;
  const lookup = { collection: ownName, using: "" };
  expect(await run(tree(nearest(point(1)), { prefetch: [inner], lookup }))).toEqual([2]);
  expect(await run(tree(nearest(point(1)), { prefetch: [inner], lookup: { ...lookup, collection: "other" } }))).toEqual(
    [1],
  );
});

test("without a query in order of id; by payload; by chance", async () => {
  expect(await run(tree(undefined, { limit: 3 }))).toEqual([1, 2, 3]);
  const orderBy = { key: "price", direction: "descending" as const, startFrom: 5 };
  expect(await run(tree({ kind: "orderBy", orderBy }))).toEqual([1, 2, 4]);
  expect((await run(tree({ kind: "sample" }, { limit: 4 }))).sort()).toEqual([1, 2, 3, 4]);
});

test("recommend, discover and context leave their examples out", async () => {
  const recommend = { kind: "recommend" as const, positive: [point(1)], negative: [point(3)] };
  expect(await run(tree({ ...recommend, strategy: "average" }), "dot")).toEqual([4, 2]);
  expect(await run(tree({ ...recommend, strategy: "bestScore" }))).toEqual([2, 4]);
  expect(await run(tree({ ...recommend, strategy: "sumScores" }), "dot")).toEqual([4, 2]);
  const context = [{ positive: point(4), negative: point(3) }];
  expect(await run(tree({ kind: "discover", target: of(0, 1), context }))).toEqual([1, 2]);
  expect(await run(tree({ kind: "context", context }))).toEqual([1, 2]);
});

test("a filter holds in each prefetch, and a rerank sees only what they found", async () => {
  const prefetch = [stage(nearest(of(4, 0)), { limit: 2 })];
  expect(await run(tree(nearest(of(0, 3)), { prefetch }))).toEqual([2, 4]);
  expect(await run(tree(nearest(of(0, 3)), { prefetch, filter: atLeast(3) }))).toEqual([2, 1]);
  const nested = [
    stage(nearest(of(0, 0)), { prefetch: [stage(nearest(of(4, 0)), { limit: 3, filter: atLeast(3) })], limit: 1 }),
  ];
  expect(await run(tree(nearest(of(0, 3)), { prefetch: nested }))).toEqual([1]);
  expect(await run(tree(nearest(of(0, 3)), { prefetch: [stage(nearest(of(0, 0)), { filter: atLeast(99) })] }))).toEqual(
    [],
  );
});

test("fusion, formula and MMR work on what was found, and bring what is asked", async () => {
  const prefetch = [
    stage(nearest(of(1, 0)), { limit: 2 }),
    stage({ kind: "orderBy", orderBy: { key: "price", direction: "ascending" } }, { limit: 2 }),
  ];
  const source = new MemorySource("l2", rows, 2);
  const fused = await runQuery(
    source,
    tree({ kind: "fusion", fusion: { method: "rrf" } }, { prefetch, select: { payload: true, vectors: [] } }),
  );
  expect(plain(fused)).toEqual([
    [2, Math.fround(1 / 3 + 1 / 3)],
    [1, 0.5],
    [4, 0.5],
  ]);
  expect(Buffer.from(fused[0]?.payload ?? []).toString()).toBe('{"price":3}');
  const expression = {
    kind: "sum" as const,
    operands: [
      { kind: "score" as const, prefetch: 0 },
      { kind: "key" as const, path: "price" },
    ],
  };
  const scored = await runQuery(
    source,
    tree({ kind: "formula", formula: { expression, defaults: new Map() } }, { prefetch, limit: 2 }),
  );
  expect(plain(scored)).toEqual([
    [1, 5],
    [2, Math.fround(3 + Math.fround(Math.SQRT2))],
  ]);
  const mmr = { diversity: 0.9, candidates: 4 };
  expect(await run(tree({ kind: "nearest", example: of(1, 0.1), mmr }, { limit: 2 }), "cosine")).toEqual([1, 3]);
});

test("the number of shards changes no answer", async () => {
  const vectors = fc.tuple(fc.integer({ min: -3, max: 3 }), fc.integer({ min: 1, max: 3 }));
  const example = fc.oneof(
    vectors.map((v) => of(...v)),
    fc.integer({ min: 1, max: 4 }).map(point),
  );
  const pair = fc.record({ positive: example, negative: example });
  const leaf: fc.Arbitrary<Query> = fc.oneof(
    example.map(nearest),
    fc.record({
      kind: fc.constant("recommend" as const),
      positive: fc.array(example, { minLength: 1, maxLength: 2 }),
      negative: fc.array(example, { maxLength: 2 }),
      strategy: fc.constantFrom("average" as const, "bestScore" as const, "sumScores" as const),
    }),
    fc.record({ kind: fc.constant("discover" as const), target: example, context: fc.array(pair, { maxLength: 2 }) }),
    fc.record({ kind: fc.constant("context" as const), context: fc.array(pair, { minLength: 1, maxLength: 2 }) }),
  );
  const stages = fc.array(
    fc
      .record({ query: leaf, limit: fc.nat(6), filter: fc.option(fc.nat(9).map(atLeast), { nil: undefined }) })
      .map(({ query, ...more }) => stage(query, more)),
    { minLength: 1, maxLength: 3 },
  );
  const fusion = fc.constantFrom<Query>(
    { kind: "fusion", fusion: { method: "rrf" } },
    { kind: "fusion", fusion: { method: "dbsf" } },
  );
  const trees = fc.oneof(
    leaf.map((query) => tree(query)),
    fc
      .record({ prefetch: stages, query: fc.oneof(leaf, fusion), offset: fc.nat(2), limit: fc.nat(8) })
      .map(({ query, ...more }) => tree(query, more)),
  );
  const many = fc.array(fc.record({ vector: vectors, price: fc.nat(9) }), { minLength: 4, maxLength: 20 });
  const metric = fc.constantFrom<Metric>("l2", "dot", "cosine");
  await fc.assert(
    fc.asyncProperty(many, metric, trees, async (drawn, by, query) => {
      const all = drawn.map(({ vector, price }, i): Row => ({ id: i + 1, vector: Float32Array.from(vector), price }));
      const one = new MemorySource(by, all, 1);
      checkQuery(one.collection, query, () => field(by));
      const expected = plain(await runQuery(one, query));
      expect(plain(await runQuery(new MemorySource(by, all, 5), query))).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

const bad: [string, QueryTree, string, RegExp][] = [
  ["offset", tree(nearest(of(1, 1)), { offset: 9_999, limit: 2 }), "LIMIT_OUT_OF_RANGE", /limit \+ offset is 10001/],
  ["threshold", tree(nearest(of(1, 1)), { scoreThreshold: Number.NaN }), "INVALID_ARGUMENT", /^score_threshold is NaN/],
  ["dimension", tree(nearest(of(1))), "DIMENSION_MISMATCH", /^the query: /],
  ["field", tree(nearest(of(1, 1)), { using: "x" }), "UNKNOWN_VECTOR", /"x"/],
  [
    "prefetch without query",
    tree(undefined, { prefetch: [stage(nearest(of(1, 1)))] }),
    "INVALID_ARGUMENT",
    /^query is missing/,
  ],
  [
    "fusion without prefetch",
    tree({ kind: "fusion", fusion: { method: "dbsf" } }),
    "INVALID_ARGUMENT",
    /^query.fusion has no prefetches/,
  ],
  [
    "weights",
    tree({ kind: "fusion", fusion: { method: "rrf", weights: [1, 2] } }, { prefetch: [stage(nearest(of(1, 1)))] }),
    "INVALID_ARGUMENT",
    /2 weights for 1 prefetches/,
  ],
  [
    "negative weight",
    tree({ kind: "fusion", fusion: { method: "relative", weights: [-1] } }, { prefetch: [stage(nearest(of(1, 1)))] }),
    "INVALID_ARGUMENT",
    /weights\[0\] is -1/,
  ],
  [
    "k",
    tree({ kind: "fusion", fusion: { method: "rrf", k: 0 } }, { prefetch: [stage(nearest(of(1, 1)))] }),
    "INVALID_ARGUMENT",
    /\.k is 0/,
  ],
  [
    "diversity",
    tree({ kind: "nearest", example: of(1, 1), mmr: { diversity: 2, candidates: 0 } }),
    "LIMIT_OUT_OF_RANGE",
    /mmr.diversity is 2/,
  ],
  [
    "no examples",
    tree({ kind: "recommend", positive: [], negative: [], strategy: "bestScore" }),
    "INVALID_ARGUMENT",
    /no examples/,
  ],
  [
    "no positive example",
    tree({ kind: "recommend", positive: [], negative: [of(1, 1)], strategy: "average" }),
    "INVALID_ARGUMENT",
    /positive is empty/,
  ],
  ["context", tree({ kind: "context", context: [] }), "INVALID_ARGUMENT", /context is empty/],
  [
    "a pair",
    tree({ kind: "context", context: [{ positive: of(1, 1), negative: of(1) }] }),
    "DIMENSION_MISMATCH",
    /query.context.context\[0\].negative/,
  ],
  [
    "formula without prefetch",
    tree({ kind: "formula", formula: { expression: { kind: "constant", value: 1 }, defaults: new Map() } }),
    "INVALID_ARGUMENT",
    /no prefetches/,
  ],
  [
    "a deep tree",
    [1, 2, 3, 4, 5, 6, 7, 8, 9].reduce(
      (inner) => tree(nearest(of(1, 1)), { prefetch: [inner] }),
      tree(nearest(of(1, 1))),
    ),
    "LIMIT_OUT_OF_RANGE",
    /more than 8 levels/,
  ],
  [
    "a wide tree",
    tree(nearest(of(1, 1)), { prefetch: Array.from({ length: 64 }, () => stage(nearest(of(1, 1)))) }),
    "LIMIT_OUT_OF_RANGE",
    /more than 64 prefetches/,
  ],
];

test.each(bad)("%s: refused with the node's path", (_, query, code, message) => {
  expect(() => checkQuery({ name: "docs", fields: [field("l2")] }, query, () => field("l2"))).toThrow(
    expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
  );
});

const nan = Number.NaN;
test.each([
  [{ kind: "constant" as const, value: nan }, /expression is NaN/],
  [{ kind: "max" as const, operands: [] }, /expression.max has no operands/],
  [{ kind: "linearDecay" as const, x: { kind: "score" as const, prefetch: 0 }, scale: 0, midpoint: 0.5 }, /scale is 0/],
  [{ kind: "gaussDecay" as const, x: { kind: "score" as const, prefetch: 0 }, scale: 1, midpoint: 1 }, /midpoint is 1/],
  [{ kind: "negate" as const, operand: { kind: "constant" as const, value: nan } }, /expression.negate is NaN/],
  [{ kind: "geoDistance" as const, origin: { lon: 0, lat: 91 }, path: "x" }, /origin is 91, 0/],
])("a formula with %j is refused", (expression, message) => {
  const query = tree(
    { kind: "formula", formula: { expression, defaults: new Map() } },
    { prefetch: [stage(nearest(of(1, 1)))] },
  );
  expect(() => checkQuery({ name: "docs", fields: [field("l2")] }, query, () => field("l2"))).toThrow(message);
});
