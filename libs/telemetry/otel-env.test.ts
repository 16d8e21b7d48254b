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

test("what the SDK does not see to: the draw of traces, and the page of Prometheus", () => {
  const config = readTelemetryConfig({
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://c:4318/base/",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.25",
    OTEL_METRICS_EXPORTER: "otlp,prometheus",
    OTEL_EXPORTER_PROMETHEUS_PORT: "0",
  });
  expect(config).toEqual({
    traces: { rootRatio: 0.25 },
    metrics: { otlp: true, prometheus: { host: "localhost", port: 0 } },
    logs: {},
  });
  const others = { OTEL_TRACES_EXPORTER: "otlp", OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.25" };
  expect(readTelemetryConfig(others)).toEqual({
    traces: { rootRatio: undefined },
    metrics: undefined,
    logs: undefined,
  });
});

test.each([
  ["OTEL_TRACES_EXPORTER", "jaeger"],
  ["OTEL_EXPORTER_OTLP_PROTOCOL", "smtp"],
  ["OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"],
  ["OTEL_TRACES_SAMPLER", "sometimes"],
  ["OTEL_TRACES_SAMPLER_ARG", "2"],
  ["OTEL_BSP_MAX_QUEUE_SIZE", "-1"],
  ["OTEL_EXPORTER_OTLP_HEADERS", "secret"],
  ["OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "smtp"],
  ["OTEL_METRIC_EXPORT_INTERVAL", "often"],
  ["OTEL_EXPORTER_PROMETHEUS_PORT", "metrics"],
  ["OTEL_RESOURCE_ATTRIBUTES", "a=%zz"],
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
