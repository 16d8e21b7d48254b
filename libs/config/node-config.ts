import { isAbsolute, resolve } from "node:path";
import { type BaseIssue, safeParse } from "valibot";
import { getOwn, KithError } from "../base/index.js";
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
  const parsed = safeParse(settingsSchema, merged);
  if (!parsed.success) {
    const problems = parsed.issues.map((issue) => problemOf(issue, merged));
    throw new KithError("INVALID_CONFIG", `the configuration is not valid: ${problems.join("; ")}`);
  }
  const config = parsed.output;
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
const secretSettings = ["auth.adminKey", "encryption.key", "link.secret"];

function problemOf(issue: BaseIssue<unknown>, settings: object): string {
  const keys = (issue.path ?? []).map(({ key }) => String(key));
  const setting = keys.join(".");
  const flag = flagOf[setting];
  const value = keys.reduce<unknown>(
    (at, key) => (typeof at === "object" && at !== null ? getOwn(at as Record<string, unknown>, key) : undefined),
    settings,
  );
  const variable = variableOf(setting);
  const name = `${setting || "(top level)"}${variable === "" ? "" : ` (${variable})`}`;
  if (value !== undefined) {
    const shown = typeof value === "object" || secretSettings.includes(setting) ? "" : ` is ${JSON.stringify(value)}`;
    return `${name}${shown}: ${wantedBy(issue)}`;
  }
  if (flag === undefined) return `${name} is missing`;
  // What there is of the log is for NATS: an embedded one has no settings.
  const missing = setting === "log.kind" ? "log.url" : setting;
  return `${missing} is missing: give it with ${flag} (${variableOf(missing)}, or ${missing} in the file)`;
}

/** What a value must be. Never the value itself, which may be a secret. */
function wantedBy({ type, expected, message }: BaseIssue<unknown>): string {
  if (type === "strict_object" && expected === "never")
    return "there is no such setting; all are in docs/configuration.md";
  if (!message.startsWith("Invalid ")) return message;
  return `it must ${type.endsWith("_length") ? "have a length" : "be"} ${expected ?? `a valid ${type}`}`;
}
