import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { parse } from "yaml";
import { getOwn, KithError, setOwn } from "../base/index.js";

/** The settings of a YAML file. */
export function readConfigFile(path: string): object {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new KithError(
      "INVALID_CONFIG",
      `the configuration file ${path} cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
  try {
    const yaml = createRequire(import.meta.url)("yaml") as { parse: typeof parse };
    const value: unknown = yaml.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch (cause) {
    throw new KithError("INVALID_CONFIG", `${path} is not YAML: ${(cause as Error).message}`, { cause });
  }
  throw new KithError("INVALID_CONFIG", `${path} must hold settings by name`);
}

/** Environment variables and the settings they stand for. */
const envSettings: Record<string, { path: string[]; parse: (text: string) => unknown; implies?: object }> = {
  KITH_CLUSTER: { path: ["cluster"], parse: String },
  KITH_NODE_ID: { path: ["nodeId"], parse: String },
  KITH_ROLES: { path: ["roles"], parse: (text) => text.split(",").map((role) => role.trim()) },
  KITH_DATA: { path: ["data"], parse: String },
  KITH_ZONE: { path: ["zone"], parse: String },
  KITH_LISTEN_HOST: { path: ["listen", "host"], parse: String },
  KITH_LISTEN_PORT: { path: ["listen", "port"], parse: Number },
  KITH_LINK_HOST: { path: ["link", "host"], parse: String },
  KITH_LINK_PORT: { path: ["link", "port"], parse: Number },
  KITH_LINK_ADVERTISE: { path: ["link", "advertise"], parse: String },
  KITH_NATS_URL: { path: ["log", "url"], parse: String, implies: { log: { kind: "jetstream" } } },
  KITH_NATS_REPLICAS: { path: ["log", "replicas"], parse: Number },
  KITH_NATS_CREDENTIALS: { path: ["log", "credentials"], parse: String },
  KITH_NATS_MONITOR_URL: { path: ["log", "monitor"], parse: String },
  KITH_NATS_ALLOW_UNSYNCED: { path: ["log", "allowUnsynced"], parse: isTrue },
  KITH_TLS_CERTIFICATE: { path: ["tls", "certificate"], parse: String },
  KITH_TLS_KEY: { path: ["tls", "key"], parse: String },
  KITH_TLS_CA: { path: ["tls", "ca"], parse: String },
  KITH_TLS_CLIENT_CA: { path: ["tls", "clientCa"], parse: String },
  KITH_ALLOW_INSECURE: { path: ["allowInsecure"], parse: isTrue },
  KITH_REPLICATION_FACTOR: { path: ["replicationFactor"], parse: Number },
  KITH_SEARCH_THREADS: { path: ["searchThreads"], parse: Number },
  KITH_LEVELDB_WRITE_BUFFER_BYTES: { path: ["leveldb", "writeBufferBytes"], parse: Number },
  KITH_LEVELDB_CACHE_BYTES: { path: ["leveldb", "cacheBytes"], parse: Number },
  KITH_PAYLOAD_CACHE_BYTES: { path: ["payloadCacheBytes"], parse: Number },
  KITH_LOG_LEVEL: { path: ["logLevel"], parse: String },
  KITH_DRAIN_TIMEOUT_MS: { path: ["drainTimeoutMs"], parse: Number },
};

function isTrue(text: string): boolean {
  return text === "1" || text === "true";
}

export function variableOf(setting: string): string {
  return Object.entries(envSettings).find(([, { path }]) => path.join(".") === setting)?.[0] ?? "";
}

export function envLayer(env: Record<string, string | undefined>): object {
  let layer: object = {};
  for (const [variable, { path, parse, implies = {} }] of Object.entries(envSettings)) {
    const text = env[variable];
    if (text === undefined || text === "") continue;
    layer = merge(layer, path.reduceRight<unknown>((value, key) => ({ [key]: value }), parse(text)) as object);
    layer = merge(layer, implies);
  }
  return layer;
}

/** Values of `over` win, folder by folder; undefined values do not count; another `kind` replaces the whole. */
export function merge(base: object, over: object): object {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    if (!isPlain(value)) {
      setOwn(result, key, value);
      continue;
    }
    const before = getOwn(result, key);
    const kinds = isPlain(before) ? [before["kind"], value["kind"]] : [];
    const kindChanged = kinds[0] !== kinds[1] && !kinds.includes(undefined);
    const merged = merge(isPlain(before) && !kindChanged ? before : {}, value);
    // Nothing but undefined values is nothing.
    if (Object.keys(merged).length > 0 || Object.keys(value).length === 0) setOwn(result, key, merged);
  }
  return result;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
