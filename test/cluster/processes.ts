import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connect, type KithClient } from "../../libs/client/index.js";
import { testNatsServer } from "../../libs/nats-server/testing.js";
import type { NatsCluster } from "./cluster.js";
import { eventually } from "./eventually.js";

const root = join(fileURLToPath(import.meta.url), "..", "..", "..");
const program = join(root, "dist", "services", "cli", "main.js");

interface NodeProcess {
  id: string;
  args: string[];
  child: ChildProcess | undefined;
  exited: Promise<void>;
}

export interface ProcessClusterOptions {
  shardNodes: number;
  replicas: number;
}

/** Real processes: one nats-server, one router with the coordinator, and shard nodes; each may be killed with -9. */
export async function startProcesses(options: ProcessClusterOptions): Promise<NatsCluster> {
  if (!existsSync(program)) throw new Error(`${program} is missing: run "npm run build" before the scenarios`);
  const directory = mkdtempSync(join(tmpdir(), "kith-cluster-"));
  const nats = await testNatsServer();
  const port = await freePort();
  const nodes = new Map<string, NodeProcess>();
  const add = async (id: string, roles: string, extra: string[]): Promise<void> => {
    const data = join(directory, id);
    mkdirSync(data, { recursive: true });
    const linkPort = await freePort();
    const args = ["start", "--roles", roles, "--node-id", id, "--nats", nats.url, "--data", data];
    args.push("--link-listen", `127.0.0.1:${linkPort}`, "--replication-factor", String(options.replicas), ...extra);
    nodes.set(id, { id, args, child: undefined, exited: Promise.resolve() });
  };
  const shardNodes = Array.from({ length: options.shardNodes }, (_, i) => `shard-${i}`);
  for (const id of shardNodes) await add(id, "shard", []);
  await add("router-0", "router,coordinator", ["--listen", `127.0.0.1:${port}`]);
  const clients: KithClient[] = [];
  const target = `127.0.0.1:${port}`;

  const start = async (id: string): Promise<void> => {
    const node = find(nodes, id);
    const log = createWriteStream(join(directory, `${id}.log`), { flags: "a" });
    const child = spawn(process.execPath, [program, ...node.args], { stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    node.child = child;
    node.exited = new Promise((resolve) => child.once("exit", () => resolve()));
  };
  const end = async (id: string, signal: NodeJS.Signals): Promise<void> => {
    const node = find(nodes, id);
    node.child?.kill(signal);
    await node.exited;
    node.child = undefined;
  };
  const cluster: NatsCluster = {
    driver: "processes",
    target,
    shardNodes,
    async connect() {
      const client = await connect(target);
      clients.push(client);
      return client;
    },
    kill: (id) => end(id, "SIGKILL"),
    stop: (id) => end(id, "SIGTERM"),
    start,
    dataOf: (id) => join(directory, id),
    killNats: () => nats.kill(),
    startNats: () => nats.restart(),
    async close() {
      for (const client of clients) client.close();
      for (const id of [...nodes.keys()].reverse()) await end(id, "SIGTERM");
      await nats.dispose();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  for (const id of nodes.keys()) await start(id);
  await eventually(async () => {
    const client = await connect(target);
    const { nodes: known } = await client.cluster.describe();
    client.close();
    if (known.filter((node) => node.state === "up").length < nodes.size)
      throw new Error(`nodes are missing; logs in ${directory}`);
  }, 60_000);
  return cluster;
}

function find(nodes: ReadonlyMap<string, NodeProcess>, id: string): NodeProcess {
  const node = nodes.get(id);
  if (node === undefined) throw new Error(`there is no node ${id}`);
  return node;
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        address !== null && typeof address === "object" ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}
