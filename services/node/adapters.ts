import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { KithError, type Runtime, sleep, toKithError } from "../../libs/base/index.js";
import { type Catalog, openEmbeddedCatalog, openNatsCatalog } from "../../libs/catalog/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import { type Log, openEmbeddedLog, openJetStreamLog } from "../../libs/log/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

export interface Adapters {
  log: Log;
  catalog: Catalog;
  close(): Promise<void>;
}

/** The adapters behind the two ports: embedded, or NATS on one shared connection. */
export async function openAdapters(
  config: NodeConfig,
  runtime: Runtime,
  logger: Logger,
  signal?: AbortSignal,
): Promise<Adapters> {
  if (config.log.kind === "embedded") {
    const data = config.data as string;
    const log = await openEmbeddedLog({
      directory: join(data, "log"),
      writeBufferBytes: config.leveldb.writeBufferBytes,
      ...runtime,
    });
    const catalog = await openEmbeddedCatalog({ directory: join(data, "catalog"), ...runtime });
    return {
      log,
      catalog,
      async close() {
        await catalog.close();
        await log.close();
      },
    };
  }
  return untilNatsAnswers(() => openNats(config, runtime, logger, signal), runtime, logger, signal);
}

/** One attempt to find NATS, in milliseconds, and the pause before the next one. */
const attemptMs = 5_000;
const attemptPauseMs = 500;

/** A node that starts before NATS waits for it: whoever restarts it could do nothing better. Said once. */
async function untilNatsAnswers(
  open: () => Promise<Adapters>,
  { clock }: Runtime,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<Adapters> {
  for (let isTold = false; ; ) {
    try {
      return await open();
    } catch (error) {
      const { code, message } = toKithError(error);
      if (code !== "LOG_UNAVAILABLE" && code !== "CATALOG_UNAVAILABLE") throw error;
      if (!isTold) logger.warn(`${message}; this node waits until NATS answers, and says no more of it`, { code });
      isTold = true;
      await sleep(clock, attemptPauseMs, signal);
    }
  }
}

async function openNats(
  config: NodeConfig,
  runtime: Runtime,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<Adapters> {
  if (config.log.kind !== "jetstream") throw new KithError("INVALID_CONFIG", "the log is not on NATS");
  const { checkSync, connectNats, jetStreamPage } = await import("../../libs/nats/index.js");
  const { url, replicas, credentials, monitor, allowUnsynced } = config.log;
  // What is wrong in the settings is said before NATS is waited for.
  for (const each of monitor === undefined ? [] : listOf(monitor)) jetStreamPage(each);
  const link = await connectNats({
    ...runtime,
    servers: listOf(url),
    name: `kith-${config.nodeId}`,
    connectTimeoutMs: attemptMs,
    ...(signal && { signal }),
    ...(credentials && { credentials: await readSetting("log.credentials", credentials) }),
    onEvent: ({ level, message }) => logger[level](message, { component: "nats" }),
  });
  try {
    if (monitor === undefined) {
      logger.warn(
        "whether NATS fsyncs every write is not known, because clients are not told: see that its servers have sync_interval: always, or name their monitoring ports in log.monitor (KITH_NATS_MONITOR_URL)",
      );
    } else {
      for (const warning of await checkSync(listOf(monitor), allowUnsynced, runtime.clock)) logger.warn(warning);
    }
    const log = await openJetStreamLog({ nats: link, cluster: config.cluster, replicas, ...runtime });
    const catalog = await openNatsCatalog({ nats: link, cluster: config.cluster, replicas, ...runtime });
    return {
      log,
      catalog,
      async close() {
        await catalog.close();
        await log.close();
        await link.close();
      },
    };
  } catch (error) {
    await link.close();
    throw error;
  }
}

/** The file that a setting names; INVALID_CONFIG where it cannot be read. */
export async function readSetting(setting: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new KithError("INVALID_CONFIG", `${setting} ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function listOf(text: string): string[] {
  return text.split(",").map((each) => each.trim());
}
