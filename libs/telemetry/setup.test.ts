import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemRuntime } from "../base/index.js";
import { eventually } from "../base/testing.js";
import { counterOf, createLogger, noTrace, setupTelemetry, startSpan } from "./index.js";

interface Received {
  path: string;
  headers: IncomingHttpHeaders;
  body: string;
}

let collector: Server;
let received: Received[];
let url: string;
beforeEach(async () => {
  received = [];
  collector = createServer((request, response) => {
    let body = "";
    request.setEncoding("latin1").on("data", (text: string) => (body += text));
    request.on("end", () => {
      received.push({ path: request.url ?? "", headers: request.headers, body });
      response.setHeader("content-type", "application/json").end("{}");
    });
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
});
afterEach(async () => {
  collector.closeAllConnections();
  await new Promise((resolve) => collector.close(resolve));
});

const identity = { ...systemRuntime, serviceName: "kith", nodeId: "n1", version: "1.2.3" };

test("endpoints, protocols, headers and the resource are as the specification says", async () => {
  const before = { ...process.env };
  const telemetry = await setupTelemetry({
    ...systemRuntime,
    ...identity,
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: `${url}/base/`,
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${url}/lines`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/protobuf",
      OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20a%3Db, x-n = 1",
      OTEL_METRICS_EXPORTER: "otlp,prometheus",
      OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
      OTEL_EXPORTER_PROMETHEUS_PORT: "0",
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test,service.name=a",
      OTEL_SERVICE_NAME: "b",
    },
  });
  expect(process.env).toEqual(before);
  expect(telemetry).toMatchObject({ traces: true, metrics: true });
  startSpan(noTrace, "step").end();
  counterOf("kith.query.hedged").add(1);
  createLogger({ level: "info", nodeId: "n1", write: () => undefined, onRecord: telemetry.onLogRecord }).info("a line");
  expect(await (await fetch(telemetry.prometheusUrl ?? "")).text()).toContain('service_name="b"');
  await telemetry.shutdown();
  const at = (path: string): Received | undefined => received.find((each) => each.path === path);
  expect(new Set(received.map(({ path }) => path))).toEqual(new Set(["/base/v1/traces", "/base/v1/metrics", "/lines"]));
  expect(at("/base/v1/metrics")?.headers["content-type"]).toBe("application/x-protobuf");
  expect(at("/base/v1/traces")?.headers).toMatchObject({ authorization: "Bearer a=b", "x-n": "1" });
  expect(at("/lines")?.body).toContain("a line");
  for (const part of ['"b"', '"test"', '"n1"', '"1.2.3"', '"step"'])
    expect(at("/base/v1/traces")?.body).toContain(part);
  expect(at("/base/v1/traces")?.body).not.toMatch(/process\.|host\.name/);
});

test("a sampler that is not drawn by Kith is obeyed", async () => {
  const env = { OTEL_TRACES_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_METRICS_EXPORTER: "none" };
  const telemetry = await setupTelemetry({ ...identity, env: { ...env, OTEL_TRACES_SAMPLER: "always_off" } });
  startSpan(noTrace, "unseen").end();
  await telemetry.shutdown();
  expect(received).toEqual([]);
});

test("a collector that is away is reported once, whatever goes there and however often", async () => {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9",
    OTEL_EXPORTER_OTLP_TIMEOUT: "50",
    OTEL_BSP_SCHEDULE_DELAY: "5",
    OTEL_BLRP_SCHEDULE_DELAY: "5",
    OTEL_METRIC_EXPORT_INTERVAL: "60",
  };
  const telemetry = await setupTelemetry({ ...identity, env });
  const lines: string[] = [];
  const logger = createLogger({ level: "info", nodeId: "n1", write: (line) => lines.push(line) });
  telemetry.reportTo(logger);
  const { onLogRecord } = telemetry;
  const exported = createLogger({ level: "info", nodeId: "n1", write: () => undefined, onRecord: onLogRecord });
  const endMs = performance.now() + 1_500;
  await eventually(() => {
    startSpan(noTrace, "lost").end();
    exported.info("lost");
    expect(performance.now()).toBeGreaterThan(endMs);
  });
  await telemetry.shutdown();
  expect(lines.filter((line) => line.includes("telemetry: "))).toEqual([
    expect.stringMatching(/"level":"warn".*telemetry: .*ECONNREFUSED 127\.0\.0\.1:9.* \(told once\)/),
  ]);
});

test.each([301, 302, 307, 308])(
  "a collector that sends elsewhere (%i) leads to no other address",
  async (statusCode) => {
    let elsewhere = 0;
    const other = createServer((_request, response) => response.end("{}"));
    other.on("connection", () => elsewhere++);
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/v1/traces`;
    let asked = 0;
    collector.removeAllListeners("request").on("request", (request, response) => {
      asked++;
      request.resume();
      response.writeHead(statusCode, { location }).end();
    });
    const telemetry = await setupTelemetry({
      ...identity,
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
    });
    startSpan(noTrace, "step").end();
    counterOf("kith.query.hedged").add(1);
    createLogger({ level: "info", nodeId: "n1", write: () => undefined, onRecord: telemetry.onLogRecord }).info(
      "a line",
    );
    await telemetry.shutdown();
    expect([asked > 0, elsewhere]).toEqual([true, 0]);
    await new Promise((resolve) => other.close(resolve));
  },
);

test("a collector that answers without an end, or not at all, holds neither memory nor the end of the process", async () => {
  for (const endless of [true, false]) {
    let sentBytes = 0;
    const sockets: (() => void)[] = [];
    collector.removeAllListeners("request").on("request", (request, response) => {
      request.resume();
      sockets.push(() => response.destroy());
      if (!endless) return;
      const chunk = Buffer.alloc(1 << 20, " ");
      const more = (): void => {
        while (!response.destroyed && sentBytes < 1 << 30) {
          sentBytes += chunk.length;
          if (!response.write(chunk)) return void response.once("drain", more);
        }
      };
      more();
    });
    const before = process.memoryUsage().rss;
    const telemetry = await setupTelemetry({
      ...identity,
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: url,
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_EXPORTER_OTLP_TIMEOUT: "2000",
      },
    });
    startSpan(noTrace, "step").end();
    await telemetry.shutdown();
    expect(process.memoryUsage().rss - before).toBeLessThan(512 << 20);
    for (const end of sockets) end();
  }
});
