import { afterEach, beforeEach, expect, test } from "vitest";
import { freePort } from "../base/testing.js";
import { type CollectionHandle, connect, KithError, type KithClient } from "./index.js";
import type { pb } from "../wire/index.js";
import { TestServer } from "./testing/server.js";

let server: TestServer;
let client: KithClient;
let handle: CollectionHandle;

async function open(options?: { queryStream?: boolean; port?: number }): Promise<void> {
  server = await TestServer.start(options);
  client = await connect(server.target, { retry: { initialMs: 1, maxMs: 5 } });
  handle = client.collection("c");
  await handle.create({ vectors: { dimension: 2 } });
  await handle.upsert([1, 2, 3].map((id) => ({ id, vector: [id, 0], payload: { id } })));
}

beforeEach(() => open());

afterEach(() => {
  client.close();
  server.stop();
});

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof KithError ? error.code : String(error);
  }
  return "no error";
}

test("queries share one stream, and each gets its own answer", async () => {
  // Answers come in reverse, so that only the request id can tell whose they are.
  const waiting: (() => void)[] = [];
  server.hook = () => {
    const held = new Promise<void>((resolve) => waiting.push(resolve));
    if (waiting.length === 20) for (const resolve of [...waiting].reverse()) setImmediate(resolve);
    return held;
  };
  const limits = Array.from({ length: 20 }, (_, i) => 1 + (i % 3));
  const results = await Promise.all(limits.map((limit) => handle.query({ vector: [1, 0], limit })));
  expect(results.map(({ points }) => points.length)).toEqual(limits);
  expect(results[0]?.points[0]).toEqual({ id: 3, score: 3, version: 1, payload: { id: 3 } });
  expect(results[0]?.tookUs).toBe(7);
  expect(server.queryStreamsOpened).toBe(1);
  expect(server.callsOf("query")).toHaveLength(0);
});

test("what a query asks for reaches the server", async () => {
  await handle.query({
    vector: Float32Array.of(1, 2),
    limit: 3,
    ef: 99,
    exact: true,
    scoreThreshold: 0,
    allowPartial: true,
    withPayload: false,
    withVectors: true,
  });
  expect(server.callsOf("queryStream")[0]?.request).toMatchObject({
    collection: "c",
    limit: 3,
    ef: 99,
    exact: true,
    scoreThreshold: 0,
    allowPartial: true,
    select: { payload: false, allVectors: true, vectors: [] },
  });
  const { points } = await handle.query({ point: 3, withPayload: false, withVectors: [""] });
  expect(points.map(({ id }) => id)).toEqual([2, 1]);
  expect(points[0]).toEqual({ id: 2, score: 6, version: 1, vector: Float32Array.of(2, 0) });
});

test("an error of one query leaves the others and the stream alone", async () => {
  const missing = client.collection("missing");
  const [code, result] = await Promise.all([
    codeOf(missing.query({ vector: [1, 0] })),
    handle.query({ vector: [1, 0] }),
  ]);
  expect(code).toBe("COLLECTION_NOT_FOUND");
  expect(result.points).toHaveLength(3);
  expect(server.queryStreamsOpened).toBe(1);
});

test("queries in flight on a stream that is lost are repeated on a new one", async () => {
  let held = true;
  server.hook = ({ method }) => (held && method === "queryStream" ? new Promise(() => undefined) : undefined);
  const pending = Promise.all([1, 2, 3].map((limit) => handle.query({ vector: [1, 0], limit })));
  await expect.poll(() => server.callsOf("queryStream").length).toBe(3);
  held = false;
  server.breakStreams();
  expect((await pending).map(({ points }) => points.length)).toEqual([1, 2, 3]);
  expect(server.queryStreamsOpened).toBe(2);
});

test("queries survive a restart of the server", async () => {
  client.close();
  server.stop();
  const port = await freePort();
  await open({ port });
  await handle.query({ vector: [1, 0] });
  server.stop();
  // The collection is gone with the server: that it says so shows that the client reached it.
  const pending = codeOf(handle.query({ vector: [1, 0], consistency: "none" }));
  server = await TestServer.start({ port });
  const code = await pending;
  expect(["COLLECTION_NOT_FOUND", "SHARD_UNAVAILABLE"]).toContain(code);
  await expect.poll(() => codeOf(handle.query({ vector: [1, 0] })), { timeout: 10_000 }).toBe("COLLECTION_NOT_FOUND");
});

test("an aborted query is cancelled on the server, and its late answer is dropped", async () => {
  let release: () => void = () => undefined;
  server.hook = ({ method }) => (method === "queryStream" ? new Promise((resolve) => (release = resolve)) : undefined);
  const abort = new AbortController();
  const pending = codeOf(handle.query({ vector: [1, 0], signal: abort.signal }));
  await expect.poll(() => server.callsOf("queryStream").length).toBe(1);
  abort.abort();
  expect(await pending).toBe("CANCELLED");
  await expect.poll(() => server.cancelled).toEqual([1]);
  release();
  server.hook = undefined;
  expect((await handle.query({ vector: [1, 0] })).points).toHaveLength(3);
  expect(server.queryStreamsOpened).toBe(1);
});

test("a query has its deadline, which the server learns", async () => {
  server.hook = ({ method }) => (method === "queryStream" ? new Promise(() => undefined) : undefined);
  expect(await codeOf(handle.query({ vector: [1, 0], deadlineMs: 60 }))).toBe("DEADLINE_EXCEEDED");
  await expect.poll(() => server.cancelled.length).toBe(1);
  expect(await codeOf(handle.query({ vector: [1, 0], deadlineMs: -1 }))).toBe("INVALID_ARGUMENT");
});

test("a server without the stream is asked by unary calls", async () => {
  client.close();
  server.stop();
  await open({ queryStream: false });
  const results = await Promise.all([1, 2].map((limit) => handle.query({ vector: [1, 0], limit })));
  expect(results.map(({ points }) => points.length)).toEqual([1, 2]);
  await handle.query({ vector: [1, 0] });
  expect(server.callsOf("query")).toHaveLength(3);
});

test("closing the client ends what is in flight", async () => {
  server.hook = () => new Promise(() => undefined);
  const pending = [codeOf(handle.query({ vector: [1, 0] })), codeOf(handle.count())];
  await expect.poll(() => server.callsOf("queryStream").length + server.callsOf("count").length).toBe(2);
  client.close();
  expect(await Promise.all(pending)).toEqual(["CANCELLED", "CANCELLED"]);
});

test("a traced query has the client's span above the server's", async () => {
  const { trace } = await handle.query({ vector: [1, 0], trace: true });
  expect(trace.map(({ name, node }) => [name, node])).toEqual([
    ["kith.client.query", "client"],
    ["router.query", "n1"],
  ]);
  expect(trace[1]?.parentSpanId).toBe(trace[0]?.spanId);
  expect((await handle.query({ vector: [1, 0] })).trace).toEqual([]);
});

test("a batch of queries has an answer or an error for each", async () => {
  const [good, bad] = await handle.queryBatch([
    { vector: [1, 0], limit: 1 },
    { vector: [1, 0], consistency: { atLeast: { collectionId: "", shards: { 0: 99 } } } },
  ]);
  expect(good).toMatchObject({ ok: true, result: { points: [{ id: 3 }] } });
  expect(bad).toMatchObject({ ok: false, error: { code: "INVALID_TOKEN" } });
  expect(await codeOf(handle.queryBatch([]))).toBe("INVALID_ARGUMENT");
  expect(await codeOf(handle.queryBatch(Array.from({ length: 257 }, () => ({ vector: [1, 0] }))))).toBe(
    "BATCH_TOO_LARGE",
  );
  expect((server.callsOf("queryBatch")[0]?.request as pb.QueryBatchRequest).queries).toHaveLength(2);
});
