export { createLogger, type Logger, type LogRecordSink, silentLogger } from "./logger.js";
export {
  type Counter,
  counterOf,
  describeMetrics,
  type GaugeCallback,
  type GaugeReport,
  type Histogram,
  histogramOf,
  metricsEnabled,
  registerGauge,
} from "./metrics.js";
export { setupTelemetry } from "./setup.js";
export type { Telemetry, TelemetryOptions } from "./telemetry.js";
export {
  type CollectedSpan,
  collecting,
  enableTracing,
  inSpan,
  noTrace,
  sampleTraces,
  type Span,
  SpanCollector,
  startSpan,
  type TraceContext,
  traceFrom,
  traceparentOf,
  untraced,
} from "./span.js";
export { renderWaterfall, type WaterfallOptions } from "./waterfall.js";
