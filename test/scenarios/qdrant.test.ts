/** Qdrant's own client for JavaScript, through every call that it has, against one process: what it sends is understood, and what it gets is what it expects. */
import { readFileSync } from "node:fs";
import { QdrantClient } from "@qdrant/js-client-rest";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestServer } from "../cluster/rest-server.js";

let server: TestServer;
let client: QdrantClient;
beforeAll(async () => {
  server = await TestServer.start({}, { qdrant: { httpPort: 0 } });
  client = new QdrantClient({ url: `http://${server.node.qdrantAddress}` });
});
afterAll(() => server.close());

const films = "films";
const uuid = "550e8400-e29b-41d4-a716-446655440000";
const points = [
  { id: 1, vector: [1, 0, 0], payload: { title: "Dune", year: 1965, tags: ["a", "b"], rating: 1.5 } },
  { id: 2, vector: [0, 2, 0], payload: { title: "Solaris", year: 1961, tags: ["b"] } },
  { id: 3, vector: [0.6, 0.8, 0], payload: { title: "Roadside Picnic", year: 1972, tags: [] } },
  { id: uuid, vector: [0, 0, 5] },
];

/** The status and the code of the error that a call ends with. */
async function refusal(call: Promise<unknown>): Promise<{ status: number; code: unknown }> {
  try {
    await call;
  } catch (thrown) {
    const error = thrown as {
      status: number;
      data: { status: { error: string; code: string }; result: null; time: number };
    };
    expect(error.data.status.error).toMatch(/./);
    expect(error.data).toMatchObject({ result: null, time: expect.any(Number) as number });
    return { status: error.status, code: error.data.status.code };
  }
  throw new Error("the call succeeded");
}

const ids = (found: readonly { id: string | number }[]) => found.map(({ id }) => id);

describe("a collection with one vector", () => {
  beforeAll(async () => {
    await client.createCollection(films, {
      vectors: { size: 3, distance: "Cosine", on_disk: true },
      hnsw_config: { m: 24, ef_construct: 90 },
      optimizers_config: { indexing_threshold: 7 },
      wal_config: { wal_capacity_mb: 8 },
      quantization_config: { scalar: { type: "int8", quantile: 0.9 } },
    });
    await client.upsert(films, { wait: true, points });
  });

  test("tells its settings, of which those without an effect are warned of", async () => {
    const info = await client.getCollection(films);
    expect(info).toMatchObject({
      status: "green",
      optimizer_status: "ok",
      points_count: 4,
      config: {
        params: { vectors: { size: 3, distance: "Cosine", on_disk: true }, shard_number: 1, replication_factor: 1 },
        hnsw_config: { m: 24, ef_construct: 90 },
        optimizer_config: { indexing_threshold: 7 },
        wal_config: { wal_capacity_mb: 8 },
        quantization_config: { scalar: { type: "int8", quantile: 0.9 } },
      },
    });
    const [warning, ...others] = info.warnings ?? [];
    expect(warning?.message).toMatch(/optimizers_config.*wal_config.*on_disk/);
    expect(others).toEqual([]);
    expect((await client.getCollections()).collections).toContainEqual({ name: films });
    expect(await client.collectionExists(films)).toEqual({ exists: true });
    expect(await client.collectionExists("no such")).toEqual({ exists: false });
  });

  test("is refused a second time, and another is missing, with the statuses of Qdrant", async () => {
    const again = client.createCollection(films, { vectors: { size: 3, distance: "Dot" } });
    expect(await refusal(again)).toEqual({ status: 409, code: "COLLECTION_EXISTS" });
    expect(await refusal(client.getCollection("missing"))).toEqual({ status: 404, code: "COLLECTION_NOT_FOUND" });
    expect(await client.deleteCollection("missing")).toBe(false);
    const short = client.query(films, { query: [1, 2] });
    expect(await refusal(short)).toEqual({ status: 400, code: "DIMENSION_MISMATCH" });
    expect(await refusal(client.query(films, { query: [] }))).toEqual({ status: 400, code: "DIMENSION_MISMATCH" });
  });

  test("gives points by id, with vectors of length 1 where directions are compared", async () => {
    const found = await client.retrieve(films, { ids: [2, uuid, 99], with_vector: true });
    expect(found).toEqual([
      { id: 2, payload: points[1]?.payload, vector: [0, 1, 0] },
      { id: uuid, payload: {}, vector: [0, 0, 1] },
    ]);
    expect(await client.retrieve(films, { ids: [1], with_payload: ["year"] })).toEqual([
      { id: 1, payload: { year: 1965 } },
    ]);
    expect(await client.retrieve(films, { ids: [2], with_payload: { exclude: ["tags", "year"] } })).toEqual([
      { id: 2, payload: { title: "Solaris" } },
    ]);
  });

  test("is searched by vector, by id, with filters, thresholds and offsets", async () => {
    const nearest = (await client.query(films, { query: [1, 0, 0], limit: 2, with_payload: ["title"] })).points;
    expect(nearest).toEqual([
      { id: 1, version: expect.any(Number) as number, score: 1, payload: { title: "Dune" } },
      {
        id: 3,
        version: expect.any(Number) as number,
        score: expect.closeTo(0.6, 5) as number,
        payload: { title: "Roadside Picnic" },
      },
    ]);
    const query = async (request: object) => ids((await client.query(films, request)).points);
    expect(await query({ query: 1, limit: 1 })).toEqual([3]);
    expect(await query({ query: [1, 0, 0], offset: 1, limit: 1 })).toEqual([3]);
    expect(await query({ query: [1, 0, 0], score_threshold: 0.9 })).toEqual([1]);
    expect(await query({ query: [1, 0, 0], filter: { must: [{ key: "year", range: { gt: 1970 } }] } })).toEqual([3]);
    expect(await query({ query: [1, 0, 0], params: { exact: true, hnsw_ef: 128 }, limit: 1 })).toEqual([1]);
    expect(await query({ query: { order_by: { key: "year", direction: "desc" } } })).toEqual([3, 1, 2]);
    expect(
      await query({ query: { recommend: { positive: [1], negative: [2], strategy: "best_score" } }, limit: 1 }),
    ).toEqual([uuid]);
    expect(
      await query({ query: { discover: { target: 1, context: [{ positive: 3, negative: 2 }] } }, limit: 1 }),
    ).toEqual([uuid]);
    expect(await query({ query: { context: { positive: [1, 0, 0], negative: [0, 1, 0] } }, limit: 1 })).toEqual([1]);
    expect(await query({ limit: 2 })).toEqual([1, 2]);
    // Names that these members have, too.
    const post = async (path: string, body: object): Promise<unknown> => {
      const url = `http://${server.node.qdrantAddress}/collections/${films}/points${path}`;
      const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
      return ((await answer.json()) as { result: unknown }).result;
    };
    const withVectors = { with_vectors: true, with_payload: false };
    expect(await post("", { ids: [1], ...withVectors })).toEqual([{ id: 1, vector: [1, 0, 0] }]);
    expect(await post("/scroll", { limit: 1, ...withVectors })).toMatchObject({ points: [{ vector: [1, 0, 0] }] });
    expect(await post("/search", { vector: [1, 0, 0], top: 1, ...withVectors })).toMatchObject([
      { id: 1, vector: [1, 0, 0] },
    ]);
    expect((await query({ query: { sample: "random" } })).length).toBe(4);
    const formula = { sum: ["$score", { mult: [10, { key: "year", match: { value: 1961 } }] }] };
    expect(await query({ prefetch: { query: [1, 0, 0], limit: 4 }, query: { formula }, limit: 1 })).toEqual([2]);
    // What comes in an order or by chance has the score 1 where it is worked on; what a prefetch has not found has none.
    const unscored = [{ limit: 2 }, { query: { order_by: "year" }, limit: 1 }, { query: { sample: "random" } }];
    const sum = { formula: { sum: [{ mult: [2, "$score"] }, "$score[1]", { mult: [4, "$score[2]"] }] } };
    const scored = (await client.query(films, { prefetch: unscored, query: sum })).points;
    expect(Object.fromEntries(scored.map(({ id, score }) => [id, score]))).toEqual({ 1: 6, 2: 7, 3: 4, [uuid]: 4 });
    const prefetch = [
      { query: [1, 0, 0], limit: 1 },
      { query: [0, 1, 0], limit: 1 },
    ];
    expect((await query({ prefetch, query: { fusion: "rrf" } })).sort()).toEqual([1, 2]);
    expect(
      await query({ query: { nearest: [1, 0, 0], mmr: { diversity: 0.9, candidates_limit: 4 } }, limit: 1 }),
    ).toEqual([1]);
    const batch = await client.queryBatch(films, {
      searches: [
        { query: [1, 0, 0], limit: 1 },
        { query: 2, limit: 1 },
      ],
    });
    expect(batch.map(({ points: found }) => ids(found))).toEqual([[1], [3]]);
    const byYear = { order_by: "year" };
    for (const senseless of [
      { prefetch: { query: [1, 0, 0] } },
      { score_threshold: 1 },
      { score_threshold: 1, query: byYear },
      { prefetch: { score_threshold: 1, query: byYear }, query: [1, 0, 0] },
      { prefetch: { prefetch: { query: [1, 0, 0] } }, query: [1, 0, 0] },
    ]) {
      const refused = { status: 400, code: "INVALID_ARGUMENT" };
      expect(await refusal(client.query(films, senseless as never)), JSON.stringify(senseless)).toEqual(refused);
    }
    expect(await refusal(client.query(films, { query: { fusion: "rrf" } }))).toEqual({
      status: 400,
      code: "INVALID_ARGUMENT",
    });
  });

  test("takes filters of all kinds", async () => {
    const passing = async (filter: object) => ids((await client.scroll(films, { filter })).points);
    expect(await passing({ must: [{ has_id: [2, uuid] }] })).toEqual([2, uuid]);
    expect(await passing({ must_not: [{ key: "title", match: { any: ["Dune", "Solaris"] } }] })).toEqual([3, uuid]);
    expect(await passing({ must: { key: "tags", values_count: { gte: 2 } } })).toEqual([1]);
    expect(await passing({ must: [{ is_empty: { key: "tags" } }] })).toEqual([3, uuid]);
    expect(
      await passing({
        should: [
          { key: "year", match: { value: 1965 } },
          { key: "title", match: { text: "picnic" } },
        ],
      }),
    ).toEqual([1, 3]);
    expect(
      await passing({
        min_should: {
          min_count: 2,
          conditions: [
            { key: "year", range: { lt: 1970 } },
            { key: "tags", match: { value: "a" } },
          ],
        },
      }),
    ).toEqual([1]);
    expect(await passing({ must: [], must_not: [], should: [] })).toEqual([1, 2, 3, uuid]);
    expect(await passing({ must: [{ must: [] }] })).toEqual([1, 2, 3, uuid]);
    expect(await passing({ must: [{ key: "year", range: { gt: 1960 }, match: { value: 1961 } }] })).toEqual([2]);
    expect((await client.count(films, { filter: { must: [{ key: "year", range: { gt: 1962 } }] } })).count).toBe(2);
  });

  test("is scrolled by pages of ids, and in an order", async () => {
    const first = await client.scroll(films, { limit: 2, with_payload: false });
    expect(first).toEqual({ points: [{ id: 1 }, { id: 2 }], next_page_offset: 3 });
    const second = await client.scroll(films, { limit: 2, offset: 3, with_payload: false });
    expect(second).toEqual({ points: [{ id: 3 }, { id: uuid }], next_page_offset: null });
    const ordered = await client.scroll(films, { order_by: "year", with_payload: false });
    expect(ordered.points).toEqual([
      { id: 2, order_value: 1961 },
      { id: 1, order_value: 1965 },
      { id: 3, order_value: 1972 },
    ]);
  });

  test("has groups, facets and matrices", async () => {
    await client.createPayloadIndex(films, { field_name: "tags", field_schema: "keyword", wait: true });
    const { groups } = await client.queryGroups(films, { query: [1, 0, 0], group_by: "tags", limit: 2, group_size: 1 });
    expect(groups.map(({ id, hits }) => ({ id, hits: ids(hits) }))).toEqual([
      { id: "a", hits: [1] },
      { id: "b", hits: [1] },
    ]);
    const facets = await client.facet(films, { key: "tags", exact: true });
    expect(facets.hits).toEqual([
      { value: "b", count: 2 },
      { value: "a", count: 1 },
    ]);
    const pairs = await client.searchMatrixPairs(films, { sample: 4, limit: 3 });
    expect(pairs.pairs).toContainEqual({ a: 1, b: 3, score: expect.closeTo(0.6, 5) as number });
    const offsets = await client.searchMatrixOffsets(films, { sample: 4, limit: 3 });
    expect(offsets.ids).toEqual([1, 2, 3, uuid]);
    expect(offsets.scores.length).toBe(offsets.offsets_row.length);
  });

  test("has indexes of all kinds, with their parameters", async () => {
    const schema = { type: "text", tokenizer: "word", min_token_len: 2, lowercase: true } as const;
    await client.createPayloadIndex(films, { field_name: "title", field_schema: schema, wait: true });
    await client.createPayloadIndex(films, { field_name: "year", field_schema: "integer", wait: true });
    await client.createPayloadIndex(films, { field_name: "year", field_schema: "integer", wait: true });
    const { payload_schema: found } = await client.getCollection(films);
    expect(found).toMatchObject({
      title: { data_type: "text", params: schema, points: 3 },
      year: { data_type: "integer", points: 3 },
    });
    await client.deletePayloadIndex(films, "year", { wait: true });
    expect((await client.getCollection(films)).payload_schema).not.toHaveProperty("year");
  });
});

test("matrices are compared by late interaction, alone and over a prefetch", async () => {
  const multivector_config = { comparator: "max_sim" } as const;
  await client.createCollection("matrices", {
    vectors: { dense: { size: 2, distance: "Dot" }, tokens: { size: 2, distance: "Euclid", multivector_config } },
  });
  const config = (await client.getCollection("matrices")).config.params.vectors;
  expect(config).toMatchObject({ tokens: { multivector_config } });
  const tokens = [
    [1, 0],
    [0, 1],
  ];
  await client.upsert("matrices", {
    wait: true,
    points: [
      { id: 1, vector: { dense: [1, 1], tokens } },
      { id: 2, vector: { dense: [5, 5], tokens: [[4, 3]] } },
      { id: 3, vector: { dense: [2, 2], tokens: [[0, 0]] } },
    ],
  });
  const [read] = await client.retrieve("matrices", { ids: [1], with_vector: true });
  expect(read?.vector).toEqual({ dense: [1, 1], tokens });
  // Qdrant's: the root of the sum of the squared distances to the nearest rows.
  const found = await client.query("matrices", { query: tokens, using: "tokens", with_vector: ["tokens"] });
  expect(found.points.map(({ id, score }) => [id, score])).toEqual([
    [1, 0],
    [3, expect.closeTo(Math.SQRT2, 5)],
    [2, expect.closeTo(Math.sqrt(18 + 20), 5)],
  ]);
  expect(found.points[2]?.vector).toEqual({ tokens: [[4, 3]] });
  const prefetch = { query: [1, 1], using: "dense", limit: 2 };
  const reranked = await client.query("matrices", { prefetch, query: [[0, 0]], using: "tokens" });
  expect(ids(reranked.points)).toEqual([3, 2]);
  await client.updateVectors("matrices", {
    wait: true,
    points: [
      {
        id: 2,
        vector: {
          tokens: [
            [0, 0],
            [9, 9],
          ],
        },
      },
    ],
  });
  const again = await client.query("matrices", {
    prefetch,
    query: [
      [0, 0],
      [9, 9],
    ],
    using: "tokens",
    limit: 1,
  });
  expect(again.points.map(({ id, score }) => [id, score])).toEqual([[2, 0]]);
  const ragged = client.upsert("matrices", { wait: true, points: [{ id: 4, vector: { tokens: [[1, 2], [3]] } }] });
  expect((await refusal(ragged)).status).toBe(422);
  const other = { size: 2, distance: "Dot", multivector_config: { comparator: "sum" } } as unknown as {
    size: number;
    distance: "Dot";
  };
  expect((await refusal(client.createCollection("other", { vectors: other }))).status).toBe(400);
  await client.deleteCollection("matrices");
});

test("points are written by parts, in columns and in batches", async () => {
  const name = "parts";
  await client.createCollection(name, {
    vectors: { text: { size: 2, distance: "Dot" }, image: { size: 2, distance: "Euclid" } },
  });
  const batch = {
    ids: [1, 2, 3],
    vectors: {
      text: [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
    },
    payloads: [{ a: 1 }, null, { a: 3 }],
  };
  const done = await client.upsert(name, { wait: true, batch });
  expect(done).toEqual({ operation_id: expect.any(Number) as number, status: "completed" });
  expect((await client.upsert(name, { wait: false, points: [] })).status).toBe("acknowledged");
  const stored = async (id: number) => (await client.retrieve(name, { ids: [id], with_vector: true }))[0];
  await client.setPayload(name, { payload: { b: { c: 2 } }, points: [1], wait: true });
  expect(await stored(1)).toEqual({ id: 1, payload: { a: 1, b: { c: 2 } }, vector: { text: [1, 0] } });
  await client.setPayload(name, { payload: { d: 4 }, key: "b", filter: { must: [{ has_id: [1] }] }, wait: true });
  expect((await stored(1))?.payload).toEqual({ a: 1, b: { c: 2, d: 4 } });
  await client.deletePayload(name, { keys: ["b.c"], points: [1], wait: true });
  expect((await stored(1))?.payload).toEqual({ a: 1, b: { d: 4 } });
  await client.overwritePayload(name, { payload: { z: 1 }, points: [1], wait: true });
  expect((await stored(1))?.payload).toEqual({ z: 1 });
  await client.clearPayload(name, { points: [1], wait: true });
  expect((await stored(1))?.payload).toEqual({});
  await client.updateVectors(name, { points: [{ id: 1, vector: { image: [3, 4] } }], wait: true });
  expect((await stored(1))?.vector).toEqual({ text: [1, 0], image: [3, 4] });
  const near = await client.query(name, { query: [0, 0], using: "image" });
  expect(near.points).toMatchObject([{ id: 1, score: 5 }]);
  await client.deleteVectors(name, { vector: ["text"], points: [1], wait: true });
  expect((await stored(1))?.vector).toEqual({ image: [3, 4] });
  expect(await refusal(client.setPayload(name, { payload: { a: 1 }, points: [77], wait: true }))).toEqual({
    status: 404,
    code: "POINT_NOT_FOUND",
  });
  const operations = [
    { upsert: { points: [{ id: 9, vector: { text: [5, 5] }, payload: { big: 1 } }] } },
    { set_payload: { payload: { more: true }, points: [9] } },
    { delete: { points: [2] } },
    { delete_vectors: { points: [9], vector: ["text"] } },
  ];
  expect((await client.batchUpdate(name, { operations, wait: true })).length).toBe(4);
  expect(await stored(9)).toEqual({ id: 9, payload: { big: 1, more: true }, vector: {} });
  const condition = { must: [{ key: "a", match: { value: 4 } }] };
  const update = {
    points: [
      { id: 3, vector: { text: [1, 1] }, payload: { a: 30 } },
      { id: 10, vector: { text: [1, 1] } },
    ],
    update_filter: condition,
  };
  await client.upsert(name, { ...update, wait: true });
  expect((await stored(3))?.payload).toEqual({ a: 3 });
  await client.delete(name, { filter: { must: [{ key: "a", match: { value: 3 } }] }, wait: true });
  expect(ids((await client.scroll(name, {})).points)).toEqual([1, 9, 10]);
  await client.createVectorName(name, "sound", { dense: { size: 4, distance: "Cosine" } });
  await client.deleteVectorName(name, "text");
  expect(Object.keys((await client.getCollection(name)).config.params.vectors ?? {}).sort()).toEqual([
    "image",
    "sound",
  ]);
  expect(await client.deleteCollection(name)).toBe(true);
});

test("points are written to shard keys, found by them, and deleted with them", async () => {
  const name = "keyed";
  const vectors = { size: 2, distance: "Dot" } as const;
  await client.createCollection(name, { vectors, sharding_method: "custom", shard_number: 2 });
  const early = client.upsert(name, { points: [{ id: 1, vector: [1, 2] }], shard_key: "acme" });
  expect(await refusal(early)).toEqual({ status: 404, code: "NOT_FOUND" });
  for (const key of ["acme", "globex", 7]) expect(await client.createShardKey(name, { shard_key: key })).toBe(true);
  expect((await refusal(client.createShardKey(name, { shard_key: "acme" }))).status).toBe(400);
  expect(await client.listShardKeys(name)).toEqual({ shard_keys: [{ key: "acme" }, { key: "globex" }, { key: 7 }] });
  expect((await client.getCollection(name)).config.params.sharding_method).toBe("custom");
  const wait = true;
  const rows = (key: string) => [1, 2, 3].map((id) => ({ id, vector: [id, 1], payload: { key, id } }));
  await client.upsert(name, { wait, points: rows("acme"), shard_key: "acme" });
  await client.upsert(name, { wait, points: rows("globex").slice(1), shard_key: "globex" });
  await client.upsert(name, { wait, points: [{ id: 9, vector: [9, 9] }], shard_key: 7 });
  expect((await refusal(client.upsert(name, { points: rows("x") }))).status).toBe(400);

  // The same id under two keys are two points; the field that has the key is not told.
  expect(await client.retrieve(name, { ids: [2], shard_key: "globex" })).toEqual([
    { id: 2, payload: { key: "globex", id: 2 }, shard_key: "globex" },
  ]);
  expect(await client.retrieve(name, { ids: [9, 2], with_payload: ["id"] })).toEqual([
    { id: 9, payload: {}, shard_key: 7 },
    { id: 2, payload: { id: 2 }, shard_key: "acme" },
    { id: 2, payload: { id: 2 }, shard_key: "globex" },
  ]);
  const found = async (request: object) => ids((await client.query(name, { query: [1, 0], ...request })).points);
  expect(await found({ shard_key: "globex" })).toEqual([3, 2]);
  expect(await found({ shard_key: ["globex", 7] })).toEqual([9, 3, 2]);
  expect(await found({ shard_key: { target: "nobody", fallback: 7 } })).toEqual([9]);
  expect(await found({ limit: 3 })).toEqual([9, 3, 3]);
  expect(await found({ query: 2, shard_key: "acme" })).toEqual([3, 1]);
  expect((await client.count(name, { shard_key: "acme" })).count).toBe(3);
  expect((await client.count(name)).count).toBe(6);
  const facet = await client.facet(name, { key: "id", shard_key: "globex", exact: true });
  expect(facet.hits.map(({ value }) => value)).toEqual([2, 3]);
  const batch = await client.queryBatch(name, { searches: [{ query: [1, 0], limit: 1, shard_key: "acme" }] });
  expect(batch.map(({ points: hits }) => ids(hits))).toEqual([[3]]);
  const page = await client.scroll(name, { limit: 2, shard_key: "acme", with_payload: false });
  expect(page).toEqual({ points: [{ id: 1 }, { id: 2 }], next_page_offset: 3 });
  const last = await client.scroll(name, { limit: 2, shard_key: "acme", offset: 3 });
  expect(last).toMatchObject({ points: [{ id: 3, shard_key: "acme" }], next_page_offset: null });
  expect(ids((await client.scroll(name, {})).points)).toEqual([1, 2, 2, 3, 3, 9]);

  const payload = async (id: number, shard_key: string) =>
    (await client.retrieve(name, { ids: [id], shard_key }))[0]?.payload;
  await client.setPayload(name, { wait, payload: { more: 1 }, points: [2], shard_key: "acme" });
  expect(await payload(2, "acme")).toEqual({ key: "acme", id: 2, more: 1 });
  expect(await payload(2, "globex")).toEqual({ key: "globex", id: 2 });
  // Without a key, wherever the point is.
  await client.overwritePayload(name, { wait, payload: { all: 1 }, points: [2] });
  expect([await payload(2, "acme"), await payload(2, "globex")]).toEqual([{ all: 1 }, { all: 1 }]);
  await client.clearPayload(name, { wait, points: [2], shard_key: "acme" });
  expect(await payload(2, "acme")).toEqual({});
  await client.updateVectors(name, { wait, points: [{ id: 2, vector: [20, 1] }], shard_key: "acme" });
  expect(await found({ limit: 1 })).toEqual([2]);
  await client.delete(name, { wait, points: [2], shard_key: "acme" });
  expect((await client.count(name, { shard_key: "acme" })).count).toBe(2);
  const replicate_points = { from_shard_key: "globex", to_shard_key: 7, filter: { must: [{ has_id: [3] }] } };
  expect(await client.updateCollectionCluster(name, { replicate_points })).toBe(true);
  expect(await client.retrieve(name, { ids: [3], shard_key: 7 })).toEqual([
    { id: 3, payload: { key: "globex", id: 3 }, shard_key: 7 },
  ]);
  await client.delete(name, { wait, filter: { must: [{ key: "id", match: { value: 3 } }] } });
  expect((await client.count(name)).count).toBe(3);
  expect(await client.deleteShardKey(name, { shard_key: "globex" })).toBe(true);
  expect(ids((await client.scroll(name, {})).points)).toEqual([1, 9]);
  expect((await refusal(client.count(name, { shard_key: "globex" }))).status).toBe(404);
  expect((await refusal(client.count(films, { shard_key: "x" }))).status).toBe(400);
});

test("points without vectors are found by what they hold", async () => {
  const name = "bare";
  await client.createCollection(name, { vectors: { a: { size: 2, distance: "Dot" } } });
  const rows = [
    { id: 1, vector: {}, payload: { kind: "bare" } },
    { id: 2, vector: { a: [1, 2] }, payload: { kind: "bare" } },
  ];
  await client.upsert(name, { wait: true, points: rows });
  const must = [{ key: "kind", match: { value: "bare" } }];
  expect(ids((await client.scroll(name, { filter: { must } })).points)).toEqual([1, 2]);
  expect((await client.count(name)).count).toBe(2);
  expect(ids((await client.query(name, { query: [1, 1], using: "a" })).points)).toEqual([2]);
  expect(ids((await client.scroll(name, { filter: { must: [{ has_vector: "a" }] } })).points)).toEqual([2]);
  await client.updateVectors(name, { wait: true, points: [{ id: 1, vector: { a: [3, 4] } }] });
  expect(ids((await client.query(name, { query: [1, 1], using: "a" })).points)).toEqual([1, 2]);
  const none = "payloads";
  await client.createCollection(none, {});
  await client.upsert(none, { wait: true, points: [{ id: 1, vector: {}, payload: { kind: "bare" } }] });
  expect(ids((await client.scroll(none, { filter: { must } })).points)).toEqual([1]);
  expect(await client.getCollection(none)).toMatchObject({ points_count: 1, config: { params: { vectors: {} } } });
  await client.createVectorName(none, "a", { dense: { size: 2, distance: "Dot" } });
  await client.updateVectors(none, { wait: true, points: [{ id: 1, vector: { a: [1, 2] } }] });
  expect(ids((await client.query(none, { query: [1, 1], using: "a" })).points)).toEqual([1]);
  // One that had a vector loses it, where it is written without.
  await client.upsert(name, { wait: true, points: [{ id: 2, vector: {} }] });
  expect(await client.retrieve(name, { ids: [2], with_vector: true })).toEqual([{ id: 2, payload: {}, vector: {} }]);
  expect(ids((await client.query(name, { query: [1, 1], using: "a" })).points)).toEqual([1]);
});

test("of points with one id in a write the last one counts", async () => {
  const name = "twice";
  await client.createCollection(name, { vectors: { size: 1, distance: "Dot" } });
  const twice = [
    { id: 1, vector: [1] },
    { id: 1, vector: [2] },
  ];
  await client.upsert(name, { wait: true, points: twice });
  expect(await client.retrieve(name, { ids: [1], with_vector: true })).toEqual([{ id: 1, payload: {}, vector: [2] }]);
});

test("the calls that queries have replaced are answered as those", async () => {
  const post = async (path: string, body: object) => {
    const url = `http://${server.node.qdrantAddress}/collections/${films}/points/${path}`;
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
    const text = await answer.text();
    expect(answer.status, text).toBe(200);
    return (JSON.parse(text) as { result: never }).result as { id: number | string }[];
  };
  const vector = [1, 0, 0];
  expect(ids(await post("search", { vector, limit: 2 }))).toEqual([1, 3]);
  expect(ids(await post("search", { vector: { name: "", vector }, limit: 1, with_payload: true }))).toEqual([1]);
  const lists = (found: unknown) => (found as { id: number | string }[][]).map(ids);
  expect(lists(await post("search/batch", { searches: [{ vector, limit: 1 }] }))).toEqual([[1]]);
  const grouped = { group_by: "title", limit: 2, group_size: 1 };
  const groupsOf = (found: unknown) => (found as { groups: { id: string }[] }).groups.map(({ id }) => id);
  expect(groupsOf(await post("search/groups", { vector, ...grouped }))).toEqual(["Dune", "Roadside Picnic"]);
  const like = { positive: [1], negative: [[0, 1, 0]], limit: 1 };
  expect(ids(await post("recommend", like))).toEqual([3]);
  expect(ids(await post("recommend", { ...like, strategy: "best_score", negative: [2] }))).toEqual([uuid]);
  expect(lists(await post("recommend/batch", { searches: [like] }))).toEqual([[3]]);
  expect(groupsOf(await post("recommend/groups", { positive: [1], ...grouped }))).toEqual([
    "Roadside Picnic",
    "Solaris",
  ]);
  const discovery = { target: 1, context: [{ positive: 3, negative: 2 }], limit: 1 };
  expect(ids(await post("discover", discovery))).toEqual([uuid]);
  expect(ids(await post("discover", { context: discovery.context, limit: 1 }))).toEqual([1]);
  expect(lists(await post("discover/batch", { searches: [discovery] }))).toEqual([[uuid]]);
});

test("ids and whole numbers keep all digits, and floats stay floats", async () => {
  const name = "digits";
  await client.createCollection(name, { vectors: { size: 1, distance: "Dot" } });
  const url = `http://${server.node.qdrantAddress}/collections/${name}/points`;
  const body = '{"points":[{"id":18446744073709551615,"vector":[1],"payload":{"n":9007199254740993,"f":1.0}}]}';
  await fetch(`${url}?wait=true`, { method: "PUT", body });
  const answer = await fetch(`${url}/scroll`, { method: "POST", body: "{}", headers: { "x-request-id": "seven" } });
  expect(answer.headers.get("x-request-id")).toBe("seven");
  expect(await answer.text()).toContain('"id":18446744073709551615,"payload":{"n":9007199254740993,"f":1.0}');
});

test("aliases name collections, and move in one step", async () => {
  for (const name of ["blue", "green"]) await client.createCollection(name, { vectors: { size: 2, distance: "Dot" } });
  const change = (...actions: object[]) => client.updateCollectionAliases({ actions: actions as never });
  await change({ create_alias: { alias_name: "live", collection_name: "blue" } });
  expect((await client.getCollectionAliases("blue")).aliases).toEqual([
    { alias_name: "live", collection_name: "blue" },
  ]);
  await change(
    { create_alias: { alias_name: "live", collection_name: "green" } },
    { delete_alias: { alias_name: "other" } },
  );
  await change({ rename_alias: { old_alias_name: "live", new_alias_name: "current" } });
  expect((await client.getAliases()).aliases).toEqual([{ alias_name: "current", collection_name: "green" }]);
  expect((await client.getCollection("current")).points_count).toBe(0);
  await change({ delete_alias: { alias_name: "current" } });
  expect((await client.getAliases()).aliases).toEqual([]);
});

test("settings change, and strict mode holds", async () => {
  const name = "strict";
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" }, metadata: { owner: "ä" } });
  await client.updateCollection(name, {
    optimizers_config: { indexing_threshold: 9 },
    strict_mode_config: { enabled: true, max_query_limit: 5, search_allow_exact: false },
  });
  const { config } = await client.getCollection(name);
  expect(config).toMatchObject({ optimizer_config: { indexing_threshold: 9 }, metadata: { owner: "ä" } });
  expect(config.strict_mode_config).toMatchObject({ enabled: true, max_query_limit: 5 });
  await client.updateCollection(name, { metadata: { place: { city: "a", street: "b" }, none: null } });
  await client.updateCollection(name, { metadata: { place: { city: "c" }, owner: null } });
  expect((await client.getCollection(name)).config.metadata).toEqual({ place: { city: "c" } });
  const forbidden = { status: 400, code: "COLLECTION_LIMIT" };
  expect(await refusal(client.query(name, { query: [1, 2], limit: 6 }))).toEqual(forbidden);
  expect(await refusal(client.query(name, { query: [1, 2], params: { exact: true } }))).toEqual(forbidden);
  await client.updateCollection(name, { strict_mode_config: { enabled: false } });
  expect((await client.query(name, { query: [1, 2], limit: 6 })).points).toEqual([]);
});

test("snapshots are made, listed, recovered in the collection's place, and deleted", async () => {
  const name = "kept";
  await client.createCollection(name, { vectors: { size: 2, distance: "Dot" } });
  await client.upsert(name, { wait: true, points: [{ id: 1, vector: [1, 2] }] });
  const made = await client.createSnapshot(name);
  expect(made).toMatchObject({ name: expect.any(String) as string, size: expect.any(Number) as number });
  expect((await client.listSnapshots(name)).map((each) => each.name)).toEqual([made?.name]);
  await client.delete(name, { points: [1], wait: true });
  expect(await client.recoverSnapshot(name, { location: `file:///snapshots/${name}/${made?.name}` })).toBe(true);
  expect((await client.count(name)).count).toBe(1);
  expect(await client.deleteSnapshot(name, made?.name ?? "")).toBe(true);
  expect(await client.listFullSnapshots()).toEqual([]);
  const whole = await client.createFullSnapshot();
  expect((await client.listFullSnapshots()).map((each) => each.name)).toEqual([whole?.name]);
  expect(await client.deleteFullSnapshot(whole?.name ?? "")).toBe(true);
  expect(await client.listFullSnapshots()).toEqual([]);
});

test("the server tells its version, its cluster and its shards, and refuses what it does not do", async () => {
  expect(await client.versionInfo()).toMatchObject({ version: "1.19.0" });
  const url = `http://${server.node.qdrantAddress}`;
  for (const page of ["healthz", "livez", "readyz"]) expect((await fetch(`${url}/${page}`)).status).toBe(200);
  expect(await (await fetch(`${url}/cluster`)).json()).toMatchObject({ result: { status: "enabled" }, status: "ok" });
  expect(await (await fetch(`${url}/telemetry`)).json()).toMatchObject({ result: { app: { name: "kith" } } });
  const cluster = await client.collectionClusterInfo(films);
  expect(cluster).toMatchObject({
    shard_count: 1,
    local_shards: [{ shard_id: 0, state: "Active" }],
    remote_shards: [],
  });
  expect(await client.listShardKeys(films)).toEqual({ shard_keys: [] });
  const unimplemented = { status: 501, code: "UNIMPLEMENTED" };
  expect(await refusal(client.createShardKey(films, { shard_key: "a" }))).toEqual({
    status: 400,
    code: "FAILED_PRECONDITION",
  });
  expect(await refusal(client.listShardSnapshots(films, 0))).toEqual(unimplemented);
  expect(await refusal(client.createCollection("m", { vectors: { size: 2, distance: "Manhattan" } }))).toEqual(
    unimplemented,
  );
  const document = { text: "hello", model: "some/model" };
  expect(await refusal(client.query(films, { query: document }))).toEqual(unimplemented);
  const peers = await client.collectionClusterInfo(films);
  const move = { move_shard: { shard_id: 0, from_peer_id: peers.peer_id, to_peer_id: 7 } };
  expect(await refusal(client.updateCollectionCluster(films, move))).toEqual({ status: 404, code: "NOT_FOUND" });
  expect((await fetch(`${url}/nothing`)).status).toBe(404);
});

test("docs/qdrant.md has a row for each call, and calls those refused that are", async () => {
  const text = readFileSync(new URL("../../docs/qdrant.md", import.meta.url), "utf8");
  const calls = [...text.matchAll(/^\| `((?:GET|PUT|POST|PATCH|DELETE) [^`]+)` \| (same|note|no effect|refused) \|/gm)];
  expect(calls.length).toBeGreaterThan(70);
  expect(new Set(calls.map(([, call]) => call)).size).toBe(calls.length);
  for (const [, call = "", kind] of calls) {
    const [method = "", path = ""] = call.split(" ");
    const url = path.replaceAll(/\{\w+\}/g, "docs-1");
    const body = method === "GET" || method === "DELETE" ? null : "{}";
    const response = await fetch(`http://${server.node.qdrantAddress}${url}`, { method, body });
    const answer = await response.text();
    expect(answer, call).not.toContain("there is no call");
    expect(response.status === 501, call).toBe(kind === "refused");
  }
});

test("docs/qdrant.md has a row for each call of Qdrant's own client", () => {
  const text = readFileSync(new URL("../../docs/qdrant.md", import.meta.url), "utf8");
  const schema = readFileSync(
    new URL("../../node_modules/@qdrant/js-client-rest/dist/types/openapi/generated_schema.d.ts", import.meta.url),
    "utf8",
  );
  const paths = [...schema.matchAll(/^ {4}"(\/[^"]*)": \{$/gm)].map(([, path]) => path as string);
  expect(paths.length).toBeGreaterThan(40);
  for (const path of paths) expect(text, path).toContain(`${path}\``);
});

test("sparse vectors with their modifier: kept, given out and ranked", async () => {
  const name = "sparse";
  await client.createCollection(name, {
    vectors: { size: 2, distance: "Dot" },
    sparse_vectors: { words: {}, rare: { modifier: "idf" } },
  });
  const [one, two] = [
    { indices: [7, 2], values: [0.5, 2] },
    { indices: [2], values: [1] },
  ];
  await client.upsert(name, {
    wait: true,
    points: [
      { id: 1, vector: { "": [1, 0], words: one, rare: one } },
      { id: 2, vector: { "": [0, 1], words: two, rare: two } },
    ],
  });
  const { config } = await client.getCollection(name);
  expect(config.params.sparse_vectors).toMatchObject({ words: {}, rare: { modifier: "idf" } });
  const [point] = await client.retrieve(name, { ids: [1], with_vector: ["words"] });
  expect(point?.vector).toEqual({ words: { indices: [2, 7], values: [2, 0.5] } });
  const plain = await client.query(name, { query: { indices: [2], values: [1] }, using: "words" });
  expect(plain.points.map(({ id, score }) => [id, score])).toEqual([
    [1, 2],
    [2, 1],
  ]);
  const words = { using: "words", with_payload: false };
  const context = [{ positive: 1, negative: { indices: [9], values: [1] } }];
  const discovered = await client.query(name, { query: { discover: { target: two, context } }, ...words });
  // Told apart rightly, and half of a product of 1.
  expect(discovered.points).toMatchObject([{ id: 2, score: expect.closeTo(1.75, 5) as number }]);
  const strategy = "sum_scores" as const;
  const recommended = await client.query(name, { query: { recommend: { positive: [one], strategy } }, ...words });
  expect(recommended.points.map(({ id, score }) => [id, score])).toEqual([
    [1, 4.25],
    [2, 2],
  ]);
  const weighed = await client.query(name, { query: { indices: [7], values: [1] }, using: "rare" });
  expect(weighed.points).toMatchObject([{ id: 1, score: expect.closeTo(0.5 * Math.log(2), 5) as number }]);
  const twice = client.query(name, { query: { indices: [2, 2], values: [1, 1] }, using: "words" });
  expect((await refusal(twice)).status).toBe(400);
  await client.deleteCollection(name);
});

test("texts are embedded by BM25, as documents and as queries", async () => {
  const name = "documents";
  const model = "qdrant/bm25";
  await client.createCollection(name, { vectors: {}, sparse_vectors: { text: { modifier: "idf" } } });
  const texts = ["The sandworms of Arrakis", "An ocean that thinks", "The ocean and the worms of the ocean", "of the"];
  await client.upsert(name, {
    wait: true,
    points: texts.map((text, id) => ({ id, vector: { text: { text, model, options: { avg_len: 4 } } } })),
  });
  const search = async (text: string, options = {}): Promise<(string | number)[]> => {
    return ids((await client.query(name, { query: { text, model, options }, using: "text" })).points);
  };
  // By stems, more often is better, and stop words are no words.
  expect(await search("oceans")).toEqual([2, 1]);
  expect(await search("the of")).toEqual([]);
  expect(await search("oceans", { stemmer: { type: "none" } })).toEqual([]);
  expect(await search("THE", { lowercase: false, stopwords: { custom: ["ocean"] } })).toEqual([]);
  const [stored] = await client.retrieve(name, { ids: [1], with_vector: true });
  // Two words are left of "an ocean that thinks", of four that are expected: 2.2 / (1.2 * (0.25 + 0.75 / 2) + 1).
  expect((stored?.vector as { text: { values: number[] } }).text.values).toEqual([
    expect.closeTo(2.2 / 1.75, 5),
    expect.closeTo(2.2 / 1.75, 5),
  ]);
  const [without] = await client.retrieve(name, { ids: [3], with_vector: true });
  expect(without?.vector).toEqual({});
  const bad = { text: "a", model, options: { language: "klingon" } };
  expect((await refusal(client.query(name, { query: bad, using: "text" }))).status).toBe(400);
  await client.deleteCollection(name);
});
