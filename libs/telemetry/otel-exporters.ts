import { Metadata } from "@grpc/grpc-js";
import type { LogRecordExporter } from "@opentelemetry/sdk-logs";
import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { SpanExporter } from "@opentelemetry/sdk-trace";
import type { OtlpTarget } from "./otel-env.js";

// Each protocol is loaded only where it is used.

const http = ({ url, headers, timeoutMs }: OtlpTarget) => ({ url, headers, timeoutMillis: timeoutMs });

function grpc({ url, headers, timeoutMs }: OtlpTarget): { url: string; metadata: Metadata; timeoutMillis: number } {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(headers)) metadata.set(key, value);
  return { url, metadata, timeoutMillis: timeoutMs };
}

export async function spanExporter(target: OtlpTarget): Promise<SpanExporter> {
  switch (target.protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-trace-otlp-grpc")).OTLPTraceExporter(grpc(target));
    case "http/json":
      return new (await import("@opentelemetry/exporter-trace-otlp-http")).OTLPTraceExporter(http(target));
    case "http/protobuf":
      return new (await import("@opentelemetry/exporter-trace-otlp-proto")).OTLPTraceExporter(http(target));
  }
}

export async function metricExporter(target: OtlpTarget): Promise<PushMetricExporter> {
  switch (target.protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-metrics-otlp-grpc")).OTLPMetricExporter(grpc(target));
    case "http/json":
      return new (await import("@opentelemetry/exporter-metrics-otlp-http")).OTLPMetricExporter(http(target));
    case "http/protobuf":
      return new (await import("@opentelemetry/exporter-metrics-otlp-proto")).OTLPMetricExporter(http(target));
  }
}

export async function logExporter(target: OtlpTarget): Promise<LogRecordExporter> {
  switch (target.protocol) {
    case "grpc":
      return new (await import("@opentelemetry/exporter-logs-otlp-grpc")).OTLPLogExporter(grpc(target));
    case "http/json":
      return new (await import("@opentelemetry/exporter-logs-otlp-http")).OTLPLogExporter(http(target));
    case "http/protobuf":
      return new (await import("@opentelemetry/exporter-logs-otlp-proto")).OTLPLogExporter(http(target));
  }
}
