import { createRequire } from "node:module";
import { trace as otelTrace } from "@opentelemetry/api";
import type { pino as Pino } from "pino";
import type { TraceContext } from "./span.js";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** Facts beside a message. `trace` becomes trace_id and span_id; `error` is written with its stack and causes. */
export interface LogFields {
  readonly trace?: TraceContext;
  readonly error?: unknown;
  readonly [name: string]: unknown;
}

/** What libraries log to; they depend on this and not on its implementation. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** Drops everything: for tests and tools that have no log. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export interface LoggerOptions {
  /** Least severe level that is written; a function is asked each time. */
  level: LogLevel | "silent" | (() => LogLevel);
  /** Written with every line as `node`. */
  nodeId: string;
  /** One readable line instead of JSON; `color` adds ANSI colours. */
  pretty?: boolean;
  color?: boolean;
  /** Receives whole lines; standard error where left out. */
  write?: (line: string) => void;
  /** Also receives every line that is written, e.g. to export it over OTLP. */
  onRecord?: LogRecordSink;
}

/** One line of the log before it is formatted. */
export interface LogRecordView {
  level: LogLevel;
  message: string;
  fields: Record<string, unknown>;
  trace: TraceContext | undefined;
}
export type LogRecordSink = (record: LogRecordView) => void;

/** A logger that writes JSON lines (pino) to standard error: time, level, node, msg, trace_id, span_id and the fields. */
export function createLogger(options: LoggerOptions): Logger {
  // Here and not above: clients take their spans from this library, and log nothing.
  const { pino } = createRequire(import.meta.url)("pino") as { pino: typeof Pino };
  // Synchronous: the last lines before a crash are the ones that matter, and Kith logs events, not requests.
  const destination =
    options.write === undefined ? pino.destination({ dest: 2, sync: true }) : { write: options.write };
  const line = options.pretty ? prettyDestination(destination, options.color ?? false) : destination;
  const target = pino(
    {
      level: typeof options.level === "string" ? options.level : "debug",
      base: { node: options.nodeId },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.errWithCause },
    },
    line,
  );
  const log = (level: LogLevel, message: string, fields: LogFields = {}): void => {
    if (!target.isLevelEnabled(level)) return;
    if (typeof options.level === "function" && severity[level] < severity[options.level()]) return;
    const { trace, ...rest } = fields;
    const span = trace === undefined ? undefined : otelTrace.getSpanContext(trace.otel);
    target[level](span === undefined ? rest : { trace_id: span.traceId, span_id: span.spanId, ...rest }, message);
    options.onRecord?.({ level, message, fields: rest, trace });
  };
  return {
    debug: (message, fields) => log("debug", message, fields),
    info: (message, fields) => log("info", message, fields),
    warn: (message, fields) => log("warn", message, fields),
    error: (message, fields) => log("error", message, fields),
  };
}

const severity: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

const levelColors: Record<string, string> = { debug: "90", info: "36", warn: "33", error: "31" };

/** Turns pino's JSON lines into "12:30:01.123 WARN  message key=value" for people at a terminal. */
function prettyDestination(target: { write(line: string): unknown }, color: boolean): { write(line: string): void } {
  const paint = (code: string, text: string): string => (color ? `\u001b[${code}m${text}\u001b[0m` : text);
  return {
    write: (json) => {
      const { time, level, msg, node, error, ...rest } = JSON.parse(json) as Record<string, unknown>;
      const name = String(level);
      const parts = [
        paint("90", String(time).slice(11, 23)),
        paint(levelColors[name] ?? "0", name.toUpperCase().padEnd(5)),
        paint("90", String(node)),
        String(msg),
      ];
      for (const [key, value] of Object.entries(rest)) {
        parts.push(`${paint("90", `${key}=`)}${typeof value === "string" ? value : JSON.stringify(value)}`);
      }
      const stack = (error as { stack?: string } | undefined)?.stack;
      target.write(`${parts.join(" ")}\n${stack === undefined ? "" : `${stack}\n`}`);
    },
  };
}
