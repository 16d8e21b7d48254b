import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Attributes, diag, DiagLogLevel, propagation, trace as otelTrace } from "@opentelemetry/api";
import { type Logger as OtelLogger, SeverityNumber } from "@opentelemetry/api-logs";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus";
import { type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { type IMetricReader, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { KithError } from "../base/index.js";
import type { LogLevel, LogRecordSink } from "./logger.js";
import { bindMeter } from "./metrics.js";
import type { BatchLimits, SamplerSpec, TelemetryConfig } from "./otel-env.js";
import { logExporter, metricExporter, spanExporter } from "./otel-exporters.js";
import type { Telemetry, TelemetryOptions } from "./telemetry.js";
import { enableTracing } from "./span.js";

/** Time for the last export at the end of the process. */
const shutdownTimeoutMs = 3_000;

/** Loaded only where OTEL_* variables ask for it: see setupTelemetry. */
export async function startSdk(config: TelemetryConfig, options: TelemetryOptions): Promise<Telemetry> {
  const resource = resourceFromAttributes({
    "service.name": options.serviceName,
    "service.instance.id": options.nodeId,
    "service.version": options.version,
    ...config.resource,
  });
  const stops: (() => Promise<void>)[] = [];
  const telemetry = {
    traces: config.traces !== undefined,
    metrics: config.metrics !== undefined,
    onLogRecord: undefined as LogRecordSink | undefined,
    prometheusUrl: undefined as string | undefined,
  };
  // Metrics first: binding the Prometheus port is the only step that may fail.
  if (config.metrics !== undefined) telemetry.prometheusUrl = await startMetrics(config.metrics, resource, stops);
  if (config.traces !== undefined) await startTraces(config.traces, resource, stops);
  if (config.logs !== undefined) telemetry.onLogRecord = await startLogs(config.logs, resource, stops);
  return {
    ...telemetry,
    reportTo: (logger) => {
      const report = (message: string, ...rest: unknown[]): void => {
        logger.warn(`telemetry: ${message} ${rest.map(String).join(" ")}`.trim().slice(0, 500));
      };
      const quiet = (): void => undefined;
      diag.setLogger(
        { error: report, warn: report, info: quiet, debug: quiet, verbose: quiet },
        { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
      );
    },
    shutdown: async () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, shutdownTimeoutMs);
      });
      // An exporter that cannot reach its collector rejects: said, but no reason to fail.
      const report = (error: unknown): void => diag.error(`the last export failed: ${String(error)}`);
      await Promise.race([Promise.all(stops.map((stop) => stop().catch(report))), late]);
      clearTimeout(timer);
      diag.disable();
    },
  };
}

const batchOptions = (batch: BatchLimits) => ({
  maxQueueSize: batch.queueMax,
  maxExportBatchSize: batch.batchMax,
  scheduledDelayMillis: batch.delayMs,
  exportTimeoutMillis: batch.timeoutMs,
});

async function startTraces(
  config: NonNullable<TelemetryConfig["traces"]>,
  resource: Resource,
  stops: (() => Promise<void>)[],
): Promise<void> {
  const exporter = await spanExporter(config.otlp);
  const { sampler, rootRatio } = samplingOf(config.sampler);
  const provider = new TracerProvider({
    resource,
    sampler,
    spanProcessors: [new BatchSpanProcessor({ exporter, ...batchOptions(config.batch) })],
  });
  // No context manager: Kith hands contexts on explicitly, and AsyncLocalStorage would tax every await.
  otelTrace.setGlobalTracerProvider(provider);
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  enableTracing(true, rootRatio);
  stops.push(async () => {
    enableTracing(false);
    await provider.shutdown();
    otelTrace.disable();
    propagation.disable();
  });
}

/** The sampler, and the share of the traces beginning here that it is asked about at all: see enableTracing. */
function samplingOf({ kind, ratio, parentBased }: SamplerSpec): { sampler: Sampler; rootRatio: number } {
  const isDrawn = kind === "traceidratio" && parentBased;
  const root =
    kind === "always_off"
      ? new AlwaysOffSampler()
      : kind === "always_on" || isDrawn
        ? new AlwaysOnSampler()
        : new TraceIdRatioBasedSampler(ratio);
  return { sampler: parentBased ? new ParentBasedSampler({ root }) : root, rootRatio: isDrawn ? ratio : 1 };
}

/** Returns the URL that Prometheus scrapes, where it does. */
async function startMetrics(
  config: NonNullable<TelemetryConfig["metrics"]>,
  resource: Resource,
  stops: (() => Promise<void>)[],
): Promise<string | undefined> {
  const readers: IMetricReader[] = [];
  let scraped: { server: Server; url: string } | undefined;
  if (config.prometheus !== undefined) {
    const exporter = new PrometheusExporter({ preventServerStart: true });
    scraped = await servePrometheus(exporter, config.prometheus.host, config.prometheus.port);
    readers.push(exporter);
  }
  if (config.otlp !== undefined) {
    const exporter = await metricExporter(config.otlp);
    const exportTimeoutMillis = Math.min(config.otlp.timeoutMs, config.intervalMs);
    readers.push(
      new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: config.intervalMs, exportTimeoutMillis }),
    );
  }
  const provider = new MeterProvider({ resource, readers });
  bindMeter(provider.getMeter("kith"));
  stops.push(async () => {
    bindMeter(undefined);
    scraped?.server.close();
    scraped?.server.closeAllConnections();
    await provider.shutdown();
  });
  return scraped?.url;
}

/** A server of our own around the exporter's handler: the exporter's does not tell its port, nor bounds its clients. */
async function servePrometheus(
  exporter: PrometheusExporter,
  host: string,
  port: number,
): Promise<{ server: Server; url: string }> {
  const server = createServer((request, response) => {
    if (request.method === "GET" && request.url?.split("?")[0] === "/metrics") {
      exporter.getMetricsRequestHandler(request, response);
      return;
    }
    response.statusCode = 404;
    response.end("the metrics are at /metrics\n");
  });
  server.maxConnections = 32;
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `cannot serve metrics on ${host}:${port}: ${cause.message}; set OTEL_EXPORTER_PROMETHEUS_PORT to another port`;
      reject(new KithError("INVALID_CONFIG", message, { details: { host, port }, cause }));
    });
    server.listen(port, host, resolve);
  });
  // Scraping must not hold a process that is otherwise done.
  server.unref();
  const bound = server.address() as AddressInfo;
  const shown = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return { server, url: `http://${shown}:${bound.port}/metrics` };
}

const severities: Record<LogLevel, SeverityNumber> = {
  debug: SeverityNumber.DEBUG,
  info: SeverityNumber.INFO,
  warn: SeverityNumber.WARN,
  error: SeverityNumber.ERROR,
};

async function startLogs(
  config: NonNullable<TelemetryConfig["logs"]>,
  resource: Resource,
  stops: (() => Promise<void>)[],
): Promise<LogRecordSink> {
  const exporter = await logExporter(config.otlp);
  const processor = new BatchLogRecordProcessor({ exporter, ...batchOptions(config.batch) });
  const provider = new LoggerProvider({ resource, processors: [processor] });
  const logger: OtelLogger = provider.getLogger("kith");
  stops.push(() => provider.shutdown());
  return ({ level, message, fields, trace }) => {
    logger.emit({
      severityNumber: severities[level],
      severityText: level,
      body: message,
      attributes: attributesOf(fields),
      ...(trace && { context: trace.otel }),
    });
  };
}

function attributesOf(fields: Record<string, unknown>): Attributes {
  const attributes: Attributes = {};
  for (const [key, value] of Object.entries(fields)) {
    if (key === "error" && value instanceof Error) {
      attributes["exception.type"] = value.name;
      attributes["exception.message"] = value.message;
      attributes["exception.stacktrace"] = value.stack ?? "";
    } else if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
      attributes[key] = value;
    } else if (value !== undefined) attributes[key] = JSON.stringify(value);
  }
  return attributes;
}
