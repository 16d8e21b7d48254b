import { Direction, Distance, FieldType, Fusion, RecommendStrategy, Sample } from "@qdrant/js-client-grpc";

/* Requests of all kinds, in the words of both clients, over one small collection. */

export const collectionParams = {
  vectors: {
    text: { size: 3, distance: "Cosine" },
    image: { size: 2, distance: "Euclid" },
    tokens: { size: 2, distance: "Dot", multivector_config: { comparator: "max_sim" } },
  },
  sparse_vectors: { words: {} },
  hnsw_config: { m: 16, ef_construct: 64 },
} as const;

export const restPoints = [1, 2, 3, 4, 5, 6, 7].map((id) => ({
  id,
  vector: {
    text: [id, 1, 2],
    image: [id, 1],
    tokens: [
      [id, 0],
      [0, 1],
    ],
    words: { indices: [id, 100], values: [0.5, 1] },
  },
  payload: {
    title: `Dune ${id}`,
    year: 1960 + id,
    rating: id / 2,
    tags: ["a", `t${id % 2}`],
    at: `2020-01-0${id}T00:00:00Z`,
    place: { lat: id, lon: 2 * id },
    cast: [{ name: "ann", age: 20 + id }],
  },
}));

const polygon = {
  exterior: {
    points: [
      { lat: -10, lon: -10 },
      { lat: -10, lon: 30 },
      { lat: 30, lon: 30 },
      { lat: -10, lon: -10 },
    ],
  },
};
const restFilter = {
  must: [
    { key: "year", range: { gt: 1960, lte: 1990 } },
    { key: "at", range: { gte: "2020-01-01T00:00:00Z" } },
    { key: "place", geo_radius: { center: { lat: 1, lon: 2 }, radius: 5_000_000 } },
    {
      key: "place",
      geo_bounding_box: { top_left: { lat: 50, lon: -10 }, bottom_right: { lat: -10, lon: 50 } },
    },
    { key: "place", geo_polygon: polygon },
    { nested: { key: "cast", filter: { must: [{ key: "age", range: { gte: 20 } }] } } },
  ],
  should: [
    { key: "tags", match: { any: ["a", "b"] } },
    { key: "title", match: { text: "dune" } },
    { has_id: [1, "550e8400-e29b-41d4-a716-446655440000"] },
    { has_vector: "text" },
  ],
  must_not: [
    { key: "tags", match: { except: ["a", "t1", "t0"] } },
    { is_empty: { key: "year" } },
    { is_null: { key: "title" } },
  ],
  min_should: {
    min_count: 1,
    conditions: [
      { key: "tags", values_count: { gte: 1 } },
      { key: "title", match: { value: "x" } },
    ],
  },
};
const formula = {
  sum: [
    "$score",
    { mult: [0.5, { key: "tags", match: { value: "a" } }] },
    { div: { left: "rating", right: "year", by_zero_default: 1 } },
    { exp_decay: { x: { geo_distance: { origin: { lat: 1, lon: 2 }, to: "place" } }, scale: 5_000 } },
    { gauss_decay: { x: { datetime_key: "at" }, target: { datetime: "2020-01-02T00:00:00Z" }, scale: 86_400 } },
    { pow: { base: 2, exponent: { neg: { abs: "rating" } } } },
  ],
};
const defaults = { rating: 1, year: 1_960, at: "2020-01-01T00:00:00Z", place: { lat: 1, lon: 2 } };
const using = "text";

export const restQueries = [
  { query: [1, 0, 0], using, limit: 3, filter: restFilter, with_payload: true, with_vector: true },
  { query: 2, using, limit: 2, params: { hnsw_ef: 64, exact: true }, score_threshold: 0.1, offset: 1 },
  { query: [1, 2], using: "image", limit: 2, with_payload: { include: ["year", "cast[].name"] } },
  { query: { indices: [1, 100], values: [1, 0.5] }, using: "words", limit: 2 },
  {
    query: [
      [1, 0],
      [2, 3],
    ],
    using: "tokens",
    limit: 2,
  },
  { query: { nearest: [1, 0, 0], mmr: { diversity: 0.5, candidates_limit: 5 } }, using, limit: 3 },
  { query: { recommend: { positive: [1, [1, 0, 0]], negative: [2], strategy: "best_score" as const } }, using },
  { query: { discover: { target: 1, context: [{ positive: 3, negative: [0, 1, 0] }] } }, using, limit: 2 },
  { query: { context: [{ positive: [1, 0, 0], negative: 4 }] }, using, limit: 2 },
  { query: { order_by: { key: "year", direction: "desc" as const, start_from: 1990 } }, limit: 2 },
  { query: { sample: "random" as const }, limit: 2 },
  {
    prefetch: [
      { query: [1, 0, 0], using, limit: 3, filter: { must: [{ key: "year", match: { value: 1961 } }] } },
      { prefetch: { query: [1, 1], using: "image", limit: 4 }, query: 3, using, limit: 3 },
    ],
    query: { fusion: "rrf" as const },
    limit: 3,
  },
  { prefetch: [{ query: [1, 0, 0], using }], query: { rrf: { k: 5, weights: [2] } } },
  { prefetch: { query: [1, 0, 0], using, limit: 5 }, query: { formula, defaults }, limit: 3 },
  { limit: 2, filter: { must: [{ key: "tags", match: { value: "a" } }] } },
];

type Value = { kind: { case: string; value: unknown } };

const valueOf = (json: unknown): Value => {
  if (typeof json === "string") return { kind: { case: "stringValue", value: json } };
  if (typeof json === "number")
    return { kind: { case: Number.isInteger(json) ? "integerValue" : "doubleValue", value: wholeOf(json) } };
  if (Array.isArray(json)) return { kind: { case: "listValue", value: { values: json.map(valueOf) } } };
  return { kind: { case: "structValue", value: { fields: mapOf(json as object) } } };
};
const wholeOf = (json: number): bigint | number => (Number.isInteger(json) ? BigInt(json) : json);
const mapOf = (json: object): Record<string, never> =>
  Object.fromEntries(Object.entries(json).map(([key, each]) => [key, valueOf(each) as never]));

const idOf = (id: number) => ({ pointIdOptions: { case: "num", value: BigInt(id) } }) as const;
const dense = (...data: number[]) => ({ vector: { case: "dense", value: { data } } }) as const;
const input = (...data: number[]) => ({ variant: { case: "dense", value: { data } } }) as const;
const inputId = (id: number) => ({ variant: { case: "id", value: idOf(id) } }) as const;
const of = (kind: string, value: unknown) => ({ variant: { case: kind, value } }) as never;
const nearest = { variant: { case: "nearest", value: input(1, 0, 0) } } as const;
const chosen = (...ids: number[]) =>
  ({ pointsSelectorOneOf: { case: "points", value: { ids: ids.map(idOf) } } }) as const;
const condition = (kind: string, value: unknown) => ({ conditionOneOf: { case: kind, value } }) as never;
const field = (key: string, what: object) => condition("field", { key, ...what });
const match = (kind: string, value: unknown) => ({ match: { matchValue: { case: kind, value } } });
const filter = {
  must: [
    field("year", { range: { gt: 1960, lte: 1990 } }),
    field("at", { datetimeRange: { gte: { seconds: 1_577_836_800n, nanos: 0 } } }),
    field("place", { geoRadius: { center: { lat: 1, lon: 2 }, radius: 5_000_000 } }),
    field("place", { geoPolygon: polygon }),
    condition("nested", { key: "cast", filter: { must: [field("age", { range: { gte: 20 } })] } }),
  ],
  should: [
    field("tags", match("keywords", { strings: ["a", "b"] })),
    field("title", match("text", "dune")),
    condition("hasId", { hasId: [idOf(1)] }),
    condition("hasVector", { hasVector: "text" }),
  ],
  mustNot: [condition("isEmpty", { key: "year" }), field("year", match("integer", 1n))],
  minShould: { minCount: 1n, conditions: [field("tags", { valuesCount: { gte: 1n } })] },
};
const config = { case: "paramsMap", value: { map: namedParams() } } as const;
const enable = { selectorOptions: { case: "enable", value: true } } as const;

function namedParams() {
  return {
    text: { size: 3n, distance: Distance.Cosine },
    image: { size: 2n, distance: Distance.Euclid },
  };
}

const points = restPoints.map(({ id, payload }) => {
  const words = { vector: { case: "sparse" as const, value: { indices: [id, 100], values: [0.5, 1] } } };
  const vectors = { text: dense(id, 1, 2), image: dense(id, 1), words };
  return {
    id: idOf(id),
    payload: mapOf(payload),
    vectors: { vectorsOptions: { case: "vectors", value: { vectors } } } as const,
  };
});
const example = (id: number) => ({ example: { case: "id", value: idOf(id) } }) as const;
const operation = (kind: string, value: unknown) => ({ operation: { case: kind, value } }) as never;

export const grpcPoints = {
  collection: {
    vectorsConfig: { config },
    sparseVectorsConfig: { map: { words: {} } },
    hnswConfig: { m: 16n, efConstruct: 64n },
  },
  index: { fieldName: "tags", fieldType: FieldType.FieldTypeKeyword },
  points,
  payload: mapOf({ a: 1, b: { c: [2.5, "x"] } }),
  chosen,
  passing: {
    pointsSelectorOneOf: { case: "filter" as const, value: { must: [field("year", match("integer", 1n))] } },
  },
  operations: [
    operation("upsert", { points: points.slice(0, 1) }),
    operation("setPayload", { payload: mapOf({ more: 1 }), pointsSelector: chosen(1) }),
    operation("deletePoints", { points: chosen(6) }),
  ],
  nearest,
  enable,
  filter,
  discovery: {
    target: { target: { case: "single" as const, value: example(1) } },
    context: [{ positive: example(3), negative: example(2) }],
  },
};

const expression = of("sum", {
  sum: [
    of("variable", "$score"),
    of("mult", { mult: [of("constant", 0.5), of("condition", field("tags", match("keyword", "a")))] }),
    of("expDecay", { x: of("geoDistance", { origin: { lat: 1, lon: 2 }, to: "place" }), scale: 5_000 }),
  ],
});
const prefetch = [
  { query: nearest, using, limit: 3n },
  { query: of("nearest", input(1, 1)), using: "image", limit: 3n },
];

export const grpcQueries = [
  { query: nearest, using, limit: 3n, filter, withPayload: enable, withVectors: enable },
  { query: of("nearest", inputId(2)), using, limit: 2n, params: { hnswEf: 64n, exact: true }, scoreThreshold: 0.1 },
  {
    query: of("nearest", { variant: { case: "sparse", value: { indices: [1, 100], values: [1, 0.5] } } }),
    using: "words",
  },
  { query: of("nearestWithMmr", { nearest: input(1, 0, 0), mmr: { diversity: 0.5, candidatesLimit: 5 } }), using },
  {
    query: of("recommend", { positive: [inputId(1)], negative: [inputId(2)], strategy: RecommendStrategy.BestScore }),
    using,
  },
  {
    query: of("discover", { target: inputId(1), context: { pairs: [{ positive: inputId(3), negative: inputId(2) }] } }),
    using,
  },
  { query: of("context", { pairs: [{ positive: input(1, 0, 0), negative: inputId(4) }] }), using },
  { query: of("orderBy", { key: "year", direction: Direction.Desc }), limit: 2n },
  { query: of("sample", Sample.Random), limit: 2n },
  { prefetch, query: of("fusion", Fusion.RRF), limit: 3n },
  { prefetch, query: of("rrf", { k: 5, weights: [1, 2] }), limit: 3n },
  { prefetch, query: of("formula", { expression, defaults: mapOf({ place: { lat: 1.5, lon: 2.5 } }) }), limit: 3n },
];
