import { isAbsolute, resolve } from "node:path";
import { KithError } from "../base/index.js";
import { envLayer, merge, readConfigFile, variableOf } from "./layers.js";
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
