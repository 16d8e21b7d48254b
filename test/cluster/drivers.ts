import { describe } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient } from "../../libs/client/index.js";
import type { Cluster, ClusterSize } from "./cluster.js";
import { startInProcess } from "./in-process.js";
import { startProcesses } from "./processes.js";

/** Declares a scenario's tests once for each driver; `start` is for `useCluster`. In one process, no size is one node with every role. */
export function onBothDrivers(
  size: { processes: ClusterSize & { shardNodes: number; replicas: number }; inProcess: ClusterSize },
  scenario: (start: () => Promise<Cluster>, driver: Cluster["driver"]) => void,
): void {
  describe("in one process", () => scenario(() => startInProcess(size.inProcess), "in-process"));
  describe("on real processes", () => scenario(() => startProcesses(size.processes), "processes"));
}

/** Ends all nodes that hold replicas, in order, starts them again and waits until each replica is active and up to date. */
export async function restartShards(cluster: Cluster, client: KithClient): Promise<void> {
  await Promise.all(cluster.shardNodes.map((id) => cluster.stop(id)));
  await Promise.all(cluster.shardNodes.map((id) => cluster.start(id)));
  await eventually(async () => {
    const { nodes, shards } = await client.cluster.describe();
    const away = nodes.filter(({ state }) => state !== "up").map(({ id, state }) => `${id} is ${state}`);
    const late = shards.flatMap(({ replicas }) => replicas).filter(({ state }) => state !== "active");
    if (away.length + late.length > 0) throw new Error(`${away.join(", ")}; ${late.length} replicas are not active`);
  }, 30_000);
}
