/**
 * SIGTERM under load: health turns NOT_SERVING, calls in flight end, clients see no error but retryable ones, the process
 * exits with 0, and the next start loads the checkpoint instead of reading the log again or building the graph.
 */
import { Client, credentials } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { healthOf, watchHealth } from "../cluster/health.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range, vectorOf } from "../cluster/workload.js";

/** Enough for a graph and a checkpoint. */
const filled = 6_000;
const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2 }));

test("a shard that is told to end under load is not missed, and comes back from its checkpoint", {
  timeout: 90_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("ending");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const ledger = new Ledger(handle);
  await ledger.fill(0, filled);
  await handle.waitIndexed();
  let running = true;
  let answered = 0;
  const failures: string[] = [];
  const load = [0, 1, 2, 3].map(async (worker) => {
    for (let i = 0; running; i++) {
      const call =
        worker === 0
          ? handle.upsert({ id: i % 100, vector: vectorOf(i, 1), payload: { version: 0 } })
          : handle.query({ vector: vectorOf(i, 1), limit: 5 });
      const failure = await failureOf(call);
      if (failure === undefined) answered++;
      else failures.push(`${failure.code}: ${failure.message}`);
    }
  });
  const progress = async (by: number): Promise<void> => {
    const from = answered;
    await eventually(() => expect(answered).toBeGreaterThan(from + by));
  };
  await progress(200);
  const ended = cluster().ended("shard-1");
  cluster().signal("shard-1", "SIGTERM");
  expect(await ended).toBe(0);
  await progress(200);
  const logBefore = cluster().logOf("shard-1").length;
  await cluster().start("shard-1");
  await eventually(() => compareStates());
  await progress(200);
  running = false;
  await Promise.all(load);
  expect(failures, "the other replica and the client's retries hide it").toEqual([]);
  await eventually(() => compareDigests(client, 2));

  const log = cluster().logOf("shard-1").slice(logBefore);
  const opened = log.split("\n").find((line) => line.includes("replica opened"));
  const { applied } = JSON.parse(opened ?? "{}") as { applied?: number };
  // Everything but what was written while it was away: no record of the log was read again.
  expect(applied).toBeGreaterThanOrEqual(2);
  expect(log).not.toContain("replica alarm");

  async function compareStates(): Promise<void> {
    const { shards } = await client.cluster.describe();
    expect(shards[0]?.replicas.map((replica) => replica.state)).toEqual(["active", "active"]);
  }
});

test("after an orderly end nothing is replayed and no graph is built", { timeout: 60_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("ending");
  // Enough for a checkpoint at the end, however little was written since the last one.
  expect(await new Ledger(handle).write(range(0, 1_000))).toBe(true);
  await eventually(() => compareDigests(client, 2));
  await handle.waitIndexed();
  const { shards } = await client.cluster.describe();
  const last = shards[0]?.logSequence;
  for (const node of cluster().shardNodes) await cluster().stop(node);
  const before = cluster().shardNodes.map((node) => cluster().logOf(node).length);
  for (const node of cluster().shardNodes) await cluster().start(node);
  const first = await eventually(() => handle.stats());
  expect({ indexed: first.indexedVectorCount, waiting: first.unindexedVectorCount }).toEqual({
    indexed: filled,
    waiting: 0,
  });
  for (const [i, node] of cluster().shardNodes.entries()) {
    // One replica is enough for the statistics: the other one may still be opening.
    const line = await eventually(() => {
      const lines = cluster().logOf(node).slice(before[i]).split("\n").slice(0, -1);
      return (
        lines.find((each) => each.includes("replica opened")) ?? expect.unreachable(`${node} has opened no replica`)
      );
    });
    expect((JSON.parse(line) as { applied?: number }).applied, node).toBe(last);
  }
});

test("a router that is told to end turns NOT_SERVING, answers what is in flight, and refuses the rest retryably", {
  timeout: 60_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("ending");
  await handle.count();
  const health = new Client(cluster().target, credentials.createInsecure());
  expect(await healthOf(health, "")).toBe("SERVING");
  const watch = watchHealth(health, "kith.v1.Points");
  await eventually(() => expect(watch.seen).toEqual(["SERVING"]));
  let running = true;
  const failures: { code: string; retryable: boolean }[] = [];
  let answered = 0;
  const load = range(0, 8).map(async (i) => {
    while (running) {
      const failure = await failureOf(handle.query({ vector: vectorOf(i, 1), limit: 5, deadlineMs: 15_000 }));
      if (failure === undefined) answered++;
      else failures.push({ code: failure.code, retryable: failure.retryable });
    }
  });
  await eventually(() => expect(answered).toBeGreaterThan(100));
  const ended = cluster().ended("router-0");
  cluster().signal("router-0", "SIGTERM");
  expect(await ended).toBe(0);
  // The end of a process may be noticed before what it had sent.
  await eventually(() => expect(watch.seen[1]).toBe("NOT_SERVING"));
  await cluster().start("router-0");
  const before = answered;
  await eventually(() => expect(answered).toBeGreaterThan(before + 100), 30_000);
  running = false;
  await Promise.all(load);
  expect(failures.filter((failure) => !failure.retryable)).toEqual([]);
  watch.stop();
  health.close();
});
