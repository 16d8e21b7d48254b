/** Replicas of a node that is away are rebuilt on others, and a node is drained before it is taken away, while points are read and written. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range } from "../cluster/workload.js";

const cluster = useCluster(() =>
  startProcesses({
    shardNodes: 4,
    replicas: 2,
    env: { KITH_DRAIN_ON_STOP_MS: "20000", KITH_DRAIN_TIMEOUT_MS: "1000" },
  }),
);

async function nodesOf(client: KithClient, collection: string): Promise<string[][]> {
  const { shards } = await client.cluster.describe();
  return shards
    .filter((shard) => shard.collection === collection)
    .map(({ replicas }) => replicas.map(({ node, placement }) => `${node} ${placement}`).sort());
}

/** Each shard of the collection has two active replicas, none of them on `node`. */
function expectWithout(client: KithClient, node: string): Promise<void> {
  return eventually(async () => {
    for (const placed of await nodesOf(client, "repaired")) {
      expect(placed).toHaveLength(2);
      for (const each of placed) expect(each).toMatch(/ active$/);
      expect(placed.join()).not.toContain(node);
    }
  }, 60_000);
}

function replicasOnDisk(node: string): string[] {
  const folder = join(cluster().dataOf(node), "replicas");
  return existsSync(folder) ? readdirSync(folder) : [];
}

test("a dead node's replicas are rebuilt elsewhere, and dropped when it comes back", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("repaired");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 4 });
  const ledger = new Ledger(handle);
  await ledger.fill(0, 4_000);
  await client.cluster.updateSettings({ repairAfterMs: 3_000 });
  await cluster().kill("shard-1");
  expect(await ledger.write(range(0, 500), { deadlineMs: 20_000 })).toBe(true);
  await expectWithout(client, "shard-1");
  const operations = await client.cluster.operations();
  const repairs = operations.filter(({ move }) => move?.reason === "repair");
  expect(repairs.map(({ state, move }) => [state, move?.from])).toEqual(repairs.map(() => ["done", "shard-1"]));
  expect(repairs.length).toBeGreaterThan(0);
  expect(replicasOnDisk("shard-1")).not.toEqual([]);
  await client.cluster.updateSettings({ repairAfterMs: 300_000 });
  await cluster().start("shard-1");
  await eventually(() => {
    const [folder] = replicasOnDisk("shard-1");
    expect(folder === undefined ? [] : readdirSync(join(cluster().dataOf("shard-1"), "replicas", folder))).toEqual([]);
  }, 20_000);
  await eventually(() => compareDigests(client, 2), 20_000);
  await ledger.verify();
});

test("a drained node has no replicas and gets none, until it is undrained", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  await client.cluster.drain("shard-0");
  await expectWithout(client, "shard-0");
  const { nodes } = await client.cluster.describe();
  expect(nodes.find(({ id }) => id === "shard-0")).toMatchObject({ state: "draining", replicaCount: 0 });
  const handle = client.collection<Payload>("placed");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 6 });
  expect((await nodesOf(client, "placed")).flat().join()).not.toContain("shard-0");
  await client.cluster.undrain("shard-0");
  await eventually(async () => {
    const [node] = (await client.cluster.describe()).nodes.filter(({ id }) => id === "shard-0");
    expect(node?.state).toBe("up");
  });
  await client.collection("placed").drop();
  expect(await failureOf(client.cluster.drain("nobody"))).toMatchObject({ code: "NOT_FOUND" });
});

test("a node that is told to end gives its replicas away first", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("repaired");
  const ledger = new Ledger(handle);
  await ledger.fill(0, 4_000);
  const before = (await nodesOf(client, "repaired")).flat();
  const node = cluster().shardNodes.find((each) => before.includes(`${each} active`)) ?? "";
  await cluster().stop(node);
  expect(cluster().logOf(node)).toContain("replicas to others before it ends");
  await expectWithout(client, node);
  await ledger.verify();
  await cluster().start(node);
  await eventually(async () => {
    const found = (await client.cluster.describe()).nodes.find(({ id }) => id === node);
    expect(found).toMatchObject({ state: "up", replicaCount: 0 });
  }, 20_000);
});
