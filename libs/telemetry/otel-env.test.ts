import { expect, test } from "vitest";
import { readTelemetryConfig } from "./otel-env.js";

test("nothing is on unless an exporter or an endpoint is named", () => {
  const nothing = { traces: undefined, metrics: undefined, logs: undefined };
  expect(readTelemetryConfig({})).toMatchObject(nothing);
  expect(readTelemetryConfig({ OTEL_SERVICE_NAME: "x", OTEL_TRACES_SAMPLER: "always_on" })).toMatchObject(nothing);
  const disabled = { OTEL_SDK_DISABLED: "true", OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318" };
  expect(readTelemetryConfig(disabled)).toMatchObject(nothing);
  expect(readTelemetryConfig({ OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" })).toMatchObject(nothing);
});

test("endpoints, protocols, headers, samplers as the specification says", () => {
  const config = readTelemetryConfig({
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318/base/",
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: "https://logs/x",
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "grpc",
    OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20a%3Db, x-n = 1",
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "500",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.25",
    OTEL_METRICS_EXPORTER: "otlp,prometheus",
    OTEL_EXPORTER_PROMETHEUS_PORT: "0",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test,service.name=a",
    OTEL_SERVICE_NAME: "b",
  });
  const headers = { authorization: "Bearer a=b", "x-n": "1" };
  expect(config.traces).toMatchObject({
    otlp: { protocol: "http/protobuf", url: "http://c:4318/base/v1/traces", headers, timeoutMs: 500 },
    sampler: { kind: "traceidratio", ratio: 0.25, parentBased: true },
  });
  expect(config.metrics).toMatchObject({
    otlp: { protocol: "grpc", url: "http://c:4318/base/", timeoutMs: 10_000 },
    intervalMs: 60_000,
    prometheus: { host: "localhost", port: 0 },
  });
  expect(config.logs?.otlp.url).toBe("https://logs/x");
  expect(config.resource).toEqual({ "deployment.environment.name": "test", "service.name": "b" });
});

test.each([
  ["OTEL_TRACES_EXPORTER", "jaeger"],
  ["OTEL_EXPORTER_OTLP_PROTOCOL", "smtp"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"],
  ["OTEL_TRACES_SAMPLER", "sometimes"],
  ["OTEL_TRACES_SAMPLER_ARG", "2"],
  ["OTEL_BSP_MAX_QUEUE_SIZE", "-1"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "secret"],
])("%s=%s is refused by name", (name, value) => {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318",
    OTEL_TRACES_SAMPLER: "traceidratio",
    [name]: value,
  };
  expect(() => readTelemetryConfig(env)).toThrow(
    expect.objectContaining({ code: "INVALID_CONFIG", details: { variable: name } }) as Error,
  );
  if (name.endsWith("HEADERS")) expect(() => readTelemetryConfig(env)).not.toThrow(/secret/);
});
