/** Every group of calls over a real server: what goes in as JSON, what comes out, and what is refused. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { gzipSync } from "node:zlib";
import * as zstd from "@cloudpss/zstd";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { connect } from "../../libs/client/index.js";
import { type Reply, TestServer } from "../cluster/rest-server.js";

const anyNumber: unknown = expect.any(Number);
const withQuery: unknown = expect.arrayContaining([expect.objectContaining({ name: "query" })]);
const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);

let server: TestServer;
beforeAll(async () => {
  server = await TestServer.start({ corsOrigins: ["https://app.example"] });
});
afterAll(() => server.close());

const docs = "/v1/collections/docs";

/** An answer as it came, which fetch would unpack. */
async function raw(
  path: string,
  body: string,
  headers: Record<string, string>,
): Promise<{ encoding: string; bytes: Buffer }> {
  const { port } = new URL(server.url);
  const sent = request({ port, method: "POST", path, headers: { "content-type": "application/json", ...headers } });
  sent.end(body);
  const [answer] = (await once(sent, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of answer as AsyncIterable<Buffer>) chunks.push(chunk);
  return { encoding: answer.headers["content-encoding"] ?? "", bytes: Buffer.concat(chunks) };
}

async function create(name = "docs"): Promise<Reply> {
  await server.call("DELETE", `/v1/collections/${name}`);
  return server.call("POST", "/v1/collections", { name, vectors: [{ dimension: 2, metric: "l2" }] });
}

async function fill(): Promise<void> {
  const points = [1, 2, 3, 4].map((id) => ({ id, vector: [id, 0], payload: { n: id, tag: id % 2 ? "odd" : "even" } }));
  expect((await server.call("POST", `${docs}/points`, { points })).json).toMatchObject({ upserted: 4 });
}

describe("collections", () => {
  test("created, listed, changed, renamed, deleted", async () => {
    const made = await create("first");
    expect(made.status).toBe(201);
    expect(made.json).toMatchObject({
      collection: {
        name: "first",
        shardCount: 1,
        state: "ready",
        vectors: [{ dimension: 2, metric: "l2", datatype: "f32" }],
      },
    });
    const listed = await server.call("GET", "/v1/collections");
    expect(listed.json["collections"]).toEqual(expect.arrayContaining([expect.objectContaining({ name: "first" })]));
    const changed = await server.call("PATCH", "/v1/collections/first", {
      labels: { team: "a", __proto__: "x" },
      efSearch: { "": 99 },
    });
    expect(changed.json).toMatchObject({ collection: { labels: { team: "a" }, vectors: [{ efSearch: 99 }] } });
    expect((await server.call("POST", "/v1/collections/first/rename", { newName: "second" })).status).toBe(200);
    expect((await server.call("GET", "/v1/collections/second")).json).toMatchObject({ collection: { name: "second" } });
    expect((await server.call("GET", "/v1/collections/second/exists")).json).toEqual({ exists: true });
    expect((await server.call("GET", "/v1/collections/second/stats")).json).toMatchObject({
      pointCount: 0,
      shards: [{ shard: 0 }],
    });
    expect((await server.call("DELETE", "/v1/collections/second")).status).toBe(200);
    const gone = await server.call("GET", "/v1/collections/second");
    expect(gone.status).toBe(404);
    expect(gone.headers.get("content-type")).toMatch("application/problem+json");
    expect(gone.json).toMatchObject({
      type: "urn:kith:error:COLLECTION_NOT_FOUND",
      status: 404,
      code: "COLLECTION_NOT_FOUND",
      retryable: false,
    });
  });

  test("matrices are lists of rows, in points, in queries and in answers", async () => {
    const vectors = [
      { name: "tokens", dimension: 2, metric: "dot", multivector: "max_sim" },
      { name: "plain", dimension: 2, metric: "dot" },
    ];
    const made = await server.call("POST", "/v1/collections", { name: "matrices", vectors });
    expect(made.json).toMatchObject({ collection: { vectors: [{ multivector: "max_sim" }, { name: "plain" }] } });
    const at = "/v1/collections/matrices/points";
    const tokens = [
      [1, 0],
      [0, 2],
    ];
    const points = [
      { id: 1, vectors: { tokens, plain: [1, 1] } },
      { id: 2, vectors: { tokens: [[3, 0]], plain: [2, 2] } },
    ];
    expect((await server.call("POST", at, { points })).json).toMatchObject({ upserted: 2 });
    expect((await server.call("GET", `${at}/1?vectors=true`)).json).toMatchObject({
      vectors: { tokens, plain: [1, 1] },
    });
    const query = "/v1/collections/matrices/query";
    const asked = { vector: tokens, using: "tokens", select: { vectors: ["tokens"] } };
    expect((await server.call("POST", query, asked)).json).toMatchObject({
      points: [
        { id: 1, score: 5, vectors: { tokens } },
        { id: 2, score: 3, vectors: { tokens: [[3, 0]] } },
      ],
    });
    const nearest = { nearest: { example: { vector: [[0, 1]] } } };
    expect((await server.call("POST", query, { query: nearest, using: "tokens", limit: 1 })).json).toMatchObject({
      points: [{ id: 1, score: 2 }],
    });
    const ragged = await server.call("POST", at, { points: [{ id: 3, vectors: { tokens: [[1, 2], [3]] } }] });
    expect(ragged.json).toMatchObject({
      code: "DIMENSION_MISMATCH",
      detail: expect.stringMatching(/tokens/) as string,
    });
    await server.call("DELETE", "/v1/collections/matrices");
  });

  test("aliases, payload indexes and vector fields", async () => {
    await create();
    const actions = [{ create: { alias: "books", collection: "docs" } }];
    expect((await server.call("POST", "/v1/aliases", { actions })).status).toBe(200);
    expect((await server.call("GET", "/v1/aliases?collection=docs")).json).toEqual({
      aliases: [{ alias: "books", collection: "docs" }],
    });
    const index = { path: "a.b", kind: "keyword" };
    expect((await server.call("POST", `${docs}/indexes`, { index, wait: true })).status).toBe(200);
    expect((await server.call("GET", `${docs}/indexes`)).json).toMatchObject({ indexes: [{ index, ready: true }] });
    expect((await server.call("DELETE", `${docs}/indexes/a.b`)).status).toBe(200);
    const field = { name: "title", dimension: 3, metric: "cosine" };
    expect((await server.call("POST", `${docs}/vectors`, { field })).json).toMatchObject({
      collection: { vectors: [{}, { name: "title" }] },
    });
    expect((await server.call("DELETE", `${docs}/vectors/title`)).status).toBe(200);
    await server.call("POST", "/v1/aliases", { actions: [{ delete: { alias: "books" } }] });
  });
});

describe("points", () => {
  beforeEach(async () => {
    await create();
    await fill();
  });

  test("read, counted, faceted, scrolled, with a filter as JSON and as text", async () => {
    const got = await server.call("POST", `${docs}/points/get`, {
      ids: [2, 9],
      select: { payload: true, allVectors: true },
    });
    expect(got.json["points"]).toEqual([
      { id: 2, vector: [2, 0], payload: { n: 2, tag: "even" }, version: anyNumber, expiresAtMs: 0 },
    ]);
    const filter = { must: [{ key: "tag", match: { value: "odd" } }] };
    expect((await server.call("POST", `${docs}/points/count`, { filter })).json).toMatchObject({ count: 2 });
    expect((await server.call("POST", `${docs}/points/count`, { filter: "n > 1 and tag = odd" })).json).toMatchObject({
      count: 1,
    });
    expect((await server.call("POST", `${docs}/points/facet`, { key: "tag" })).json).toMatchObject({
      hits: [
        { value: "even", count: 2 },
        { value: "odd", count: 2 },
      ],
    });
    const page = await server.call("POST", `${docs}/points/scroll`, { limit: 3, filter });
    expect(page.json).toMatchObject({ points: [{ id: anyNumber }, {}], nextCursor: "" });
  });

  test("written by part, in batches, deleted, truncated", async () => {
    const target = { ids: { ids: [1] } };
    const post = (path: string, body: object) => server.call("POST", `${docs}/points/${path}`, body);
    expect((await post("payload/set", { target, payload: { m: 5 } })).json).toMatchObject({ affected: 1 });
    expect((await post("payload/delete", { target, paths: ["n"] })).json).toMatchObject({ affected: 1 });
    const read = async () =>
      ((await post("get", { ids: [1], select: { payload: true } })).json["points"] as { payload?: object }[])[0]
        ?.payload;
    expect(await read()).toEqual({ m: 5, tag: "odd" });
    await post("payload/overwrite", { target, payload: { only: true } });
    expect(await read()).toEqual({ only: true });
    await post("payload/clear", { target });
    expect(await read()).toBeUndefined();
    expect((await post("vectors/update", { points: [{ id: 1, vector: [7, 7] }] })).json).toMatchObject({ affected: 1 });
    expect((await post("expiry", { target, expiresAtMs: Date.now() + 1e6 })).json).toMatchObject({ affected: 1 });
    const batch = await post("batch", {
      operations: [
        { upsert: { points: [{ id: 10, vector: [1, 1] }] } },
        { delete: { ids: [2] } },
        { setPayload: { target, payload: { z: 1 } } },
      ],
    });
    expect(batch.json).toMatchObject({
      results: [{ response: { affected: 1 } }, { response: { affected: 1 } }, { response: { affected: 1 } }],
    });
    expect((await post("delete", { filter: "tag = odd" })).json).toMatchObject({ deleted: 1 });
    expect((await post("truncate", {})).status).toBe(200);
    expect((await post("count", {})).json).toMatchObject({ count: 0 });
  });

  test("one point by its path: ETag, If-Match, If-None-Match", async () => {
    const at = `${docs}/points/1`;
    const read = await server.call("GET", `${at}?vectors=true`);
    expect(read.json).toMatchObject({ id: 1, vector: [1, 0], payload: { n: 1 } });
    const etag = read.headers.get("etag") ?? "";
    expect(etag).toBe(`"${String(read.json["version"])}"`);
    expect((await server.call("GET", at, undefined, { "if-none-match": etag })).status).toBe(304);
    const other = await server.call("PUT", at, { vector: [9, 9] }, { "if-match": '"999999"' });
    expect(other).toMatchObject({ status: 412, json: { code: "VERSION_MISMATCH" } });
    expect((await server.call("PUT", at, { vector: [9, 9] }, { "if-match": etag })).json).toMatchObject({
      upserted: 1,
    });
    expect(await server.call("PUT", at, { vector: [9, 9] }, { "if-none-match": "*" })).toMatchObject({
      status: 412,
      json: { code: "POINT_EXISTS" },
    });
    expect((await server.call("PUT", `${docs}/points/18446744073709551615`, { vector: [0, 1] })).status).toBe(200);
    expect((await server.call("GET", `${docs}/points/18446744073709551615`)).text).toContain(
      '"id":18446744073709551615,',
    );
    expect((await server.call("DELETE", at)).json).toMatchObject({ deleted: 1 });
    expect(await server.call("GET", at)).toMatchObject({ status: 404, json: { code: "POINT_NOT_FOUND" } });
    expect(await server.call("GET", `${docs}/points/18446744073709551616`)).toMatchObject({
      status: 400,
      json: { code: "INVALID_ID" },
    });
  });

  test("payloads and ids keep their digits, and names of prototypes are names", async () => {
    const payload =
      '{"big":12345678901234567890123,"f":1.0,"e":1e3,"__proto__":{"x":9007199254740993},"constructor":null}';
    const body = `{"points":[{"id":9007199254740993,"vector":[1,2],"payload":${payload}},{"id":"__proto__","vector":[1,3]}]}`;
    expect((await server.call("POST", `${docs}/points`, body)).json).toMatchObject({ upserted: 2 });
    const read = await server.call(
      "POST",
      `${docs}/points/get`,
      '{"ids":[9007199254740993,"__proto__"],"select":{"payload":true}}',
    );
    expect(read.text).toContain('"id":9007199254740993,');
    expect(read.text).toContain(`"payload":${payload}`);
    expect(read.text).toContain('"id":"__proto__"');
  });

  test("queries of every kind", async () => {
    const query = await server.call("POST", `${docs}/query`, { vector: [1.1, 0], limit: 2, select: { payload: true } });
    expect(query.json["points"]).toMatchObject([{ id: 1, payload: { n: 1 } }, { id: 2 }]);
    const tree = { query: { recommend: { positive: [{ point: 1 }], strategy: "average" } }, limit: 1 };
    expect((await server.call("POST", `${docs}/query`, tree)).json).toMatchObject({ points: [{ id: 2 }] });
    const batch = await server.call("POST", `${docs}/query/batch`, {
      queries: [
        { vector: [3, 0], limit: 1 },
        { vector: [1], limit: 1 },
      ],
    });
    expect(batch.json).toMatchObject({
      results: [{ response: { points: [{ id: 3 }] } }, { failure: { code: "DIMENSION_MISMATCH" } }],
    });
    const groups = await server.call("POST", `${docs}/query/groups`, {
      query: { vector: [1, 0] },
      groupBy: "tag",
      groupSize: 1,
    });
    expect(groups.json).toMatchObject({
      groups: [
        { value: "odd", points: [{ id: 1 }] },
        { value: "even", points: [{ id: 2 }] },
      ],
    });
    const matrix = await server.call("POST", `${docs}/query/matrix`, { sample: 4, limit: 1 });
    expect(matrix.json).toMatchObject({ ids: [1, 2, 3, 4] });
    const explained = await server.call("POST", `${docs}/query`, { vector: [1, 0], explain: true });
    expect(explained.json).toMatchObject({
      explain: { name: "answer", steps: withQuery },
    });
  });

  test("tokens and idempotency keys in headers", async () => {
    const write = await server.call(
      "POST",
      `${docs}/points`,
      { points: [{ id: 50, vector: [5, 5] }] },
      { "idempotency-key": "k1" },
    );
    const token = write.headers.get("kith-token") ?? "";
    expect(token).toBe(write.json["token"]);
    const again = await server.call(
      "POST",
      `${docs}/points`,
      { points: [{ id: 50, vector: [6, 6] }] },
      { "idempotency-key": "k1" },
    );
    expect(again).toMatchObject({ status: 400, json: { code: "INVALID_ARGUMENT" } });
    const both = await server.call(
      "POST",
      `${docs}/points`,
      { points: [], options: { idempotencyKey: "x" } },
      { "idempotency-key": "k1" },
    );
    expect(both.json["detail"]).toMatch(/given by the header Idempotency-Key/);
    const read = await server.call("POST", `${docs}/query`, { vector: [5, 5], limit: 1 }, { "kith-token": token });
    expect(read.json).toMatchObject({ points: [{ id: 50 }] });
    const wrong = await server.call("POST", `${docs}/query`, { vector: [5, 5] }, { "kith-token": "!!" });
    expect(wrong).toMatchObject({ status: 400, json: { code: "INVALID_TOKEN" } });
  });

  test("a scroll as lines, a bulk upsert as lines and packed", async () => {
    const lines = Array.from(
      { length: 2_500 },
      (_, i) => `{"id":${i + 100},"vector":[${i},1],"payload":{"i":${i}}}`,
    ).join("\n");
    const done = await server.call("POST", `${docs}/points/import`, new Uint8Array(gzipSync(lines)), {
      "content-type": "application/x-ndjson",
      "content-encoding": "gzip",
    });
    expect(done.json).toMatchObject({ items: 2_500, upserted: 2_500, errorCount: 0, errors: [] });
    const refused = await server.call(
      "POST",
      `${docs}/points/import?mode=insert_only`,
      `{"id":100,"vector":[1,1]}\n{"id":1,"vector":[1,1]}\n{"id":99999,"vector":[1,1]}`,
      { "content-type": "application/x-ndjson" },
    );
    expect(refused.json).toMatchObject({
      upserted: 1,
      errorCount: 2,
      errors: [{ index: 0, code: "POINT_EXISTS" }, { index: 1 }],
    });
    const broken = await server.call("POST", `${docs}/points/import`, '{"id":1,"vector":[1,1]}\n{"id":', {
      "content-type": "application/x-ndjson",
    });
    expect(broken).toMatchObject({
      status: 400,
      json: { code: "INVALID_ARGUMENT", detail: matching(/^line 2/) },
    });
    const block = (count: number, dimension: number, ids: bigint[], floats: number[]) => {
      const bytes = new Uint8Array(8 + ids.length * 8 + floats.length * 4);
      new Uint32Array(bytes.buffer, 0, 2).set([count, dimension]);
      new BigUint64Array(bytes.buffer, 8, ids.length).set(ids);
      new Float32Array(bytes.buffer, 8 + ids.length * 8).set(floats);
      return bytes;
    };
    const packed = new Uint8Array(Buffer.concat([block(2, 2, [7n, 8n], [1, 2, 3, 4]), block(1, 2, [9n], [5, 6])]));
    const type = { "content-type": "application/vnd.kith.packed" };
    expect((await server.call("POST", `${docs}/points/import`, packed, type)).json).toMatchObject({
      items: 3,
      upserted: 3,
    });
    expect(await server.call("POST", `${docs}/points/import`, packed.subarray(0, 50), type)).toMatchObject({
      status: 400,
      json: { upserted: 2 },
    });
    expect((await server.call("GET", `${docs}/points/8?vectors=true`)).json).toMatchObject({ vector: [3, 4] });
    const all = await server.call(
      "POST",
      `${docs}/points/scroll`,
      { select: { payload: true } },
      { accept: "application/x-ndjson" },
    );
    const rows = all.text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { id?: number; end?: boolean; points?: number });
    expect(rows.at(-1)).toEqual({ end: true, points: rows.length - 1 });
    expect(new Set(rows.slice(0, -1).map(({ id }) => id)).size).toBe(2_508);
  });

  test("a watch streams changes until the client leaves", async () => {
    const leave = new AbortController();
    const response = await fetch(`${server.url}${docs}/watch`, {
      method: "POST",
      body: '{"select":{"payload":true}}',
      signal: leave.signal,
      headers: { "content-type": "application/json" },
    });
    await server.call("POST", `${docs}/points`, { points: [{ id: 77, vector: [1, 1], payload: { w: 1 } }] });
    let text = "";
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(chunk).toString();
      if (text.includes('"id":77')) break;
    }
    leave.abort();
    expect(text).toContain('"kind":"insert"');
    expect(text).toContain('"payload":{"w":1}');
  });

  test("the SDK reads by gRPC what REST wrote", async () => {
    const client = await connect(server.node.address);
    try {
      expect(await client.collection("docs").get([3])).toMatchObject([{ id: 3, payload: { n: 3 } }]);
    } finally {
      client.close();
    }
  });
});

test("a partition key: points of a value at their paths, in reads and writes, and a shard of its own", async () => {
  const collection = "/v1/collections/tenants";
  const spec = { name: "tenants", vectors: [{ dimension: 2, metric: "l2" }], shardCount: 3, partitionKey: "tenant" };
  const made = await server.call("POST", "/v1/collections", spec);
  expect(made.json).toMatchObject({ collection: { partitionKey: "tenant" } });
  const points = ["a", "b"].map((tenant) => ({ id: 1, vector: [1, 0], payload: { tenant } }));
  expect((await server.call("POST", `${collection}/points`, { points })).json).toMatchObject({ upserted: 2 });
  expect((await server.call("GET", `${collection}/points/1?partition=b`)).json).toMatchObject({
    payload: { tenant: "b" },
  });
  const bare = await server.call("GET", `${collection}/points/1`);
  expect([bare.status, bare.json["code"]]).toEqual([400, "PARTITION_KEY_MISSING"]);
  const count = async (body: object): Promise<unknown> =>
    (await server.call("POST", `${collection}/points/count`, body)).json["count"];
  expect(await count({ partition: "a" })).toBe(1);
  const moved = { target: { ids: { ids: [1] }, partition: "a" }, payload: { tenant: "b" } };
  const refused = await server.call("POST", `${collection}/points/payload/set`, moved);
  expect([refused.status, refused.json["code"]]).toEqual([400, "PARTITION_KEY_FIXED"]);
  expect((await server.call("DELETE", `${collection}/points/1?partition=b`)).json).toMatchObject({ deleted: 1 });
  expect(await count({})).toBe(1);
  const begun = await server.call("POST", `${collection}/partitions/a/isolate`);
  expect(begun.json).toMatchObject({ operation: { kind: "split_shard", collection: "tenants" } });
  await server.call("DELETE", collection);
});

test("the cluster: nodes, operations, settings, rebalance, slow queries, drains; backups", async () => {
  await create();
  expect((await server.call("GET", "/v1/cluster")).json).toMatchObject({ nodes: [{ id: "rest", state: "up" }] });
  expect((await server.call("GET", "/v1/operations")).json).toHaveProperty("operations");
  expect(await server.call("GET", "/v1/operations/none")).toMatchObject({ status: 404, json: { code: "NOT_FOUND" } });
  const set = await server.call("PATCH", "/v1/cluster/settings", { settings: { movesAtOnce: 3 } });
  expect(set.json).toMatchObject({ settings: { movesAtOnce: 3 } });
  expect((await server.call("GET", "/v1/cluster/settings")).json).toMatchObject({ settings: { movesAtOnce: 3 } });
  expect((await server.call("POST", "/v1/cluster/rebalance", {})).json).toMatchObject({ moves: [] });
  expect((await server.call("GET", "/v1/cluster/slow-queries?limit=2")).json).toHaveProperty("thresholdMs");
  expect((await server.call("POST", "/v1/nodes/nobody/drain")).status).toBe(404);
  const backup = await server.call("POST", "/v1/backups", { collection: "docs" });
  expect(backup.json["id"]).toEqual(expect.any(String));
  expect((await server.call("GET", "/v1/backups?collection=docs")).json).toHaveProperty("backups");
});

describe("what is refused", () => {
  test.each([
    ["POST", `${docs}/query`, "{", 400, "INVALID_ARGUMENT", /not JSON/],
    [
      "POST",
      `${docs}/query`,
      '{"vectr":[1]}',
      400,
      "INVALID_ARGUMENT",
      /^vectr: unknown key "vectr"; known here: vector, /,
    ],
    ["POST", `${docs}/query`, '{"vector":[1,"2"]}', 400, "INVALID_ARGUMENT", /^vector\[1\]: expected a number/],
    ["POST", `${docs}/query`, '{"vector":[1,2],"vector":[1,2]}', 400, "INVALID_ARGUMENT", /twice/],
    ["POST", `${docs}/query`, '{"vector":[1,2],"collection":"other"}', 400, "INVALID_ARGUMENT", /given by the path/],
    ["POST", `${docs}/query`, '{"vector":[1,2],"limit":1e99}', 400, "INVALID_ARGUMENT", /whole number/],
    [
      "POST",
      `${docs}/query`,
      '{"vector":[1,2],"filter":{"must":[{"key":"a"}]}}',
      400,
      "INVALID_FILTER",
      /^filter\.must\[0\]/,
    ],
    [
      "POST",
      `${docs}/query`,
      `{"query":${'{"formula":{"expression":{"negate":'.repeat(90)}`,
      400,
      "INVALID_ARGUMENT",
      /./,
    ],
    ["POST", "/v1/collections", '{"name":"../x","vectors":[{"dimension":2,"metric":"l2"}]}', 400, "INVALID_NAME", /./],
    [
      "POST",
      "/v1/collections",
      '{"name":"x","vectors":[{"dimension":2,"metric":"near"}]}',
      400,
      "INVALID_ARGUMENT",
      /cosine, dot, l2/,
    ],
    ["GET", "/v1/collections/..%2f..%2fetc%2fpasswd", undefined, 400, "INVALID_NAME", /./],
    ["GET", "/v1/collections/%00", undefined, 400, "INVALID_NAME", /./],
    ["GET", "/v1/collections/%ff", undefined, 400, "INVALID_ARGUMENT", /./],
    ["GET", "/v1/aliases?__proto__=1", undefined, 400, "INVALID_ARGUMENT", /unknown here/],
    ["GET", "/nowhere", undefined, 404, "NOT_FOUND", /\/docs/],
    ["PUT", "/v1/collections", "{}", 405, "UNIMPLEMENTED", /GET, POST/],
    ["POST", `${docs}/points/import`, "x", 415, "INVALID_ARGUMENT", /application\/x-ndjson/],
  ] as const)("%s %s %s", async (method, path, body, status, code, detail) => {
    await create();
    const reply = await server.call(method, path, body);
    expect(reply).toMatchObject({ status, json: { code, detail: matching(detail) } });
  });

  test("numbers that are too large for what they mean are refused by every kind of call", async () => {
    await create();
    const far = Number.MAX_SAFE_INTEGER + 1;
    const lines = { "content-type": "application/x-ndjson" };
    const replies = [
      await server.call("PUT", `${docs}/points/1`, { vector: [1, 0], version: far }),
      await server.call("POST", `${docs}/points`, { points: [{ id: 1, vector: [1, 0], expiresAtMs: far }] }),
      await server.call("POST", `${docs}/points/import`, `{"id":1,"vector":[1,0],"version":${far}}\n`, lines),
    ];
    for (const { status, json } of replies)
      expect([status, (json as { code: string }).code]).toEqual([400, "INVALID_ARGUMENT"]);
  });

  test("bodies and answers by gzip and by zstd", async () => {
    await create();
    await fill();
    const query = Buffer.from('{"vector":[1,0],"limit":1}');
    for (const [encoding, packed] of [
      ["gzip", gzipSync(query)],
      ["zstd", zstd.compress(query)],
      // Two frames are one text.
      ["zstd", Buffer.concat([zstd.compress(query.subarray(0, 9)), zstd.compress(query.subarray(9))])],
    ] as const) {
      const headers = { "content-encoding": encoding };
      const sent = await server.call("POST", `${docs}/query`, new Uint8Array(packed), headers);
      expect(sent.json, encoding).toMatchObject({ points: [{ id: 1 }] });
      const cut = await server.call("POST", `${docs}/query`, new Uint8Array(packed.subarray(0, -2)), headers);
      expect(cut, encoding).toMatchObject({ status: 400, json: { detail: matching(RegExp(`not valid ${encoding}`)) } });
    }
    const many = Array.from({ length: 400 }, (_, id) => ({
      id,
      vector: [id, 1],
      payload: { text: "again and again" },
    }));
    await server.call("POST", `${docs}/points`, { points: many });
    const asked = async (accepted: string): Promise<[string | null, string]> => {
      const body = { limit: 400, select: { payload: true } };
      const reply = await server.call("POST", `${docs}/points/scroll`, body, { "accept-encoding": accepted });
      expect(reply.headers.get("vary") ?? "").toContain(reply.headers.has("content-encoding") ? "accept-encoding" : "");
      return [reply.headers.get("content-encoding"), reply.text];
    };
    const [none, plain] = await asked("identity");
    expect([none, plain.length > 8 * 1024]).toEqual([null, true]);
    expect(await asked("gzip")).toEqual(["gzip", plain]);
    expect((await asked("gzip;q=0"))[0]).toBeNull();
    expect(await asked("zstd;q=0, gzip")).toEqual(["gzip", plain]);
    // Asked by hand: fetch unpacks no zstd.
    const body = '{"limit":400,"select":{"payload":true}}';
    const packed = await raw(`${docs}/points/scroll`, body, { "accept-encoding": "zstd, gzip" });
    expect(packed.encoding).toBe("zstd");
    expect(Buffer.from(zstd.decompress(packed.bytes)).toString()).toBe(plain);
  });

  test("an import streams in by zstd, through blocks and chunks that end anywhere", async () => {
    await create();
    const lines = Array.from(
      { length: 20_000 },
      (_, id) => `{"id":${id},"vector":[${id},1],"payload":{"n":${id % 7}}}\n`,
    );
    const packed = new Uint8Array(zstd.compress(Buffer.from(lines.join("")), 1));
    const headers = { "content-encoding": "zstd", "content-type": "application/x-ndjson" };
    const sent = await server.call("POST", `${docs}/points/import`, packed, headers);
    expect(sent.json).toMatchObject({ items: 20_000, upserted: 20_000, errorCount: 0 });
    const cut = await server.call("POST", `${docs}/points/import`, packed.subarray(0, -1), headers);
    expect(cut).toMatchObject({ status: 400, json: { detail: matching(/ends within a frame/) } });
  });

  test("a body that is too large, packed or not; and an encoding that is unknown", async () => {
    const bomb = new Uint8Array(gzipSync(Buffer.alloc(200 * 1024 * 1024, 0x20), { level: 9 }));
    expect(bomb.length).toBeLessThan(300_000);
    const packed = await server.call("POST", `${docs}/query`, bomb, { "content-encoding": "gzip" });
    expect(packed).toMatchObject({ status: 413, json: { code: "BATCH_TOO_LARGE" } });
    const zstdBomb = new Uint8Array(zstd.compress(Buffer.alloc(200 * 1024 * 1024, 0x20)));
    expect(zstdBomb.length).toBeLessThan(30_000);
    const unpacked = await server.call("POST", `${docs}/query`, zstdBomb, { "content-encoding": "zstd" });
    expect(unpacked).toMatchObject({ status: 413, json: { code: "BATCH_TOO_LARGE" } });
    expect((await server.call("POST", `${docs}/query`, "{}", { "content-encoding": "br" })).status).toBe(415);
    expect((await server.call("POST", `${docs}/query`, "{}", { "content-encoding": "zstd" })).status).toBe(400);
    expect((await server.call("POST", `${docs}/query`, "{}", { "content-encoding": "gzip" })).status).toBe(400);
    const blanks = Buffer.alloc(64 * 1024 * 1024, 0x20);
    for (const [encoding, line] of [
      ["gzip", gzipSync(blanks)],
      ["zstd", zstd.compress(blanks)],
    ] as const) {
      const long = await server.call("POST", `${docs}/points/import`, new Uint8Array(line), {
        "content-encoding": encoding,
        "content-type": "application/x-ndjson",
      });
      expect(long.status, encoding).toBe(413);
    }
  });

  test("a timeout is a deadline", async () => {
    expect((await server.call("GET", "/v1/collections?timeoutMs=abc")).status).toBe(400);
    const late = await server.call(
      "POST",
      `${docs}/wait-indexed`,
      { token: Buffer.from([0x0a, 5, 8, 0, 16, 0xff, 0x7f]).toString("base64url") },
      { "kith-timeout-ms": "50" },
    );
    expect([504, 400]).toContain(late.status);
  });
});

test("cross-origin calls only from the origins that are configured", async () => {
  const from = (origin: string) => server.call("OPTIONS", `${docs}/query`, undefined, { origin });
  expect((await from("https://app.example")).headers.get("access-control-allow-origin")).toBe("https://app.example");
  expect((await from("https://evil.example")).headers.get("access-control-allow-origin")).toBeNull();
});

test("the trace of the caller goes on, and is answered", async () => {
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const reply = await server.call("GET", "/v1/collections", undefined, { traceparent });
  expect(reply.headers.get("traceparent")).toMatch(/^00-0af7651916cd43dd8448eb211c80319c-/);
});

test("pages: health, readiness, the document and its reference", async () => {
  for (const path of ["/healthz", "/livez", "/readyz"])
    expect(await server.call("GET", path)).toMatchObject({ status: 200, text: "ok\n" });
  expect((await server.call("GET", "/metrics")).status).toBe(404);
  expect((await server.call("GET", "/openapi.json")).json).toMatchObject({ openapi: "3.1.0" });
  const page = await server.call("GET", "/docs");
  expect(page.headers.get("content-security-policy")).toMatch("default-src 'none'");
  expect(page.text).toContain("/v1/collections/{collection}/query");
  expect(page.text).not.toMatch(/<script|src="http|href="http/);
});

test("who may not is told so, by key and by rows, as over gRPC", async () => {
  const adminKey = "an-admin-key-of-the-test-0123456789abcdef";
  const guarded = await TestServer.start({}, { auth: { adminKey } });
  try {
    const admin = { "api-key": adminKey };
    expect(await guarded.call("GET", "/v1/collections")).toMatchObject({
      status: 401,
      json: { code: "UNAUTHENTICATED" },
    });
    expect(
      (
        await guarded.call(
          "POST",
          "/v1/collections",
          { name: "docs", vectors: [{ dimension: 2, metric: "l2" }] },
          admin,
        )
      ).status,
    ).toBe(201);
    const points = [
      { id: 1, vector: [1, 0], payload: { who: "a" } },
      { id: 2, vector: [1, 0], payload: { who: "b" } },
    ];
    await guarded.call("POST", `${docs}/points`, { points }, admin);
    const rules = [{ verbs: ["read"], collections: ["docs"], filter: "who = a" }];
    const put = await guarded.call("PUT", "/v1/roles/of-a", { role: { rules } }, admin);
    expect(put.json).toMatchObject({
      role: { name: "of-a", rules: [{ filter: { must: [{ key: "who", match: { value: "a" } }] } }] },
    });
    const made = await guarded.call("POST", "/v1/keys", { name: "a", role: "of-a", collections: ["docs"] }, admin);
    expect(made.status).toBe(201);
    const reader = { authorization: `Bearer ${String(made.json["secret"])}` };
    expect((await guarded.call("POST", `${docs}/query`, { vector: [1, 0] }, reader)).json["points"]).toMatchObject([
      { id: 1 },
    ]);
    expect((await guarded.call("POST", `${docs}/points/count`, {}, reader)).json).toMatchObject({ count: 1 });
    expect((await guarded.call("GET", `${docs}/points/2`, undefined, reader)).status).toBe(404);
    expect(await guarded.call("POST", `${docs}/points`, { points }, reader)).toMatchObject({
      status: 403,
      json: { code: "PERMISSION_DENIED" },
    });
    expect(await guarded.call("GET", "/v1/cluster", undefined, reader)).toMatchObject({ status: 403 });
    const watch = await guarded.call("POST", `${docs}/watch`, {}, { "api-key": "wrong" });
    expect(watch.status).toBe(401);
  } finally {
    await guarded.close();
  }
});
