import { KithError } from "../base/index.js";
import { merge } from "./layers.js";

/** Environment variables and the settings they stand for. */
const envSettings: Record<
  string,
  { path: string[]; parse: (text: string, variable: string) => unknown; implies?: object }
> = {
  KITH_CLUSTER: { path: ["cluster"], parse: String },
  KITH_NODE_ID: { path: ["nodeId"], parse: String },
  KITH_ROLES: { path: ["roles"], parse: (text) => text.split(",").map((role) => role.trim()) },
  KITH_DATA: { path: ["data"], parse: String },
  KITH_ZONE: { path: ["zone"], parse: String },
  KITH_LISTEN_HOST: { path: ["listen", "host"], parse: String },
  KITH_LISTEN_PORT: { path: ["listen", "port"], parse: whole },
  KITH_HTTP_HOST: { path: ["http", "host"], parse: String },
  KITH_HTTP_PORT: { path: ["http", "port"], parse: whole },
  KITH_HTTP_CORS_ORIGINS: {
    path: ["http", "corsOrigins"],
    parse: (text) => text.split(",").map((each) => each.trim()),
  },
  KITH_QDRANT_HOST: { path: ["qdrant", "host"], parse: String },
  KITH_QDRANT_HTTP_PORT: { path: ["qdrant", "httpPort"], parse: whole },
  KITH_QDRANT_GRPC_PORT: { path: ["qdrant", "grpcPort"], parse: whole },
  KITH_LINK_HOST: { path: ["link", "host"], parse: String },
  KITH_LINK_PORT: { path: ["link", "port"], parse: whole },
  KITH_LINK_ADVERTISE: { path: ["link", "advertise"], parse: String },
  KITH_LINK_SECRET: { path: ["link", "secret"], parse: String },
  KITH_LINK_SECRET_FILE: { path: ["link", "secretFile"], parse: String },
  KITH_HEALTH_HOST: { path: ["health", "host"], parse: String },
  KITH_HEALTH_PORT: { path: ["health", "port"], parse: whole },
  KITH_NATS_URL: { path: ["log", "url"], parse: String, implies: { log: { kind: "jetstream" } } },
  KITH_NATS_REPLICAS: { path: ["log", "replicas"], parse: whole },
  KITH_NATS_CREDENTIALS: { path: ["log", "credentials"], parse: String },
  KITH_NATS_MONITOR_URL: { path: ["log", "monitor"], parse: String },
  KITH_NATS_ALLOW_UNSYNCED: { path: ["log", "allowUnsynced"], parse: truth },
  KITH_TLS_CERTIFICATE: { path: ["tls", "certificate"], parse: String },
  KITH_TLS_KEY: { path: ["tls", "key"], parse: String },
  KITH_TLS_CA: { path: ["tls", "ca"], parse: String },
  KITH_TLS_CLIENT_CA: { path: ["tls", "clientCa"], parse: String },
  KITH_TLS_LINK_CA: { path: ["tls", "linkCa"], parse: String },
  KITH_ALLOW_INSECURE: { path: ["allowInsecure"], parse: truth },
  KITH_AUTH_REQUIRED: { path: ["auth", "required"], parse: truth },
  KITH_AUTH_ADMIN_KEY: { path: ["auth", "adminKey"], parse: String },
  KITH_AUTH_ADMIN_KEY_FILE: { path: ["auth", "adminKeyFile"], parse: String },
  KITH_AUTH_KEYS_STALE_MS: { path: ["auth", "keysStaleMs"], parse: whole },
  KITH_AUTH_TOKENS_SECRET_FILE: { path: ["auth", "tokens", "secretFile"], parse: String },
  KITH_AUTH_TOKENS_KEYS: { path: ["auth", "tokens", "keys"], parse: String },
  KITH_AUTH_TOKENS_ISSUER: { path: ["auth", "tokens", "issuer"], parse: String },
  KITH_AUTH_TOKENS_AUDIENCE: { path: ["auth", "tokens", "audience"], parse: String },
  KITH_AUTH_TOKENS_ROLES_CLAIM: { path: ["auth", "tokens", "rolesClaim"], parse: String },
  KITH_AUTH_TOKENS_COLLECTIONS_CLAIM: { path: ["auth", "tokens", "collectionsClaim"], parse: String },
  KITH_AUTH_TOKENS_TENANT_CLAIM: { path: ["auth", "tokens", "tenantClaim"], parse: String },
  KITH_AUTH_TOKENS_TENANT_PATH: { path: ["auth", "tokens", "tenantPath"], parse: String },
  KITH_AUTH_TOKENS_CLOCK_SKEW_MS: { path: ["auth", "tokens", "clockSkewMs"], parse: whole },
  KITH_AUTH_AUDIT_FILE: { path: ["auth", "audit", "file"], parse: String },
  KITH_AUTH_AUDIT_READ_SAMPLE: { path: ["auth", "audit", "readSample"], parse: share },
  KITH_AUTH_AUDIT_MAX_BYTES: { path: ["auth", "audit", "maxBytes"], parse: whole },
  KITH_AUTH_AUDIT_FILES: { path: ["auth", "audit", "files"], parse: whole },
  KITH_ENCRYPTION_KEY: { path: ["encryption", "key"], parse: String },
  KITH_ENCRYPTION_KEY_FILE: { path: ["encryption", "keyFile"], parse: String },
  KITH_ENCRYPTION_KEY_COMMAND: { path: ["encryption", "keyCommand"], parse: String },
  KITH_REPLICATION_FACTOR: { path: ["replicationFactor"], parse: whole },
  KITH_SEARCH_THREADS: { path: ["searchThreads"], parse: whole },
  KITH_LEVELDB_WRITE_BUFFER_BYTES: { path: ["leveldb", "writeBufferBytes"], parse: whole },
  KITH_LEVELDB_CACHE_BYTES: { path: ["leveldb", "cacheBytes"], parse: whole },
  KITH_PAYLOAD_CACHE_BYTES: { path: ["payloadCacheBytes"], parse: whole },
  KITH_ANSWER_CACHE_BYTES: { path: ["answerCacheBytes"], parse: whole },
  KITH_BACKUP_FOLDER: { path: ["backup", "folder"], parse: String },
  KITH_BACKUP_S3_BUCKET: { path: ["backup", "s3", "bucket"], parse: String },
  KITH_BACKUP_S3_PREFIX: { path: ["backup", "s3", "prefix"], parse: String },
  KITH_BACKUP_S3_REGION: { path: ["backup", "s3", "region"], parse: String },
  KITH_BACKUP_S3_ENDPOINT: { path: ["backup", "s3", "endpoint"], parse: String },
  KITH_BACKUP_S3_PATH_STYLE: { path: ["backup", "s3", "pathStyle"], parse: truth },
  KITH_BACKUP_S3_ACCESS_KEY_ID: { path: ["backup", "s3", "accessKeyId"], parse: String },
  KITH_BACKUP_S3_SECRET_ACCESS_KEY_FILE: { path: ["backup", "s3", "secretAccessKeyFile"], parse: String },
  KITH_LOG_LEVEL: { path: ["logLevel"], parse: String },
  KITH_TRACE_SAMPLE: { path: ["traceSample"], parse: share },
  KITH_SLOW_QUERY_MS: { path: ["slowQueryMs"], parse: whole },
  KITH_DRAIN_TIMEOUT_MS: { path: ["drainTimeoutMs"], parse: whole },
  KITH_STANDBY_PRIMARY_URL: { path: ["standby", "primary", "url"], parse: String },
  KITH_STANDBY_PRIMARY_CLUSTER: { path: ["standby", "primary", "cluster"], parse: String },
  KITH_STANDBY_PRIMARY_CREDENTIALS: { path: ["standby", "primary", "credentials"], parse: String },
  KITH_DRAIN_ON_STOP_MS: { path: ["drainOnStopMs"], parse: whole },
  KITH_WAIT_FOR_SHARDS: { path: ["waitForShards"], parse: truth },
  KITH_KUBERNETES_STATEFUL_SET: { path: ["kubernetes", "statefulSet"], parse: String },
  KITH_KUBERNETES_NODE_NAME: { path: ["kubernetes", "nodeName"], parse: String },
  KITH_KUBERNETES_SERVICE_ACCOUNT: { path: ["kubernetes", "serviceAccount"], parse: String },
};

export function variableOf(setting: string): string {
  return Object.entries(envSettings).find(([, { path }]) => path.join(".") === setting)?.[0] ?? "";
}

/** Of the program, not of a node. */
const otherVariables = ["KITH_TARGET", "KITH_API_KEY", "KITH_CACHE", "KITH_STATE_DIR"];

/**
 * What Kubernetes puts into the environment of every pod for a service whose name begins with "kith": KITH_SERVICE_HOST,
 * KITH_ROUTER_SERVICE_PORT_GRPC, KITH_ROUTER_PORT_7700_TCP_ADDR, and KITH_LINK_PORT=tcp://10.0.0.7:7710 as if it were a setting.
 */
const injectedName = /_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?$/;
const injectedValue = /^(tcp|udp|sctp):\/\//;

function isInjected(variable: string, text: string): boolean {
  return injectedName.test(variable) || (variable.endsWith("_PORT") && injectedValue.test(text));
}

function invalid(variable: string, text: string, wanted: string): KithError {
  return new KithError("INVALID_CONFIG", `${variable} is ${JSON.stringify(text)}; it must be ${wanted}`, {
    details: { variable, value: text },
  });
}

function whole(text: string, variable: string): number {
  if (/^\s*\d+\s*$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text);
  throw invalid(variable, text, "a whole number");
}

function share(text: string, variable: string): number {
  if (/^\s*(\d+\.?\d*|\.\d+)\s*$/.test(text)) return Number(text);
  throw invalid(variable, text, "a number from 0 to 1");
}

function truth(text: string, variable: string): boolean {
  const word = text.trim().toLowerCase();
  if (["true", "1", "yes", "on"].includes(word)) return true;
  if (["false", "0", "no", "off"].includes(word)) return false;
  throw invalid(variable, text, "true or false");
}

/** The settings of the environment. INVALID_CONFIG names the variable and its value; one that is empty counts as missing. */
export function envLayer(env: Record<string, string | undefined>): object {
  refuseUnknown(env);
  let layer: object = {};
  for (const [variable, { path, parse, implies = {} }] of Object.entries(envSettings)) {
    const text = env[variable];
    if (text === undefined || text === "" || isInjected(variable, text)) continue;
    if (text.trim() === "") throw invalid(variable, text, "a value, or left out");
    layer = merge(
      layer,
      path.reduceRight<unknown>((value, key) => ({ [key]: value }), parse(text, variable)) as object,
    );
    layer = merge(layer, implies);
  }
  return layer;
}

/** A variable that nobody reads would leave a setting at its default without a word. */
function refuseUnknown(env: Record<string, string | undefined>): void {
  const unknown = Object.entries(env).flatMap(([variable, text = ""]) => {
    const isKnown = Object.hasOwn(envSettings, variable) || otherVariables.includes(variable);
    return variable.startsWith("KITH_") && text !== "" && !isKnown && !isInjected(variable, text) ? [variable] : [];
  });
  if (unknown.length === 0) return;
  const near = unknown.map((variable) => {
    const like = Object.keys(envSettings).find((known) => known.replaceAll("_", "") === variable.replaceAll("_", ""));
    return like === undefined ? variable : `${variable} (${like}?)`;
  });
  throw new KithError(
    "INVALID_CONFIG",
    `the environment has ${near.join(", ")}, which no setting has as its variable: correct the name, or take it out; all are in docs/configuration.md`,
    { details: { variables: unknown.join(",") } },
  );
}
