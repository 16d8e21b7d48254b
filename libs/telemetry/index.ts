export * from "./logger.js";
export {
  type Counter,
  counterOf,
  type GaugeCallback,
  type GaugeReport,
  type Histogram,
  histogramOf,
  metricsEnabled,
  registerGauge,
} from "./metrics.js";
export { setupTelemetry, type Telemetry, type TelemetryOptions } from "./setup.js";
export * from "./span.js";
export { renderWaterfall, type WaterfallOptions } from "./waterfall.js";
