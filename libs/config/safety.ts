import { isIPv6 } from "node:net";
import { KithError } from "../base/index.js";
import { type NodeConfig, type Role, roles } from "./schema.js";

/** In all spellings of IPv6 too. */
export function isLoopback(host: string): boolean {
  if (/^(localhost|127\.\d+\.\d+\.\d+)$/i.test(host)) return true;
  if (!isIPv6(host)) return false;
  return /^\[(::1|::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4})\]$/.test(new URL(`http://[${host.split("%")[0]}]`).hostname);
}

/** 0.0.0.0, :: and their other spellings: every address of the machine. */
const wildcard = /^[0:.[\]]+$/;

/** INVALID_CONFIG for settings that are valid one by one and together lose data or open it to the network. */
export function refuseUnsafe(config: NodeConfig): void {
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
  if (config.standby !== undefined && config.log.kind === "embedded")
    refuse("a standby cluster has a log of its own on NATS: say where with --nats (KITH_NATS_URL)");
  const { statefulSet } = config.kubernetes;
  if (statefulSet !== undefined && !isPodOf(statefulSet, config.nodeId)) {
    refuse(
      `nodeId (KITH_NODE_ID) is ${config.nodeId}, which is no pod of kubernetes.statefulSet (KITH_KUBERNETES_STATEFUL_SET) ${statefulSet}: use the name of the pod, such as ${statefulSet}-0`,
    );
  }
  refuseOpenTokens(config);
  if (config.link.secret !== undefined && config.link.secretFile !== undefined)
    refuse("link.secret and link.secretFile are both given; leave one of them out");
  const { key, keyFile, keyCommand } = config.encryption;
  if ([key, keyFile, keyCommand].filter((each) => each !== undefined).length > 1)
    refuse("of encryption.key, encryption.keyFile and encryption.keyCommand more than one is given; leave one of them");
  refuseExposed(config);
}

function isPodOf(statefulSet: string, nodeId: string): boolean {
  return nodeId.startsWith(`${statefulSet}-`) && /^\d+$/.test(nodeId.slice(statefulSet.length + 1));
}

/** INVALID_CONFIG where tokens could not be checked, or would be taken that are meant for others. */
function refuseOpenTokens({ auth: { tokens } }: NodeConfig): void {
  if (tokens === undefined) return;
  const { secretFile, keys, audience, tenantClaim, tenantPath } = tokens;
  const refuse = (message: string): never => {
    throw new KithError("INVALID_CONFIG", message);
  };
  if (secretFile === undefined && keys === undefined)
    refuse("auth.tokens says nothing to check tokens with: give auth.tokens.secretFile or auth.tokens.keys");
  if (keys !== undefined && audience === undefined)
    refuse("auth.tokens.audience is missing: who signs tokens by auth.tokens.keys may do so for others too");
  if ((tenantClaim === undefined) !== (tenantPath === undefined))
    refuse(
      "auth.tokens.tenantClaim and auth.tokens.tenantPath go together: the claim, and the field that is equal to it",
    );
  if (keys === undefined || !/^[a-z]+:\/\//i.test(keys)) return;
  const url = URL.canParse(keys) ? new URL(keys) : undefined;
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback(url.hostname.replace(/^\[|\]$/g, ""))))
    return;
  refuse(`auth.tokens.keys ${keys} is neither a file nor an https URL`);
}

/** Whether callers of the public service must say who they are. */
export function isAuthRequired({ auth }: Pick<NodeConfig, "auth">): boolean {
  const sources = [auth.adminKey, auth.adminKeyFile, auth.certificates, auth.tokens];
  return auth.required ?? sources.some((source) => source !== undefined);
}

/**
 * INVALID_CONFIG where a service without TLS, or a public one that asks nobody who it is, could be reached from other machines, and nobody has
 * said that this is meant.
 */
function refuseExposed(config: NodeConfig): void {
  if (config.allowInsecure) return;
  refuseUnasked(config);
  if (config.tls !== undefined) return refuseOpenLink(config);
  const { http, link, qdrant } = config;
  const exposed = [
    ...(config.roles.includes("router") && !isLoopback(config.listen.host)
      ? [`listen.host ${config.listen.host}`]
      : []),
    ...(http.port !== undefined && config.roles.includes("router") && !isLoopback(http.host)
      ? [`http.host ${http.host}`]
      : []),
    ...(hasQdrant(qdrant) && config.roles.includes("router") && !isLoopback(qdrant.host)
      ? [`qdrant.host ${qdrant.host}`]
      : []),
    ...(config.roles.includes("shard") && config.log.kind === "jetstream" && !isLoopback(link.host)
      ? [`link.host ${link.host}`]
      : []),
  ];
  if (exposed.length === 0) return;
  throw new KithError(
    "INVALID_CONFIG",
    `${exposed.join(" and ")} can be reached from other machines, and there is no TLS: give tls.certificate and tls.key, or say --allow-insecure where the network itself is protected`,
  );
}

/** INVALID_CONFIG where other machines reach the link, and nothing tells nodes from others. */
function refuseOpenLink({ roles: own, log, link, tls }: NodeConfig): void {
  if (!own.includes("shard") || log.kind !== "jetstream" || isLoopback(link.host)) return;
  if (hasSecret(link) || (tls?.linkCa ?? tls?.clientCa) !== undefined) return;
  throw new KithError(
    "INVALID_CONFIG",
    `link.host ${link.host} can be reached from other machines, and whoever reaches it could read and change everything: put a random secret into a file, the same for all nodes, and name it with link.secretFile (KITH_LINK_SECRET_FILE), or give tls.linkCa (KITH_TLS_LINK_CA); or say --allow-insecure where the network itself is protected`,
  );
}

function hasQdrant({ httpPort, grpcPort }: NodeConfig["qdrant"]): boolean {
  return httpPort !== undefined || grpcPort !== undefined;
}

function hasSecret({ secret, secretFile }: NodeConfig["link"]): boolean {
  return secret !== undefined || secretFile !== undefined;
}

/** A client certificate that is asked for says who calls. */
function refuseUnasked({ roles: own, listen, http, qdrant, tls, auth }: NodeConfig): void {
  const isHttpOpen = http.port !== undefined && !isLoopback(http.host);
  const isQdrantOpen = hasQdrant(qdrant) && !isLoopback(qdrant.host);
  if (!own.includes("router") || (isLoopback(listen.host) && !isHttpOpen && !isQdrantOpen)) return;
  if (tls?.clientCa !== undefined || isAuthRequired({ auth })) return;
  const openHttp = isHttpOpen ? `http.host ${http.host}` : `qdrant.host ${qdrant.host}`;
  const open = isLoopback(listen.host) ? openHttp : `listen.host ${listen.host}`;
  throw new KithError(
    "INVALID_CONFIG",
    `${open} can be reached from other machines, and callers need not say who they are: put a random key of an administrator into a file and name it with auth.adminKeyFile (KITH_AUTH_ADMIN_KEY_FILE), besides tls.certificate and tls.key; or say --allow-insecure where the network itself is protected`,
  );
}
