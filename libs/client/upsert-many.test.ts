import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type CollectionHandle,
  connect,
  type ItemError,
  KithError,
  type KithClient,
  type PointInput,
  type SettledBatch,
} from "./index.js";
import { deferred } from "../base/index.js";
import type { pb } from "../wire/index.js";
import { idsOf, TestServer } from "./testing/server.js";

let server: TestServer;
let client: KithClient;
let handle: CollectionHandle;

beforeEach(async () => {
  server = await TestServer.start();
  client = await connect(server.target, { retry: { initialMs: 1, maxMs: 5 } });
  handle = client.collection("c");
  await handle.create({ vectors: { dimension: 2 } });
});

afterEach(() => {
  client.close();
  server.stop();
});

function* points(count: number): Generator<PointInput> {
  for (let id = 0; id < count; id++) yield { id, vector: [1, id], payload: { id } };
}

async function failure(promise: Promise<unknown>): Promise<KithError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof KithError) return error;
    throw error;
  }
  throw new Error("the call did not fail");
}

test("everything arrives, in messages of the size asked for, with progress", async () => {
  const seen: number[] = [];
  const result = await handle.upsertMany(points(2_500), {
    batchPoints: 400,
    onProgress: ({ upserted }) => seen.push(upserted),
  });
  expect(result).toMatchObject({ sent: 2_500, upserted: 2_500, failed: 0, errors: [] });
  expect(result.bytes).toBeGreaterThan(2_500 * 8);
  expect(seen).toHaveLength(7);
  expect(seen.at(-1)).toBe(2_500);
  expect(await handle.count()).toBe(2_500);
  expect((await handle.get(2_499))?.payload).toEqual({ id: 2_499 });
  const sizes = server.callsOf("upsertStream").map(({ request }) => idsOf(request as pb.UpsertColumnsRequest).length);
  expect(sizes).toEqual([400, 400, 400, 400, 400, 400, 100]);
  expect(handle.token).toEqual(result.token);
});

test("messages are cut by bytes", async () => {
  await handle.upsertMany(points(1_000), { batchBytes: 4_096 });
  for (const { request } of server.callsOf("upsertStream")) {
    const { vectors, payloads } = request as pb.UpsertColumnsRequest;
    const sizeBytes = (vectors[0]?.matrix.length ?? 0) + payloads.reduce((sum, payload) => sum + payload.length, 0);
    expect(sizeBytes).toBeLessThanOrEqual(4_096);
  }
  expect(server.callsOf("upsertStream").length).toBeGreaterThan(5);
});

test("never more than inFlight messages are unanswered, and the source is not read ahead of them", async () => {
  let read = 0;
  async function* counted(): AsyncGenerator<PointInput> {
    for (const point of points(100)) {
      read++;
      yield point;
    }
  }
  const waiting: (() => void)[] = [];
  server.hook = ({ method }) =>
    method === "upsertStream" ? new Promise((resolve) => waiting.push(resolve)) : undefined;
  const running = handle.upsertMany(counted(), { batchPoints: 10, inFlight: 2 });
  await expect.poll(() => waiting.length).toBe(2);
  // Two messages are out, and a third one is full and waits.
  await expect.poll(() => read).toBe(30);
  expect(waiting).toHaveLength(2);
  const pump = setInterval(() => waiting.shift()?.(), 1);
  const result = await running;
  clearInterval(pump);
  expect(result.upserted).toBe(100);
  expect(server.upsertsInFlightMax).toBe(2);
});

test("points that are not valid are reported by their position, and the others are written", async () => {
  const source: PointInput[] = [...points(50)];
  source[3] = { id: -1, vector: [1, 2] };
  source[7] = { id: 7, vector: [1, Number.POSITIVE_INFINITY] };
  source[20] = { id: 20, vector: [0, 0] };
  source[30] = { id: 30, vector: [1, 2, 3] };
  source[40] = { id: 40 };
  source[41] = null as unknown as PointInput;
  source[45] = null as unknown as PointInput;
  const errors: ItemError[] = [];
  const result = await handle.upsertMany(source, { batchPoints: 16, onItemError: (error) => errors.push(error) });
  expect(errors.map(({ index, code }) => [index, code]).sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual([
    [3, "INVALID_ID"],
    [7, "VECTOR_NOT_FINITE"],
    [20, "ZERO_VECTOR"],
    [30, "DIMENSION_MISMATCH"],
    [40, "INVALID_ARGUMENT"],
    [41, "INVALID_ARGUMENT"],
    [45, "INVALID_ARGUMENT"],
  ]);
  expect(result).toMatchObject({ sent: 50, upserted: 43, failed: 7 });
  expect(result.errors).toHaveLength(7);
  expect(await handle.count()).toBe(43);
});

test("items that a condition refused keep their position in the input", async () => {
  await handle.upsert({ id: 33, vector: [1, 1] });
  const { failed, errors } = await handle.upsertMany(points(40), { batchPoints: 10, mode: "insert" });
  expect(failed).toBe(1);
  expect(errors).toMatchObject([{ index: 33, code: "POINT_EXISTS" }]);
});

test("batches are reported as they are settled, with the position to resume at", async () => {
  const order: (() => void)[] = [];
  server.hook = ({ method }) => (method === "upsertStream" ? new Promise((resolve) => order.push(resolve)) : undefined);
  const settled: SettledBatch[] = [];
  const running = handle.upsertMany(points(30), {
    batchPoints: 10,
    inFlight: 3,
    onBatch: (batch) => settled.push(batch),
  });
  await expect.poll(() => order.length).toBe(3);
  for (const which of [2, 0, 1]) {
    const before = settled.length;
    order[which]?.();
    await expect.poll(() => settled.length).toBe(before + 1);
  }
  await running;
  expect(settled).toEqual([
    { firstIndex: 20, count: 10, resumeIndex: 0 },
    { firstIndex: 0, count: 10, resumeIndex: 10 },
    { firstIndex: 10, count: 10, resumeIndex: 30 },
  ]);
});

test("a stream that breaks is opened again, and what was in flight is sent under the same keys", async () => {
  let held = true;
  server.hook = ({ method }) => (held && method === "upsertStream" ? new Promise(() => undefined) : undefined);
  const running = handle.upsertMany(points(30), { batchPoints: 10, inFlight: 3 });
  await expect.poll(() => server.callsOf("upsertStream").length).toBe(3);
  held = false;
  server.breakStreams();
  expect((await running).upserted).toBe(30);
  const keys = server
    .callsOf("upsertStream")
    .map(({ request }) => (request as pb.UpsertColumnsRequest).options?.idempotencyKey);
  expect(keys).toHaveLength(6);
  expect(keys.slice(3).sort()).toEqual(keys.slice(0, 3).sort());
  expect(new Set(keys).size).toBe(3);
});

test("an error of the whole ends the run, says where to resume, and ends the source", async () => {
  let ended = false;
  function* source(): Generator<PointInput> {
    try {
      yield* points(1_000_000);
    } finally {
      ended = true;
    }
  }
  server.hook = ({ method }) => {
    if (method === "upsertStream" && server.callsOf("upsertStream").length === 3)
      throw new KithError("CORRUPT_DATA", "no");
  };
  const error = await failure(handle.upsertMany(source(), { batchPoints: 10, inFlight: 1 }));
  expect(error.code).toBe("CORRUPT_DATA");
  expect(error.details).toMatchObject({ upserted: 20, resumeIndex: 20 });
  expect(ended).toBe(true);
  expect((await failure(client.collection("none").upsertMany(points(3)))).code).toBe("COLLECTION_NOT_FOUND");
});

/** Two points, then, when they are settled, the collection is made anew, and then `more`. */
function overTwoCollections(more: readonly PointInput[]): { source: AsyncIterable<PointInput>; onBatch: () => void } {
  const settled = deferred<void>();
  async function* source(): AsyncGenerator<PointInput> {
    yield* points(2);
    await settled.promise;
    await handle.drop();
    await handle.create({ vectors: { dimension: 2 } });
    await handle.upsert([...points(1)]);
    yield* more;
  }
  return { source: source(), onBatch: () => settled.resolve() };
}

test("the token of a run is of what that run wrote", async () => {
  const { source, onBatch } = overTwoCollections([]);
  const { token } = await handle.upsertMany(source, { batchPoints: 2, onBatch });
  expect(token).toEqual({ collectionId: "c1", shards: { 0: 1 } });
  expect(handle.token).toEqual({ collectionId: "c2", shards: { 0: 1 } });
});

test("a run does not go over to another collection of the same name", async () => {
  const { source, onBatch } = overTwoCollections([...points(10)]);
  const error = await failure(handle.upsertMany(source, { batchPoints: 2, inFlight: 1, onBatch }));
  expect(error).toMatchObject({ code: "COLLECTION_NOT_FOUND", details: { upserted: 2, resumeIndex: 2 } });
  expect(error.message).toMatch(/"c" was deleted and made anew meanwhile/);
  expect(await handle.count()).toBe(2);
});

test("an abort ends the run and the generator behind it", async () => {
  let ended = false;
  async function* source(): AsyncGenerator<PointInput> {
    try {
      for (const point of points(1_000_000)) {
        await Promise.resolve();
        yield point;
      }
    } finally {
      ended = true;
    }
  }
  server.hook = ({ method }) => (method === "upsertStream" ? new Promise(() => undefined) : undefined);
  const abort = new AbortController();
  const running = failure(handle.upsertMany(source(), { batchPoints: 10, inFlight: 2, signal: abort.signal }));
  await expect.poll(() => server.callsOf("upsertStream").length).toBe(2);
  abort.abort();
  expect((await running).code).toBe("CANCELLED");
  await expect.poll(() => ended).toBe(true);
});

test("an abort does not wait for a source that says nothing", async () => {
  const silent: AsyncIterable<PointInput> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise<IteratorResult<PointInput>>(() => undefined) }),
  };
  const abort = new AbortController();
  const running = failure(handle.upsertMany(silent, { signal: abort.signal }));
  abort.abort();
  expect((await running).code).toBe("CANCELLED");
});

test("an error of the source and of a callback is the error of the run", async () => {
  function* broken(): Generator<PointInput> {
    yield* points(5);
    throw new KithError("INVALID_ARGUMENT", "line 6 is not JSON");
  }
  expect((await failure(handle.upsertMany(broken()))).message).toContain("line 6 is not JSON");
  const onBatch = (): void => {
    throw new KithError("DISK_FULL", "no checkpoint");
  };
  expect((await failure(handle.upsertMany(points(5), { onBatch }))).code).toBe("DISK_FULL");
  expect((await failure(handle.upsertMany(points(5), { inFlight: 0 }))).code).toBe("LIMIT_OUT_OF_RANGE");
  expect(await handle.upsertMany([])).toMatchObject({ sent: 0, upserted: 0 });
});

test("closing the client ends the run", async () => {
  server.hook = ({ method }) => (method === "upsertStream" ? new Promise(() => undefined) : undefined);
  const running = failure(handle.upsertMany(points(10)));
  await expect.poll(() => server.callsOf("upsertStream").length).toBe(1);
  client.close();
  expect((await running).code).toBe("CANCELLED");
});

test("of two points with one id the last one wins, whatever message is slower or tried again", async () => {
  const uuid = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
  const source: PointInput[] = [
    { id: 1, vector: [1, 0], payload: { n: 1 } },
    { id: uuid.toUpperCase(), vector: [1, 0], payload: { n: 1 } },
    { id: 2, vector: [1, 0], payload: { n: 1 } },
    // In one message with the first, as the server counts.
    { id: 1n, vector: [1, 1], payload: { n: 2 } },
    { id: uuid, vector: [1, 1], payload: { n: 2 } },
    { id: 3, vector: [1, 1], payload: { n: 2 } },
    { id: 1, vector: [1, 2], payload: { n: 3 } },
  ];
  let calls = 0;
  server.hook = async ({ method }) => {
    if (method !== "upsertStream") return;
    const call = ++calls;
    if (call === 1) throw new KithError("SHARD_UNAVAILABLE", "try again");
    if (call <= 3) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const result = await handle.upsertMany(source, { batchPoints: 3, inFlight: 4 });
  expect(result).toMatchObject({ upserted: 7, failed: 0 });
  expect((await handle.get([1, 2, 3])).map(({ payload }) => payload)).toEqual([{ n: 3 }, { n: 1 }, { n: 2 }]);
  const ids = server.callsOf("upsertStream").map(({ request }) => idsOf(request as pb.UpsertColumnsRequest).length);
  expect(ids).toEqual([3, 3, 3, 1]);
});

test("many messages in flight warn of no leak", async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on("warning", onWarning);
  await handle.upsertMany(points(200), { batchPoints: 2, inFlight: 64 });
  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});

test("an id that comes twice is written twice, in order, also within what would be one message", async () => {
  const source = Array.from({ length: 100 }, (_, i) => ({ id: i % 10, vector: [1, i], payload: { i } }));
  const { upserted, failed } = await handle.upsertMany(source, { batchPoints: 25, inFlight: 8 });
  expect({ upserted, failed }).toEqual({ upserted: 100, failed: 0 });
  const found = await handle.get(Array.from({ length: 10 }, (_, id) => id));
  expect(found.map(({ payload }) => payload?.["i"])).toEqual(Array.from({ length: 10 }, (_, i) => 90 + i));
});
