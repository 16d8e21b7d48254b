import { KithError, toKithError } from "../base/index.js";

/**
 * When the server brings acknowledged messages to the disk: before it acknowledges ("always"), or at intervals, in
 * which case the loss of power can lose what was acknowledged within the last one.
 */
export type SyncSetting = { kind: "always" } | { kind: "interval"; intervalMs: number };

const timeoutMs = 3_000;

/**
 * Asks the server's monitoring port (such as http://host:8222), because clients are not told. INVALID_CONFIG when the
 * server has no JetStream, LOG_UNAVAILABLE when the port does not answer.
 */
export async function readSyncSetting(monitorUrl: string): Promise<SyncSetting> {
  const url = new URL("/jsz?config=true", monitorUrl);
  let body: unknown;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(timeoutMs) });
    body = await response.json();
  } catch (error) {
    throw new KithError(
      "LOG_UNAVAILABLE",
      `the NATS monitoring port ${url.origin} does not answer: ${toKithError(error).message}`,
      {
        cause: error,
      },
    );
  }
  const { config } = body as { config?: { sync_always?: boolean; sync_interval?: number } };
  if (config?.sync_interval === undefined && config?.sync_always === undefined) {
    throw new KithError(
      "INVALID_CONFIG",
      `the NATS server at ${url.origin} has no JetStream; enable it in its configuration`,
    );
  }
  if (config.sync_always === true) return { kind: "always" };
  return { kind: "interval", intervalMs: (config.sync_interval ?? 0) / 1e6 };
}
