import { KithError } from "../base/index.js";

export type Env = Readonly<Record<string, string | undefined>>;
export type Signal = "traces" | "metrics" | "logs";
export type OtlpProtocol = "grpc" | "http/protobuf" | "http/json";

/** Where one signal goes by OTLP. */
export interface OtlpTarget {
  protocol: OtlpProtocol;
  url: string;
  headers: Record<string, string>;
  timeoutMs: number;
}

export interface BatchLimits {
  /** Records that wait; more are dropped. */
  queueMax: number;
  batchMax: number;
  delayMs: number;
  timeoutMs: number;
}

export interface SamplerSpec {
  kind: "always_on" | "always_off" | "traceidratio";
  /** 0..1, of traceidratio. */
  ratio: number;
  /** Follow the decision of the caller, where there is one. */
  parentBased: boolean;
}

/** What the OTEL_* variables ask for; undefined: that signal is off. */
export interface TelemetryConfig {
  traces: { otlp: OtlpTarget; sampler: SamplerSpec; batch: BatchLimits } | undefined;
  metrics:
    | { otlp: OtlpTarget | undefined; intervalMs: number; prometheus: { host: string; port: number } | undefined }
    | undefined;
  logs: { otlp: OtlpTarget; batch: BatchLimits } | undefined;
  resource: Record<string, string>;
}

/**
 * Reads the standard variables (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables). One
 * difference: nothing is exported unless an exporter or an endpoint is named, where the specification would send to
 * localhost. INVALID_CONFIG, with the variable's name, for values that cannot be obeyed.
 */
export function readTelemetryConfig(env: Env): TelemetryConfig {
  const off = text(env, "OTEL_SDK_DISABLED").toLowerCase() === "true";
  const chosen = (signal: Signal): Set<string> => (off ? new Set() : exportersOf(env, signal));
  const traces = chosen("traces");
  const metrics = chosen("metrics");
  const logs = chosen("logs");
  return {
    traces: traces.has("otlp")
      ? { otlp: targetOf(env, "traces"), sampler: samplerOf(env), batch: batchOf(env, "OTEL_BSP", 5_000) }
      : undefined,
    metrics:
      metrics.size === 0
        ? undefined
        : {
            otlp: metrics.has("otlp") ? targetOf(env, "metrics") : undefined,
            intervalMs: number(env, "OTEL_METRIC_EXPORT_INTERVAL", 60_000, 1, 86_400_000),
            prometheus: metrics.has("prometheus")
              ? {
                  host: text(env, "OTEL_EXPORTER_PROMETHEUS_HOST") || "localhost",
                  port: number(env, "OTEL_EXPORTER_PROMETHEUS_PORT", 9_464, 0, 65_535),
                }
              : undefined,
          },
    logs: logs.has("otlp") ? { otlp: targetOf(env, "logs"), batch: batchOf(env, "OTEL_BLRP", 1_000) } : undefined,
    resource: resourceOf(env),
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
    const endpoint = text(env, endpointName(signal)) || text(env, "OTEL_EXPORTER_OTLP_ENDPOINT");
    return new Set(endpoint === "" ? [] : ["otlp"]);
  }
  const chosen = new Set(value.split(",").map((each) => each.trim().toLowerCase()));
  for (const each of chosen) {
    if (!known[signal].includes(each)) throw invalid(env, name, `one or more of ${known[signal].join(", ")}`);
  }
  chosen.delete("none");
  return chosen;
}

const endpointName = (signal: Signal): string => `OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_ENDPOINT`;

/** A setting of the signal, or else of all signals. */
function otlp(env: Env, signal: Signal, name: string): { name: string; value: string } {
  const own = `OTEL_EXPORTER_OTLP_${signal.toUpperCase()}_${name}`;
  const value = text(env, own);
  const common = `OTEL_EXPORTER_OTLP_${name}`;
  return value === "" ? { name: common, value: text(env, common) } : { name: own, value };
}

function targetOf(env: Env, signal: Signal): OtlpTarget {
  const protocol = otlp(env, signal, "PROTOCOL");
  const chosen = protocol.value === "" ? "http/protobuf" : protocol.value;
  if (chosen !== "grpc" && chosen !== "http/protobuf" && chosen !== "http/json") {
    throw invalid(env, protocol.name, "grpc, http/protobuf or http/json");
  }
  const timeout = otlp(env, signal, "TIMEOUT");
  return {
    protocol: chosen,
    url: urlOf(env, signal, chosen),
    headers: pairs(env, otlp(env, signal, "HEADERS").name),
    timeoutMs: number(env, timeout.name, 10_000, 1, 3_600_000),
  };
}

/** The endpoint of one signal is used as it is; the common one gets the signal's path for HTTP. */
function urlOf(env: Env, signal: Signal, protocol: OtlpProtocol): string {
  const { name, value } = otlp(env, signal, "ENDPOINT");
  if (value === "") return protocol === "grpc" ? "http://localhost:4317" : `http://localhost:4318/v1/${signal}`;
  if (!URL.canParse(value) || !/^https?:/.test(value)) throw invalid(env, name, "a URL that begins with http or https");
  if (protocol === "grpc" || name === endpointName(signal)) return value;
  return `${value.replace(/\/+$/, "")}/v1/${signal}`;
}

function samplerOf(env: Env): SamplerSpec {
  const name = text(env, "OTEL_TRACES_SAMPLER") || "parentbased_always_on";
  const parentBased = name.startsWith("parentbased_");
  const kind = parentBased ? name.slice("parentbased_".length) : name;
  if (kind === "always_on" || kind === "always_off") return { kind, ratio: kind === "always_on" ? 1 : 0, parentBased };
  if (kind === "traceidratio") return { kind, ratio: number(env, "OTEL_TRACES_SAMPLER_ARG", 1, 0, 1), parentBased };
  throw invalid(
    env,
    "OTEL_TRACES_SAMPLER",
    "always_on, always_off, traceidratio, each also with parentbased_ before it",
  );
}

function batchOf(env: Env, prefix: string, delayMs: number): BatchLimits {
  const queueMax = number(env, `${prefix}_MAX_QUEUE_SIZE`, 2_048, 1, 1_000_000);
  return {
    queueMax,
    batchMax: Math.min(queueMax, number(env, `${prefix}_MAX_EXPORT_BATCH_SIZE`, 512, 1, 1_000_000)),
    delayMs: number(env, `${prefix}_SCHEDULE_DELAY`, delayMs, 1, 3_600_000),
    timeoutMs: number(env, `${prefix}_EXPORT_TIMEOUT`, 30_000, 1, 3_600_000),
  };
}

function resourceOf(env: Env): Record<string, string> {
  const attributes = pairs(env, "OTEL_RESOURCE_ATTRIBUTES");
  const serviceName = text(env, "OTEL_SERVICE_NAME");
  if (serviceName !== "") attributes["service.name"] = serviceName;
  return attributes;
}

function text(env: Env, name: string): string {
  return (env[name] ?? "").trim();
}

function number(env: Env, name: string, fallback: number, min: number, max: number): number {
  const value = text(env, name);
  if (value === "") return fallback;
  const parsed = Number(value);
  if (!(parsed >= min && parsed <= max)) throw invalid(env, name, `a number in ${min}..${max}`);
  return parsed;
}

/** "key=value,key=value", values percent-encoded. */
function pairs(env: Env, name: string): Record<string, string> {
  const result: Record<string, string> = {};
  for (const pair of text(env, name).split(",")) {
    if (pair.trim() === "") continue;
    const at = pair.indexOf("=");
    if (at <= 0) throw invalid(env, name, "key=value pairs with commas between them");
    const value = pair.slice(at + 1).trim();
    try {
      result[pair.slice(0, at).trim()] = decodeURIComponent(value);
    } catch {
      throw invalid(env, name, "key=value pairs whose values are percent-encoded");
    }
  }
  return result;
}

function invalid(env: Env, name: string, wanted: string): KithError {
  // Headers may hold credentials: their value is not repeated.
  const shown = name.endsWith("HEADERS") ? "" : ` is "${text(env, name).slice(0, 80)}"; it`;
  return new KithError("INVALID_CONFIG", `the environment variable ${name}${shown} must be ${wanted}`, {
    details: { variable: name },
  });
}
