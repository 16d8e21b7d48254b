import type { Runtime } from "../base/index.js";
import type { Logger, LogRecordSink } from "./logger.js";
import type { Env } from "./otel-env.js";

export interface TelemetryOptions extends Runtime {
  /** service.name, unless OTEL_SERVICE_NAME says otherwise. */
  serviceName: string;
  /** service.instance.id */
  nodeId: string;
  /** service.version */
  version: string;
  /** The process's environment; only OTEL_* are read. */
  env: Env;
}

/** What the set-up started. */
export interface Telemetry {
  readonly traces: boolean;
  readonly metrics: boolean;
  /** Pass to createLogger() to export log records; undefined while logs are not exported. */
  readonly onLogRecord: LogRecordSink | undefined;
  /** Where Prometheus scrapes ("http://host:port/metrics"); undefined where it does not. */
  readonly prometheusUrl: string | undefined;
  /** The page that Prometheus scrapes there; undefined where there is none. */
  readonly prometheusPage: (() => Promise<string>) | undefined;
  /** Tells `logger` when exporting fails; until then nobody hears of it. */
  reportTo(logger: Logger): void;
  /** Exports what is left and switches everything off. Never rejects: telemetry must not keep a node from ending. */
  shutdown(): Promise<void>;
}
