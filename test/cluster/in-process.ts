import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { loadNodeConfig } from "../../libs/config/index.js";
import { createLogger } from "../../libs/telemetry/index.js";
import { type RunningNode, startNode } from "../../services/node/index.js";
import type { Cluster } from "./cluster.js";

export interface InProcessOptions {
  /** Folder for the data instead of a new one; it is not deleted. */
  data?: string;
}

/** All roles in this process, with the embedded log: fast to start, for scenarios that need neither NATS nor kill -9. */
export async function startInProcess(options: InProcessOptions = {}): Promise<Cluster> {
  const data = options.data ?? mkdtempSync(join(tmpdir(), "kith-in-process-"));
  mkdirSync(data, { recursive: true });
  const clients: KithClient[] = [];
  const lines: string[] = [];
  const logger = createLogger({ level: "info", nodeId: "all", write: (line) => void lines.push(line) });
  let node: RunningNode | undefined;
  const port = await freePort();
  let kept = false;
  const start = async (): Promise<void> => {
    const roles = ["router", "shard", "coordinator"];
    const flags = { nodeId: "all", roles, data, listen: { port }, drainTimeoutMs: 2_000 };
    node = await startNode(loadNodeConfig({ flags }), { version: "test", logger: () => logger });
  };
  const stop = async (): Promise<void> => {
    await node?.close();
    node = undefined;
  };
  await start();
  return {
    driver: "in-process",
    target: `127.0.0.1:${port}`,
    shardNodes: ["all"],
    async connect(connectOptions = {}) {
      const client = await connect(`127.0.0.1:${port}`, connectOptions);
      clients.push(client);
      return client;
    },
    kill: () => Promise.reject(new Error("a process cannot be killed from within: use the driver with real processes")),
    stop,
    start,
    dataOf: () => data,
    logOf: () => lines.join(""),
    keep() {
      if (kept) return;
      kept = true;
      process.stderr.write(`the data is kept in ${data}; the node's log:\n${lines.join("")}`);
    },
    async close() {
      for (const client of clients) client.close();
      await stop();
      if (!kept && options.data === undefined) rmSync(data, { recursive: true, force: true });
    },
  };
}
