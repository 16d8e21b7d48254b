import { afterEach, beforeEach, expect, test } from "vitest";
import { deferred, type ErrorCode } from "../base/index.js";
import { freePort } from "../base/testing.js";
import {
  type CollectionHandle,
  connect,
  type ConnectOptions,
  KithError,
  type KithClient,
  type ReadConsistency,
} from "./index.js";
import type { pb } from "../wire/index.js";
import { TestServer } from "./testing/server.js";

interface Film {
  title: string;
}

let server: TestServer;
let client: KithClient;
let films: CollectionHandle<Film>;
const fast: ConnectOptions = { retry: { initialMs: 1, maxMs: 5 } };

beforeEach(async () => {
  server = await TestServer.start();
  client = await connect(server.target, fast);
  films = client.collection<Film>("films");
  await films.create({ vectors: { dimension: 2 } });
});

afterEach(() => {
  client.close();
  server.stop();
});

async function failure(promise: Promise<unknown>): Promise<KithError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof KithError) return error;
    throw error;
  }
  throw new Error("the call did not fail");
}

test("the life of a collection", async () => {
  const info = await films.info();
  expect(info).toMatchObject({ name: "films", shards: 1, state: "ready" });
  expect(info.vectors[0]).toMatchObject({ name: "", dimension: 2, metric: "cosine", datatype: "f32" });
  expect((await failure(films.create({ vectors: { dimension: 2 } }))).code).toBe("COLLECTION_EXISTS");
  expect(await films.exists()).toBe(true);
  expect((await films.update({ efSearch: 99, labels: { team: "a" } })).vectors[0]?.efSearch).toBe(99);
  expect((await client.collections.list()).map(({ name }) => name)).toEqual(["films"]);
  expect((await client.cluster.describe()).logKind).toBe("embedded");
  expect((await films.stats()).pointCount).toBe(0);
  expect(await films.waitIndexed()).toBe(0);
  await films.drop();
  expect(await films.exists()).toBe(false);
  expect((await failure(films.info())).code).toBe("COLLECTION_NOT_FOUND");
});

test("points of every kind of id come back as they went in", async () => {
  const big = 2n ** 64n - 1n;
  const uuid = "0b0e7a52-6f0e-4a4c-9d58-3f1d7c0a9b11";
  const ids = [7, 2 ** 40 + 1, big, uuid, "seven"];
  const result = await films.upsert(ids.map((id, i) => ({ id, vector: [1, i], payload: { title: `film ${i}` } })));
  expect(result).toEqual({ upserted: 5, errors: [], token: { collectionId: "c1", shards: { 0: 1 } } });
  const found = await films.get(ids, { withVectors: true });
  expect(found.map(({ id }) => id)).toEqual(ids);
  expect(found[1]).toMatchObject({ payload: { title: "film 1" }, version: 1 });
  expect(found[1]?.vector).toEqual(new Float32Array([1, 1]));
  expect(await films.get("nothing")).toBeUndefined();
  expect((await films.get(7))?.payload).toEqual({ title: "film 0" });
  expect(await films.delete([7, "nothing"])).toMatchObject({ deleted: 1 });
  expect(await films.count()).toBe(4);
  // Numbers only: eight bytes each on the wire.
  await films.upsert([{ id: 2 ** 40 + 1, vector: [3, 4] }]);
  const sent = server.callsOf("upsertColumns").at(-1)?.request as pb.UpsertColumnsRequest;
  expect(sent.idColumn?.$case).toBe("nums");
  expect((await films.get(2 ** 40 + 1, { withVectors: true }))?.vector).toEqual(new Float32Array([3, 4]));
});

test("points of unlike shapes go in one request, by row", async () => {
  const named = client.collection("named");
  await named.create({ vectors: { text: { dimension: 2 }, image: { dimension: 1, metric: "dot", datatype: "i8" } } });
  await named.upsert([
    { id: 1, vectors: { text: [1, 2], image: [3] } },
    { id: 2, vectors: { text: [1, 2] } },
  ]);
  expect(server.callsOf("upsert")).toHaveLength(1);
  expect((await named.get(1, { withVectors: ["image"] }))?.vectors).toEqual({ image: new Float32Array([3]) });
  const { points } = await named.query({ vector: [2], using: "image" });
  expect(points).toMatchObject([{ id: 1, score: 6 }]);
});

test("columns are sent as they are", async () => {
  const ids = BigUint64Array.from([1n, 2n]);
  const payloads = [{ title: "a" }, undefined];
  expect((await films.upsertColumns({ ids, vectors: Float32Array.of(1, 2, 3, 4), payloads })).upserted).toBe(2);
  expect((await films.get(2, { withVectors: true }))?.vector).toEqual(Float32Array.of(3, 4));
  expect((await films.get(1))?.payload).toEqual({ title: "a" });
  expect((await failure(films.upsertColumns({ ids, vectors: new Float32Array(3) }))).code).toBe("DIMENSION_MISMATCH");
});

test("texts that UTF-8 would make others of are refused before anything is sent", async () => {
  const before = server.seen.length;
  const point = { id: 1, vector: [1, 2] };
  const keys = ["\ud800", "\udc00", "a\udfffb"];
  const faults = await Promise.all([
    ...keys.map((idempotencyKey) => failure(films.upsert(point, { idempotencyKey }))),
    ...keys.map((idempotencyKey) => failure(films.delete(1, { idempotencyKey }))),
    ...keys.map((value) => failure(films.count({ filter: { must: [{ key: "a", match: { value } }] } }))),
    ...keys.map((text) => failure(films.count({ filter: { must: [{ key: "a", match: { text } }] } }))),
  ]);
  expect(faults.map(({ code }) => code)).toEqual([
    ...Array.from({ length: 6 }, () => "INVALID_ARGUMENT"),
    ...Array.from({ length: 6 }, () => "INVALID_FILTER"),
  ]);
  for (const { message } of faults) expect(message).toMatch(/lone surrogate/);
  expect(server.seen).toHaveLength(before);
});

test("paths, partitions and texts of queries that UTF-8 would make others of are refused too", async () => {
  const before = server.seen.length;
  const lone = '"a\ud800"';
  const query = { vector: [1, 2] };
  const calls: [string, () => Promise<unknown>][] = [
    ["partitionKey", () => films.create({ vectors: { dimension: 2 }, partitionKey: lone })],
    ["path", () => films.createPayloadIndex(lone, "keyword")],
    [
      "options.bm25.fields[1].path",
      () => films.createPayloadIndex("a", "bm25", { bm25: { fields: [{ path: "a" }, { path: lone }] } }),
    ],
    [
      "options.bm25.analyzer.stopwords[0]",
      () => films.createPayloadIndex("a", "bm25", { bm25: { analyzer: { stopwords: [lone] } } }),
    ],
    ["path", () => films.dropPayloadIndex(lone)],
    ["key", () => films.facet(lone)],
    ["groupBy", () => films.queryGroups({ ...query, groupBy: lone })],
    ["orderBy", () => films.scroll({ orderBy: lone }).next()],
    ["query.orderBy.key", () => films.query({ query: { orderBy: { key: lone } } })],
    ["query.text", () => films.query({ query: { text: lone } })],
    [
      "query.text.analyzer.stopwords[0]",
      () => films.query({ query: { text: { text: "a", analyzer: { stopwords: [lone] } } } }),
    ],
    ["query.formula.sum[1]", () => films.query({ query: { formula: { sum: [1, lone] } } })],
    ["query.defaults", () => films.query({ query: { formula: 1, defaults: { [lone]: 1 } } })],
    ["withPayload.include[0]", () => films.query({ ...query, withPayload: { include: [lone] } })],
    ["withPayload.exclude[0]", () => films.get(1, { withPayload: { exclude: [lone] } })],
    ["partition", () => films.count({ partition: "\udc00" })],
    ["path", () => films.setPayload(1, {}, { path: lone })],
    ["paths", () => films.deletePayload(1, ["a", lone])],
    ["paths", () => films.writeBatch([{ op: "deletePayload", target: 1, paths: lone }])],
    ["path", () => films.writeBatch([{ op: "setPayload", target: 1, payload: {}, path: lone }])],
  ];
  for (const [at, call] of calls) {
    const error = await failure(call());
    expect([error.code, error.details["field"], error.message]).toEqual([
      "INVALID_ARGUMENT",
      at,
      expect.stringMatching(/lone surrogate/),
    ]);
  }
  expect(server.seen).toHaveLength(before);
});

test("faults that the client can see are refused before anything is sent", async () => {
  const before = server.seen.length;
  const codes = await Promise.all([
    failure(films.upsert([])),
    failure(films.upsert({ id: 1 })),
    failure(films.upsert({ id: -1, vector: [1, 2] })),
    failure(films.upsert({ id: 1.5, vector: [1, 2] })),
    failure(films.upsert({ id: "", vector: [1, 2] })),
    failure(films.upsert({ id: 1, vector: [1, Number.NaN] })),
    failure(films.upsert({ id: 1, vector: [1, 1e300] })),
    failure(films.upsert({ id: 1, vector: [1, 2], payload: 5 as unknown as Film })),
    failure(films.upsert({ id: 1, vector: [1, 2] }, { idempotencyKey: "" })),
    failure(films.query({})),
    failure(films.query({ vector: [1, 2], limit: -1 })),
    failure(films.query({ vector: [1, 2], limit: 0 })),
  ]);
  expect(codes.map(({ code }) => code)).toEqual([
    "INVALID_ARGUMENT",
    "INVALID_ARGUMENT",
    "INVALID_ID",
    "INVALID_ID",
    "INVALID_ID",
    "VECTOR_NOT_FINITE",
    "VECTOR_NOT_FINITE",
    "INVALID_PAYLOAD",
    "INVALID_ARGUMENT",
    "INVALID_ARGUMENT",
    "LIMIT_OUT_OF_RANGE",
    "LIMIT_OUT_OF_RANGE",
  ]);
  expect(
    (
      await failure(
        films.upsert([
          { id: 1, vector: [1, 2] },
          { id: 2, vector: [1, Number.NaN] },
        ]),
      )
    ).message,
  ).toContain("points[1] (id 2): element 1 of the vector is NaN");
  expect(() => client.collection("../x")).toThrow(/not a valid name/);
  expect(server.seen).toHaveLength(before);
});

test("a batch beyond one message is refused once, with its size, before anything is sent", async () => {
  const before = server.seen.length;
  const wide = new Float32Array(9_000);
  const points = Array.from({ length: 1_000 }, (_, id) => ({ id, vector: wide }));
  const error = await failure(films.upsert(points));
  expect(error).toMatchObject({ code: "BATCH_TOO_LARGE", retryable: false });
  expect(error.message).toMatch(/^the request has 36\d{6} bytes; at most 33554432 fit.*send less at once/);
  expect(server.seen).toHaveLength(before);
});

test("what a condition refused is reported by item", async () => {
  await films.upsert({ id: 1, vector: [1, 2] });
  const points = [1, 2].map((id) => ({ id, vector: [1, 2] }));
  const { upserted, errors } = await films.upsert(points, { mode: "insert" });
  expect(upserted).toBe(1);
  expect(errors).toEqual([{ index: 0, code: "POINT_EXISTS", message: "the point num:1 exists" }]);
});

test("the client's token goes with its reads, shared by all handles of a name", async () => {
  const sentBy = (method: string): pb.Consistency | undefined =>
    (server.callsOf(method).at(-1)?.request as { consistency?: pb.Consistency }).consistency;
  await films.count();
  expect(sentBy("count")).toBeUndefined();
  await films.upsert({ id: 1, vector: [1, 2] });
  await films.upsert({ id: 2, vector: [1, 2] });
  await client.collection("films").query({ vector: [1, 2] });
  const own: pb.Consistency = {
    level: { $case: "atLeast", value: { shards: [{ shard: 0, sequence: 2 }], collectionId: "c1" } },
  };
  expect(sentBy("queryStream")).toEqual(own);
  await films.count();
  expect(sentBy("count")).toEqual(own);
  await films.count({ consistency: "none" });
  expect(sentBy("count")).toBeUndefined();
  await films.get(1, { consistency: "linearizable" });
  expect(sentBy("get")).toEqual({ level: { $case: "linearizable", value: true } });
  const foreign = { atLeast: { collectionId: "c7", shards: { 3: 9 } } };
  expect((await failure(films.count({ consistency: foreign }))).code).toBe("INVALID_TOKEN");
  expect(sentBy("count")).toEqual({
    level: { $case: "atLeast", value: { shards: [{ shard: 3, sequence: 9 }], collectionId: "c7" } },
  });
  expect(films.token).toEqual({ collectionId: "c1", shards: { 0: 2 } });
  expect((await failure(films.create({ vectors: { dimension: 2 } }))).code).toBe("COLLECTION_EXISTS");
  expect(films.token).toEqual({ collectionId: "c1", shards: { 0: 2 } });
  await films.drop();
  expect(films.token).toEqual({ collectionId: "", shards: {} });
});

test("a token that the server does not know is reported, and forgotten", async () => {
  await films.upsert({ id: 1, vector: [1, 2] });
  const other = await connect(server.target, fast);
  await other.collection("films").drop();
  await other.collection("films").create({ vectors: { dimension: 2 } });
  expect((await failure(films.query({ vector: [1, 2] }))).code).toBe("INVALID_TOKEN");
  expect((await films.query({ vector: [1, 2] })).points).toEqual([]);
  other.close();
});

/** Holds up the answer of the first call of a method, which has been carried out when `carriedOut` resolves. */
function holdAnswer(method: string): { carriedOut: Promise<void>; release(): void } {
  const carriedOut = deferred<void>();
  const released = deferred<void>();
  server.answerHook = (call) => {
    if (call.method !== method) return;
    server.answerHook = undefined;
    carriedOut.resolve();
    return released.promise;
  };
  return { carriedOut: carriedOut.promise, release: () => released.resolve() };
}

test.each([
  ["get", () => films.get(1)],
  ["upsertColumns", () => films.upsert({ id: 2, vector: [1, 2] })],
])(
  "an answer (%s) of the dropped collection that comes late leaves the token of the new one alone",
  async (method, call) => {
    await films.upsert({ id: 1, vector: [1, 2] });
    const held = holdAnswer(method);
    const late = call();
    await held.carriedOut;
    await films.drop();
    await films.create({ vectors: { dimension: 2 } });
    const { token } = await films.upsert({ id: 1, vector: [1, 2] });
    held.release();
    await late;
    expect(films.token).toEqual(token);
    expect(token.collectionId).toBe("c2");
  },
);

test.each(["create", "drop"])("what was written before the answer of %s came is kept", async (method) => {
  if (method === "create") await films.drop();
  const held = holdAnswer(method);
  const late = method === "create" ? films.create({ vectors: { dimension: 2 } }) : films.drop();
  await held.carriedOut;
  if (method === "drop") await films.create({ vectors: { dimension: 2 } });
  const { token } = await films.upsert({ id: 1, vector: [1, 2] });
  held.release();
  await late;
  expect(films.token).toEqual(token);
});

test("a router that does not know the collection yet does not make the client forget its writes", async () => {
  const { token } = await films.upsert({ id: 1, vector: [1, 2] });
  server.hook = ({ method }) => {
    if (method === "count") throw new KithError("COLLECTION_NOT_FOUND", "not in this view of the catalog");
  };
  expect((await failure(films.count())).code).toBe("COLLECTION_NOT_FOUND");
  expect(films.token).toEqual(token);
});

test("queries of a batch that are refused for the client's own token make the next batch start afresh", async () => {
  const { token } = await films.upsert({ id: 1, vector: [1, 2] });
  const refused = async (consistency: ReadConsistency): Promise<string[]> =>
    (await films.queryBatch([{ vector: [1, 2], consistency }])).map((item) => (item.ok ? "ok" : item.error.code));
  expect(await refused({ atLeast: { collectionId: "c7", shards: { 0: 1 } } })).toEqual(["INVALID_TOKEN"]);
  expect(films.token).toEqual(token);
  const other = await connect(server.target, fast);
  await other.collection("films").drop();
  await other.collection("films").create({ vectors: { dimension: 2 } });
  expect(await refused("session")).toEqual(["INVALID_TOKEN"]);
  expect(await refused("session")).toEqual(["ok"]);
  other.close();
});

test("headers go with unary calls and with streams", async () => {
  const other = await connect(server.target, { headers: { authorization: "Bearer x" } });
  const handle = other.collection("films");
  await handle.upsertMany([{ id: 1, vector: [1, 2] }]);
  await handle.query({ vector: [1, 2] });
  await handle.count();
  for (const method of ["exists", "upsertStream", "queryStream", "count"]) {
    expect(server.callsOf(method).at(-1)?.metadata.get("authorization")).toEqual(["Bearer x"]);
  }
  other.close();
});

test("a write is repeated under the same key, and takes effect once", async () => {
  let failures = 2;
  server.hook = ({ method }) => {
    if (method === "upsertColumns" && failures-- > 0) throw new KithError("LOG_UNAVAILABLE", "no quorum");
  };
  expect((await films.upsert({ id: 1, vector: [1, 2] })).upserted).toBe(1);
  const keys = server
    .callsOf("upsertColumns")
    .map(({ request }) => (request as pb.UpsertRequest).options?.idempotencyKey);
  expect(keys).toHaveLength(3);
  expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set(keys).size).toBe(1);
  await films.upsert({ id: 1, vector: [1, 2] }, { idempotencyKey: "mine" });
  const last = server.callsOf("upsertColumns").at(-1)?.request as pb.UpsertRequest;
  expect(last.options?.idempotencyKey).toBe("mine");
});

test("what cannot succeed is not repeated, and creating is not repeated at all", async () => {
  server.hook = ({ method }) => {
    if (method === "count") throw new KithError("INVALID_ARGUMENT", "no");
    if (method === "create") throw new KithError("CATALOG_UNAVAILABLE", "no");
  };
  expect((await failure(films.count())).code).toBe("INVALID_ARGUMENT");
  expect((await failure(client.collection("b").create({ vectors: { dimension: 1 } }))).code).toBe(
    "CATALOG_UNAVAILABLE",
  );
  expect([server.callsOf("count").length, server.callsOf("create").length]).toEqual([1, 2]);
});

test("when the budget of retries is spent, errors come at once", async () => {
  const poor = await connect(server.target, { retry: { initialMs: 1, maxMs: 1, burst: 3, ratio: 0.001 } });
  server.hook = ({ method }) => {
    if (method === "count") throw new KithError("SHARD_UNAVAILABLE", "away");
  };
  const handle = poor.collection("films");
  for (let i = 0; i < 10; i++) expect((await failure(handle.count())).code).toBe("SHARD_UNAVAILABLE");
  expect(server.callsOf("count")).toHaveLength(13);
  poor.close();
});

test("retry_after is honoured", async () => {
  const times: number[] = [];
  server.hook = ({ method }) => {
    if (method !== "count") return;
    times.push(performance.now());
    if (times.length === 1) throw new KithError("RESOURCE_EXHAUSTED", "busy", { retryAfterMs: 120 });
  };
  await films.count();
  expect((times[1] as number) - (times[0] as number)).toBeGreaterThanOrEqual(115);
});

test("a write whose deadline passes says that its outcome is unknown, and how to repeat it", async () => {
  let release: () => void = () => undefined;
  server.hook = () => new Promise((resolve) => (release = resolve));
  const error = await failure(films.upsert({ id: 1, vector: [1, 2] }, { deadlineMs: 100, idempotencyKey: "k1" }));
  expect(error.code).toBe("DEADLINE_EXCEEDED");
  expect(error.message).toContain(
    'outcome of the write is unknown: a retry with the same idempotencyKey ("k1") is safe',
  );
  expect(error.details["idempotencyKey"]).toBe("k1");
  release();
});

test.each<ErrorCode>([
  "LOG_UNAVAILABLE",
  "DISK_FULL",
  "SHUTTING_DOWN",
  "INTERNAL",
  "RESOURCE_EXHAUSTED",
  "SHARD_UNAVAILABLE",
  "CORRUPT_DATA",
  "CANCELLED",
])("after %s a part of the write may be in the log: the error says so, with the key", async (code) => {
  const once = await connect(server.target, { retry: { attempts: 1 } });
  server.hook = () => {
    throw new KithError(code, "not now", { details: { shard: 1 }, retryAfterMs: 70 });
  };
  const handle = once.collection("films");
  for (const write of [() => handle.upsert({ id: 1, vector: [1, 2] }), () => handle.delete(1)]) {
    const error = await failure(write());
    const key = error.details["idempotencyKey"];
    expect(key).toMatch(/^[0-9a-f]{32}$/);
    expect(error).toMatchObject({ code, retryAfterMs: 70, details: { shard: "1" } });
    expect(error.message).toContain(
      `not now; the outcome of the write is unknown: a retry with the same idempotencyKey ("${key}")`,
    );
  }
  once.close();
});

test.each<ErrorCode>([
  "INVALID_ARGUMENT",
  "DIMENSION_MISMATCH",
  "ZERO_VECTOR",
  "BATCH_TOO_LARGE",
  "COLLECTION_NOT_FOUND",
  "COLLECTION_NOT_READY",
  "FAILED_PRECONDITION",
  "PARTITION_KEY_MISSING",
  "PARTITION_KEY_FIXED",
  "LIMIT_OUT_OF_RANGE",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
])("after %s nothing is said of an unknown outcome", async (code) => {
  const once = await connect(server.target, { retry: { attempts: 1 } });
  server.hook = () => {
    throw new KithError(code, "no");
  };
  expect(await failure(once.collection("films").delete(1))).toMatchObject({ code, message: "no", details: {} });
  once.close();
});

test("a signal ends a call", async () => {
  server.hook = () => new Promise(() => undefined);
  const abort = new AbortController();
  const pending = failure(films.count({ signal: abort.signal }));
  await expect.poll(() => server.callsOf("count").length).toBe(1);
  abort.abort();
  expect((await pending).code).toBe("CANCELLED");
  expect((await failure(films.count({ signal: abort.signal }))).code).toBe("CANCELLED");
});

test("a deadline is any positive time; what timers cannot hold is as good as none", async () => {
  for (const deadlineMs of [Number.NaN, 0, -1]) {
    expect(await failure(films.count({ deadlineMs }))).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await failure(connect(server.target, { deadlineMs }))).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await failure(connect(server.target, { connectTimeoutMs: deadlineMs }))).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("connectTimeoutMs is") as string,
    });
  }
  for (const deadlineMs of [Infinity, 2 ** 31, 1e15]) {
    const patient = await connect(server.target, { deadlineMs, connectTimeoutMs: deadlineMs });
    const handle = patient.collection<Film>("films");
    expect(await handle.count()).toBe(0);
    expect((await handle.query({ vector: [1, 2], deadlineMs })).points).toEqual([]);
    expect((await handle.upsertMany([], { deadlineMs })).upserted).toBe(0);
    patient.close();
  }
});

test("closing the client during the pause before a retry ends the call with CANCELLED", async () => {
  const closing = await connect(server.target, { retry: { initialMs: 60_000, maxMs: 60_000 } });
  const handle = closing.collection<Film>("films");
  const options = { deadlineMs: 600_000 };
  server.hook = ({ method }) => {
    if (["queryStream", "count"].includes(method)) throw new KithError("SHARD_UNAVAILABLE", "away");
  };
  const calls = [failure(handle.query({ vector: [1, 2], ...options })), failure(handle.count(options))];
  await expect.poll(() => [server.callsOf("queryStream").length, server.callsOf("count").length]).toEqual([1, 1]);
  // The answers have come when a later call has been answered on each way.
  await closing.collection("films").exists();
  closing.close();
  expect((await Promise.all(calls)).map(({ code }) => code)).toEqual(["CANCELLED", "CANCELLED"]);
});

test("scrolling goes page by page", async () => {
  const points = Array.from({ length: 25 }, (_, id) => ({ id, vector: [1, id], payload: { title: String(id) } }));
  await films.upsert(points);
  const ids: unknown[] = [];
  for await (const { id, payload } of films.scroll({ batch: 10 })) {
    ids.push(id);
    expect(payload?.title).toBe(String(id));
  }
  expect(ids).toEqual(points.map(({ id }) => id));
  expect(server.callsOf("scroll")).toHaveLength(3);
});

test("a scroll does not go over to another collection of the same name", async () => {
  const points = Array.from({ length: 4 }, (_, id) => ({ id, vector: [1, id] }));
  await films.upsert(points);
  const ids: unknown[] = [];
  const scroll = async (): Promise<void> => {
    for await (const { id } of films.scroll({ batch: 2 })) {
      ids.push(id);
      if (ids.length !== 2) continue;
      await films.drop();
      await films.create({ vectors: { dimension: 2 } });
      await films.upsert(points);
    }
  };
  const error = await failure(scroll());
  expect(error.code).toBe("COLLECTION_NOT_FOUND");
  expect(error.message).toMatch(/"films" was deleted and made anew meanwhile/);
  expect(ids).toEqual([0, 1]);
});

test("connecting fails clearly where nobody answers, and a closed client refuses calls", async () => {
  const nowhere = `127.0.0.1:${await freePort()}`;
  const error = await failure(connect(nowhere, { connectTimeoutMs: 200 }));
  expect(error.code).toBe("SERVER_UNREACHABLE");
  expect(error.message).toMatch(new RegExp(`no Kith server answers at ${nowhere}.*kith dev`));
  expect((await failure(connect("http://127.0.0.1:7700"))).code).toBe("INVALID_ADDRESS");
  const other = await connect(server.target);
  other.close();
  expect((await failure(other.collection("films").count())).code).toBe("FAILED_PRECONDITION");
});

test("connecting does not wait for a description of the whole cluster", async () => {
  server.hook = ({ method }) => (method === "describe" ? new Promise(() => undefined) : undefined);
  const other = await connect(server.target, { connectTimeoutMs: 10_000 });
  expect(await other.collections.list()).toHaveLength(1);
  other.close();
});

test("connecting waits for a server that is still starting", async () => {
  const port = await freePort();
  const connecting = connect(`127.0.0.1:${port}`, { connectTimeoutMs: 10_000 });
  const late = await TestServer.start({ port });
  const other = await connecting;
  expect(await other.collections.list()).toEqual([]);
  other.close();
  late.stop();
});
