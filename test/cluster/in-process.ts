import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type KithClient } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";
import type { Cluster } from "./cluster.js";

/** All roles in this process, with the embedded log: fast to start, for scenarios that need neither NATS nor kill -9. */
export async function startInProcess(): Promise<Cluster> {
  const data = mkdtempSync(join(tmpdir(), "kith-in-process-"));
  const clients: KithClient[] = [];
  let node: RunningNode | undefined;
  let port = 0;
  const start = async (): Promise<void> => {
    const roles = ["router", "shard", "coordinator"];
    const flags = { nodeId: "all", roles, data, listen: { port }, logLevel: "error", drainTimeoutMs: 2_000 };
    node = await startNode(loadNodeConfig({ flags }), { version: "test" });
    port = Number(node.address.split(":").pop());
  };
  const stop = async (): Promise<void> => {
    await node?.close();
    node = undefined;
  };
  await start();
  return {
    driver: "in-process",
    get target() {
      return `127.0.0.1:${port}`;
    },
    shardNodes: ["all"],
    async connect() {
      const client = await connect(`127.0.0.1:${port}`);
      clients.push(client);
      return client;
    },
    kill: () => Promise.reject(new Error("a process cannot be killed from within: use the driver with real processes")),
    stop,
    start,
    dataOf: () => data,
    async close() {
      for (const client of clients) client.close();
      await stop();
      rmSync(data, { recursive: true, force: true });
    },
  };
}
