import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { type TestNatsServer, testNatsServer } from "../../libs/nats-server/testing.js";
import { createLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";
import type { Cluster, ClusterSize } from "./cluster.js";
import { untilUp } from "./until-up.js";

export interface InProcessOptions extends ClusterSize {
  /** Folder for the data instead of a new one; it is not deleted. */
  data?: string;
  /** Of a single node; default: "all". */
  nodeId?: string;
  /** More settings of every node. */
  flags?: Record<string, unknown>;
  /** The nodes' environment: the OTEL_* variables. */
  env?: Record<string, string>;
}

/** One node in this process, started and ended over and over on the same ports and data. */
interface Slot {
  readonly flags: Record<string, unknown>;
  readonly lines: string[];
  node?: RunningNode | undefined;
}

/**
 * All nodes in this process: fast to start, for scenarios that need no kill -9. Without sizes it is one node with every role, the
 * embedded log; else as many as with real processes, by the same names, on a NATS server of their own.
 */
export async function startInProcess(options: InProcessOptions = {}): Promise<Cluster> {
  const directory = options.data ?? mkdtempSync(join(tmpdir(), "kith-in-process-"));
  const slots = new Map<string, Slot>();
  const targets: string[] = [];
  const clients: KithClient[] = [];
  const isOne = options.shardNodes === undefined;
  const { nodeId = "all" } = options;
  const nats: TestNatsServer | undefined = isOne ? undefined : await testNatsServer();
  const dataOf = (id: string): string => (isOne ? directory : join(directory, id));
  const add = async (id: string, roles: string[]): Promise<void> => {
    const listen = { host: "127.0.0.1", port: await freePort() };
    if (roles.includes("router")) targets.push(`127.0.0.1:${listen.port}`);
    const address = roles.includes("router") ? { listen } : { link: listen };
    const shared = nats && { log: { kind: "jetstream", url: nats.url }, replicationFactor: options.replicas ?? 1 };
    const flags = {
      nodeId: id,
      roles,
      data: dataOf(id),
      drainTimeoutMs: 2_000,
      ...address,
      ...shared,
      ...options.flags,
    };
    slots.set(id, { flags, lines: [] });
  };
  const shardNodes = isOne ? [nodeId] : Array.from({ length: options.shardNodes ?? 1 }, (_, i) => `shard-${i}`);
  if (isOne) await add(nodeId, ["router", "shard", "coordinator"]);
  else {
    for (const id of shardNodes) await add(id, ["shard"]);
    for (let i = 0; i < (options.routers ?? 1); i++) await add(`router-${i}`, ["router", "coordinator"]);
  }
  const find = (id: string): Slot => {
    const slot = slots.get(id);
    if (slot === undefined) throw new Error(`there is no node ${id}`);
    return slot;
  };
  const start = async (id: string): Promise<void> => {
    const slot = find(id);
    mkdirSync(dataOf(id), { recursive: true });
    const logger = createLogger({ level: "info", nodeId: id, write: (line) => void slot.lines.push(line) });
    const { env = {} } = options;
    slot.node = await startNode(loadNodeConfig({ flags: slot.flags }), { version: "test", env, logger: () => logger });
  };
  const stop = async (id: string): Promise<void> => {
    const slot = find(id);
    await slot.node?.close();
    slot.node = undefined;
  };
  let kept = false;
  const cluster: Cluster = {
    driver: "in-process",
    target: targets[0] as string,
    shardNodes,
    async connect({ router = 0, ...connectOptions } = {}) {
      const client = await connect(targets[router] ?? "", { connectTimeoutMs: 20_000, ...connectOptions });
      clients.push(client);
      return client;
    },
    kill: () => Promise.reject(new Error("a process cannot be killed from within: use the driver with real processes")),
    stop,
    start,
    dataOf,
    logOf: (id) => find(id).lines.join(""),
    keep() {
      if (kept) return;
      kept = true;
      const lines = [...slots.values()].flatMap((slot) => slot.lines);
      process.stderr.write(`the data is kept in ${directory}; the log of its nodes:\n${lines.join("")}`);
    },
    async close() {
      for (const client of clients) client.close();
      await Promise.all([...slots.keys()].map(stop));
      await nats?.dispose();
      if (!kept && options.data === undefined) rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all([...slots.keys()].map(start));
    for (const target of targets) await untilUp(target, slots.size);
  } catch (error) {
    cluster.keep();
    await cluster.close();
    throw error;
  }
  return cluster;
}
