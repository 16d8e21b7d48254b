/**
 * What the benchmarks compute must itself be right: percentiles against a full sort, recall with ties, frames whose request
 * id is patched in place against the generated code, the figures of /proc, the report of h2load, and the schedule of the open loop.
 */
import { createServer as createHttpServer, type Server } from "node:http";
import { createServer, type Http2Server, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { restDriver } from "../../bench/doors/rest-driver.js";
import { Histogram } from "../../bench/lib/histogram.js";
import {
  parseCpuSeconds,
  parseStatusBytes,
  processName,
  ProcessWatch,
  readMemory,
  readProcess,
} from "../../bench/lib/process-stats.js";
import { parseMetrics } from "../../bench/lib/prometheus.js";
import { recallWithTies } from "../../bench/lib/recall.js";
import { interleaved, pairedChange, spreadOf } from "../../bench/lib/repeat.js";
import { readyTarget } from "../../bench/lib/server.js";
import { formatTable } from "../../bench/lib/table.js";
import { parseH2load } from "../../bench/load/h2load.js";
import { http2StreamDriver, http2UnaryDriver } from "../../bench/load/http2-drivers.js";
import { grpcStreamDriver, grpcUnaryDriver } from "../../bench/load/grpc-drivers.js";
import type { DriverOptions, QueryDriver } from "../../bench/load/driver.js";
import { type LoadPlan, runLoad } from "../../bench/load/loop.js";
import {
  encodeRequests,
  encodeStreamRequest,
  grpcFrame,
  patchRequestId,
  readStreamAnswer,
} from "../../bench/load/requests.js";
import { SeededRandom } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";

describe("histogram", () => {
  test("percentiles are those of a full sort, at most 1/128 above", () => {
    const random = new SeededRandom(7);
    const histogram = new Histogram();
    const values: number[] = [];
    for (let i = 0; i < 20_000; i++) {
      const value = Math.floor(Math.exp(random.float() * 16));
      values.push(value);
      histogram.record(value);
    }
    values.sort((a, b) => a - b);
    for (const share of [0, 0.01, 0.5, 0.95, 0.99, 0.999, 1]) {
      const exact = values[Math.max(1, Math.ceil(share * values.length - 1e-6)) - 1] as number;
      const got = histogram.percentileUs(share);
      expect(got).toBeGreaterThanOrEqual(exact);
      expect(got).toBeLessThanOrEqual(exact * (1 + 1 / 128));
    }
    expect(histogram.minUs).toBe(values[0]);
    expect(histogram.maxUs).toBe(values.at(-1));
    expect(histogram.meanUs).toBeCloseTo(values.reduce((sum, value) => sum + value, 0) / values.length, 6);
  });

  test("small values are exact, every value falls within its bucket, the largest is kept", () => {
    for (const value of [0, 1, 127, 128, 255]) {
      const histogram = new Histogram();
      histogram.record(value);
      histogram.record(1_000_000_000);
      expect(histogram.percentileUs(0.5)).toBe(value);
    }
    const beyond = new Histogram();
    beyond.record(2 ** 40);
    expect(beyond.summary()).toMatchObject({ count: 1, p50Us: 2 ** 40, maxUs: 2 ** 40 });
    expect(new Histogram().summary()).toMatchObject({ count: 0, minUs: 0, p99Us: 0 });
  });

  test("two histograms added are as one", () => {
    const [one, other, both] = [new Histogram(), new Histogram(), new Histogram()];
    for (let i = 1; i < 5_000; i++) {
      (i % 3 === 0 ? one : other).record(i * 17);
      both.record(i * 17);
    }
    one.add(other);
    expect(one.summary()).toEqual(both.summary());
  });
});

test("spread and paired change", () => {
  expect(spreadOf([3, 1, 2])).toEqual({ min: 1, median: 2, max: 3, values: [3, 1, 2] });
  expect(spreadOf([4, 1, 2, 3]).median).toBe(2.5);
  expect(() => spreadOf([])).toThrow(RangeError);
  expect(pairedChange([100, 200], [97, 194]).median).toBeCloseTo(-0.03, 12);
});

test("variants take turns, and the order is turned round in every second round", async () => {
  const order: string[] = [];
  const results = await interleaved(["a", "b"], 3, async (variant, round) => {
    order.push(`${variant}${round}`);
    return round;
  });
  expect(order).toEqual(["a0", "b0", "b1", "a1", "a2", "b2"]);
  expect(results).toEqual([
    [0, 1, 2],
    [0, 1, 2],
  ]);
});

test("recall counts an equally near row, and a row that was found twice once", () => {
  const base = { dimension: 1, rowCount: 5, values: Float32Array.of(1, 2, 2, 3, 9) };
  const queries = { dimension: 1, rowCount: 1, values: Float32Array.of(0) };
  const data = { description: "", seed: undefined, base, queries, truthPath: undefined };
  const truth = { queryCount: 1, k: 2, ids: Int32Array.of(0, 1) };
  const recall = (...rows: number[]): number => recallWithTies(truth, 2, [rows], data, "l2");
  expect(recall(0, 1)).toBe(1);
  expect(recall(0, 2)).toBe(1);
  expect(recall(0, 3)).toBe(0.5);
  expect(recall(0, 0)).toBe(0.5);
  expect(recall(4, -1)).toBe(0);
  expect(recallWithTies(truth, 2, [[0, 2]], { ...data, base: undefined }, "l2")).toBe(0.5);
});

test("figures of /proc are read behind a program name with brackets", () => {
  const stat = "12 (a) b (c)) S 1 12 12 0 -1 4194560 1 0 0 0 150 50 7 3 20 0 11 0 100 1 2";
  expect(parseCpuSeconds(stat)).toBe(2);
  expect(parseStatusBytes("Name:\tnode\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS")).toBe(1024 * 1024);
  expect(parseStatusBytes("", "VmRSS")).toBe(0);
});

test.runIf(process.platform === "linux")("a watched process uses CPU and memory; one that is gone is left out", () => {
  const watch = new ProcessWatch([process.pid]);
  watch.start();
  const before = readProcess(process.pid)?.cpuSeconds ?? 0;
  while ((readProcess(process.pid)?.cpuSeconds ?? Infinity) < before + 0.03);
  const usage = watch.stop();
  expect(usage?.cpuSeconds).toBeGreaterThan(0);
  expect(usage?.rssPeakBytes).toBeGreaterThan(1024 * 1024);
  expect(readProcess(2 ** 22 + 1)).toBeUndefined();
});

test.runIf(process.platform === "linux")("memory that is allocated is private, and counts in full", () => {
  const before = readMemory(process.pid);
  const bytes = Buffer.alloc(64 * 1024 * 1024, 1);
  const after = readMemory(process.pid);
  expect((after?.privateBytes ?? 0) - (before?.privateBytes ?? 0)).toBeGreaterThan(bytes.length * 0.9);
  expect(after?.proportionalBytes).toBeGreaterThan(after?.privateBytes ?? Infinity);
  expect(after?.residentBytes).toBeGreaterThanOrEqual(after?.proportionalBytes ?? Infinity);
  expect(readMemory(2 ** 22 + 1)).toBeUndefined();
});

test("processes of Kith are called by their node or command, others by their program", () => {
  const main = ["/usr/bin/node", "/app/dist/services/cli/main.js"];
  expect(processName([...main, "start", "--roles", "shard", "--node-id", "shard-0"])).toBe("shard-0");
  expect(processName([...main, "--output", "json", "up", "--shards", "2"])).toBe("kith up");
  expect(processName(["/cache/nats-server-2.14.9", "--config", "x"])).toBe("nats-server-2.14.9");
});

test("metrics pages, h2load reports, ready lines and tables", () => {
  const page = '# HELP x\nkith_eventloop_delay_p99_milliseconds{a="b"} 1.5\nother 2 1700000000\nnan NaN\n';
  expect(parseMetrics(page)).toEqual([
    { name: "kith_eventloop_delay_p99_milliseconds", labels: 'a="b"', value: 1.5 },
    { name: "other", labels: "", value: 2 },
  ]);
  const report =
    "finished in 5.00s, 6000.20 req/s, 1.2MB/s\nrequests: 30003 total, 30003 started, 30001 done, 30000 succeeded, 1 failed, 2 errored, 3 timeout\n";
  expect(parseH2load(report)).toEqual({ requestsPerSecond: 6000.2, succeeded: 30_000, failed: 6 });
  expect(() => parseH2load("unable to connect")).toThrow(/not understood/);
  expect(readyTarget('{"event":"ready","target":"127.0.0.1:7700"}')).toBe("127.0.0.1:7700");
  expect(readyTarget('{"event":"ready","target":"a:1","http":"127.0.0.1:7780"}', "http")).toBe("127.0.0.1:7780");
  expect(readyTarget('{"event":"ready","target":"a:1","http":""}', "http")).toBeUndefined();
  expect(readyTarget('{"event":"other"}')).toBeUndefined();
  expect(readyTarget("{not JSON")).toBeUndefined();
  expect(formatTable([{ title: "a", align: "left" }, { title: "b" }], [["x", "10"]])).toBe(
    "| a   |   b |\n| :-- | --: |\n| x   |  10 |",
  );
});

describe("requests", () => {
  const shape = { collection: "c", ef: 64, limit: 10, withPayload: true };
  const queries = { dimension: 2, rowCount: 2, values: Float32Array.of(1, 2, 3, 4) };

  test("are what the generated code reads", () => {
    const [, second] = encodeRequests(shape, queries);
    const decoded = pb.QueryRequest.decode(second as Buffer);
    expect(decoded).toMatchObject({ collection: "c", ef: 64, limit: 10, exact: false, select: { payload: true } });
    expect([...decoded.vector]).toEqual([3, 4]);
  });

  test.each([1, 127, 128, 70_000, 2 ** 28 - 1])("the request id %d is patched in place", (id) => {
    const [first] = encodeRequests({ ...shape, collection: "c".repeat(200) }, queries);
    const message = encodeStreamRequest(first as Buffer);
    patchRequestId(message, 0, id);
    const decoded = pb.QueryStreamRequest.decode(message);
    expect(decoded.requestId).toBe(id);
    expect(decoded.query?.collection).toHaveLength(200);
  });

  test("answers of the stream are read without decoding the points", () => {
    const into = { requestId: 0, failed: false };
    const points = [{ id: { id: { $case: "num" as const, value: 5n } }, score: 1 }];
    const good = pb.QueryStreamResponse.fromPartial({
      requestId: 300,
      outcome: { $case: "response", value: { points } },
    });
    const bytes = pb.QueryStreamResponse.encode(good).finish();
    readStreamAnswer(bytes, 0, bytes.length, into);
    expect(into).toEqual({ requestId: 300, failed: false });
    const bad = pb.QueryStreamResponse.fromPartial({
      requestId: 7,
      outcome: { $case: "failure", value: { code: "X" } },
    });
    const failed = pb.QueryStreamResponse.encode(bad).finish();
    readStreamAnswer(failed, 0, failed.length, into);
    expect(into).toEqual({ requestId: 7, failed: true });
  });
});

const servers: (Http2Server | Server)[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** A server that speaks just enough gRPC: every query is answered, every tenth with an error. */
async function answering(): Promise<string> {
  let calls = 0;
  const failure = { code: "SHARD_UNAVAILABLE", message: "no" };
  const stream = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
    let rest = Buffer.alloc(0);
    request.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
        const end = 5 + rest.readUInt32BE(1);
        const { requestId } = pb.QueryStreamRequest.decode(rest.subarray(5, end));
        rest = rest.subarray(end);
        const outcome =
          ++calls % 10 === 0
            ? { $case: "failure" as const, value: failure }
            : { $case: "response" as const, value: {} };
        const answer = pb.QueryStreamResponse.fromPartial({ requestId, outcome });
        response.write(grpcFrame(pb.QueryStreamResponse.encode(answer).finish()));
      }
    });
  };
  const unary = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
    request.resume();
    request.on("end", () => {
      response.write(grpcFrame(new Uint8Array(0)));
      response.addTrailers({ "grpc-status": ++calls % 10 === 0 ? "14" : "0" });
      response.end();
    });
  };
  const server = createServer((request, response) => {
    response.setHeader("content-type", "application/grpc");
    (request.url.endsWith("QueryStream") ? stream : unary)(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const drivers: [string, (options: DriverOptions) => Promise<QueryDriver>, string][] = [
  ["http2 unary", http2UnaryDriver, "UNAVAILABLE"],
  ["http2 stream", http2StreamDriver, "SHARD_UNAVAILABLE"],
  ["grpc-js unary", grpcUnaryDriver, "UNAVAILABLE"],
  ["grpc-js stream", grpcStreamDriver, "SHARD_UNAVAILABLE"],
];

describe.each(drivers)("driver %s", (_, open, errorCode) => {
  const requests = encodeRequests(
    { collection: "c", ef: 0, limit: 1, withPayload: false },
    { dimension: 1, rowCount: 3, values: Float32Array.of(1, 2, 3) },
  );
  const load = async (plan: LoadPlan, target: string, durationMs: number) =>
    runLoad({
      plan,
      warmupMs: 20,
      durationMs,
      queryCount: requests.length,
      open: (onDone) => open({ target, connections: 2, requests, onDone }),
      onWindow: () => undefined,
    });

  test("a closed loop counts answers and errors", async () => {
    // Long enough for some answers on a machine that stalls.
    const sample = await load({ kind: "closed", concurrency: 8 }, await answering(), 1_000);
    const failed = Object.values(sample.errors).reduce((sum, count) => sum + count, 0);
    expect(sample.latency.count).toBeGreaterThan(10);
    expect(Object.keys(sample.errors)).toEqual([errorCode]);
    expect(failed / (failed + sample.latency.count)).toBeCloseTo(0.1, 1);
  });

  test("an open loop keeps to its rate", async () => {
    const plan = { kind: "open", ratePerSecond: 400, clock: "constant", seed: 1, spin: false } as const;
    const sample = await load(plan, await answering(), 300);
    const due = sample.latency.count + Object.values(sample.errors).reduce((sum, count) => sum + count, 0);
    expect(due).toBeGreaterThanOrEqual(119);
    expect(due).toBeLessThanOrEqual(121);
  });
});

describe("the driver of REST", () => {
  const bodies = ['{"n":1}', '{"n":2}'];
  const listening = async (server: Server): Promise<string> => {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  const load = (target: string, path: string) =>
    runLoad({
      plan: { kind: "closed", concurrency: 8 },
      warmupMs: 20,
      durationMs: 300,
      queryCount: bodies.length,
      // Fewer than are in flight: the others wait.
      open: (onDone) => restDriver({ target, path, connections: 4, bodies, onDone }),
      onWindow: () => undefined,
    });

  test("sends whole requests, counts answers and errors, also where answers come in pieces", async () => {
    let calls = 0;
    const seen = new Set<string>();
    const target = await listening(
      createHttpServer((request, response) => {
        let body = "";
        request.on("data", (chunk: Buffer) => (body += chunk.toString()));
        request.on("end", () => {
          seen.add(`${request.method} ${request.url} ${request.headers["content-type"]} ${body}`);
          response.writeHead(++calls % 10 === 0 ? 503 : 200, { "content-length": 6 });
          response.write("one");
          setImmediate(() => response.end("two"));
        });
      }),
    );
    const sample = await load(target, "/v1/x");
    const failed = sample.errors["HTTP 503"] ?? 0;
    expect(Object.keys(sample.errors)).toEqual(["HTTP 503"]);
    expect(sample.latency.count).toBeGreaterThan(10);
    expect(failed / (failed + sample.latency.count)).toBeCloseTo(0.1, 1);
    expect([...seen].sort()).toEqual(bodies.map((body) => `POST /v1/x application/json ${body}`));
  });

  test("says when the server is gone, or answers in a way that it does not read", async () => {
    const closing = await listening(createHttpServer((request) => request.socket.destroy()));
    await expect(load(closing, "/")).rejects.toThrow(/closed the connection|ECONNRESET/);
    const chunked = await listening(
      createHttpServer((_, response) => {
        response.write("x");
        response.end("y");
      }),
    );
    await expect(load(chunked, "/")).rejects.toThrow("without a content-length");
  });
});

test("a stall delays all that were due meanwhile, not one answer only", async () => {
  let stalled = false;
  const sample = await runLoad({
    plan: { kind: "open", ratePerSecond: 1000, clock: "constant", seed: 1, spin: false },
    warmupMs: 0,
    durationMs: 300,
    queryCount: 1,
    open: async (onDone) => ({
      failure: undefined,
      send(_query, startMs) {
        // Everything stands still once, as it does while a full pipe blocks the sender.
        for (const untilMs = performance.now() + 150; !stalled && performance.now() < untilMs; );
        stalled = true;
        setImmediate(() => onDone(startMs, undefined));
      },
      close: async () => undefined,
    }),
    onWindow: () => undefined,
  });
  // Half of the 300 were due in the stall, and waited for 75 ms on average.
  // What was due and could not be sent before the end is an error of its own, never left out.
  expect(sample.latency.count + (sample.errors["NOT_SENT"] ?? 0)).toBeGreaterThanOrEqual(299);
  expect(sample.latency.percentileUs(0.75)).toBeGreaterThan(50_000);
});

test("a driver says when the server is gone", async () => {
  await expect(
    http2StreamDriver({ target: "127.0.0.1:1", connections: 1, requests: [], onDone: () => undefined }),
  ).rejects.toThrow(/ECONNREFUSED/);
});
