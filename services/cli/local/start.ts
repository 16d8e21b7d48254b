import { resolve } from "node:path";
import { Command, Option } from "commander";
import { loadNodeConfig, type NodeConfig, roles } from "../../../libs/config/index.js";
import type { RunningNode } from "../../node/index.js";
import { contextOf, type GlobalOptions } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { type Next, serve } from "./serve.js";
import { servedTls } from "./tls.js";
import { duration, whole } from "../values.js";

interface StartFlags {
  roles?: string;
  nodeId?: string;
  cluster?: string;
  config?: string;
  data?: string;
  zone?: string;
  listen?: string;
  httpListen?: string;
  linkListen?: string;
  advertise?: string;
  nats?: string;
  natsReplicas?: number;
  natsCredentials?: string;
  natsMonitor?: string;
  natsAllowUnsynced?: boolean;
  replicationFactor?: number;
  searchThreads?: number;
  clientCa?: string;
  allowInsecure?: boolean;
  logLevel?: string;
  drainTimeout?: number;
}

export function startCommand(io: Io): Command {
  return new Command("start")
    .description("run one node with the given roles, as containers do; NATS by URL")
    .option("--roles <list>", `comma-separated: ${roles.join(", ")} (KITH_ROLES)`)
    .option("--node-id <id>", "unique in the cluster, the same after a restart (KITH_NODE_ID)")
    .option("--cluster <name>", "name of the cluster (KITH_CLUSTER)")
    .option("--config <file>", "YAML file with the settings; the environment and flags win over it")
    .option("--data <folder>", "where the node keeps its data (KITH_DATA)")
    .option("--zone <zone>", "failure domain; replicas of a shard go to different zones (KITH_ZONE)")
    .option("--listen <host:port>", "public gRPC service of the router role (KITH_LISTEN_HOST, KITH_LISTEN_PORT)")
    .option("--http-listen <host:port>", "REST API of the router role (KITH_HTTP_HOST, KITH_HTTP_PORT); default: none")
    .option("--link-listen <host:port>", "service of the shard role, for routers (KITH_LINK_HOST, KITH_LINK_PORT)")
    .option(
      "--advertise <host:port>",
      "where routers reach this node (KITH_LINK_ADVERTISE; default: the bound address)",
    )
    .option("--nats <urls>", "NATS servers, comma-separated (KITH_NATS_URL); without it the log is embedded")
    .option("--nats-replicas <n>", "copies of each log on the NATS servers (KITH_NATS_REPLICAS)", whole(1, 5))
    .option("--nats-credentials <file>", "credentials file for NATS (KITH_NATS_CREDENTIALS)")
    .option(
      "--nats-monitor <urls>",
      "their monitoring ports, asked whether every write is fsynced (KITH_NATS_MONITOR_URL)",
    )
    .option(
      "--nats-allow-unsynced",
      "accept NATS servers that a loss of power can make lose acknowledged writes (KITH_NATS_ALLOW_UNSYNCED)",
    )
    .option(
      "--replication-factor <n>",
      "replicas of collections that ask for none (KITH_REPLICATION_FACTOR)",
      whole(1, 7),
    )
    .option("--search-threads <n>", "native search threads, 0: one per core (KITH_SEARCH_THREADS)", whole(0, 256))
    .option("--client-ca <file>", "clients must have a certificate signed by it (KITH_TLS_CLIENT_CA)")
    .option("--allow-insecure", "listen beyond this machine without TLS or without API keys (KITH_ALLOW_INSECURE)")
    .addOption(new Option("--log-level <level>", "KITH_LOG_LEVEL").choices(["debug", "info", "warn", "error"]))
    .option("--drain-timeout <time>", "how long calls in flight may take at shutdown", duration)
    .addHelpText(
      "after",
      `
With --tls-cert and --tls-key the node serves TLS (KITH_TLS_CERTIFICATE, KITH_TLS_KEY); --tls-ca names the authorities
that it trusts when it calls other nodes (KITH_TLS_CA). SIGHUP, unless from a terminal, and a change of the file of --config let it take
settings that can change while it runs (docs/configuration.md). SIGTERM and SIGINT shut the node down in good order; a second
signal ends it at once.

Examples:
  kith start --roles router,coordinator --node-id router-0 --nats nats://nats:4222 --listen 0.0.0.0:7700 --allow-insecure
  kith start --roles shard --node-id shard-0 --nats nats://nats:4222 --data /var/lib/kith --zone a
  kith start --config /etc/kith/kith.yaml`,
    )
    .action(async (flags: StartFlags, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const read = (): NodeConfig =>
        loadNodeConfig({
          ...(flags.config !== undefined && { file: resolve(io.cwd, flags.config) }),
          env: io.env,
          flags: layerOf(flags, context.globals, io.cwd),
        });
      const config = read();
      const onReady = async (node: RunningNode): Promise<Next> => {
        io.parent?.send({ kind: "ready", address: node.address });
        if (out.json)
          await out.record({ event: "ready", nodeId: config.nodeId, roles: config.roles, address: node.address });
        else if (io.parent === undefined) {
          await out.note(
            `${config.nodeId} (${config.roles.join(", ")}) is ready${node.address === "" ? "" : ` at ${node.address}`}`,
          );
        }
        return "stay";
      };
      await serve(context, config, onReady, read);
    });
}

/** The flags as settings; undefined ones do not count. */
function layerOf(flags: StartFlags, globals: GlobalOptions, cwd: string): object {
  const path = (file: string | undefined): string | undefined => (file === undefined ? undefined : resolve(cwd, file));
  return {
    roles: flags.roles?.split(",").map((role) => role.trim()),
    nodeId: flags.nodeId,
    cluster: flags.cluster,
    data: path(flags.data),
    zone: flags.zone,
    listen: flags.listen === undefined ? undefined : hostPort("--listen", flags.listen),
    http: flags.httpListen === undefined ? undefined : hostPort("--http-listen", flags.httpListen),
    link: {
      ...(flags.linkListen !== undefined && hostPort("--link-listen", flags.linkListen)),
      advertise: flags.advertise,
    },
    log: {
      kind: flags.nats === undefined ? undefined : "jetstream",
      url: flags.nats,
      replicas: flags.natsReplicas,
      credentials: path(flags.natsCredentials),
      monitor: flags.natsMonitor,
      allowUnsynced: flags.natsAllowUnsynced,
    },
    replicationFactor: flags.replicationFactor,
    searchThreads: flags.searchThreads,
    tls: servedTls(globals, flags.clientCa, cwd),
    allowInsecure: flags.allowInsecure,
    logLevel: flags.logLevel,
    drainTimeoutMs: flags.drainTimeout,
  };
}

export function hostPort(option: string, text: string): { host: string; port: number } {
  const match = /^(\[[^\]]+\]|[^:]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535)
    throw new UsageError(`${option} ${text} is not host:port, such as 127.0.0.1:7700`);
  return { host: match[1].replace(/^\[|\]$/g, ""), port };
}
