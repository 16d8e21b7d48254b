import { readTelemetryConfig } from "./otel-env.js";
import type { Telemetry, TelemetryOptions } from "./telemetry.js";

const off: Telemetry = {
  traces: false,
  metrics: false,
  onLogRecord: undefined,
  prometheusUrl: undefined,
  prometheusPage: undefined,
  reportTo: () => undefined,
  shutdown: () => Promise.resolve(),
};

/** OpenTelemetry's API is global to the process: several nodes in one process share what the first one started. */
let running: { telemetry: Promise<Telemetry>; users: number } | undefined;

/**
 * Starts what the OTEL_* variables ask for: OTLP (gRPC, HTTP) for traces, metrics and logs, a Prometheus endpoint for
 * metrics. Without any of them nothing is loaded: the SDK costs a start some 300 ms, and the process 10 MiB.
 */
export async function setupTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const config = readTelemetryConfig(options.env);
  if (config.traces === undefined && config.metrics === undefined && config.logs === undefined) return off;
  if (running === undefined) {
    const start = async (): Promise<Telemetry> => (await import("./otel-sdk.js")).startSdk(config, options);
    running = { telemetry: start(), users: 0 };
  }
  const mine = running;
  mine.users++;
  let telemetry: Telemetry;
  try {
    telemetry = await mine.telemetry;
  } catch (error) {
    if (running === mine) running = undefined;
    throw error;
  }
  let ended: Promise<void> | undefined;
  return {
    ...telemetry,
    shutdown: () => {
      ended ??= release(mine, telemetry);
      return ended;
    },
  };
}

async function release(mine: NonNullable<typeof running>, telemetry: Telemetry): Promise<void> {
  mine.users--;
  if (mine.users > 0) return;
  if (running === mine) running = undefined;
  await telemetry.shutdown();
}
