import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../libs/base/testing.js";
import { connect, type ConnectOptions, type KithClient } from "../../libs/client/index.js";
import { type RunningNatsServer, startNatsServer } from "../../libs/nats-server/index.js";
import { testNatsBinary } from "../../libs/nats-server/testing.js";
import { NodeProcess } from "./child.js";
import type { ClusterSize, NodeNetwork, ProcessCluster } from "./cluster.js";
import { NatsServers } from "./nats-servers.js";
import { NetworkPiece } from "./proxy.js";
import { HeldDisk } from "./small-disk.js";
import { untilUp } from "./until-up.js";

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
/** The built program: scenarios run what users run. */
export const program = join(root, "dist", "services", "cli", "main.js");

export interface ProcessClusterOptions extends ClusterSize {
  shardNodes: number;
  replicas: number;
  /** More flags of every node. */
  flags?: readonly string[];
  /** More environment of every node. */
  env?: Record<string, string>;
  /** What a node's command begins with, given the folder of its data. */
  prefix?: (node: string, data: string) => readonly string[];
  /** Upper bound of what NATS stores; with one server. */
  natsStoreBytes?: number;
  /** The store of NATS lies on a disk of this size, which can be filled; with one server. */
  natsDiskMiB?: number;
  /** Servers of NATS, each log on all of them: 1 (default) or 3. */
  natsServers?: 1 | 3;
  /** Each node reaches NATS, and each shard node is reached by routers, through a piece of network that can be cut. */
  cuttable?: boolean;
  /** The built program; default: that of this checkout. */
  program?: string;
  /** Path of nats-server; default: that of the test run. */
  natsBinary?: string;
  /** How clients connect: TLS. */
  connect?: ConnectOptions;
}

/** Real processes: one nats-server, routers with the coordinator's role, and shard nodes; each may be killed with -9. */
export async function startProcesses(options: ProcessClusterOptions): Promise<ProcessCluster> {
  const main = options.program ?? program;
  if (!existsSync(main)) throw new Error(`${main} is missing: run "npm run build" before the scenarios`);
  const directory = mkdtempSync(join(tmpdir(), "kith-cluster-"));
  const natsLog = join(directory, "nats.log");
  const binary = options.natsBinary ?? testNatsBinary();
  const several =
    options.natsServers === 3
      ? await NatsServers.start(binary, join(directory, "nats"), options.natsServers)
      : undefined;
  const natsPort = await freePort();
  const natsDisk =
    options.natsDiskMiB === undefined
      ? undefined
      : await HeldDisk.mount(join(directory, "nats", "jetstream"), options.natsDiskMiB);
  const startNats = (storeBytes: number | undefined): Promise<RunningNatsServer> =>
    startNatsServer({
      binary: natsDisk?.programOf(binary) ?? binary,
      dataDirectory: join(directory, "nats"),
      port: natsPort,
      ...(storeBytes !== undefined && { maxStoreBytes: storeBytes }),
      log: (line) => appendFileSync(natsLog, `${line}\n`),
    });
  let nats = several === undefined ? await startNats(options.natsStoreBytes) : undefined;
  const single = (): RunningNatsServer => {
    if (nats === undefined) throw new Error("this cluster has several nats-servers: use natsServers");
    return nats;
  };
  const natsUrl = several?.url ?? single().url;
  const nodes = new Map<string, NodeProcess>();
  const env = nodeEnvironment(options.env);
  const dataOf = (id: string): string => join(directory, id);
  const network = new Map<string, NodeNetwork>();
  const add = async (id: string, roles: string, extra: readonly string[]): Promise<void> => {
    const data = dataOf(id);
    const own = network.get(id);
    const reached = own === undefined ? natsUrl : `nats://127.0.0.1:${own.nats.port}`;
    mkdirSync(data, { recursive: true });
    const command = [...(options.prefix?.(id, data) ?? []), process.execPath, main, "start", "--roles", roles];
    command.push(
      "--node-id",
      id,
      "--nats",
      reached,
      "--nats-replicas",
      String(several?.count ?? 1),
      "--data",
      data,
      "--replication-factor",
      String(options.replicas),
      ...extra,
      ...(options.flags ?? []),
    );
    nodes.set(id, new NodeProcess(id, command, env, join(directory, `${id}.log`)));
  };
  const shardNodes = Array.from({ length: options.shardNodes }, (_, i) => `shard-${i}`);
  const routers = Array.from({ length: options.routers ?? 1 }, (_, i) => `router-${i}`);
  const openNetwork = async (id: string, linkPort: number | undefined): Promise<void> => {
    const link = linkPort === undefined ? undefined : await NetworkPiece.open(0, "127.0.0.1", linkPort);
    network.set(id, { nats: await NetworkPiece.open(0, "127.0.0.1", natsPort), link });
  };
  for (const id of shardNodes) {
    const port = await freePort();
    if (options.cuttable === true) await openNetwork(id, port);
    const link = network.get(id)?.link;
    const advertised = link === undefined ? [] : ["--advertise", `127.0.0.1:${link.port}`];
    await add(id, "shard", ["--link-listen", `127.0.0.1:${port}`, ...advertised]);
  }
  const targets: string[] = [];
  for (const id of routers) {
    const target = `127.0.0.1:${await freePort()}`;
    targets.push(target);
    if (options.cuttable === true) await openNetwork(id, undefined);
    await add(id, "router,coordinator", ["--listen", target]);
  }
  const clients: KithClient[] = [];
  const onExit = (): void => {
    for (const node of nodes.values()) node.signal("SIGKILL");
    several?.killNow();
    void nats?.kill();
  };
  process.on("exit", onExit);

  let kept = false;
  const find = (id: string): NodeProcess => {
    const node = nodes.get(id);
    if (node === undefined) throw new Error(`there is no node ${id}`);
    return node;
  };
  const cluster: ProcessCluster = {
    driver: "processes",
    natsUrl,
    natsServers: several,
    get natsDisk() {
      if (natsDisk === undefined) throw new Error("the disk of NATS cannot be filled: use natsDiskMiB");
      return natsDisk.ballast;
    },
    networkOf(id) {
      const found = network.get(id);
      if (found === undefined) throw new Error(`the network of ${id} cannot be cut`);
      return found;
    },
    target: targets[0] as string,
    targets,
    routers,
    shardNodes,
    async connect({ router = 0, ...connectOptions } = {}) {
      const client = await connect(targets[router] ?? "", {
        connectTimeoutMs: 20_000,
        ...options.connect,
        ...connectOptions,
      });
      clients.push(client);
      return client;
    },
    kill: (id) => find(id).end("SIGKILL"),
    stop: (id) => find(id).end("SIGTERM"),
    start: async (id) => find(id).start(),
    signal: (id, signal) => find(id).signal(signal),
    ended: (id) => find(id).exited,
    pidOf: (id) => find(id).pid,
    dataOf,
    logOf: (id) => readFileSync(find(id).logFile, "utf8"),
    killNats: () => single().kill(),
    signalNats: (signal) => void process.kill(single().pid, signal),
    async startNats(storeBytes = options.natsStoreBytes) {
      nats = await startNats(storeBytes);
    },
    keep() {
      if (kept) return;
      kept = true;
      process.stderr.write(`logs and data of the cluster are kept in ${directory}\n`);
    },
    async close() {
      for (const client of clients) client.close();
      await Promise.all([...nodes.values()].map((node) => node.end("SIGTERM")));
      for (const { nats: toNats, link } of network.values()) {
        await toNats.close();
        await link?.close();
      }
      await nats?.kill();
      await several?.close();
      natsDisk?.close();
      process.off("exit", onExit);
      if (!kept) rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    for (const node of nodes.values()) node.start();
    for (const target of targets) await untilUp(target, nodes.size, options.connect);
  } catch (error) {
    cluster.keep();
    await cluster.close();
    throw error;
  }
  return cluster;
}

/** The environment without settings that would change what is tested. */
function nodeEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && !/^(KITH|OTEL)_/.test(entry[0]),
  );
  return { ...Object.fromEntries(inherited), ...extra };
}
