/**
 * Filters that cannot be used, in every place of the API that takes one: a typed error with the path of the node at fault, and nothing written.
 */
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import { afterAll, beforeAll, expect, test } from "vitest";
import { KithError } from "../../libs/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { startInProcess } from "../cluster/in-process.js";
import { useCluster } from "../cluster/cluster.js";
import { rawCalls, type RawCalls } from "../cluster/raw.js";

type Where = NonNullable<pb.Condition["condition"]>;

const ring = (...points: [number, number][]) => ({ points: points.map(([lat, lon]) => ({ lat, lon })) });
const one = (condition: Where | undefined): pb.Filter => pb.Filter.fromPartial({ must: [{ condition }] } as never);
const match = (value: Partial<pb.MatchCondition>): Where => ({
  $case: "match",
  value: pb.MatchCondition.fromPartial({ key: "a", ...value } as never),
});
const range = (value: number): Where => ({
  $case: "range",
  value: pb.RangeCondition.fromPartial({ key: "a", gte: { value: { $case: "number", value } } }),
});
const at = (value: Partial<pb.DatetimeRangeCondition>): Where => ({
  $case: "datetimeRange",
  value: pb.DatetimeRangeCondition.fromPartial({ key: "a", ...value }),
});
const radius = (lat: number, lon: number, radiusMeters: number): Where => ({
  $case: "geoRadius",
  value: { key: "a", center: { lat, lon }, radiusMeters },
});
const polygon = (exterior: pb.GeoRing, interiors: pb.GeoRing[] = []): Where => ({
  $case: "geoPolygon",
  value: { key: "a", exterior, interiors },
});
const nested = (filter: pb.Filter, key = "list"): Where => ({ $case: "nested", value: { key, filter } });
const within = (depth: number): pb.Filter =>
  depth === 0
    ? one(match({ match: { $case: "keyword", value: "x" } }))
    : one({ $case: "filter", value: within(depth - 1) });
const ids = (...values: (pb.PointId["id"] | undefined)[]): Where => ({
  $case: "hasId",
  value: { ids: values.map((id) => ({ id })) },
});
const square = ring([0, 0], [0, 1], [1, 1], [1, 0], [0, 0]);
const many = (count: number): pb.Filter =>
  pb.Filter.fromPartial({ should: Array.from({ length: count }, () => ({ condition: range(1) })) } as never);
const values = (count: number): Where =>
  match({ match: { $case: "anyIntegers", value: { values: Array.from({ length: count }, (_, i) => i) } } });

/** What is wrong, the filter, and where in it. */
const filters: [string, pb.Filter, string][] = [
  ["no operator", one(undefined), "must[0]"],
  ["no operator of a match", one(match({})), "must[0].match"],
  ["no key", one({ $case: "isEmpty", value: { key: "" } }), "must[0].key"],
  ["a key that is no path", one({ $case: "isNull", value: { key: "a..b" } }), "must[0].key"],
  ["NaN in a range", one(range(Number.NaN)), "must[0].range.gte"],
  ["infinity in a range", one(range(Number.POSITIVE_INFINITY)), "must[0].range.gte"],
  ["a range of datetimes without bounds", one(at({})), "must[0].range"],
  ["a datetime before the years", one(at({ ltUs: -(2n ** 62n) })), "must[0].range.lt"],
  ["a latitude beyond the pole", one(radius(90.5, 0, 1)), "must[0].geo_radius.center.lat"],
  ["a longitude beyond the date line", one(radius(0, -181, 1)), "must[0].geo_radius.center.lon"],
  ["a latitude that is no number", one(radius(Number.NaN, 0, 1)), "must[0].geo_radius.center.lat"],
  ["a negative radius", one(radius(0, 0, -1)), "must[0].geo_radius.radius"],
  ["a radius that is no number", one(radius(0, 0, Number.NaN)), "must[0].geo_radius.radius"],
  [
    "a circle without a centre",
    one({ $case: "geoRadius", value: { key: "a", center: undefined, radiusMeters: 1 } }),
    "must[0].geo_radius.center",
  ],
  [
    "a box upside down",
    one({ $case: "geoBoundingBox", value: { key: "a", topLeft: { lat: 0, lon: 0 }, bottomRight: { lat: 1, lon: 1 } } }),
    "must[0].geo_bounding_box.top_left.lat",
  ],
  [
    "a polygon that crosses itself",
    one(polygon(ring([0, 0], [1, 1], [0, 1], [1, 0], [0, 0]))),
    "must[0].geo_polygon.exterior",
  ],
  ["a polygon that is open", one(polygon(ring([0, 0], [0, 1], [1, 1], [1, 0]))), "must[0].geo_polygon.exterior"],
  ["a polygon of a line", one(polygon(ring([0, 0], [0, 1], [0, 0]))), "must[0].geo_polygon.exterior"],
  [
    "a hole that crosses itself",
    one(polygon(square, [ring([0, 0], [1, 1], [0, 1], [1, 0], [0, 0])])),
    "must[0].geo_polygon.interiors[0]",
  ],
  [
    "a corner beyond the pole",
    one(polygon(ring([0, 0], [0, 1], [91, 1], [0, 0]))),
    "must[0].geo_polygon.exterior.points[2].lat",
  ],
  ["a slice beyond the last", one({ $case: "slice", value: { index: 4, total: 4 } }), "must[0].slice.index"],
  ["a slice of none", one({ $case: "slice", value: { index: 0, total: 0 } }), "must[0].slice.total"],
  ["an id that is none", one(ids({ $case: "num", value: 1n }, undefined)), "must[0].has_id[1]"],
  ["a UUID that is none", one(ids({ $case: "uuid", value: "12" })), "must[0].has_id[0]"],
  ["an empty filter in a list", one({ $case: "filter", value: pb.Filter.fromPartial({}) }), "must[0]"],
  ["an empty filter of elements", one(nested(pb.Filter.fromPartial({}))), "must[0].nested.filter"],
  ["ids of elements", one(nested(one(ids({ $case: "num", value: 1n })))), "must[0].nested.filter.must[0]"],
  [
    "vectors of elements",
    one(nested(one({ $case: "hasVector", value: { name: "" } }))),
    "must[0].nested.filter.must[0]",
  ],
  ["elements of no path", one(nested(within(0), "a[")), "must[0].nested.key"],
  [
    "fewer than one of several",
    pb.Filter.fromPartial({ minShould: { conditions: [{ condition: range(1) }], minCount: 0 } } as never),
    "min_should.min_count",
  ],
  [
    "more than there are of several",
    pb.Filter.fromPartial({ minShould: { conditions: [{ condition: range(1) }], minCount: 2 } } as never),
    "min_should.min_count",
  ],
  ["filters too deep", within(16), Array.from({ length: 16 }, () => "must[0]").join(".")],
  ["too many conditions", many(1_025), "should"],
  ["too many values", one(values(16_385)), "must[0].match.any"],
  ["a string too long", one(match({ match: { $case: "text", value: "x".repeat(8_193) } })), "must[0].match.text"],
  ["a fault behind others", pb.Filter.fromPartial({ mustNot: [{ condition: range(1) }, {}] } as never), "must_not[1]"],
];

let raw: RawCalls;
const vector = Float32Array.of(1);
const nearest: pb.Query = {
  query: {
    $case: "nearest",
    value: { example: { example: { $case: "vector", value: { values: vector, indices: [] } } }, mmr: undefined },
  },
};
const prefetched = (filter: pb.Filter) => [pb.Prefetch.fromPartial({ query: nearest, filter } as never)];
const fusion: pb.Query = {
  query: { $case: "fusion", value: { method: { $case: "reciprocalRank", value: { k: 0, weights: [] } } } },
};
const c = "filtered";
const num = { id: { $case: "num" as const, value: 1n } };
const points = { $case: "ids" as const, value: { ids: [num] } };
const filterTarget = (filter: pb.Filter) => ({ points: { $case: "filter" as const, value: filter } });
const payload = Buffer.from('{"changed":true}');
const { PointsService: service } = pb;
const from = <T>(type: { fromPartial(value: never): T }, value: object): T => type.fromPartial(value as never);

/** Each place, how it is asked, and what the path begins with. */
const places: [string, (filter: pb.Filter) => Promise<unknown>, string][] = [
  ["a query", (filter) => raw.query({ collection: c, query: nearest, filter }), "filter"],
  [
    "a prefetch",
    (filter) => raw.query({ collection: c, query: fusion, prefetch: prefetched(filter) }),
    "prefetch[0].filter",
  ],
  [
    "a formula",
    (filter) => {
      const expression = { expression: { $case: "condition", value: filter } };
      const query = from(pb.Query, { query: { $case: "formula", value: { expression } } });
      return raw.query({ collection: c, query, prefetch: prefetched(within(0)) });
    },
    "query.formula.expression.condition",
  ],
  [
    "groups",
    (filter) => {
      const query = { collection: c, query: nearest, filter };
      return raw.call(service.queryGroups, from(pb.QueryGroupsRequest, { query, groupBy: "a" }));
    },
    "query.filter",
  ],
  [
    "a prefetch of groups",
    (filter) => {
      const query = { collection: c, query: fusion, prefetch: prefetched(filter) };
      return raw.call(service.queryGroups, from(pb.QueryGroupsRequest, { query, groupBy: "a" }));
    },
    "query.prefetch[0].filter",
  ],
  [
    "a matrix",
    (filter) => raw.call(service.searchMatrix, from(pb.SearchMatrixRequest, { collection: c, filter })),
    "filter",
  ],
  ["a facet", (filter) => raw.facet({ collection: c, key: "a", filter }), "filter"],
  ["a scroll", (filter) => raw.scroll({ collection: c, filter }), "filter"],
  ["a count", (filter) => raw.call(service.count, from(pb.CountRequest, { collection: c, filter })), "filter"],
  [
    "a deletion",
    (filter) => raw.call(service.delete, from(pb.DeletePointsRequest, { collection: c, filter })),
    "filter",
  ],
  [
    "a condition of a deletion",
    (onlyIf) => raw.call(service.delete, from(pb.DeletePointsRequest, { collection: c, ids: [num], onlyIf })),
    "only_if",
  ],
  [
    "a condition of an upsert",
    (onlyIf) => {
      const point = { id: num, vectors: { "": { values: vector } }, payload };
      return raw.upsert(from(pb.UpsertRequest, { collection: c, points: [point], onlyIf }));
    },
    "only_if",
  ],
  [
    "a target",
    (filter) => {
      const request = { collection: c, target: filterTarget(filter), payload };
      return raw.call(service.setPayload, from(pb.SetPayloadRequest, request));
    },
    "target.filter",
  ],
  [
    "a condition on a target",
    (onlyIf) => {
      const request = { collection: c, target: { points, onlyIf } };
      return raw.call(service.clearPayload, from(pb.ClearPayloadRequest, request));
    },
    "target.only_if",
  ],
  [
    "the second write of a batch, whose first is good",
    (filter) => {
      const good = { operation: { $case: "clearPayload", value: { target: { points } } } };
      const bad = { operation: { $case: "setPayload", value: { target: filterTarget(filter), payload } } };
      return raw.call(service.writeBatch, from(pb.WriteBatchRequest, { collection: c, operations: [good, bad] }));
    },
    "operations[1].set_payload.target.filter",
  ],
];

const cluster = useCluster(startInProcess, async (started) => {
  const client = await started.connect();
  const filtered = client.collection(c);
  await filtered.create({ vectors: { dimension: 1, metric: "l2" }, shards: 2 });
  await filtered.upsert([1, 2, 3].map((id) => ({ id, vector: [id], payload: { a: id, list: [{ b: id }] } })));
});
beforeAll(() => {
  raw = rawCalls(cluster().target);
});
afterAll(() => raw.close());

async function contents(): Promise<string> {
  const { points: found } = await raw.scroll({
    collection: c,
    select: from(pb.Select, { payload: true, allVectors: true }),
  });
  return JSON.stringify(found.map(({ version, payload: text }) => [version, Buffer.from(text).toString()]));
}

test.each(places)("every wrong filter is refused in %s, with its node", { timeout: 60_000 }, async (_, ask, prefix) => {
  const before = await contents();
  for (const [what, filter, suffix] of filters) {
    const outcome: unknown = await ask(filter).then(
      () => "answered",
      (error: unknown) => error,
    );
    expect(outcome, what).toBeInstanceOf(KithError);
    const { code, details, message } = outcome as KithError;
    expect([code === "INVALID_ID" ? "INVALID_FILTER" : code, details["path"]], `${what}: ${message}`).toEqual([
      "INVALID_FILTER",
      `${prefix}.${suffix}`,
    ]);
    expect(message, what).toContain(`${prefix}.${suffix}`);
  }
  expect(await contents()).toBe(before);
  // The node goes on, and a good filter is taken in the same place.
  await ask(within(15));
});

test("an operator of a later release is refused, and not passed over", async () => {
  // A condition with nothing but field 99.
  const condition = new BinaryWriter()
    .uint32(99 * 8 + 2)
    .string("later")
    .finish();
  const filter = new BinaryWriter()
    .uint32(1 * 8 + 2)
    .bytes(condition)
    .finish();
  const request = pb.CountRequest.encode(from(pb.CountRequest, { collection: c })).uint32(3 * 8 + 2);
  expect(pb.CountRequest.decode(request.bytes(filter).finish()).filter?.must).toHaveLength(1);
  const again = pb.CountRequest.encode(from(pb.CountRequest, { collection: c }))
    .uint32(3 * 8 + 2)
    .bytes(filter);
  await expect(raw.garbage(service.count.path, Buffer.from(again.finish()))).rejects.toMatchObject({
    code: "INVALID_FILTER",
    details: { path: "filter.must[0]" },
  });
});
