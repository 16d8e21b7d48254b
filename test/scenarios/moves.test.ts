/**
 * Replicas that are moved, added and removed while points are written and searched: nothing is lost, no search fails, and a cancelled move
 * leaves everything as it was.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient, OperationInfo } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range, vectorOf } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 3, replicas: 1 }));
const pointCount = 6_000;

async function placed(client: KithClient, collection: string): Promise<string[]> {
  const { shards } = await client.cluster.describe();
  const replicas = shards.filter((shard) => shard.collection === collection).flatMap((shard) => shard.replicas);
  return replicas.map(({ node, placement }) => `${node} ${placement}`).sort();
}

/** Resolves when the operation has ended. */
function ended(client: KithClient, { id }: OperationInfo): Promise<OperationInfo> {
  return eventually(async () => {
    const operation = await client.cluster.operation(id);
    expect(["done", "failed", "cancelled"], JSON.stringify(operation)).toContain(operation.state);
    return operation;
  }, 60_000);
}

/** Writes and searches until `work` has ended; no search fails, and each finds what is there all the time. */
async function underLoad<T>(ledger: Ledger, work: () => Promise<T>): Promise<T> {
  const load = { isOver: false, searches: 0, writes: 0 };
  const search = async (): Promise<void> => {
    while (!load.isOver) {
      const id = (load.searches++ * 37) % 1_000;
      const { points } = await ledger.handle.query({ vector: vectorOf(id, 1), limit: 3, deadlineMs: 10_000 });
      expect(points[0]?.id).toBe(id);
    }
  };
  const write = async (): Promise<void> => {
    // The ids that are searched for keep their vectors.
    while (!load.isOver) {
      expect(await ledger.write(range(1_000 + ((load.writes++ * 50) % (pointCount - 1_000)), 50))).toBe(true);
    }
  };
  const running = [search(), search(), write()];
  try {
    return await work();
  } finally {
    load.isOver = true;
    await Promise.all(running);
    expect(load.searches).toBeGreaterThan(10);
    expect(load.writes).toBeGreaterThan(3);
  }
}

test("a replica is moved under load, and its files are deleted where it was", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("moved");
  const { id } = await handle.create({ vectors: { dimension, metric: "l2" } });
  const ledger = new Ledger(handle);
  await ledger.fill(0, pointCount);
  const [from = ""] = (await placed(client, "moved")).map((each) => each.split(" ")[0]);
  const to = cluster().shardNodes.find((node) => node !== from) ?? "";
  const operation = await underLoad(ledger, async () =>
    ended(client, await client.cluster.moveReplica({ collection: "moved", shard: 0, from, to })),
  );
  expect(operation).toMatchObject({ state: "done", kind: "move_replica", move: { from, to, reason: "requested" } });
  expect(await placed(client, "moved")).toEqual([`${to} active`]);
  expect(cluster().logOf(to)).toContain(`copied the replica of ${from}`);
  await eventually(() => expect(existsSync(join(cluster().dataOf(from), "replicas", id))).toBe(false));
  await ledger.verify();
  expect(await ledger.selfRecall()).toBeGreaterThanOrEqual(0.99);
});

test("more and fewer replicas come and go by themselves", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("moved");
  const ledger = new Ledger(handle);
  for (let from = 0; from < pointCount; from += 1_000) expect(await ledger.write(range(from, 1_000))).toBe(true);
  const [holder = ""] = await placed(client, "moved");
  expect(await handle.update({ replicas: 3 })).toMatchObject({ replicas: 3 });
  await eventually(async () => {
    expect(await placed(client, "moved")).toEqual(cluster().shardNodes.map((node) => `${node} active`));
  }, 60_000);
  await eventually(() => compareDigests(client, 3), 20_000);
  await handle.update({ replicas: 1 });
  await eventually(async () => expect(await placed(client, "moved")).toHaveLength(1), 60_000);
  await ledger.verify();
  expect(await failureOf(handle.update({ replicas: 4 }))).toMatchObject({ code: "FAILED_PRECONDITION" });
  expect(holder).toMatch(/active$/);
});

test("a move that is cancelled leaves everything as it was", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("kept");
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const ledger = new Ledger(handle);
  await ledger.fill(0, pointCount);
  const [holder = ""] = await placed(client, "kept");
  const from = holder.split(" ")[0] ?? "";
  const to = cluster().shardNodes.find((node) => node !== from) ?? "";
  await client.cluster.updateSettings({ copyBytesPerSecond: 50_000 });
  try {
    const begun = await client.cluster.moveReplica({ collection: "kept", shard: 0, from, to });
    await eventually(async () => {
      const { step, move } = await client.cluster.operation(begun.id);
      expect(step).toBe("copy");
      expect(move?.copiedBytes).toBeGreaterThan(0);
      expect(move?.totalBytes).toBeGreaterThanOrEqual(move?.copiedBytes ?? 0);
    }, 20_000);
    expect(await failureOf(client.cluster.moveReplica({ collection: "kept", shard: 0, from, to }))).toMatchObject({
      code: "FAILED_PRECONDITION",
    });
    await client.cluster.cancelOperation(begun.id);
    expect(await ended(client, begun)).toMatchObject({ state: "cancelled" });
  } finally {
    await client.cluster.updateSettings({ copyBytesPerSecond: 0 });
  }
  expect(await placed(client, "kept")).toEqual([holder]);
  await ledger.verify();
});

test("what cannot be moved is refused with the reason", { timeout: 30_000 }, async () => {
  const client = await cluster().connect();
  const [holder = ""] = (await placed(client, "kept")).map((each) => each.split(" ")[0]);
  const other = cluster().shardNodes.find((node) => node !== holder) ?? "";
  const refused = async (move: { shard?: number; from?: string; to?: string }, message: RegExp): Promise<void> => {
    const failure = await failureOf(client.cluster.moveReplica({ collection: "kept", shard: 0, ...move }));
    expect(failure?.message).toMatch(message);
  };
  await refused({ shard: 7, to: other }, /has no shard 7/);
  await refused({}, /names neither/);
  await refused({ from: other, to: holder }, /has no replica on node/);
  await refused({ from: holder, to: holder }, /has a replica on node .* already/);
  await refused({ from: holder, to: "router-0" }, /cannot take a replica: it is no shard node/);
  await refused({ from: holder }, /none too many/);
  await refused({ to: other }, /has its 1 replicas/);
  expect(await failureOf(client.cluster.updateSettings({ movesAtOnce: 0 }))).toMatchObject({
    code: "LIMIT_OUT_OF_RANGE",
  });
});
