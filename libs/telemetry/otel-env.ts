import { KithError } from "../base/index.js";

export type Env = Readonly<Record<string, string | undefined>>;
type Signal = "traces" | "metrics" | "logs";

/** What the OTEL_* variables ask for, as far as the SDK does not see to it; undefined: that signal is off. */
export interface TelemetryConfig {
  /** `rootRatio`: the share of the traces beginning here that is recorded, where Kith draws it itself. */
  traces: { rootRatio: number | undefined } | undefined;
  metrics: { otlp: boolean; prometheus: { host: string; port: number } | undefined } | undefined;
  logs: object | undefined;
}

/**
 * Reads the standard variables (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables) for what the SDK lacks: nothing
 * is exported unless an exporter or an endpoint is named, where the SDK would send to localhost, and a value that cannot be obeyed is
 * INVALID_CONFIG, with the variable's name, where the SDK would go on with another.
 */
export function readTelemetryConfig(env: Env): TelemetryConfig {
  const off = text(env, "OTEL_SDK_DISABLED").toLowerCase() === "true";
  const chosen = (signal: Signal): Set<string> => (off ? new Set() : exportersOf(env, signal));
  const traces = chosen("traces");
  const metrics = chosen("metrics");
  const logs = chosen("logs");
  if (traces.size + metrics.size + logs.size > 0) checkValues(env);
  return {
    traces: traces.has("otlp") ? { rootRatio: rootRatioOf(env) } : undefined,
    metrics: metrics.size === 0 ? undefined : { otlp: metrics.has("otlp"), prometheus: prometheusOf(env, metrics) },
    logs: logs.has("otlp") ? {} : undefined,
  };
}

const known: Record<Signal, readonly string[]> = {
  traces: ["otlp", "none"],
  metrics: ["otlp", "prometheus", "none"],
  logs: ["otlp", "none"],
};

function exportersOf(env: Env, signal: Signal): Set<string> {
  const name = `OTEL_${signal.toUpperCase()}_EXPORTER`;
  const value = text(env, name);
  if (value === "") {
    const own = text(env, `OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_ENDPOINT`);
    return new Set((own || text(env, "OTEL_EXPORTER_OTLP_ENDPOINT")) === "" ? [] : ["otlp"]);
  }
  const chosen = new Set(value.split(",").map((each) => each.trim()));
  for (const each of chosen) {
    if (!known[signal].includes(each)) throw invalid(env, name, `one or more of ${known[signal].join(", ")}`);
  }
  if (chosen.has("none") && chosen.size > 1) throw invalid(env, name, `"none" alone, or exporters without it`);
  chosen.delete("none");
  return chosen;
}

const samplers = ["always_on", "always_off", "traceidratio"].flatMap((name) => [name, `parentbased_${name}`]);
const protocols = ["grpc", "http/protobuf", "http/json"];

/** Values that the SDK would replace with others, each with what it must be. */
const checks: readonly { names: RegExp; isValid: (value: string) => boolean; wanted: string }[] = [
  {
    names: /^OTEL_EXPORTER_OTLP_(TRACES_|METRICS_|LOGS_)?PROTOCOL$/,
    isValid: (value) => protocols.includes(value),
    wanted: protocols.join(", "),
  },
  {
    names: /^OTEL_EXPORTER_OTLP_(TRACES_|METRICS_|LOGS_)?ENDPOINT$/,
    isValid: (value) => /^https?:/.test(value) && URL.canParse(value),
    wanted: "a URL that begins with http or https",
  },
  { names: /^OTEL_TRACES_SAMPLER$/, isValid: (value) => samplers.includes(value), wanted: samplers.join(", ") },
  { names: /^OTEL_TRACES_SAMPLER_ARG$/, isValid: (value) => isNumber(value, 0, 1), wanted: "a number in 0..1" },
  {
    names: /^OTEL_(BSP|BLRP)_|^OTEL_METRIC_EXPORT_|^OTEL_EXPORTER_OTLP_(TRACES_|METRICS_|LOGS_)?TIMEOUT$/,
    isValid: (value) => isNumber(value, 1, 86_400_000),
    wanted: "a number in 1..86400000",
  },
  {
    names: /^OTEL_EXPORTER_PROMETHEUS_PORT$/,
    isValid: (value) => isNumber(value, 0, 65_535),
    wanted: "a port, or 0 for a free one",
  },
  {
    names: /^OTEL_EXPORTER_OTLP_(TRACES_|METRICS_|LOGS_)?HEADERS$|^OTEL_RESOURCE_ATTRIBUTES$/,
    isValid: isPairs,
    wanted: "key=value pairs with commas between them, values percent-encoded",
  },
];

function checkValues(env: Env): void {
  for (const name of Object.keys(env).filter((each) => each.startsWith("OTEL_"))) {
    const value = text(env, name);
    const broken = checks.find((check) => value !== "" && check.names.test(name) && !check.isValid(value));
    if (broken !== undefined) throw invalid(env, name, broken.wanted);
  }
}

function isNumber(value: string, min: number, max: number): boolean {
  const number = Number(value);
  return number >= min && number <= max;
}

function isPairs(value: string): boolean {
  return value.split(",").every((pair) => {
    if (pair.trim() === "") return true;
    try {
      return pair.indexOf("=") > 0 && decodeURIComponent(pair) !== "";
    } catch {
      return false;
    }
  });
}

/** Of parentbased_traceidratio, which Kith draws itself (see enableTracing); the other samplers are the SDK's. */
function rootRatioOf(env: Env): number | undefined {
  if (text(env, "OTEL_TRACES_SAMPLER") !== "parentbased_traceidratio") return undefined;
  return Number(text(env, "OTEL_TRACES_SAMPLER_ARG") || 1);
}

function prometheusOf(env: Env, exporters: ReadonlySet<string>): { host: string; port: number } | undefined {
  if (!exporters.has("prometheus")) return undefined;
  const port = Number(text(env, "OTEL_EXPORTER_PROMETHEUS_PORT") || 9_464);
  return { host: text(env, "OTEL_EXPORTER_PROMETHEUS_HOST") || "localhost", port };
}

function text(env: Env, name: string): string {
  return (env[name] ?? "").trim();
}

function invalid(env: Env, name: string, wanted: string): KithError {
  // Headers may hold credentials: their value is not repeated.
  const shown = name.endsWith("HEADERS") ? "" : ` is "${text(env, name).slice(0, 80)}"; it`;
  return new KithError("INVALID_CONFIG", `the environment variable ${name}${shown} must be ${wanted}`, {
    details: { variable: name },
  });
}
