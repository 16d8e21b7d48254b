import { readFileSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { KithError } from "../base/index.js";

const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, "use 1..64 letters, digits, _ and -, beginning with a letter or digit");
const port = z.number().int().min(0).max(65_535);
const file = z.string().min(1);

export const roles = ["router", "shard", "coordinator"] as const;
export type Role = (typeof roles)[number];

const schema = z.strictObject({
  cluster: z
    .string()
    .regex(/^[A-Za-z0-9-]{1,32}$/, "use 1..32 letters, digits and -")
    .default("kith")
    .describe("Name of the cluster; part of the names of streams and buckets in NATS."),
  nodeId: name.describe(
    "Id of this process, unique in the cluster and the same after a restart (a StatefulSet's pod name).",
  ),
  roles: z.array(z.enum(roles)).min(1).describe("What this process does: router, shard, coordinator."),
  data: z
    .string()
    .min(1)
    .optional()
    .describe("Folder for LevelDB and index files. Required for the shard role and the embedded log."),
  zone: z
    .string()
    .max(64)
    .default("")
    .describe("Failure domain of this node; replicas of a shard go to different zones."),
  listen: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").describe("Address of the public gRPC service (router role)."),
      port: port.default(7700).describe("Its port; 0 picks a free one."),
    })
    .prefault({})
    .describe("Public gRPC service of the router role; port 0 picks a free one."),
  link: z
    .strictObject({
      host: z.string().min(1).default("127.0.0.1").describe("Address of the link service (shard role), for routers."),
      port: port.default(7710).describe("Its port; 0 picks a free one."),
      advertise: z.string().default("").describe("host:port by which routers reach this node; empty: the bound one."),
    })
    .prefault({})
    .describe("Link service of the shard role, for routers."),
  log: z
    .discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("embedded") }),
      z.strictObject({
        kind: z.literal("jetstream"),
        url: z.string().min(1).describe("NATS URLs, comma-separated."),
        replicas: z
          .union([z.literal(1), z.literal(3), z.literal(5)])
          .default(1)
          .describe("Copies of each log and of the catalog on the NATS servers."),
        credentials: file.optional().describe("NATS credentials file."),
        monitor: z
          .string()
          .min(1)
          .optional()
          .describe(
            "NATS monitoring URLs (http://host:8222), comma-separated; asked at start whether writes are fsynced.",
          ),
        allowUnsynced: z
          .boolean()
          .default(false)
          .describe("Accept servers that acknowledge before the fsync: a loss of power loses acknowledged writes."),
      }),
    ])
    .default({ kind: "embedded" })
    .describe("Where logs and catalog live: in this process (embedded) or on NATS (jetstream)."),
  tls: z
    .strictObject({
      certificate: file.describe("PEM certificate of both services."),
      key: file.describe("PEM key of the certificate."),
      ca: file
        .optional()
        .describe(
          "Authorities of the nodes' certificates, for the link; default: a self-signed certificate itself, else the system's.",
        ),
      clientCa: file.optional().describe("Clients, and other nodes, must have a certificate signed by it."),
    })
    .optional()
    .describe("TLS of both services, PEM files."),
  allowInsecure: z
    .boolean()
    .default(false)
    .describe("Listen beyond loopback without TLS. Only where the network itself is protected."),
  replicationFactor: z.number().int().min(1).max(7).default(1).describe("Replicas of a collection that asks for none."),
  searchThreads: z
    .number()
    .int()
    .min(0)
    .max(256)
    .default(0)
    .describe("Native search threads; 0: one per available core."),
  logLevel: z.enum(["debug", "info", "warn", "error"]).default("info").describe("Least severe level that is logged."),
  drainTimeoutMs: z
    .number()
    .int()
    .min(0)
    .max(600_000)
    .default(10_000)
    .describe("How long calls in flight may take at shutdown."),
});

export type NodeConfig = z.output<typeof schema>;

const loopback = /^(localhost|127\.\d+\.\d+\.\d+|::1)$/;
/** 0.0.0.0, :: and their other spellings: every address of the machine. */
const wildcard = /^[0:.[\]]+$/;

/**
 * The configuration of a node from its layers, later ones win: file, environment, flags. Unknown keys and unsafe settings are
 * INVALID_CONFIG, with a message that says what to do.
 */
export function loadNodeConfig(layers: {
  file?: string;
  env?: Record<string, string | undefined>;
  flags?: object;
}): NodeConfig {
  // The upper layers first: a part of the log (its replicas) must not be lost to a lower layer of another kind.
  const upper = merge(envLayer(layers.env ?? {}), layers.flags ?? {});
  const merged = merge(layers.file ? readConfigFile(layers.file) : {}, upper);
  const parsed = schema.safeParse(merged);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => problemOf(issue, merged));
    throw new KithError("INVALID_CONFIG", `the configuration is not valid: ${problems.join("; ")}`);
  }
  const config = parsed.data;
  if (config.data !== undefined && !isAbsolute(config.data)) config.data = resolve(config.data);
  refuseUnsafe(config);
  return config;
}

/** Flags of `kith start` for the settings that may be missing. */
const flagOf: Record<string, string> = {
  nodeId: "--node-id",
  roles: "--roles",
  "log.kind": "--nats",
  "log.url": "--nats",
  "tls.certificate": "--tls-cert",
  "tls.key": "--tls-key",
};

function problemOf(issue: { path: PropertyKey[]; message: string }, settings: object): string {
  const setting = issue.path.join(".");
  const flag = flagOf[setting];
  const value = issue.path.reduce<unknown>(
    (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
    settings,
  );
  if (flag === undefined || value !== undefined) return `${setting || "(top level)"}: ${issue.message}`;
  // What there is of the log is for NATS: an embedded one has no settings.
  const missing = setting === "log.kind" ? "log.url" : setting;
  return `${missing} is missing: give it with ${flag} (${variableOf(missing)}, or ${missing} in the file)`;
}

function refuseUnsafe(config: NodeConfig): void {
  const has = (role: Role): boolean => config.roles.includes(role);
  const refuse = (message: string): never => {
    throw new KithError("INVALID_CONFIG", message);
  };
  if (config.data === undefined && has("shard"))
    refuse("the shard role keeps data: say where with --data (KITH_DATA, data)");
  if (config.log.kind === "embedded") {
    if (config.data === undefined)
      refuse("the embedded log keeps data: say where with --data (KITH_DATA, data), or use NATS with --nats");
    for (const role of roles) {
      if (!has(role)) {
        refuse(
          `the embedded log lives inside one process, which must have every role, and ${role} is missing: add it, or use NATS with --nats (KITH_NATS_URL)`,
        );
      }
    }
    if (config.replicationFactor > 1) {
      refuse(
        `one process cannot hold ${config.replicationFactor} replicas: use NATS (--nats) and several shard nodes, or a replication factor of 1`,
      );
    }
  }
  if (
    has("shard") &&
    config.log.kind === "jetstream" &&
    wildcard.test(config.link.host) &&
    config.link.advertise === ""
  ) {
    refuse(
      `link.host ${config.link.host} means every address of this machine, so routers cannot tell where this node is: say it with --advertise host:port (KITH_LINK_ADVERTISE, link.advertise)`,
    );
  }
  if (config.tls === undefined && !config.allowInsecure) {
    const exposed = [
      ...(has("router") && !loopback.test(config.listen.host) ? [`listen.host ${config.listen.host}`] : []),
      ...(has("shard") && config.log.kind === "jetstream" && !loopback.test(config.link.host)
        ? [`link.host ${config.link.host}`]
        : []),
    ];
    if (exposed.length > 0) {
      refuse(
        `${exposed.join(" and ")} can be reached from other machines, and there is no TLS: give tls.certificate and tls.key, or say --allow-insecure where the network itself is protected`,
      );
    }
  }
}

function readConfigFile(path: string): object {
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
    const value: unknown = parseYaml(text);
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
  KITH_LOG_LEVEL: { path: ["logLevel"], parse: String },
  KITH_DRAIN_TIMEOUT_MS: { path: ["drainTimeoutMs"], parse: Number },
};

function isTrue(text: string): boolean {
  return text === "1" || text === "true";
}

function variableOf(setting: string): string {
  return Object.entries(envSettings).find(([, { path }]) => path.join(".") === setting)?.[0] ?? "";
}

function envLayer(env: Record<string, string | undefined>): object {
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
function merge(base: object, over: object): object {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    if (!isPlain(value)) {
      result[key] = value;
      continue;
    }
    const before = result[key];
    const kinds = isPlain(before) ? [before["kind"], value["kind"]] : [];
    const kindChanged = kinds[0] !== kinds[1] && !kinds.includes(undefined);
    const merged = merge(isPlain(before) && !kindChanged ? before : {}, value);
    // Nothing but undefined values is nothing.
    if (Object.keys(merged).length > 0 || Object.keys(value).length === 0) result[key] = merged;
  }
  return result;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Every setting with its environment variable, default and meaning, for docs/configuration.md. */
export function describeSettings(): { setting: string; variable: string; default: string; meaning: string }[] {
  const json = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as JsonSchema;
  return flatten(json, []).map(({ path, node }) => ({
    setting: path.join("."),
    variable: variableOf(path.join(".")),
    default: node.default === undefined ? "" : JSON.stringify(node.default),
    meaning: node.description ?? "",
  }));
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  /** Objects that differ in their `kind`. */
  oneOf?: JsonSchema[];
  default?: unknown;
  description?: string;
}

function flatten(node: JsonSchema, path: string[]): { path: string[]; node: JsonSchema }[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const below = [...path, key];
    if (child.oneOf?.[0]?.properties === undefined)
      return child.properties ? flatten(child, below) : [{ path: below, node: child }];
    const kind = { ...child, default: (child.default as { kind: string }).kind };
    const variants = child.oneOf.flatMap((variant) => flatten(variant, below));
    return [{ path: [...below, "kind"], node: kind }, ...variants.filter((each) => each.path.at(-1) !== "kind")];
  });
}
