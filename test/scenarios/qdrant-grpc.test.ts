/** Qdrant's own client for its gRPC services, through every call that it has, against one process; and the answers beside those of the REST API. */
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import {
  CollectionStatus,
  Direction,
  Distance,
  FieldType,
  Fusion,
  PayloadSchemaType,
  QdrantClient,
  QuantizationType,
  RecommendStrategy,
  ReplicaState,
  Sample,
  ShardingMethod,
  TokenizerType,
  UpdateMode,
  UpdateStatus,
} from "@qdrant/js-client-grpc";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestServer } from "../cluster/rest-server.js";

let server: TestServer;
let client: QdrantClient;
beforeAll(async () => {
  server = await TestServer.start({}, { qdrant: { httpPort: 0, grpcPort: 0 } });
  client = new QdrantClient({ url: `http://${server.node.qdrantGrpcAddress}` });
});
afterAll(() => server.close());

const films = "films";
const uuid = "550e8400-e29b-41d4-a716-446655440000";

type Value = { kind: { case: string; value: unknown } };

/** A JSON value as the messages have it. */
function valueOf(json: unknown): Value {
  if (json === null) return { kind: { case: "nullValue", value: 0 } };
  if (typeof json === "string") return { kind: { case: "stringValue", value: json } };
  if (typeof json === "boolean") return { kind: { case: "boolValue", value: json } };
  if (typeof json === "number") {
    const isWhole = Number.isInteger(json);
    return { kind: { case: isWhole ? "integerValue" : "doubleValue", value: isWhole ? BigInt(json) : json } };
  }
  if (Array.isArray(json)) return { kind: { case: "listValue", value: { values: json.map(valueOf) } } };
  return { kind: { case: "structValue", value: { fields: mapOf(json as object) } } };
}
const mapOf = (json: object): Record<string, never> =>
  Object.fromEntries(Object.entries(json).map(([key, each]) => [key, valueOf(each) as never]));

function jsonOf(value: Value | undefined): unknown {
  const found = value?.kind.value;
  switch (value?.kind.case) {
    case "structValue":
      return payloadOf((found as { fields: Record<string, Value> }).fields);
    case "listValue":
      return (found as { values: Value[] }).values.map(jsonOf);
    case "integerValue":
      return Number(found);
    case "nullValue":
      return null;
    default:
      return found;
  }
}
const payloadOf = (map: Record<string, unknown>): unknown =>
  Object.fromEntries(Object.entries(map).map(([key, each]) => [key, jsonOf(each as Value)]));

const idOf = (id: number | string) => ({
  pointIdOptions:
    typeof id === "string" ? ({ case: "uuid", value: id } as const) : ({ case: "num", value: BigInt(id) } as const),
});
interface HasId {
  id?: { pointIdOptions: { value?: bigint | string | undefined } } | undefined;
}
const ids = (found: readonly HasId[]) =>
  found.map(({ id }) => {
    const value = id?.pointIdOptions.value;
    return typeof value === "bigint" ? Number(value) : value;
  });
const dense = (...data: number[]) => ({ vector: { case: "dense", value: { data } } }) as const;
const unnamed = (...data: number[]) => ({ vectorsOptions: { case: "vector", value: dense(...data) } }) as const;
const named = (vectors: Record<string, number[]>) =>
  ({
    vectorsOptions: {
      case: "vectors",
      value: { vectors: Object.fromEntries(Object.entries(vectors).map(([name, data]) => [name, dense(...data)])) },
    },
  }) as const;
const input = (...data: number[]) => ({ variant: { case: "dense", value: { data } } }) as const;
const inputId = (id: number | string) => ({ variant: { case: "id", value: idOf(id) } }) as const;
const nearest = (...data: number[]) => ({ variant: { case: "nearest", value: input(...data) } }) as const;
const enable = { selectorOptions: { case: "enable", value: true } } as const;
const chosen = (...wanted: (number | string)[]) =>
  ({ pointsSelectorOneOf: { case: "points", value: { ids: wanted.map(idOf) } } }) as const;
const condition = (kind: string, value: object) => ({ conditionOneOf: { case: kind, value } }) as never;
const field = (key: string, what: object) => condition("field", { key, ...what });
const match = (kind: string, value: unknown) => ({ match: { matchValue: { case: kind, value } } });
const filtered = (...must: never[]) => ({ pointsSelectorOneOf: { case: "filter", value: { must } } }) as const;

const points = [
  {
    id: idOf(1),
    vectors: unnamed(1, 0, 0),
    payload: mapOf({ title: "Dune", year: 1965, tags: ["a", "b"], rating: 1.5 }),
  },
  { id: idOf(2), vectors: unnamed(0, 2, 0), payload: mapOf({ title: "Solaris", year: 1961, tags: ["b"] }) },
  { id: idOf(3), vectors: unnamed(0.6, 0.8, 0), payload: mapOf({ title: "Roadside Picnic", year: 1972, tags: [] }) },
  { id: idOf(uuid), vectors: unnamed(0, 0, 5) },
];

/** The status of gRPC that a call ends with, and the message. */
async function refusal(call: Promise<unknown>): Promise<{ code: number; message: string }> {
  try {
    await call;
  } catch (thrown) {
    const { code, rawMessage } = thrown as { code: number; rawMessage: string };
    return { code, message: rawMessage };
  }
  throw new Error("the call succeeded");
}
const status = { invalid: 3, deadline: 4, missing: 5, exists: 6, unimplemented: 12 };

describe("a collection with one vector", () => {
  const collectionName = films;
  beforeAll(async () => {
    const made = await client.api("collections").create({
      collectionName,
      vectorsConfig: { config: { case: "params", value: { size: 3n, distance: Distance.Cosine, onDisk: true } } },
      hnswConfig: { m: 24n, efConstruct: 90n },
      optimizersConfig: { indexingThreshold: 7n },
      quantizationConfig: {
        quantization: { case: "scalar", value: { type: QuantizationType.Int8, quantile: 0.5 } },
      },
      metadata: mapOf({ owner: "ä", count: 3 }),
    });
    expect(made.result).toBe(true);
    const { result } = await client.api("points").upsert({ collectionName, wait: true, points });
    expect(result?.status).toBe(UpdateStatus.Completed);
  });

  test("tells its settings, of which those without an effect are warned of", async () => {
    const { result } = await client.api("collections").get({ collectionName });
    expect(result).toMatchObject({
      status: CollectionStatus.Green,
      optimizerStatus: { ok: true },
      pointsCount: 4n,
      config: {
        params: {
          vectorsConfig: { config: { case: "params", value: { size: 3n, distance: Distance.Cosine, onDisk: true } } },
          shardNumber: 1,
          replicationFactor: 1,
        },
        hnswConfig: { m: 24n, efConstruct: 90n },
        optimizerConfig: { indexingThreshold: 7n },
        quantizationConfig: { quantization: { case: "scalar", value: { type: QuantizationType.Int8, quantile: 0.5 } } },
      },
    });
    expect(payloadOf(result?.config?.metadata ?? {})).toEqual({ owner: "ä", count: 3 });
    expect(result?.warnings[0]?.message).toMatch(/optimizers_config.*on_disk/);
    const { collections } = await client.api("collections").list({});
    expect(collections.map(({ name }) => name)).toContain(films);
    expect((await client.api("collections").collectionExists({ collectionName })).result?.exists).toBe(true);
    const missing = await client.api("collections").collectionExists({ collectionName: "no such" });
    expect(missing.result?.exists).toBe(false);
  });

  test("errors have the statuses of Qdrant and the code of Kith", async () => {
    const config = { config: { case: "params", value: { size: 3n, distance: Distance.Dot } } } as const;
    const again = client.api("collections").create({ collectionName, vectorsConfig: config });
    expect((await refusal(again)).code).toBe(status.exists);
    const missing = await refusal(client.api("collections").get({ collectionName: "missing" }));
    expect(missing).toEqual({
      code: status.missing,
      message: expect.stringMatching(/^Not found: Collection: /) as string,
    });
    expect((await client.api("collections").delete({ collectionName: "missing" })).result).toBe(false);
    const short = client.api("points").query({ collectionName, query: nearest(1, 2) });
    expect((await refusal(short)).code).toBe(status.invalid);
    const empty = client.api("points").query({ collectionName, query: nearest() });
    expect((await refusal(empty)).code).toBe(status.invalid);
    // Of a kind that this version does not know, nothing arrives.
    const formula = { variant: { case: "formula", value: { expression: {} } } } as const;
    const strange = client
      .api("points")
      .query({ collectionName, prefetch: [{ query: nearest(1, 0, 0) }], query: formula });
    expect((await refusal(strange)).code).toBe(status.invalid);
    const unknown = client.api("points").get({ collectionName, ids: [{}] });
    expect((await refusal(unknown)).code).toBe(status.invalid);
    const text = { variant: { case: "document", value: { text: "hello", model: "some/model" } } } as const;
    const embedded = client
      .api("points")
      .query({ collectionName, query: { variant: { case: "nearest", value: text } } });
    expect((await refusal(embedded)).code).toBe(status.unimplemented);
  });

  test("gives points by id, with vectors of length 1 where directions are compared", async () => {
    const wanted = [2, uuid, 99].map(idOf);
    const { result } = await client
      .api("points")
      .get({ collectionName, ids: wanted, withPayload: enable, withVectors: enable });
    expect(ids(result)).toEqual([2, uuid]);
    expect(result.map(({ vectors }) => vectors?.vectorsOptions)).toMatchObject([
      { case: "vector", value: { vector: { case: "dense", value: { data: [0, 1, 0] } } } },
      { case: "vector", value: { vector: { case: "dense", value: { data: [0, 0, 1] } } } },
    ]);
    expect(payloadOf(result[0]?.payload ?? {})).toEqual({ title: "Solaris", year: 1961, tags: ["b"] });
    const payloadWith = async (withPayload: object) => {
      const answer = await client.api("points").get({ collectionName, ids: [idOf(1)], withPayload });
      return payloadOf(answer.result[0]?.payload ?? {});
    };
    expect(await payloadWith({ selectorOptions: { case: "include", value: { fields: ["year"] } } })).toEqual({
      year: 1965,
    });
    const exclude = { selectorOptions: { case: "exclude", value: { fields: ["tags", "year", "title"] } } };
    expect(await payloadWith(exclude)).toEqual({ rating: 1.5 });
  });

  test("is queried in every way", async () => {
    const query = async (request: object) =>
      ids((await client.api("points").query({ collectionName, ...request })).result);
    const of = (kind: string, value: unknown) => ({ variant: { case: kind, value } });
    expect(await query({ query: nearest(1, 0, 0), limit: 2n })).toEqual([1, 3]);
    expect(await query({ query: of("nearest", inputId(1)), limit: 1n })).toEqual([3]);
    expect(await query({ query: nearest(1, 0, 0), offset: 1n, limit: 1n })).toEqual([3]);
    expect(await query({ query: nearest(1, 0, 0), scoreThreshold: 0.9 })).toEqual([1]);
    const newer = { must: [field("year", { range: { gt: 1970 } })] };
    expect(await query({ query: nearest(1, 0, 0), filter: newer })).toEqual([3]);
    expect(await query({ query: nearest(1, 0, 0), params: { exact: true, hnswEf: 128n }, limit: 1n })).toEqual([1]);
    expect(await query({ query: of("orderBy", { key: "year", direction: Direction.Desc }) })).toEqual([3, 1, 2]);
    const recommend = { positive: [inputId(1)], negative: [inputId(2)], strategy: RecommendStrategy.BestScore };
    expect(await query({ query: of("recommend", recommend), limit: 1n })).toEqual([uuid]);
    const pairs = [{ positive: inputId(3), negative: inputId(2) }];
    expect(await query({ query: of("discover", { target: inputId(1), context: { pairs } }), limit: 1n })).toEqual([
      uuid,
    ]);
    const context = { pairs: [{ positive: input(1, 0, 0), negative: input(0, 1, 0) }] };
    expect(await query({ query: of("context", context), limit: 1n })).toEqual([1]);
    expect(await query({ limit: 2n })).toEqual([1, 2]);
    expect((await query({ query: of("sample", Sample.Random) })).length).toBe(4);
    const solaris = of("condition", field("year", match("integer", 1961n)));
    const weighed = of("mult", { mult: [of("constant", 10), solaris] });
    const expression = of("sum", { sum: [of("variable", "$score"), weighed] });
    const prefetch = [{ query: nearest(1, 0, 0), limit: 4n }];
    expect(await query({ prefetch, query: of("formula", { expression }), limit: 1n })).toEqual([2]);
    const two = [
      { query: nearest(1, 0, 0), limit: 1n },
      { query: nearest(0, 1, 0), limit: 1n },
    ];
    expect((await query({ prefetch: two, query: of("fusion", Fusion.RRF) })).sort()).toEqual([1, 2]);
    expect((await query({ prefetch: two, query: of("rrf", { k: 5, weights: [1, 3] }) }))[0]).toBe(2);
    const mmr = { nearest: input(1, 0, 0), mmr: { diversity: 0.9, candidatesLimit: 4 } };
    expect(await query({ query: of("nearestWithMmr", mmr), limit: 1n })).toEqual([1]);
    const batch = await client.api("points").queryBatch({
      collectionName,
      queryPoints: [
        { collectionName, query: nearest(1, 0, 0), limit: 1n },
        { collectionName, query: { variant: { case: "nearest", value: inputId(2) } }, limit: 1n },
      ],
    });
    expect(batch.result.map(({ result }) => ids(result))).toEqual([[1], [3]]);
    const { result } = await client.api("points").query({
      collectionName,
      query: nearest(0.6, 0.8, 0),
      limit: 1n,
      withPayload: enable,
      withVectors: enable,
      timeout: 10n,
    });
    expect(result).toMatchObject([{ score: expect.closeTo(1, 5) as number, version: expect.any(BigInt) as bigint }]);
    expect(result[0]?.vectors?.vectorsOptions.case).toBe("vector");
    expect(payloadOf(result[0]?.payload ?? {})).toEqual({ title: "Roadside Picnic", year: 1972, tags: [] });
  });

  test("takes filters of all kinds", async () => {
    const passing = async (filter: object) =>
      ids((await client.api("points").scroll({ collectionName, filter })).result);
    const keywords = match("keywords", { strings: ["Dune", "Solaris"] });
    expect(await passing({ must: [condition("hasId", { hasId: [2, uuid].map(idOf) })] })).toEqual([2, uuid]);
    expect(await passing({ mustNot: [field("title", keywords)] })).toEqual([3, uuid]);
    expect(await passing({ must: [field("title", match("exceptKeywords", { strings: ["Dune"] }))] })).toEqual([2, 3]);
    expect(await passing({ must: [field("year", match("integers", { integers: [1961n, 1972n] }))] })).toEqual([2, 3]);
    expect(await passing({ must: [field("tags", { valuesCount: { gte: 2n } })] })).toEqual([1]);
    expect(await passing({ must: [condition("isEmpty", { key: "tags" })] })).toEqual([3, uuid]);
    expect(await passing({ must: [condition("isNull", { key: "tags" })] })).toEqual([]);
    expect(await passing({ must: [condition("hasVector", { hasVector: "" })] })).toEqual([1, 2, 3, uuid]);
    const either = { should: [field("year", match("integer", 1965n)), field("title", match("text", "picnic"))] };
    expect(await passing(either)).toEqual([1, 3]);
    expect(await passing({ must: [condition("filter", either)] })).toEqual([1, 3]);
    const conditions = [field("year", { range: { lt: 1970 } }), field("tags", match("keyword", "a"))];
    expect(await passing({ minShould: { minCount: 2n, conditions } })).toEqual([1]);
    expect(await passing({})).toEqual([1, 2, 3, uuid]);
    expect(await passing({ must: [condition("filter", {})] })).toEqual([1, 2, 3, uuid]);
    const count = await client
      .api("points")
      .count({ collectionName, filter: { must: [field("year", { range: { gt: 1962 } })] } });
    expect(count.result?.count).toBe(2n);
  });

  test("is scrolled by pages of ids, and in an order", async () => {
    const first = await client.api("points").scroll({ collectionName, limit: 2 });
    expect(ids(first.result)).toEqual([1, 2]);
    expect(first.nextPageOffset?.pointIdOptions.value).toBe(3n);
    const second = await client.api("points").scroll({ collectionName, limit: 2, offset: idOf(3) });
    expect(ids(second.result)).toEqual([3, uuid]);
    expect(second.nextPageOffset).toBeUndefined();
    const ordered = await client.api("points").scroll({
      collectionName,
      orderBy: { key: "year", startFrom: { value: { case: "integer", value: 1962n } } },
    });
    expect(ordered.result.map(({ orderValue }) => orderValue?.variant)).toEqual([
      { case: "int", value: 1965n },
      { case: "int", value: 1972n },
    ]);
  });

  test("has indexes, groups, facets and matrices", async () => {
    const api = client.api("points");
    const keyword = { fieldName: "tags", fieldType: FieldType.FieldTypeKeyword };
    await api.createFieldIndex({ collectionName, wait: true, ...keyword });
    const params = {
      indexParams: {
        case: "textIndexParams",
        value: { tokenizer: TokenizerType.Word, minTokenLen: 2n, lowercase: true },
      },
    } as const;
    const text = { fieldName: "title", fieldType: FieldType.FieldTypeText, fieldIndexParams: params };
    await api.createFieldIndex({ collectionName, wait: true, ...text });
    const { result: info } = await client.api("collections").get({ collectionName });
    expect(info?.payloadSchema).toMatchObject({
      tags: { dataType: PayloadSchemaType.Keyword, points: 2n },
      title: { dataType: PayloadSchemaType.Text, params, points: 3n },
    });
    await api.deleteFieldIndex({ collectionName, wait: true, fieldName: "title" });
    expect((await client.api("collections").get({ collectionName })).result?.payloadSchema).not.toHaveProperty("title");
    const grouped = { query: nearest(1, 0, 0), groupBy: "tags", limit: 2n, groupSize: 1n };
    const { result } = await api.queryGroups({ collectionName, ...grouped });
    expect(result?.groups.map(({ id, hits }) => [id?.kind.value, ids(hits)])).toEqual([
      ["a", [1]],
      ["b", [1]],
    ]);
    const { hits } = await api.facet({ collectionName, key: "tags", exact: true });
    expect(hits.map(({ value, count }) => [value?.variant.value, count])).toEqual([
      ["b", 2n],
      ["a", 1n],
    ]);
    const years = await api.facet({ collectionName, key: "year", exact: true, limit: 1n });
    expect(years.hits[0]?.value?.variant).toEqual({ case: "integerValue", value: 1961n });
    const pairs = await api.searchMatrixPairs({ collectionName, sample: 4n, limit: 3n });
    const near = pairs.result?.pairs.find(({ a, b }) => ids([{ id: a }, { id: b }]).join() === "1,3");
    expect(near?.score).toBeCloseTo(0.6, 5);
    const offsets = await api.searchMatrixOffsets({ collectionName, sample: 4n, limit: 3n });
    expect(ids((offsets.result?.ids ?? []).map((id) => ({ id })))).toEqual([1, 2, 3, uuid]);
    expect(offsets.result?.scores.length).toBe(offsets.result?.offsetsRow.length);
  });

  test("is asked by the calls that queries have replaced", async () => {
    const api = client.api("points");
    const vector = [1, 0, 0];
    expect(ids((await api.search({ collectionName, vector, limit: 2n })).result)).toEqual([1, 3]);
    expect(ids((await api.search({ collectionName, vector, vectorName: "", limit: 1n })).result)).toEqual([1]);
    const searches = await api.searchBatch({ collectionName, searchPoints: [{ collectionName, vector, limit: 1n }] });
    expect(searches.result.map(({ result }) => ids(result))).toEqual([[1]]);
    const sized = { collectionName, groupBy: "tags", limit: 2, groupSize: 1 };
    const inGroups = await api.searchGroups({ ...sized, vector });
    expect(inGroups.result?.groups.map(({ id }) => id?.kind.value)).toEqual(["a", "b"]);
    const like = { collectionName, positive: [idOf(1)], negativeVectors: [dense(0, 1, 0)], limit: 1n };
    expect(ids((await api.recommend(like)).result)).toEqual([3]);
    const recommended = await api.recommendBatch({ collectionName, recommendPoints: [like] });
    expect(recommended.result.map(({ result }) => ids(result))).toEqual([[3]]);
    const recommendedGroups = await api.recommendGroups({ ...sized, positive: [idOf(1)] });
    expect(recommendedGroups.result?.groups.map(({ id }) => id?.kind.value)).toEqual(["b"]);
    const example = (id: number) => ({ example: { case: "id", value: idOf(id) } }) as const;
    const target = { target: { case: "single", value: example(1) } } as const;
    const discovery = { collectionName, target, context: [{ positive: example(3), negative: example(2) }], limit: 1n };
    expect(ids((await api.discover(discovery)).result)).toEqual([uuid]);
    const discovered = await api.discoverBatch({ collectionName, discoverPoints: [discovery] });
    expect(discovered.result.map(({ result }) => ids(result))).toEqual([[uuid]]);
    const none = api.search({ collectionName, vector });
    expect((await refusal(none)).code).toBe(status.invalid);
  });
});

test("points are written by parts and in batches", async () => {
  const collectionName = "parts";
  const api = client.api("points");
  const params = { size: 2n, distance: Distance.Dot };
  await client.api("collections").create({
    collectionName,
    vectorsConfig: {
      config: { case: "paramsMap", value: { map: { text: params, image: { size: 2n, distance: Distance.Euclid } } } },
    },
  });
  const three = [
    { id: idOf(1), vectors: named({ text: [1, 0] }), payload: mapOf({ a: 1 }) },
    { id: idOf(2), vectors: named({ text: [0, 1] }) },
    { id: idOf(3), vectors: named({ text: [1, 1] }), payload: mapOf({ a: 3 }) },
  ];
  const wait = { collectionName, wait: true };
  await api.upsert({ ...wait, points: three });
  expect((await api.upsert({ collectionName, points: [] })).result?.status).toBe(UpdateStatus.Acknowledged);
  const stored = async (id: number) => {
    const { result } = await api.get({ collectionName, ids: [idOf(id)], withPayload: enable, withVectors: enable });
    const options = result[0]?.vectors?.vectorsOptions;
    const vectors = options?.case === "vectors" ? Object.entries(options.value.vectors) : [];
    return {
      payload: payloadOf(result[0]?.payload ?? {}),
      vectors: Object.fromEntries(
        vectors.map(([name, { vector }]) => [name, vector.case === "dense" ? vector.value.data : undefined]),
      ),
    };
  };
  const one = { pointsSelector: chosen(1) };
  await api.setPayload({ ...wait, ...one, payload: mapOf({ b: { c: 2 } }) });
  expect(await stored(1)).toEqual({ payload: { a: 1, b: { c: 2 } }, vectors: { text: [1, 0] } });
  await api.setPayload({
    ...wait,
    payload: mapOf({ d: 4 }),
    key: "b",
    pointsSelector: filtered(condition("hasId", { hasId: [idOf(1)] })),
  });
  expect((await stored(1)).payload).toEqual({ a: 1, b: { c: 2, d: 4 } });
  await api.deletePayload({ ...wait, ...one, keys: ["b.c"] });
  expect((await stored(1)).payload).toEqual({ a: 1, b: { d: 4 } });
  await api.overwritePayload({ ...wait, ...one, payload: mapOf({ z: [null, true, 1.25] }) });
  expect((await stored(1)).payload).toEqual({ z: [null, true, 1.25] });
  await api.clearPayload({ ...wait, points: chosen(1) });
  expect((await stored(1)).payload).toEqual({});
  await api.updateVectors({ ...wait, points: [{ id: idOf(1), vectors: named({ image: [3, 4] }) }] });
  expect((await stored(1)).vectors).toEqual({ text: [1, 0], image: [3, 4] });
  const near = await api.query({ collectionName, query: nearest(0, 0), using: "image" });
  expect(near.result).toMatchObject([{ score: 5 }]);
  await api.deleteVectors({ ...wait, pointsSelector: chosen(1), vectors: { names: ["text"] } });
  expect((await stored(1)).vectors).toEqual({ image: [3, 4] });
  const missing = api.setPayload({ ...wait, pointsSelector: chosen(77), payload: mapOf({ a: 1 }) });
  expect((await refusal(missing)).code).toBe(status.missing);
  const point = { id: idOf(9), vectors: named({ text: [5, 5] }), payload: mapOf({ big: 1 }) };
  const batch = await api.updateBatch({
    ...wait,
    operations: [
      { operation: { case: "upsert", value: { points: [point] } } },
      { operation: { case: "setPayload", value: { pointsSelector: chosen(9), payload: mapOf({ more: true }) } } },
      { operation: { case: "overwritePayload", value: { pointsSelector: chosen(3), payload: mapOf({ a: 4 }) } } },
      { operation: { case: "deletePayload", value: { pointsSelector: chosen(9), keys: ["big"] } } },
      { operation: { case: "updateVectors", value: { points: [{ id: idOf(9), vectors: named({ image: [1, 1] }) }] } } },
      { operation: { case: "deleteVectors", value: { pointsSelector: chosen(9), vectors: { names: ["text"] } } } },
      { operation: { case: "deletePoints", value: { points: chosen(2) } } },
      { operation: { case: "clearPayload", value: { points: chosen(1) } } },
      { operation: { case: "deleteDeprecated", value: chosen(20) } },
      { operation: { case: "clearPayloadDeprecated", value: chosen(1) } },
    ],
  });
  expect(batch.result.map((each) => each.status)).toEqual(Array.from({ length: 10 }, () => UpdateStatus.Completed));
  expect(await stored(9)).toEqual({ payload: { more: true }, vectors: { image: [1, 1] } });
  const update = [
    { id: idOf(3), vectors: named({ text: [1, 1] }), payload: mapOf({ a: 30 }) },
    { id: idOf(10), vectors: named({ text: [1, 1] }) },
  ];
  await api.upsert({ ...wait, points: update, updateFilter: { must: [field("a", match("integer", 5n))] } });
  expect((await stored(3)).payload).toEqual({ a: 4 });
  await api.upsert({
    ...wait,
    points: [{ ...update[1], payload: mapOf({ a: 7 }) }],
    updateMode: UpdateMode.InsertOnly,
  });
  expect((await stored(10)).payload).toEqual({});
  await api.delete({ ...wait, points: filtered(field("a", match("integer", 4n))) });
  expect(ids((await api.scroll({ collectionName })).result)).toEqual([1, 9, 10]);
  const sound = { case: "denseConfig", value: { size: 4n, distance: Distance.Cosine } } as const;
  await api.createVectorName({ ...wait, vectorName: "sound", vectorConfig: sound });
  await api.deleteVectorName({ ...wait, vectorName: "text" });
  const { result } = await client.api("collections").get({ collectionName });
  const config = result?.config?.params?.vectorsConfig?.config;
  expect(config?.case === "paramsMap" && Object.keys(config.value.map).sort()).toEqual(["image", "sound"]);
  expect((await client.api("collections").delete({ collectionName })).result).toBe(true);
});

test("settings change, and strict mode holds", async () => {
  const collectionName = "strict";
  const collections = client.api("collections");
  const vectors = { config: { case: "params", value: { size: 2n, distance: Distance.Dot } } } as const;
  await collections.create({ collectionName, vectorsConfig: vectors, shardingMethod: ShardingMethod.Auto });
  const strict = { enabled: true, maxQueryLimit: 5, searchAllowExact: false };
  const optimizersConfig = {
    indexingThreshold: 9n,
    maxOptimizationThreads: { variant: { case: "value", value: 2n } },
  } as const;
  await collections.update({ collectionName, optimizersConfig, strictModeConfig: strict });
  const { result } = await collections.get({ collectionName });
  expect(result?.config).toMatchObject({ optimizerConfig: optimizersConfig, strictModeConfig: strict });
  const query = { collectionName, query: nearest(1, 2), limit: 6n };
  expect((await refusal(client.api("points").query(query))).code).toBe(status.invalid);
  await collections.update({ collectionName, strictModeConfig: { enabled: false } });
  expect((await client.api("points").query(query)).result).toEqual([]);
});

test("aliases name collections, and move in one step", async () => {
  const collections = client.api("collections");
  const vectors = { config: { case: "params", value: { size: 2n, distance: Distance.Dot } } } as const;
  for (const collectionName of ["blue", "green"]) await collections.create({ collectionName, vectorsConfig: vectors });
  const change = (action: object) => collections.updateAliases({ actions: [{ action: action as never }] });
  await change({ case: "createAlias", value: { aliasName: "live", collectionName: "blue" } });
  const own = await collections.listCollectionAliases({ collectionName: "blue" });
  expect(own.aliases).toMatchObject([{ aliasName: "live", collectionName: "blue" }]);
  await change({ case: "createAlias", value: { aliasName: "live", collectionName: "green" } });
  await change({ case: "renameAlias", value: { oldAliasName: "live", newAliasName: "current" } });
  expect((await collections.listAliases({})).aliases).toMatchObject([
    { aliasName: "current", collectionName: "green" },
  ]);
  await change({ case: "deleteAlias", value: { aliasName: "current" } });
  expect((await collections.listAliases({})).aliases).toEqual([]);
});

test("snapshots are made, listed and deleted", async () => {
  const collectionName = "kept";
  const snapshots = client.api("snapshots");
  const vectors = { config: { case: "params", value: { size: 2n, distance: Distance.Dot } } } as const;
  await client.api("collections").create({ collectionName, vectorsConfig: vectors });
  const { snapshotDescription: made } = await snapshots.create({ collectionName });
  expect(made?.creationTime?.seconds).toBeGreaterThan(1_700_000_000n);
  const listed = await snapshots.list({ collectionName });
  expect(listed.snapshotDescriptions.map(({ name }) => name)).toEqual([made?.name]);
  await snapshots.delete({ collectionName, snapshotName: made?.name ?? "" });
  expect((await snapshots.list({ collectionName })).snapshotDescriptions).toEqual([]);
  expect((await snapshots.listFull({})).snapshotDescriptions).toEqual([]);
  const { snapshotDescription: whole } = await snapshots.createFull({});
  expect(whole?.name).toMatch(/^full-snapshot-/);
  expect((await snapshots.listFull({})).snapshotDescriptions).toEqual([whole]);
  await snapshots.deleteFull({ snapshotName: whole?.name ?? "" });
  expect((await snapshots.listFull({})).snapshotDescriptions).toEqual([]);
  expect((await refusal(snapshots.deleteFull({ snapshotName: "x" }))).code).toBe(status.missing);
});

test("the server tells its version, its cluster and its shards", async () => {
  const health = await client.api("service").healthCheck({});
  expect(health).toMatchObject({ version: "1.19.0", title: "qdrant - vector search engine" });
  const collections = client.api("collections");
  const cluster = await collections.collectionClusterInfo({ collectionName: films });
  expect(cluster).toMatchObject({ shardCount: 1n, localShards: [{ shardId: 0, state: ReplicaState.Active }] });
  const move = { shardId: 0, fromPeerId: cluster.peerId, toPeerId: 7n };
  const setup = { collectionName: films, operation: { case: "moveShard", value: move } } as const;
  expect((await refusal(collections.updateCollectionClusterSetup(setup))).code).toBe(status.missing);
});

test("what it is sent of its own accord: keys, deadlines, and bytes that are no message", async () => {
  const grpc = new Client(server.node.qdrantGrpcAddress, credentials.createInsecure());
  const asIs = (bytes: Buffer): Buffer => bytes;
  const call = (bytes: Buffer, metadata = new Metadata()) =>
    new Promise<ServiceError>((resolve, reject) => {
      grpc.makeUnaryRequest("/qdrant.Points/Query", asIs, asIs, bytes, metadata, (error) =>
        error === null ? reject(new Error("the call succeeded")) : resolve(error),
      );
    });
  try {
    const malformed = await call(Buffer.from([0x0a, 0x7f, 0x61]));
    expect(malformed).toMatchObject({
      code: status.invalid,
      details: expect.stringContaining("QueryPoints") as string,
    });
    expect(malformed.metadata.get("grpc-status-details-bin").length).toBe(1);
    const key = new Metadata();
    key.set("api-key", "no such key");
    expect((await call(Buffer.alloc(0), key)).code).toBe(16);
    // Who asks finds its call again, whether it succeeds or not.
    const named = new Metadata();
    named.set("x-request-id", "request-7");
    for (const method of ["/qdrant.Qdrant/HealthCheck", "/qdrant.Collections/Get"]) {
      const told = await new Promise<Metadata>((resolve) => {
        grpc.makeUnaryRequest(method, asIs, asIs, Buffer.alloc(0), named, () => undefined).on("metadata", resolve);
      });
      expect(told.get("x-request-id")).toEqual(["request-7"]);
    }
    // A nesting of prefetches that no stack would hold.
    let nested = Buffer.alloc(0);
    for (let i = 0; i < 200; i++) {
      const length = nested.length < 128 ? [nested.length] : [(nested.length & 127) | 128, nested.length >> 7];
      nested = Buffer.concat([Buffer.from([0x0a, ...length]), nested]);
    }
    const name = Buffer.from([0x0a, 5, ...Buffer.from("films")]);
    const prefetch = Buffer.concat([Buffer.from([0x12, (nested.length & 127) | 128, nested.length >> 7]), nested]);
    expect((await call(Buffer.concat([name, prefetch]))).code).toBe(status.invalid);
  } finally {
    grpc.close();
  }
});

test("points are written to shard keys, and found by them", async () => {
  const collectionName = "keyed";
  const collections = client.api("collections");
  const api = client.api("points");
  const vectors = { config: { case: "params", value: { size: 2n, distance: Distance.Dot } } } as const;
  await collections.create({ collectionName, vectorsConfig: vectors, shardingMethod: ShardingMethod.Custom });
  const keyword = (value: string) => ({ key: { case: "keyword", value } }) as const;
  const key = (value: string) => ({ shardKeys: [keyword(value)] });
  for (const value of ["acme", "globex"]) {
    expect((await collections.createShardKey({ collectionName, request: { shardKey: keyword(value) } })).result).toBe(
      true,
    );
    const point = { id: idOf(1), vectors: unnamed(1, 2), payload: mapOf({ owner: value }) };
    await api.upsert({ collectionName, wait: true, points: [point], shardKeySelector: key(value) });
  }
  const { shardKeys } = await collections.listShardKeys({ collectionName });
  expect(shardKeys.map((each) => each.key?.key.value)).toEqual(["acme", "globex"]);
  const found = await api.query({
    collectionName,
    query: nearest(1, 1),
    shardKeySelector: key("globex"),
    withPayload: enable,
  });
  expect(found.result.map(({ payload, shardKey }) => [payloadOf(payload), shardKey?.key.value])).toEqual([
    [{ owner: "globex" }, "globex"],
  ]);
  expect((await collections.deleteShardKey({ collectionName, request: { shardKey: keyword("acme") } })).result).toBe(
    true,
  );
  expect((await api.count({ collectionName })).result?.count).toBe(1n);
});
