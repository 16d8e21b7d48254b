import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { KithError, type Runtime, sleep, toKithError, withTimeout } from "../../libs/base/index.js";
import { type Catalog, openEmbeddedCatalog, openNatsCatalog } from "../../libs/catalog/index.js";
import { collectionsView, FollowersView, NodesView, Operations } from "../../libs/cluster/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import { type Log, openEmbeddedLog, openJetStreamLog } from "../../libs/log/index.js";
import type { NatsTls } from "../../libs/nats/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import type { PrimaryCluster } from "../coordinator/index.js";
import type { Reloadable } from "./reload.js";

export interface Adapters {
  log: Log;
  catalog: Catalog;
  /** Where there is a connection to NATS: its credentials and certificates are taken as they are. */
  reloadable?: Reloadable;
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
export async function untilNatsAnswers<T>(
  ask: () => Promise<T>,
  { clock }: Runtime,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<T> {
  for (let isTold = false; ; ) {
    try {
      return await ask();
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
  const { url, replicas, monitor, allowUnsynced } = config.log;
  // What is wrong in the settings is said before NATS is waited for.
  for (const each of monitor === undefined ? [] : listOf(monitor)) jetStreamPage(each);
  let secrets = await natsSecrets(config);
  const link = await connectNats({
    ...runtime,
    servers: listOf(url),
    name: `kith-${config.nodeId}`,
    connectTimeoutMs: attemptMs,
    ...(signal && { signal }),
    ...(secrets.credentials && { credentials: () => secrets.credentials ?? new Uint8Array() }),
    ...(isTlsUrl(url) && { tls: () => secrets.tls }),
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
      reloadable: {
        async prepare(fresh) {
          const next = await natsSecrets(fresh);
          return () => {
            const isSame = (next.credentials ?? Buffer.alloc(0)).equals(secrets.credentials ?? Buffer.alloc(0));
            secrets = next;
            return isSame ? [] : ["log.credentials"];
          };
        },
      },
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

/**
 * The cluster that this one follows, by its NATS: nothing is made or changed there, but for the note of how far this cluster has come. Rejects where it
 * does not answer in time.
 */
export async function openPrimary(
  config: NodeConfig,
  runtime: Runtime,
  logger: Logger,
  signal: AbortSignal,
): Promise<PrimaryCluster> {
  const { standby } = config;
  if (standby === undefined) {
    throw new KithError("FAILED_PRECONDITION", "the settings of this node name no primary (standby.primary.url)");
  }
  const { url, cluster, credentials } = standby.primary;
  const { connectNats } = await import("../../libs/nats/index.js");
  const secrets = await natsSecrets(config, credentials);
  const nats = await connectNats({
    ...runtime,
    servers: listOf(url),
    name: `kith-standby-${config.nodeId}`,
    connectTimeoutMs: attemptMs,
    signal,
    ...(secrets.credentials && { credentials: () => secrets.credentials ?? new Uint8Array() }),
    ...(isTlsUrl(url) && { tls: () => secrets.tls }),
    onEvent: ({ level, message }) => logger[level](`the primary's NATS: ${message}`, { component: "nats" }),
  });
  const opened: { close(): Promise<void> }[] = [nats];
  const close = async (): Promise<void> => {
    for (const each of [...opened].reverse()) await each.close();
  };
  try {
    const log = await openJetStreamLog({ nats, cluster, ...runtime });
    opened.push(log);
    const catalog = await openNatsCatalog({ nats, cluster, isForeign: true, ...runtime });
    opened.push(catalog);
    const collections = collectionsView(catalog);
    const nodes = new NodesView(catalog, runtime.clock);
    const operations = new Operations(catalog, runtime.clock);
    const followers = new FollowersView(catalog, runtime.clock);
    opened.push(collections, nodes, operations, followers);
    const started = Promise.all([collections, nodes, operations, followers].map((view) => view.start(signal)));
    await withTimeout(runtime.clock, attemptMs, () => started, signal);
    return { collections, nodes, operations, followers, log, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Whether one of the URLs asks for TLS: then no server is spoken to without. */
function isTlsUrl(url: string): boolean {
  return listOf(url).some((each) => /^tls:/i.test(each));
}

/** By what NATS knows this node, and it NATS: for each connection as the files are by then. */
async function natsSecrets(
  { log, tls }: NodeConfig,
  credentials = log.kind === "jetstream" ? log.credentials : undefined,
): Promise<{ credentials: Buffer | undefined; tls: NatsTls }> {
  const read = (setting: string, path: string | undefined): Promise<Buffer | undefined> =>
    path === undefined ? Promise.resolve(undefined) : readSetting(setting, path);
  const [ca, cert, key] = await Promise.all([
    read("tls.ca", tls?.ca),
    read("tls.certificate", tls?.certificate),
    read("tls.key", tls?.key),
  ]);
  return {
    credentials: await read("log.credentials", credentials),
    tls: { ca: ca?.toString(), cert: cert?.toString(), key: key?.toString() },
  };
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
