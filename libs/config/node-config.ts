import { isAbsolute, resolve } from "node:path";
import { KithError } from "../base/index.js";
import { envLayer, variableOf } from "./environment.js";
import { merge, readConfigFile } from "./layers.js";
import { refuseUnsafe } from "./safety.js";
import { type NodeConfig, settingsSchema } from "./schema.js";

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
  const parsed = settingsSchema().safeParse(merged);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => problemOf(issue, merged));
    throw new KithError("INVALID_CONFIG", `the configuration is not valid: ${problems.join("; ")}`);
  }
  const config = parsed.data;
  for (const address of [config.listen, config.http, config.qdrant, config.link, config.health]) {
    if (address !== undefined) address.host = bareHost(address.host);
  }
  if (config.data !== undefined && !isAbsolute(config.data)) config.data = resolve(config.data);
  refuseUnsafe(config);
  return config;
}

/** An IPv6 address without the brackets that it has beside a port. */
function bareHost(host: string): string {
  return /^\[(.*)\]$/.exec(host)?.[1] ?? host;
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

/** Never told. */
const secretSettings = ["auth.adminKey", "link.secret"];

function problemOf(issue: { path: PropertyKey[]; message: string }, settings: object): string {
  const setting = issue.path.join(".");
  const flag = flagOf[setting];
  const value = issue.path.reduce<unknown>(
    (at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key],
    settings,
  );
  if (value !== undefined && secretSettings.includes(setting))
    return `${setting} (${variableOf(setting)}): ${issue.message}`;
  if (value !== undefined && typeof value !== "object") {
    const variable = variableOf(setting);
    return `${setting}${variable === "" ? "" : ` (${variable})`} is ${JSON.stringify(value)}: ${issue.message}`;
  }
  if (flag === undefined || value !== undefined) return `${setting || "(top level)"}: ${issue.message}`;
  // What there is of the log is for NATS: an embedded one has no settings.
  const missing = setting === "log.kind" ? "log.url" : setting;
  return `${missing} is missing: give it with ${flag} (${variableOf(missing)}, or ${missing} in the file)`;
}
