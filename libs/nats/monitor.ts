import { get as getHttp } from "node:http";
import { get as getHttps } from "node:https";
import { type Clock, KithError, toKithError, withTimeout } from "../base/index.js";

/**
 * When the server brings acknowledged messages to the disk: before it acknowledges ("always"), or at intervals, in
 * which case the loss of power can lose what was acknowledged within the last one.
 */
export type SyncSetting = { kind: "always" } | { kind: "interval"; intervalMs: number };

const timeoutMs = 5_000;
/** The page is a few KiB. */
const bodyMaxBytes = 1024 * 1024;

/** The page of a monitoring port that tells of JetStream. INVALID_CONFIG for what is not the URL of one. */
export function jetStreamPage(monitorUrl: string): URL {
  // Of "host:8222" the host would be the scheme.
  if (/^https?:\/\//.test(monitorUrl) && URL.canParse(monitorUrl)) return new URL("/jsz?config=true", monitorUrl);
  throw new KithError(
    "INVALID_CONFIG",
    `${monitorUrl} is not the URL of a NATS monitoring port, such as http://host:8222`,
  );
}

/** Not fetch(): its parser is WebAssembly, whose compilation takes 36 MiB for a moment, of which 8 MiB stay. */
function getJson(url: URL, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const get = url.protocol === "https:" ? getHttps : getHttp;
    const request = get(url, { signal, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        sizeBytes += chunk.length;
        if (sizeBytes > bodyMaxBytes) response.destroy(new Error(`the answer is longer than ${bodyMaxBytes} bytes`));
      });
      response.on("error", reject);
      response.on("end", () => {
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString("utf8")));
        } catch (error) {
          reject(toKithError(error));
        }
      });
    });
    request.on("error", reject);
  });
}

/**
 * Asks the server's monitoring port (such as http://host:8222), because clients are not told. INVALID_CONFIG when the
 * server has no JetStream, LOG_UNAVAILABLE when the port does not answer.
 */
export async function readSyncSetting(monitorUrl: string, clock: Clock): Promise<SyncSetting> {
  const url = jetStreamPage(monitorUrl);
  let body: unknown;
  try {
    body = await withTimeout(clock, timeoutMs, (signal) => getJson(url, signal));
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

/**
 * Asks every monitoring port for its server's sync setting. INVALID_CONFIG for a server that acknowledges before the
 * fsync, unless `allowUnsynced`. Resolves with what the operator should know: ports that do not answer, which must not
 * keep a node from starting, and servers that are accepted as they are.
 */
export async function checkSync(
  monitorUrls: readonly string[],
  allowUnsynced: boolean,
  clock: Clock,
): Promise<string[]> {
  const warnings: string[] = [];
  for (const url of monitorUrls) {
    try {
      const setting = await readSyncSetting(url, clock);
      if (setting.kind === "always") continue;
      const fault = `the NATS server at ${url} syncs every ${setting.intervalMs / 1000} s: a loss of power loses writes that it has acknowledged`;
      if (!allowUnsynced) {
        throw new KithError(
          "INVALID_CONFIG",
          `${fault}. Set jetstream { sync_interval: always } in its configuration, or accept it by log.allowUnsynced (KITH_NATS_ALLOW_UNSYNCED)`,
          { details: { monitor: url, intervalMs: setting.intervalMs } },
        );
      }
      warnings.push(fault);
    } catch (thrown) {
      const error = toKithError(thrown);
      if (error.code !== "LOG_UNAVAILABLE") throw error;
      warnings.push(`${error.message}; whether every write is fsynced is not known`);
    }
  }
  return warnings;
}
