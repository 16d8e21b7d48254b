/** A shard node is ready when its replicas have caught up with their logs, and alive long before. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Client, credentials } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { healthOf } from "../cluster/health.js";
import { startProcesses } from "../cluster/processes.js";
import { range, replicaOn } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 1, replicas: 1 }));

test("a node whose replica replays its log is alive, and not ready before the replica answers", {
  timeout: 90_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection("long");
  await handle.create({ vectors: { dimension: 256, metric: "l2" } });
  for (let i = 0; i < 20; i++) {
    await handle.upsert(
      range(i * 1_000, 1_000).map((id) => ({ id, vector: new Float32Array(256).fill(id) })),
      { ack: "log" },
    );
  }
  const { nodes } = await client.cluster.describe();
  const address = nodes.find(({ id }) => id === "shard-0")?.address ?? "";
  await cluster().stop("shard-0");
  rmSync(join(cluster().dataOf("shard-0"), "replicas"), { recursive: true });
  const seen = new Set<string>();
  const probe = new Client(address, credentials.createInsecure(), {
    // A channel that was refused waits for a second otherwise, in which a quick replay ends.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 100,
  });
  const started = cluster().start("shard-0");
  try {
    await eventually(async () => {
      const health = await healthOf(probe, "").catch(() => "not there");
      seen.add(health);
      if (health === "NOT_SERVING") expect(await healthOf(probe, "live")).toBe("SERVING");
      expect(health).toBe("SERVING");
    }, 60_000);
    await started;
  } finally {
    probe.close();
  }
  expect(replicaOn(await client.cluster.describe(), "shard-0", "long").state).toBe("active");
  expect(seen).toContain("NOT_SERVING");
  await eventually(async () => expect(await handle.count()).toBe(20_000));
});
