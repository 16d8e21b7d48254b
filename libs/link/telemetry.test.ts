import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { readdirSync } from "node:fs";
import { afterEach, expect, test } from "vitest";
import { KithError, systemRuntime } from "../base/index.js";
import { eventually } from "../base/testing.js";
import { createLogger, noTrace, setupTelemetry, startSpan } from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import { type Channel, createChannel, openStream, unaryCall } from "../rpc/client/index.js";
import type { UnaryDefinition } from "../rpc/common/index.js";
import { LinkClient } from "./client.js";
import { serveLink } from "./server.js";
import { answerEach, createRpcServer } from "../rpc/server/index.js";
import type { CallContext } from "../call/index.js";
import type { ShardApi } from "../shard-api/index.js";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface OtlpSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  kind: number;
  status: { code?: number };
  attributes: { key: string; value: { stringValue?: string } }[];
}
interface OtlpBody {
  resourceSpans?: { resource: OtlpSpan; scopeSpans: { spans: OtlpSpan[] }[] }[];
  resourceLogs?: { scopeLogs: { logRecords: { traceId?: string; body: { stringValue: string } }[] }[] }[];
}
interface Received {
  path: string;
  type: string;
  header: string;
  bytes: Buffer;
}

/** A collector that takes whatever comes by HTTP. */
async function collector(): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      received.push({
        path: request.url ?? "",
        type: request.headers["content-type"] ?? "",
        header: String(request.headers["x-key"]),
        bytes: Buffer.concat(chunks),
      });
      response.setHeader("content-type", "application/json").end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received };
}

const service = { count: pb.PointsService.count, queryStream: pb.PointsService.queryStream };

/** A client, a router and a shard node, each with a server of its own; returns the call through all three. */
async function cluster(): Promise<((collection: string) => Promise<string>) & { channel: Channel }> {
  const shard = createRpcServer({ ...systemRuntime, node: "shard-1" });
  const api = {
    read: async (_kind: string, _replica: unknown, _request: unknown, call: CallContext) => {
      startSpan(call.trace, "storage.count").end();
      return { count: 5, sequence: 1 };
    },
  };
  serveLink(shard, api as unknown as ShardApi, "shard-1");
  const link = new LinkClient({ ...systemRuntime, address: `127.0.0.1:${await shard.listen("127.0.0.1", 0)}` });
  const router = createRpcServer({ ...systemRuntime, node: "router-1" });
  router.addService(service, {
    count: async ({ collection }, call) => {
      if (collection !== "c") throw new KithError("COLLECTION_NOT_FOUND", "no");
      const { count } = await link.read("count", { collectionId: "c", shard: 0 }, { minSequence: 0 }, call);
      return { count, token: undefined, explain: undefined };
    },
    queryStream: (stream) =>
      answerEach<pb.QueryStreamRequest, pb.QueryStreamResponse>(stream, {
        inFlightMax: 16,
        defaultTimeoutMs: 10_000,
        idOf: ({ requestId }) => requestId,
        timeoutMsOf: ({ timeoutMs }) => timeoutMs,
        isCancel: ({ cancel }) => cancel,
        answer: async ({ requestId, query }, call) => {
          if (query?.collection === "missing") throw new KithError("COLLECTION_NOT_FOUND", "no");
          if (query?.collection === "slow")
            await new Promise((resolve) => call.addEventListener("abort", () => resolve(0)));
          return { requestId, outcome: { $case: "response", value: pb.QueryResponse.fromPartial({}) } };
        },
        fail: ({ requestId }, { code }) => ({
          requestId,
          outcome: { $case: "failure", value: pb.Failure.fromPartial({ code }) },
        }),
      }),
  });
  const channel = createChannel(`127.0.0.1:${await router.listen("127.0.0.1", 0)}`, systemRuntime);
  cleanups.push(async () => {
    channel.close();
    link.close();
    await router.drain(0);
    await shard.drain(0);
  });
  const call = async (collection: string): Promise<string> => {
    const root = startSpan(noTrace, "app");
    const request = { collection, consistency: undefined, filter: undefined, approximate: false, explain: false };
    const result = await unaryCall(channel, service.count, request, { trace: root.trace }).then(
      ({ count }) => String(count),
      (error: KithError) => error.code,
    );
    root.end();
    return result;
  };
  return Object.assign(call, { channel });
}

const identity = { ...systemRuntime, serviceName: "kith", nodeId: "n1", version: "1.2.3" };

test("one trace runs from the client over the router and the link to the shard; logs carry its id", async () => {
  const { url, received } = await collector();
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: url,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_EXPORTER_OTLP_HEADERS: "x-key=a%20b",
    OTEL_METRICS_EXPORTER: "none",
  };
  const telemetry = await setupTelemetry({ ...identity, env });
  cleanups.push(() => telemetry.shutdown());
  const call = await cluster();
  expect(await call("c")).toBe("5");
  expect(await call("missing")).toBe("COLLECTION_NOT_FOUND");
  const logged = startSpan(noTrace, "logged");
  createLogger({ level: "info", nodeId: "n1", write: () => undefined, onRecord: telemetry.onLogRecord }).info("hello", {
    trace: logged.trace,
  });
  logged.end();
  await telemetry.shutdown();

  expect(new Set(received.map(({ header }) => header))).toEqual(new Set(["a b"]));
  const bodies = received.map(({ bytes }) => JSON.parse(bytes.toString()) as OtlpBody);
  const resources = bodies.flatMap((body) => body.resourceSpans ?? []);
  const spans = resources.flatMap((each) => each.scopeSpans.flatMap((scope) => scope.spans));
  expect(JSON.stringify(resources[0]?.resource)).toMatch(/service.instance.id.*n1/);
  const show = (span: OtlpSpan): string => {
    const parent = spans.find((each) => each.spanId === span.parentSpanId);
    return `${span.kind} ${span.name}${parent === undefined ? "" : ` < ${show(parent)}`}`;
  };
  const app = spans.find((span) => span.name === "app") as OtlpSpan;
  expect(
    spans
      .filter((span) => span.traceId === app.traceId)
      .map(show)
      .sort((a, b) => a.length - b.length),
  ).toEqual([
    "1 app",
    "3 kith.v1.Points/Count < 1 app",
    "2 kith.v1.Points/Count < 3 kith.v1.Points/Count < 1 app",
    "3 kith.internal.v1.Link/count < 2 kith.v1.Points/Count < 3 kith.v1.Points/Count < 1 app",
    "2 kith.internal.v1.Link/count < 3 kith.internal.v1.Link/count < 2 kith.v1.Points/Count < 3 kith.v1.Points/Count < 1 app",
    "1 storage.count < 2 kith.internal.v1.Link/count < 3 kith.internal.v1.Link/count < 2 kith.v1.Points/Count < 3 kith.v1.Points/Count < 1 app",
  ]);
  // The client's mistake marks the client's span as failed, not the server's.
  const missing = spans.filter((span) => span.name.endsWith("Count") && JSON.stringify(span).includes("NOT_FOUND"));
  expect(missing.map(({ kind, status }) => [kind, status.code]).sort()).toEqual([
    [2, 0],
    [3, 2],
  ]);
  const logs = bodies.flatMap((body) => body.resourceLogs ?? []).flatMap((each) => each.scopeLogs[0]?.logRecords ?? []);
  const span = spans.find(({ name }) => name === "logged");
  expect(logs).toMatchObject([{ body: { stringValue: "hello" }, traceId: span?.traceId }]);
});

test("OTLP by gRPC and by HTTP with protobuf", async () => {
  const { url, received } = await collector();
  const exported: Buffer[] = [];
  const raw = (bytes: Buffer): Buffer => bytes;
  const exportMethod: UnaryDefinition<Buffer, Buffer> = {
    path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    requestStream: false,
    responseStream: false,
    requestSerialize: raw,
    requestDeserialize: raw,
    responseSerialize: raw,
    responseDeserialize: raw,
  };
  const server = createRpcServer({ ...systemRuntime, node: "collector" });
  server.addService({ export: exportMethod }, { export: async (bytes) => (exported.push(bytes), Buffer.alloc(0)) });
  const port = await server.listen("127.0.0.1", 0);
  cleanups.push(() => server.drain(0));
  const env = {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `http://127.0.0.1:${port}`,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "grpc",
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${url}/v1/metrics`,
  };
  const telemetry = await setupTelemetry({ ...identity, env });
  // A second node of the process shares what the first one started, and keeps it alive.
  const second = await setupTelemetry({ ...identity, nodeId: "n2", env });
  startSpan(noTrace, "by-grpc").end();
  const call = await cluster();
  await call("c");
  await second.shutdown();
  expect(exported).toEqual([]);
  await telemetry.shutdown();
  expect(Buffer.concat(exported).toString("latin1")).toContain("by-grpc");
  expect(received[0]).toMatchObject({ path: "/v1/metrics", type: "application/x-protobuf" });
  expect(received[0]?.bytes.toString("latin1")).toContain("rpc.server.call.duration");
});

test("Prometheus scrapes the RPC metrics", async () => {
  const env = {
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: "0",
  };
  const telemetry = await setupTelemetry({ ...identity, env });
  cleanups.push(() => telemetry.shutdown());
  const call = await cluster();
  await call("c");
  await call("missing");
  const text = await (await fetch(telemetry.prometheusUrl as string)).text();
  const count = (labels: string): string | undefined =>
    text
      .split("\n")
      .find((line) => line.startsWith("rpc_server_call_duration_seconds_count{") && line.includes(labels));
  const method = 'rpc_method="kith.v1.Points/Count"';
  expect(count(`${method},rpc_response_status_code="OK"`)).toMatch(/ 1$/);
  expect(count(`${method},rpc_response_status_code="NOT_FOUND",error_type="COLLECTION_NOT_FOUND"`)).toMatch(/ 1$/);
  expect(count('rpc_method="kith.internal.v1.Link/count"')).toMatch(/ 1$/);
  expect(text).toMatch(/rpc_client_call_duration_seconds_count\{.*Link\/count.* 1$/m);
  expect(text).toMatch(/kith_rpc_server_in_flight(_\w+)?\{/);
  const again = setupTelemetry({ ...identity, env });
  expect((await again).prometheusUrl).toBe(telemetry.prometheusUrl);
  await (await again).shutdown();
  await telemetry.shutdown();
  await expect(fetch(telemetry.prometheusUrl as string)).rejects.toThrow();
});

test("each request of a stream is measured: answered, failed, late and cancelled ones", async () => {
  const env = {
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: "0",
  };
  const telemetry = await setupTelemetry({ ...identity, env });
  cleanups.push(() => telemetry.shutdown());
  const { channel } = await cluster();
  let answered = 0;
  const stream = openStream(channel, service.queryStream, { onMessage: () => answered++, onEnd: () => undefined });
  const send = (requestId: number, collection: string, timeoutMs = 0, cancel = false): void => {
    const query = pb.QueryRequest.fromPartial({ collection });
    stream.write({ requestId, query, timeoutMs, cancel, traceparent: "", other: undefined });
  };
  send(1, "c");
  send(2, "c");
  send(3, "missing");
  send(4, "slow", 1);
  send(5, "slow");
  send(5, "slow", 0, true);
  send(6, "c");
  await eventually(() => answered === 5);
  const text = await (await fetch(telemetry.prometheusUrl as string)).text();
  const counted = text.split("\n").flatMap((line) => {
    const [, method, labels, count] =
      /^rpc_server_call_duration_seconds_count\{.*rpc_method="([^"]*)"(.*)\} (\d+)$/.exec(line) ?? [];
    const code = /error_type="([^"]*)"/.exec(labels ?? "")?.[1] ?? "OK";
    return method === "kith.v1.Points/QueryStream" ? [`${code} ${count}`] : [];
  });
  expect(counted.sort()).toEqual(["CANCELLED 1", "COLLECTION_NOT_FOUND 1", "DEADLINE_EXCEEDED 1", "OK 3"]);
  stream.cancel();
});

test("a port that is taken is named, and the next set-up starts afresh", async () => {
  const { url } = await collector();
  const env = {
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: new URL(url).port,
  };
  await expect(setupTelemetry({ ...identity, env })).rejects.toMatchObject({ code: "INVALID_CONFIG" });
  const telemetry = await setupTelemetry({ ...identity, env: { ...env, OTEL_EXPORTER_PROMETHEUS_PORT: "0" } });
  await telemetry.shutdown();
});

test("a collector that cannot be reached is reported and does not hold up the end", async () => {
  const env = {
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:9/v1/traces",
    OTEL_EXPORTER_OTLP_TIMEOUT: "50",
    OTEL_BSP_SCHEDULE_DELAY: "5",
  };
  const telemetry = await setupTelemetry({ ...identity, env });
  const warnings: string[] = [];
  const quiet = (): void => undefined;
  telemetry.reportTo({ debug: quiet, info: quiet, warn: (message) => warnings.push(message), error: quiet });
  startSpan(noTrace, "lost").end();
  await eventually(() => warnings.length > 0);
  startSpan(noTrace, "lost").end();
  await telemetry.shutdown();
  expect(warnings[0]).toContain("telemetry:");
});

test("there is one copy of the OpenTelemetry API and of grpc-js", () => {
  const copies = readdirSync("node_modules", { recursive: true })
    .map(String)
    .filter((path) => /(^|\/)(@opentelemetry\/api|@grpc\/grpc-js)\/package\.json$/.test(path));
  expect(copies.sort()).toEqual(["@grpc/grpc-js/package.json", "@opentelemetry/api/package.json"]);
});
