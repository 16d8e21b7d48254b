import {
  type Attributes,
  context,
  type ContextManager,
  diag,
  DiagLogLevel,
  metrics,
  propagation,
  ROOT_CONTEXT,
  trace as otelTrace,
} from "@opentelemetry/api";
import { logs, SeverityNumber } from "@opentelemetry/api-logs";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { envDetector, resourceFromAttributes } from "@opentelemetry/resources";
import type { IMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { AlwaysOnSampler, ParentBasedSampler } from "@opentelemetry/sdk-trace";
import { deferred } from "../base/index.js";
import type { Logger, LogLevel, LogRecordSink } from "./logger.js";
import { bindMeter } from "./metrics.js";
import type { Env, TelemetryConfig } from "./otel-env.js";
import { withEnvironment } from "./process-env.js";
import { prometheusText, servePrometheus } from "./prometheus.js";
import type { Telemetry, TelemetryOptions } from "./telemetry.js";
import { disableTracing, enableTracing } from "./span.js";

/** Time for the last export at the end of the process. */
const shutdownTimeoutMs = 3_000;

/**
 * Set-up through OpenTelemetry's NodeSDK, which reads the OTEL_* variables for exporters, batches, samplers and the resource. Loaded only
 * where they ask for something: see setupTelemetry.
 */
export async function startSdk(config: TelemetryConfig, options: TelemetryOptions): Promise<Telemetry> {
  const rootRatio = config.traces?.rootRatio;
  // First: to bind the port of Prometheus is the only step that may fail.
  const page = config.metrics?.prometheus === undefined ? undefined : await startPage(config.metrics.prometheus);
  const readers = page === undefined ? [] : [page.reader];
  if (page !== undefined && config.metrics?.otlp === true) readers.push(await otlpReader(options.env));
  const sdk = withEnvironment(options.env, () => {
    const made = new NodeSDK({
      resource: resourceFromAttributes({
        "service.name": options.serviceName,
        "service.instance.id": options.nodeId,
        "service.version": options.version,
      }),
      // Of the machine and the command line nothing is told: nobody has asked for it.
      resourceDetectors: [envDetector],
      contextManager: noContext,
      textMapPropagator: new W3CTraceContextPropagator(),
      ...(rootRatio !== undefined && { sampler: new ParentBasedSampler({ root: new AlwaysOnSampler() }) }),
      // What is left out here is made of the variables.
      ...(config.traces === undefined && { spanProcessors: [] }),
      ...((config.metrics === undefined || page !== undefined) && { metricReaders: readers }),
      ...(config.logs === undefined && { logRecordProcessors: [] }),
    });
    made.start();
    return made;
  });
  if (config.metrics !== undefined) bindMeter(metrics.getMeter("kith"));
  if (config.traces !== undefined) enableTracing(options.random, rootRatio);
  return {
    traces: config.traces !== undefined,
    metrics: config.metrics !== undefined,
    onLogRecord: config.logs === undefined ? undefined : exportLogs(),
    prometheusUrl: page?.url,
    prometheusPage: page?.text,
    reportTo: reportOnce,
    shutdown: async () => {
      bindMeter(undefined);
      disableTracing();
      page?.close();
      const late = deferred<void>();
      const timer = options.clock.setTimer(() => late.resolve(), shutdownTimeoutMs);
      // An exporter that cannot reach its collector rejects: said, but no reason to fail.
      const report = (error: unknown): void => diag.error(error instanceof Error ? error.message : String(error));
      await Promise.race([sdk.shutdown().catch(report), late.promise]);
      timer.close();
      for (const api of [otelTrace, metrics, logs, propagation, context, diag]) api.disable();
    },
  };
}

/** Kith hands contexts on explicitly, and the SDK's own manager, an AsyncLocalStorage, would tax every await. */
const noContext: ContextManager = {
  active: () => ROOT_CONTEXT,
  with: (_, body, self, ...args) => body.call(self as never, ...args),
  bind: (_, target) => target,
  enable: () => noContext,
  disable: () => noContext,
};

async function startPage(address: { host: string; port: number }) {
  const { PrometheusExporter } = await import("@opentelemetry/exporter-prometheus");
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const reader: IMetricReader = exporter;
  const { server, url } = await servePrometheus(exporter, address);
  return {
    reader,
    url,
    text: () => prometheusText(exporter),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** The reader that the SDK makes of the variables, for when it is given another one beside. */
async function otlpReader(env: Env): Promise<IMetricReader> {
  const protocol = env["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"] || env["OTEL_EXPORTER_OTLP_PROTOCOL"] || "http/protobuf";
  const { OTLPMetricExporter } =
    protocol === "grpc"
      ? await import("@opentelemetry/exporter-metrics-otlp-grpc")
      : protocol === "http/json"
        ? await import("@opentelemetry/exporter-metrics-otlp-http")
        : await import("@opentelemetry/exporter-metrics-otlp-proto");
  const { PeriodicExportingMetricReader } = await import("@opentelemetry/sdk-metrics");
  const exportIntervalMillis = Number(env["OTEL_METRIC_EXPORT_INTERVAL"] || 60_000);
  const exportTimeoutMillis = Math.min(Number(env["OTEL_METRIC_EXPORT_TIMEOUT"] || 30_000), exportIntervalMillis);
  return withEnvironment(
    env,
    () =>
      new PeriodicExportingMetricReader({
        exporter: new OTLPMetricExporter(),
        exportIntervalMillis,
        exportTimeoutMillis,
      }),
  );
}

/** Different faults that are remembered; later ones are not reported. */
const faultsMax = 64;

/** Tells each fault of exporting once: a collector that is away fails at every export of every signal. */
function reportOnce(logger: Logger): void {
  const told = new Set<string>();
  const report = (message: string): void => {
    const fault = faultOf(message);
    const kind = fault.replaceAll(/\d+/g, "0");
    if (told.has(kind) || told.size >= faultsMax) return;
    told.add(kind);
    logger.warn(`telemetry: ${fault} (told once)`.slice(0, 500));
  };
  const quiet = (): void => undefined;
  diag.setLogger(
    { error: report, warn: report, info: quiet, debug: quiet, verbose: quiet },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
}

/** The SDK reports an error as its fields in JSON, the stack first. */
function faultOf(message: string): string {
  if (!message.startsWith("{")) return message;
  try {
    const { message: text, code } = JSON.parse(message) as { message?: string; code?: string };
    return text || code || message;
  } catch (error) {
    if (error instanceof SyntaxError) return message;
    throw error;
  }
}

const severities: Record<LogLevel, SeverityNumber> = {
  debug: SeverityNumber.DEBUG,
  info: SeverityNumber.INFO,
  warn: SeverityNumber.WARN,
  error: SeverityNumber.ERROR,
};

function exportLogs(): LogRecordSink {
  const logger = logs.getLogger("kith");
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
