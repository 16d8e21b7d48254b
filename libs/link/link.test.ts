import { describe, expect, test } from "vitest";
import { deferred, KithError, sleep, systemClock, systemRuntime } from "../base/index.js";
import { eventually, freePort } from "../base/testing.js";
import {
  type IdKey,
  idFromName,
  idFromNum,
  type ShardCount,
  type ShardQuery,
  type ShardQueryResult,
} from "../model/index.js";
import { noTrace, SpanCollector, startSpan } from "../telemetry/index.js";
import type { ShardScroll } from "../shard-api/index.js";
import { call, counted, linkTo, proxyTo, replica, serve } from "./testing/link.fixture.js";

const query = (seed: number): ShardQuery => ({
  field: "",
  vector: Float32Array.from({ length: 8 }, (_, i) => seed + i / 8),
  k: 10,
  ef: 64,
  exact: false,
  select: { payload: true, vectors: "all" },
  minSequence: seed,
});

/** Answers with what was asked, so that a mix-up of requests shows. */
function echo(asked: ShardQuery): ShardQueryResult {
  return {
    hits: [
      {
        id: idFromNum(asked.minSequence),
        score: asked.vector[0] as number,
        version: asked.k,
        payload: Buffer.from(`{"n":${asked.minSequence}}`),
        vectors: new Map([["", asked.vector]]),
      },
    ],
    plan: `ef=${asked.ef}`,
    sequence: asked.minSequence,
  };
}

describe("requests", () => {
  test("every call of the API crosses with all that it says", async () => {
    const seen: unknown[] = [];
    const id = idFromName("a");
    const point = {
      id,
      version: 4,
      payload: new Uint8Array([123, 125]),
      vectors: new Map([["v", new Float32Array(2)]]),
    };
    const status = {
      state: "stale",
      appliedSequence: 9,
      adoptedSequence: 7,
      pointCount: 2,
      indexedVectorCount: 1,
      unindexedVectorCount: 1,
      memoryBytes: 2 ** 40,
      diskBytes: 7,
      digest: "00000000000000ff",
      digestFormat: 2,
      durableSequence: 3,
      incarnation: "i-1",
      lastChecksum: 7,
      recalls: [
        { field: "", k: 10, share: 0.1, target: 0.95, ef: 77, recall: 0.96, margin: 0.01, samples: 64, isHeld: true },
      ],
      generations: [
        { field: "", number: 0, isReady: true, rowCount: 5, unindexedCount: 0, memoryBytes: 2 ** 33 },
        {
          ...{ field: "", number: 2, isReady: false, rowCount: 4, unindexedCount: 1, memoryBytes: 9 },
          recall: { recall: 0.5, baseline: 0.75, samples: 200 },
          shadow: {
            ...{ samples: 12.5, k: 10, overlap: 0.9, recall: 0.96, baseline: 0.97, margin: 0.01 },
            ...{ searchUs: 80.5, baselineUs: 120 },
          },
        },
      ],
      newestAppendedAtMs: 1_700_000_000_000,
      digestMarks: [{ sequence: 256, digest: "00000000000000ff" }],
      schemaVersion: 1,
      payloadIndexes: [
        {
          path: "year",
          isReady: true,
          pointCount: 1,
          valuePointCount: 1,
          memoryBytes: 8,
          useCount: 2,
          countedSinceMs: 1_700_000_000_000,
        },
      ],
      unindexedFields: [{ path: "genre", kinds: ["keyword", "uuid"], count: 3 }],
      copy: { copiedBytes: 5_000_000_000, totalBytes: 7_000_000_000 },
      readsPerSecond: 2.5,
      fault: "gap",
      faultCode: "DISK_FULL",
    } as const;
    const failures = [{ index: 2, code: "POINT_EXISTS", message: "m" }] as const;
    const former = [{ slots: { firstSlot: 0, lastSlot: 0 }, affected: 3, failures: [...failures] }];
    const outcome = { affected: 1, failures: [...failures], former };
    const refusal = new KithError("DIMENSION_MISMATCH", "too long");
    const { port } = await serve({
      query: async (...args) => (seen.push(args.slice(0, -1)), echo(args[1])),
      get: async (...args) => (seen.push(args.slice(0, -1)), { points: [point], sequence: 4 }),
      scroll: async (...args) => (seen.push(args.slice(0, -1)), { points: [point], end: true, sequence: 5 }),
      count: async (...args) => (seen.push(args.slice(0, -1)), { count: 2 ** 50, sequence: 6 }),
      wait: async (...args) => (
        seen.push(args.slice(0, -1)), [{ ...outcome, failures: [...outcome.failures] }, refusal]
      ),
      waitIndexed: async (...args) => (seen.push(args.slice(0, -1)), 5),
      status: async (...args) => (seen.push(args.slice(0, -1)), status),
    });
    const link = await linkTo(port);
    const select = { payload: true, vectors: ["v"] };
    const page = (after: IdKey | undefined): ShardScroll => ({ after, limit: 10, select, minSequence: 0 });
    const operations = [new Uint8Array(16).fill(1)];
    expect(await link.read("query", replica, query(6), call)).toEqual({
      ...echo(query(6)),
      hits: [{ ...echo(query(6)).hits[0], payload: new Uint8Array(Buffer.from('{"n":6}')) }],
    });
    expect(await link.read("get", replica, { ids: [id], select, minSequence: 8 }, call)).toEqual({
      points: [point],
      sequence: 4,
    });
    expect(await link.read("scroll", replica, page(undefined), call)).toEqual({
      points: [point],
      end: true,
      sequence: 5,
    });
    expect(await link.read("scroll", replica, page(id), call)).toEqual({ points: [point], end: true, sequence: 5 });
    expect(await link.read("count", replica, { minSequence: 1 }, call)).toEqual({ count: 2 ** 50, sequence: 6 });
    const outcomes = await link.wait(replica, 12, operations, call);
    expect(outcomes[0]).toEqual(outcome);
    expect(outcomes[1]).toBeInstanceOf(KithError);
    expect(outcomes[1]).toMatchObject({ code: "DIMENSION_MISMATCH", message: "too long", retryable: false });
    expect(await link.waitIndexed(replica, call)).toBe(5);
    expect(await link.status(replica, 5, call)).toEqual(status);
    expect(seen).toEqual([
      [replica, query(6)],
      [replica, { ids: [id], select, minSequence: 8 }],
      [replica, page(undefined)],
      [replica, page(id)],
      [replica, { minSequence: 1 }],
      [replica, 12, operations],
      [replica],
      [replica, 5],
    ]);
  });

  test("sparse vectors cross with queries, hits and points", async () => {
    const vector = { indices: Uint32Array.of(7, 4_294_967_295), values: Float32Array.of(1.5, -2) };
    const sparse = new Map([["words", vector]]);
    const [first] = echo(query(3)).hits;
    const hits = [
      { ...first, sparse },
      { ...first, id: idFromNum(9) },
    ].map((hit) => {
      return { ...hit, payload: new Uint8Array(hit.payload ?? []) } as ShardQueryResult["hits"][number];
    });
    const point = { id: idFromNum(1), version: 2, payload: new Uint8Array(0), sparse };
    const seen: unknown[] = [];
    const { port } = await serve({
      query: async () => ({ hits, plan: "scan", sequence: 3 }),
      get: async () => ({ points: [point], sequence: 3 }),
      sparse: async (_replica, asked) => (seen.push(asked), { hits, sequence: 4 }),
      indices: async (_replica, asked) => (seen.push(asked), { pointCount: 5, counts: [2, 0], sequence: 6 }),
    });
    const link = await linkTo(port);
    expect(await link.read("query", replica, query(3), call)).toEqual({ hits, plan: "scan", sequence: 3 });
    const select = { payload: true, vectors: ["words"] };
    const get = { ids: [point.id], select, minSequence: 0 };
    expect(await link.read("get", replica, get, call)).toEqual({ points: [point], sequence: 3 });
    const asked = {
      ...{ minSequence: 1, filter: undefined, ids: [idFromName("a")], exclude: [idFromNum(2)], explain: true as const },
      ...{ field: "words", vector, k: 7, select },
    };
    expect(await link.read("sparse", replica, asked, call)).toEqual({ hits, sequence: 4 });
    const indices = { field: "words", indices: [7, 4_294_967_295], minSequence: 2 };
    expect(await link.read("indices", replica, indices, call)).toEqual({ pointCount: 5, counts: [2, 0], sequence: 6 });
    const other = { indices: Uint32Array.of(1), values: Float32Array.of(0.25) };
    const nothing = { indices: new Uint32Array(0), values: new Float32Array(0) };
    const pairs = [{ positive: vector, negative: other }];
    const scored = (
      [
        { kind: "bestScore", positive: [vector, other], negative: [] },
        { kind: "sumScores", positive: [], negative: [vector] },
        { kind: "discover", target: other, pairs },
        { kind: "context", pairs },
        { kind: "weighted", examples: [{ vector, weight: -1.75 }] },
      ] as const
    ).map((scorer, i) => ({ ...asked, vector: nothing, scorer, ...(i % 2 === 0 && { exact: true }) }));
    for (const each of scored) await link.read("sparse", replica, each, call);
    expect(seen).toEqual([asked, indices, ...scored]);
  });

  test("10 000 interleaved requests each get their own answer", async () => {
    const { port } = await serve({
      query: async (_replica, asked) => {
        // Answers come in another order than requests.
        for (let turns = asked.minSequence % 7; turns > 0; turns--) await new Promise(setImmediate);
        return echo(asked);
      },
    });
    const link = await linkTo(port);
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < 10_000) {
        const seed = next++;
        const result = await link.read("query", replica, query(seed), call);
        expect(result.hits[0]?.version === 10 && result.hits[0].score === Math.fround(seed)).toBe(true);
        expect(Buffer.from(result.hits[0]?.payload ?? []).toString()).toBe(`{"n":${seed}}`);
      }
    };
    await Promise.all(Array.from({ length: 200 }, worker));
    expect(link.inFlight).toBe(0);
  });

  test("an error of the API arrives as the same error", async () => {
    const { port } = await serve({
      query: () =>
        Promise.reject(
          new KithError("DIMENSION_MISMATCH", "3 is not 4", { details: { field: "a" }, retryAfterMs: 12 }),
        ),
      count: () => {
        throw new TypeError("undefined is not a function");
      },
    });
    const link = await linkTo(port);
    await expect(link.read("query", replica, query(1), call)).rejects.toMatchObject({
      code: "DIMENSION_MISMATCH",
      message: "3 is not 4",
      details: { field: "a" },
      retryAfterMs: 12,
    });
    const fault = await link.read("count", replica, { minSequence: 0 }, call).catch((error: KithError) => error);
    expect(fault).toMatchObject({ code: "INTERNAL" });
    expect((fault as KithError).message).not.toContain("undefined");
  });

  test("one request or answer that cannot be sent does not harm the others", async () => {
    const huge = new Uint8Array(33 * 1024 * 1024);
    const gate = deferred<ShardCount>();
    const { port } = await serve({
      count: () => gate.promise,
      get: async () => ({ points: [{ id: idFromNum(1), version: 1, payload: huge }], sequence: 1 }),
      wait: async () => [{ affected: -1, failures: [] }],
    });
    const link = await linkTo(port, { connections: 1 });
    const other = link.read("count", replica, { minSequence: 0 }, call);
    const select = { payload: true, vectors: [] };
    const tooLarge = { code: "BATCH_TOO_LARGE", retryable: false };
    await expect(link.read("get", replica, { ids: [], select, minSequence: 0 }, call)).rejects.toMatchObject(tooLarge);
    await expect(link.read("get", replica, { ids: [huge], select, minSequence: 0 }, call)).rejects.toMatchObject(
      tooLarge,
    );
    await expect(link.wait(replica, 1, [], call)).rejects.toMatchObject({ code: "INTERNAL" });
    await expect(link.read("query", replica, { ...query(1), k: -1 }, call)).rejects.toMatchObject({ code: "INTERNAL" });
    gate.resolve(counted(3));
    expect(await other).toEqual(counted(3));
    expect(link).toMatchObject({ inFlight: 0, state: "connected" });
  });

  test("deadline and cancellation end the request here at once and there soon", async () => {
    const reasons: (string | undefined)[] = [];
    let started = 0;
    const { port } = await serve({
      query: async (_replica, _query, context) => {
        started++;
        await sleep(systemClock, 20_000, context.signal).catch((error: KithError) => reasons.push(error.code));
        throw new KithError("CANCELLED", "stopped");
      },
    });
    const link = await linkTo(port);
    const late = link.read("query", replica, query(1), { ...call, deadlineMs: performance.now() + 30 });
    await expect(late).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED" });
    await eventually(() => reasons.length === 1);
    const controller = new AbortController();
    const cancelled = link.read("query", replica, query(1), { ...call, signal: controller.signal });
    await eventually(() => started === 2);
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
    expect(link.inFlight).toBe(0);
    await eventually(() => reasons.length === 2);
    expect(reasons[1]).toBe("CANCELLED");
    await expect(link.read("query", replica, query(1), { ...call, signal: controller.signal })).rejects.toMatchObject({
      code: "CANCELLED",
    });
  });

  test("no more than the limit are in flight", async () => {
    const gate = deferred<ShardCount>();
    const { port } = await serve({ count: () => gate.promise });
    const link = await linkTo(port, { inFlightMax: 10 });
    const calls = Array.from({ length: 12 }, () =>
      link.read("count", replica, { minSequence: 0 }, call).catch((error: KithError) => error.code),
    );
    gate.resolve(counted(1));
    expect((await Promise.all(calls)).filter((each) => each === "RESOURCE_EXHAUSTED")).toHaveLength(2);
  });
});

describe("faults", () => {
  test("a lost connection fails what is in flight, and the link comes back", async () => {
    const gate = deferred<ShardCount>();
    let started = 0;
    const { port } = await serve({ count: () => (started++, gate.promise), waitIndexed: async () => 1 });
    const proxy = await proxyTo(port);
    const link = await linkTo(proxy.port);
    const states: string[] = [];
    link.onState((state) => states.push(state));
    const calls = Array.from({ length: 100 }, () =>
      link.read("count", replica, { minSequence: 0 }, call).catch((error: KithError) => error),
    );
    await eventually(() => started === 100);
    proxy.cut();
    for (const result of await Promise.all(calls)) {
      expect(result).toMatchObject({ code: "SHARD_UNAVAILABLE", retryable: true });
    }
    await eventually(() => states.includes("connected"));
    expect(states.slice(0, 2)).toEqual(["connecting", "connected"]);
    gate.resolve(counted(2));
    expect(await link.waitIndexed(replica, call)).toBe(1);
  });

  test("a node that restarts on its port is found again; meanwhile requests fail soon", async () => {
    const port = await freePort();
    const { server } = await serve({ count: async () => counted(1) }, port);
    const link = await linkTo(port);
    await server.drain(0);
    await eventually(() => link.state === "connecting");
    await expect(link.read("count", replica, { minSequence: 0 }, call)).rejects.toMatchObject({
      code: "SHARD_UNAVAILABLE",
    });
    await serve({ count: async () => counted(2) }, port);
    await eventually(() => link.state === "connected");
    expect(await link.read("count", replica, { minSequence: 0 }, call)).toEqual(counted(2));
  });

  test("a draining node answers what it has, refuses the rest, and ends the stream", async () => {
    const gate = deferred<ShardCount>();
    const { server, port } = await serve({ count: () => gate.promise, waitIndexed: async () => 1 });
    const link = await linkTo(port, { connections: 1 });
    const first = link.read("count", replica, { minSequence: 0 }, call);
    await eventually(() => link.inFlight === 1);
    await eventually(async () => (await link.waitIndexed(replica, call)) === 1);
    const drained = server.drain(10_000);
    await expect(link.waitIndexed(replica, call)).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
    gate.resolve(counted(3));
    expect(await first).toEqual(counted(3));
    await drained;
  });

  test("a node that does not read holds the sender back, within bounds", async () => {
    const { port } = await serve({ query: async (_replica, asked) => echo(asked) });
    const proxy = await proxyTo(port);
    const link = await linkTo(proxy.port, { connections: 1, inFlightMax: 300 });
    for (const socket of proxy.sockets) socket.pause();
    const large = { ...query(1), vector: new Float32Array(16_384) };
    const results = Array.from({ length: 310 }, () =>
      link.read("query", replica, large, { ...call, deadlineMs: performance.now() + 20_000 }).then(
        (result) => result.hits.length,
        (error: KithError) => error.code,
      ),
    );
    expect(link.inFlight).toBe(300);
    for (const socket of proxy.sockets) socket.resume();
    const settled = await Promise.all(results);
    expect(settled.filter((each) => each === 1)).toHaveLength(300);
    expect(settled.filter((each) => each === "RESOURCE_EXHAUSTED")).toHaveLength(10);
  });

  test("close() rejects what is in flight", async () => {
    const { port } = await serve({ count: () => new Promise(() => undefined) });
    const link = await linkTo(port);
    const pending = link.read("count", replica, { minSequence: 0 }, call);
    link.close();
    await expect(pending).rejects.toMatchObject({ code: "SHARD_UNAVAILABLE" });
    expect(link.state).toBe("closed");
    await expect(link.read("count", replica, { minSequence: 0 }, call)).rejects.toMatchObject({
      code: "SHARD_UNAVAILABLE",
    });
  });
});

test("the spans of a traced request come home, also those of a failure", async () => {
  const { port } = await serve({
    query: async (_replica, asked, context) => {
      startSpan(context.trace, "search").end();
      return echo(asked);
    },
  });
  const link = await linkTo(port);
  const collector = new SpanCollector("router-1", systemRuntime);
  const root = startSpan({ ...noTrace, collector }, "root");
  await link.read("query", replica, query(1), { trace: root.trace });
  await link.read("count", replica, { minSequence: 0 }, { trace: root.trace }).catch(() => undefined);
  root.end();
  const spans = collector.spans.map(({ name, node, parentSpanId }) => {
    const parent = collector.spans.find((each) => each.spanId === parentSpanId);
    return [node, name, parent && `${parent.node} ${parent.name}`];
  });
  expect(spans).toEqual([
    ["shard-1", "search", "shard-1 kith.internal.v1.Link/query"],
    ["shard-1", "kith.internal.v1.Link/query", "router-1 kith.internal.v1.Link/query"],
    ["router-1", "kith.internal.v1.Link/query", "router-1 root"],
    ["shard-1", "kith.internal.v1.Link/count", "router-1 kith.internal.v1.Link/count"],
    ["router-1", "kith.internal.v1.Link/count", "router-1 root"],
    ["router-1", "root", undefined],
  ]);
});
