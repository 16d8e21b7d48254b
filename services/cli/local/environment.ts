import { join } from "node:path";
import type { Io } from "../io.js";
import { installationRoot } from "../version.js";

/** Where fetched programs are kept. */
export function cacheDirectory(io: Io): string {
  return io.env["KITH_CACHE"] || join(installationRoot, ".kith", "cache");
}

/** Who may call. */
export const authSettings = [
  "KITH_AUTH_REQUIRED",
  "KITH_AUTH_ADMIN_KEY",
  "KITH_AUTH_ADMIN_KEY_FILE",
  "KITH_AUTH_KEYS_STALE_MS",
  "KITH_AUTH_AUDIT_FILE",
  "KITH_AUTH_AUDIT_READ_SAMPLE",
  "KITH_AUTH_AUDIT_MAX_BYTES",
  "KITH_AUTH_AUDIT_FILES",
  "KITH_AUTH_TOKENS_SECRET_FILE",
  "KITH_AUTH_TOKENS_KEYS",
  "KITH_AUTH_TOKENS_ISSUER",
  "KITH_AUTH_TOKENS_AUDIENCE",
  "KITH_AUTH_TOKENS_ROLES_CLAIM",
  "KITH_AUTH_TOKENS_COLLECTIONS_CLAIM",
  "KITH_AUTH_TOKENS_TENANT_CLAIM",
  "KITH_AUTH_TOKENS_TENANT_PATH",
  "KITH_AUTH_TOKENS_CLOCK_SKEW_MS",
];

/** What tunes a process, and may be the same for all; and with what all of them encrypt. */
export const tuningSettings = [
  "KITH_ENCRYPTION_KEY",
  "KITH_ENCRYPTION_KEY_FILE",
  "KITH_ENCRYPTION_KEY_COMMAND",
  "KITH_SEARCH_THREADS",
  "KITH_LEVELDB_WRITE_BUFFER_BYTES",
  "KITH_LEVELDB_CACHE_BYTES",
  "KITH_PAYLOAD_CACHE_BYTES",
  "KITH_SLOW_QUERY_MS",
  "KITH_BACKUP_FOLDER",
  "KITH_BACKUP_S3_BUCKET",
  "KITH_BACKUP_S3_PREFIX",
  "KITH_BACKUP_S3_REGION",
  "KITH_BACKUP_S3_ENDPOINT",
  "KITH_BACKUP_S3_PATH_STYLE",
  "KITH_BACKUP_S3_ACCESS_KEY_ID",
  "KITH_BACKUP_S3_SECRET_ACCESS_KEY_FILE",
];

const externalNatsSettings = [
  "KITH_CLUSTER",
  "KITH_NATS_CREDENTIALS",
  "KITH_NATS_REPLICAS",
  "KITH_NATS_MONITOR_URL",
  "KITH_NATS_ALLOW_UNSYNCED",
];

/**
 * The settings in the environment that are for all nodes of `kith up`: those of a NATS that runs already, and what tunes a process. The
 * nodes are configured by flags alone else: settings for a single node would hit all of them.
 */
export function sharedSettings(io: Io, externalNats: boolean): Record<string, string | undefined> {
  const names = [...tuningSettings, ...(externalNats ? externalNatsSettings : [])];
  return Object.fromEntries(names.map((name) => [name, io.env[name]]));
}

/** What differs in the environment of the shard node with this number, from 1. */
export function childEnvironment(io: Io, number: number, externalNats: boolean): Record<string, string | undefined> {
  const settings = Object.keys(io.env).filter((name) => name.startsWith("KITH_"));
  // Each process serves its own metrics: the router at the given port, the shards at those after it.
  const prometheusPort = Number(io.env["OTEL_EXPORTER_PROMETHEUS_PORT"] || 9_464);
  return {
    ...Object.fromEntries(settings.map((name) => [name, undefined])),
    ...sharedSettings(io, externalNats),
    ...(prometheusPort > 0 && { OTEL_EXPORTER_PROMETHEUS_PORT: String(prometheusPort + number) }),
    // LevelDB calls run on libuv's threads; its default of four lets one slow compaction hold up the others.
    UV_THREADPOOL_SIZE: io.env["UV_THREADPOOL_SIZE"] ?? "8",
  };
}
