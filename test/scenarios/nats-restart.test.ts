/** The NATS server is killed and started again: reads go on, writes fail with UNAVAILABLE and then resume, nothing acknowledged is lost. */
import { expect, test } from "vitest";
import { KithError } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../cluster/eventually.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload, pointOf, vectorOf } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));

test("without NATS reads go on and writes fail fast; with it again, writes resume", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("nats");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2, replicas: 2 });
  const ledger = new Ledger(handle);
  for (let i = 0; i < 10; i++) await ledger.write(Array.from({ length: 100 }, (_, j) => i * 100 + j));
  await cluster().killNats();
  const during = Array.from({ length: 50 }, (_, i) => i * 20);
  for (const id of during) {
    const { points } = await handle.query({ vector: vectorOf(id, 1), limit: 1, consistency: "none" });
    expect(points[0]?.id).toBe(id);
  }
  const failure = await handle.upsert(pointOf(5000, 1), { deadlineMs: 10_000 }).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(KithError);
  expect(["LOG_UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain((failure as KithError).code);
  await cluster().startNats();
  await eventually(async () => expect(await ledger.write([6000, 6001], { deadlineMs: 2_000 })).toBe(true), 30_000);
  await eventually(() => compareDigests(client, 2), 30_000);
  ledger.attempted.set(5000, 1);
  await ledger.verify();
});
