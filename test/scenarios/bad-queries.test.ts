/** Wrong queries of every kind over gRPC: a typed error with the path of the node at fault, and the process alive. */
import { afterAll, beforeEach, expect, test } from "vitest";
import type { KithClient } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { rawCalls, type RawCalls } from "../cluster/raw.js";

let client: KithClient;
let raw: RawCalls;

type Case = NonNullable<pb.Query["query"]>;
type Node = NonNullable<pb.Expression["expression"]>;

const num = (value: bigint) => ({ id: { $case: "num" as const, value } });
const vector = { values: Float32Array.of(1, 0), indices: [] };
const nearest: Case = {
  $case: "nearest",
  value: { example: { example: { $case: "vector", value: vector } }, mmr: undefined },
};
const prefetch = [pb.Prefetch.fromPartial({ query: { query: nearest }, using: "plain" })];
const query =
  (one: Case, more: Partial<pb.QueryRequest> = {}) =>
  () =>
    raw.query({ collection: "wrong", using: "plain", query: { query: one }, ...more });
const formula = (expression: Node, defaults = {}) =>
  query(
    { $case: "formula", value: pb.Formula.fromPartial({ expression: { expression }, defaults } as never) },
    { prefetch },
  );
const constant = (value: number): pb.Expression => ({ expression: { $case: "constant", value } });
const variable = (value: string): pb.Expression => ({ expression: { $case: "variable", value } });
const fusion = (weights: number[], k = 0): Case => ({
  $case: "fusion",
  value: { method: { $case: "reciprocalRank", value: { k, weights } } },
});
const filtered = (condition: Partial<pb.Condition>) =>
  query(nearest, { filter: pb.Filter.fromPartial({ must: [condition] } as never) });
const nested = (depth: number): pb.Prefetch =>
  pb.Prefetch.fromPartial({
    query: { query: depth === 0 ? nearest : fusion([]) },
    using: "plain",
    prefetch: depth === 0 ? [] : [nested(depth - 1)],
  } as never);

/** What it is, what is asked, the code and the path in the error. */
const cases: [string, () => Promise<unknown>, string, string | RegExp][] = [
  ["no operator", filtered({}), "INVALID_FILTER", "filter.must[0]"],
  [
    "a range that is not finite",
    filtered({
      condition: {
        $case: "range",
        value: pb.RangeCondition.fromPartial({ key: "a", gt: { value: { $case: "number", value: Number.NaN } } }),
      },
    }),
    "INVALID_FILTER",
    "filter.must[0].range.gt",
  ],
  [
    "a latitude beyond the pole",
    filtered({
      condition: {
        $case: "geoRadius",
        value: pb.GeoRadiusCondition.fromPartial({ key: "a", center: { lat: 91, lon: 0 }, radiusMeters: 1 }),
      },
    }),
    "INVALID_FILTER",
    /^filter\.must\[0\]\.geo_radius\.center/,
  ],
  [
    "a polygon that crosses itself",
    filtered({
      condition: {
        $case: "geoPolygon",
        value: pb.GeoPolygonCondition.fromPartial({
          key: "a",
          exterior: {
            points: [
              [0, 0],
              [1, 1],
              [0, 1],
              [1, 0],
              [0, 0],
            ].map(([lat = 0, lon = 0]) => ({ lat, lon })),
          },
        }),
      },
    }),
    "INVALID_FILTER",
    /^filter\.must\[0\]\.geo_polygon\.exterior/,
  ],
  ["prefetches too deep", query(fusion([]), { prefetch: [nested(9)] }), "LIMIT_OUT_OF_RANGE", /^(prefetch\[0\]\.){9}/],
  ["no prefetches for a fusion", query(fusion([])), "INVALID_ARGUMENT", "query.fusion"],
  ["a negative weight", query(fusion([-1]), { prefetch }), "INVALID_ARGUMENT", "query.fusion.weights[0]"],
  ["more weights than prefetches", query(fusion([1, 2]), { prefetch }), "INVALID_ARGUMENT", "query.fusion.weights"],
  [
    "a diversity beyond 1",
    query({ $case: "nearest", value: { ...nearest.value, mmr: { diversity: 1.5, candidates: 0 } } }),
    "LIMIT_OUT_OF_RANGE",
    "query.nearest.mmr.diversity",
  ],
  [
    "no examples",
    query({ $case: "recommend", value: pb.Recommend.fromPartial({}) }),
    "INVALID_ARGUMENT",
    /^query\.recommend/,
  ],
  ["no pairs", query({ $case: "context", value: { context: [] } }), "INVALID_ARGUMENT", "query.context.context"],
  [
    "an example without anything",
    query({ $case: "discover", value: { target: { example: undefined }, context: [] } }),
    "INVALID_ARGUMENT",
    "query.discover.target",
  ],
  [
    "an order by no path",
    query({ $case: "orderBy", value: pb.OrderBy.fromPartial({ key: "a..b" }) }),
    "INVALID_ARGUMENT",
    "query.orderBy.key",
  ],
  [
    "a formula without prefetches",
    query({ $case: "formula", value: { expression: constant(1), defaults: {} } }),
    "INVALID_ARGUMENT",
    "query.formula",
  ],
  [
    "NaN in a formula",
    formula({ $case: "sum", value: { operands: [constant(1), constant(Number.NaN)] } }),
    "INVALID_ARGUMENT",
    "query.formula.expression.sum[1]",
  ],
  [
    "a formula that divides by zero",
    formula({ $case: "divide", value: { left: constant(1), right: constant(0), byZero: undefined } }),
    "INVALID_ARGUMENT",
    /1 \/ 0 produced a non-finite number/,
  ],
  [
    "a formula that fails in a prefetch",
    query(fusion([]), {
      prefetch: [
        ...prefetch,
        pb.Prefetch.fromPartial({
          query: {
            query: {
              $case: "formula",
              value: {
                expression: { expression: { $case: "sum", value: { operands: [variable("n"), variable("text")] } } },
              },
            },
          },
          prefetch,
        } as never),
      ],
    }),
    "INVALID_ARGUMENT",
    "prefetch[1].query.formula.expression.sum[1]",
  ],
  [
    "a lookup of no collection in a prefetch",
    query(fusion([]), {
      prefetch: [
        pb.Prefetch.fromPartial({ query: { query: nearest }, using: "plain", lookup: { collection: "no" } } as never),
      ],
    }),
    "COLLECTION_NOT_FOUND",
    "prefetch[0].lookup",
  ],
  [
    "a field that there is not in a prefetch",
    query(fusion([]), { prefetch: [pb.Prefetch.fromPartial({ query: { query: nearest }, using: "no" } as never)] }),
    "UNKNOWN_VECTOR",
    "prefetch[0].using",
  ],
  [
    "a logarithm of nothing",
    formula({ $case: "ln", value: constant(0) }),
    "INVALID_ARGUMENT",
    /ln\(0\) produced a non-finite number/,
  ],
  [
    "a variable that a point lacks",
    formula({ $case: "variable", value: "missing" }),
    "INVALID_ARGUMENT",
    /no value at "missing"/,
  ],
  [
    "a variable of another type",
    formula({ $case: "variable", value: "text" }),
    "INVALID_ARGUMENT",
    /text must be a number/,
  ],
  [
    "a score of no prefetch",
    formula({ $case: "variable", value: "$score[x]" }),
    "INVALID_ARGUMENT",
    "query.formula.expression",
  ],
  [
    "a decay without width",
    formula({ $case: "gaussDecay", value: pb.Decay.fromPartial({ x: variable("n") as never, scale: 0 }) }),
    "INVALID_ARGUMENT",
    /^query\.formula\.expression\.gaussDecay\.scale/,
  ],
  [
    "a datetime without a zone",
    formula({ $case: "datetime", value: "2024-05-01T00:00:00" }),
    "INVALID_ARGUMENT",
    "query.formula.expression.datetime",
  ],
  [
    "a filter within a formula",
    formula({ $case: "condition", value: pb.Filter.fromPartial({ must: [{}] }) }),
    "INVALID_FILTER",
    /^query\.formula\.expression\.condition/,
  ],
  ["a limit beyond all", query(nearest, { limit: 10_000, offset: 1 }), "LIMIT_OUT_OF_RANGE", /limit \+ offset/],
  [
    "an example of no point",
    query({
      $case: "nearest",
      value: { example: { example: { $case: "point", value: { id: { $case: "num", value: 99n } } } }, mmr: undefined },
    }),
    "POINT_NOT_FOUND",
    /no point with this id in "wrong" to query by: 99/,
  ],
  [
    "an example without this vector",
    query(
      {
        $case: "recommend",
        value: pb.Recommend.fromPartial({
          positive: [{ example: { $case: "point", value: { id: { $case: "num", value: 2n } } } }],
        }),
      },
      { using: "image" },
    ),
    "POINT_NOT_FOUND",
    /no vector "image"/,
  ],
  [
    "a condition on a missing field of vectors",
    filtered({ condition: { $case: "hasVector", value: { name: "nowhere" } } }),
    "OK",
    "",
  ],
  [
    "paths both in and out",
    query(nearest, { select: pb.Select.fromPartial({ include: ["a"], exclude: ["b"] }) }),
    "INVALID_ARGUMENT",
    "select",
  ],
];

const slots = { processes: { shardNodes: 1, replicas: 1 }, inProcess: {} };
onBothDrivers(slots, (start) => {
  const cluster = useCluster(start, async (started) => {
    client = await started.connect();
    const wrong = client.collection("wrong");
    await wrong.create({
      vectors: { plain: { dimension: 2, metric: "l2" }, image: { dimension: 2, metric: "l2" } },
      shards: 2,
    });
    const both = { plain: [1, 1], image: [1, 1] };
    await wrong.upsert([{ id: 1, vectors: both, payload: { n: 1, text: "x", ["__proto__x"]: 1 } }]);
    await wrong.upsert([{ id: 2, vectors: { plain: [2, 2] }, payload: { n: 2, text: "x" } }]);
  });
  beforeEach(() => {
    raw = rawCalls(cluster().target);
  });
  afterAll(() => raw.close());

  test.each(cases)("%s", async (_name, ask, code, where) => {
    const outcome: unknown = await ask().then(
      () => ({ code: "OK" }),
      (error: unknown) => error,
    );
    expect(outcome).toMatchObject({ code });
    if (code === "OK") return;
    const { message, details } = outcome as { message: string; details: { path?: string } };
    if (typeof where === "string") expect(details.path).toBe(where);
    else expect(`${details.path ?? ""} ${message}`).toMatch(where);
  });

  test("a formula takes geo points whose coordinates are written as floats", async () => {
    const places = client.collection("places");
    if (!(await places.exists())) await places.create({ vectors: { dimension: 1, metric: "l2" } });
    const point = { id: num(1n), vectors: { "": { values: Float32Array.of(1), indices: [] } }, version: 0 };
    const payload = Buffer.from('{"at": {"lat": 1.0, "lon": 2}}');
    const points = [pb.Point.fromPartial({ ...point, payload } as never)];
    await raw.upsert(pb.UpsertRequest.fromPartial({ collection: "places", points } as never));
    const found = await places.query({
      prefetch: [{ query: { nearest: [0] } }],
      query: { formula: { geoDistance: { origin: { lat: 1, lon: 2 }, to: "at" } } },
      consistency: "linearizable",
    });
    expect(found.points).toMatchObject([{ id: 1, score: 0 }]);
  });

  test("__proto__ and constructor are keys like others, in filters, groups, facets, orders and formulas", async () => {
    const odd = client.collection("odd");
    if (!(await odd.exists())) await odd.create({ vectors: { dimension: 1, metric: "l2" } });
    const payload = JSON.parse('{"__proto__": {"n": 7}, "constructor": "c", "toString": 3}') as Record<string, unknown>;
    await odd.upsert([
      { id: 1, vector: [1], payload },
      { id: 2, vector: [2], payload: {} },
    ]);
    expect(await odd.count({ filter: "__proto__.n = 7" })).toBe(1);
    expect(await odd.count({ filter: "exists(constructor)" })).toBe(1);
    expect((await odd.facet("constructor")).hits).toEqual([{ value: "c", count: 1 }]);
    const { groups } = await odd.queryGroups({ vector: [0], groupBy: "constructor" });
    expect(groups).toMatchObject([{ value: "c", points: [{ id: 1 }] }]);
    expect((await odd.query({ query: { orderBy: "toString" } })).points).toMatchObject([{ id: 1, order: 3 }]);
    const { points } = await odd.query({
      prefetch: [{ query: { nearest: [0] } }],
      query: { formula: "__proto__.n", defaults: { "__proto__.n": 1 } },
      withPayload: { include: ["__proto__.n"] },
    });
    expect(points.map(({ id, score }) => [id, score])).toEqual([
      [1, 7],
      [2, 1],
    ]);
    expect(JSON.stringify(points[0]?.payload)).toBe('{"__proto__":{"n":7}}');
  });
});
