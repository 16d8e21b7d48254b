/** A shard process hangs (SIGSTOP): its connections stay open and nothing answers. The other replica answers instead. */
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range, vectorOf } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));
/** More than the queries by which a router learns how long a shard takes, and so when to ask another replica. */
const learningCount = 200;

test("queries go on within their deadline while a replica hangs, and it catches up afterwards", {
  timeout: 90_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("hung");
  await handle.create({ vectors: { dimension, metric: "l2" }, replicas: 2 });
  const ledger = new Ledger(handle);
  await ledger.fill(0, 1_000);
  await eventually(() => compareDigests(client, 2));
  const finds = async (id: number, deadlineMs: number): Promise<void> => {
    const { points } = await handle.query({ vector: vectorOf(id, 1), limit: 1, consistency: "none", deadlineMs });
    expect(points[0]?.id).toBe(id);
  };
  for (const id of range(0, learningCount)) await finds(id, 10_000);

  cluster().signal("shard-1", "SIGSTOP");
  try {
    // The router may not know yet that both are active: it asks its replicas for their states once a second.
    await eventually(() => finds(0, 2_000), 10_000);
    // Much less than a router needs to find out that a connection is dead.
    for (const id of range(0, 100)) await finds(id, 5_000);
    // The log takes writes, whoever is there to apply them.
    const missed = range(2_000, 100).map((id) => ({ id, vector: vectorOf(id, 1), payload: { version: 1 } }));
    expect(await failureOf(handle.upsert(missed, { ack: "log" }))).toBeUndefined();
    for (const id of range(100, 100)) await finds(id, 5_000);
  } finally {
    cluster().signal("shard-1", "SIGCONT");
  }
  await eventually(() => compareDigests(client, 2), 30_000);
  expect(await handle.count()).toBe(1_100);
  await cluster().kill("shard-0");
  await eventually(() => finds(2_050, 5_000));
});
