/** A fourth node comes to three: the cluster plans about a quarter of the data for it, and moves it while points are read, once it is told to. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient, OperationInfo } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { program, startProcesses } from "../cluster/processes.js";
import { dimension, failureOf, Ledger, type Payload, vectorOf } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 4, replicas: 1 }));
const pointCount = 3_000;

async function countsByNode(client: KithClient): Promise<number[]> {
  const { nodes } = await client.cluster.describe();
  return cluster().shardNodes.map((id) => nodes.find((node) => node.id === id)?.replicaCount ?? 0);
}

async function moves(client: KithClient): Promise<OperationInfo[]> {
  return (await client.cluster.operations()).filter(({ move }) => move?.reason === "rebalance");
}

async function kith(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args, "--target", cluster().target]);
  return stdout;
}

test("a fourth node gets about a quarter, when that is applied", { timeout: 180_000 }, async () => {
  const client = await cluster().connect();
  await client.cluster.updateSettings({ autoRebalance: 0, rebalanceMinBytes: 0, movesAtOnce: 3 });
  await cluster().stop("shard-3");
  const handle = client.collection<Payload>("spread");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 12 });
  const ledger = new Ledger(handle);
  await ledger.fill(0, pointCount);
  expect(await countsByNode(client)).toEqual([4, 4, 4, 0]);
  await cluster().start("shard-3");
  const plan = await eventually(async () => {
    const planned = await client.cluster.rebalance();
    expect(planned.moves.map(({ to }) => to)).toEqual(["shard-3", "shard-3", "shard-3"]);
    return planned;
  }, 30_000);
  const total = plan.nodes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  expect(plan.sizeBytes).toBeLessThanOrEqual(total * 0.3);
  expect(plan.expectedMs).toBeGreaterThan(0);
  expect(plan.operations).toEqual([]);
  expect(await moves(client)).toEqual([]);
  expect(await kith("rebalance", "--plan")).toContain("shard-3");

  // Paused, nothing moves; aborted, nothing has.
  await kith("rebalance", "--pause");
  expect((await client.cluster.rebalance({ apply: true })).operations).toHaveLength(3);
  expect(await failureOf(client.cluster.rebalance({ apply: true }))).toMatchObject({ code: "FAILED_PRECONDITION" });
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect((await moves(client)).map(({ step, state }) => [step, state])).toEqual(
    new Array(3).fill(["join", "running"]) as string[][],
  );
  expect(await client.cluster.abortRebalance()).toHaveLength(3);
  await eventually(async () => {
    expect((await moves(client)).map(({ state }) => state)).toEqual(["cancelled", "cancelled", "cancelled"]);
  }, 20_000);
  expect(await countsByNode(client)).toEqual([4, 4, 4, 0]);
  await kith("rebalance", "--resume");

  let isOver = false;
  const searching = (async () => {
    for (let i = 0; !isOver; i++) {
      const id = (i * 37) % pointCount;
      const { points } = await handle.query({ vector: vectorOf(id, 1), limit: 1, deadlineMs: 10_000 });
      expect(points[0]?.id).toBe(id);
    }
  })();
  try {
    expect(await kith("rebalance", "--apply", "--watch", "--timeout", "90s")).toContain(
      "3 done, 0 cancelled, 0 failed",
    );
  } finally {
    isOver = true;
    await searching;
  }
  expect(await countsByNode(client)).toEqual([3, 3, 3, 3]);
  expect((await client.cluster.rebalance()).moves).toEqual([]);
  await ledger.verify();
});
