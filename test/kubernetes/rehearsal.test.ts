/**
 * The manifests rehearsed under load: a shard pod is scaled in. No search fails, no write fails, nothing is lost. The long form (npm run test:kubernetes) has
 * the plain manifests as they are, with 3, 5 and 2 shard pods, and an update of everything to a new release.
 */
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect, type KithClient } from "../../libs/client/index.js";
import { testNatsBinary } from "../../libs/nats-server/testing.js";
import { check } from "../chaos/check.js";
import { dimension, type Stamp } from "../chaos/data.js";
import { History } from "../chaos/history.js";
import { Load } from "../chaos/load.js";
import { KubernetesCluster } from "./cluster.js";

const isLong = process.env["KITH_REHEARSAL"] === "long";
const shards = 3;
const replicas = 2;
let cluster: KubernetesCluster;
let client: KithClient;
let history: History;
let load: Load;

async function underLoad(work: () => Promise<void>): Promise<void> {
  load.start();
  try {
    await work();
    expect(await load.progress(20, 30_000)).toBe(true);
  } finally {
    await load.stop();
  }
  expect(history.violations).toEqual([]);
  expect(Object.fromEntries(history.readFailures), "searches that failed").toEqual({});
  expect(
    history.writes.filter(({ outcome }) => outcome === "unknown").map(({ code }) => code),
    "writes that failed for clients",
  ).toEqual([]);
  await check({ client, handle: client.collection<Stamp>("rehearsed"), history, divisions: shards, replicas });
  expect(history.violations).toEqual([]);
}

async function replicasByNode(): Promise<Record<string, number>> {
  const { nodes } = await client.cluster.describe();
  return Object.fromEntries(
    nodes.filter(({ roles }) => roles.includes("shard")).map(({ id, replicaCount }) => [id, replicaCount]),
  );
}

beforeAll(async () => {
  cluster = new KubernetesCluster({
    manifests: isLong ? "plain" : "one-nats",
    natsBinary: testNatsBinary(),
    ...(!isLong && { hurry: 10, routers: 1 }),
  });
  try {
    await cluster.start();
    client = await connect(cluster.target, { connectTimeoutMs: 30_000 });
    const handle = client.collection<Stamp>("rehearsed");
    await handle.create({ vectors: { dimension, metric: "l2" }, shards });
    history = new History();
    load = new Load({
      history,
      handles: [handle],
      random: new SeededRandom(11),
      stableCount: 500,
      idCount: isLong ? 6_000 : 1_000,
      pauseMs: 5,
    });
    await load.fill();
  } catch (error) {
    cluster.keep();
    await cluster.close();
    throw error;
  }
}, 240_000);

afterAll(async () => {
  client?.close();
  await cluster.close();
}, 60_000);

test("nodes know the zones of their machines, and each shard is in two of them", async () => {
  const { nodes, shards: all } = await client.cluster.describe();
  const zones = new Map(nodes.map(({ id, zone }) => [id, zone]));
  expect([...zones].filter(([id]) => id.includes("shard")).map(([, zone]) => zone)).toEqual([
    "zone-a",
    "zone-b",
    "zone-c",
  ]);
  for (const shard of all) expect(new Set(shard.replicas.map(({ node }) => zones.get(node))).size).toBe(replicas);
});

test.runIf(isLong)("pods that are added get their share without a command", { timeout: 300_000 }, async () => {
  onTestFailed(() => cluster.keep());
  await client.cluster.updateSettings({ rebalanceMinBytes: 0, rebalanceThresholdPercent: 5 });
  await underLoad(async () => {
    cluster.scale(5);
    await cluster.settled();
    await eventually(async () => {
      const counts = Object.values(await replicasByNode());
      expect(counts).toHaveLength(5);
      expect(Math.min(...counts)).toBeGreaterThan(0);
    }, 180_000);
  });
});

test("pods that are scaled in give their replicas away first, and end by themselves", {
  timeout: 240_000,
}, async () => {
  onTestFailed(() => cluster.keep());
  await underLoad(async () => {
    const gone = cluster.shards.pods.slice(2);
    cluster.scale(2);
    await cluster.settled(240_000);
    expect(gone.length).toBeGreaterThan(0);
    for (const pod of gone) {
      expect([pod.name, pod.wasKilled, pod.exitCode]).toEqual([pod.name, false, 0]);
      expect(cluster.logOf(pod.name)).toContain("replicas to others before it ends");
      expect(cluster.logOf(pod.name)).not.toContain("ends with");
    }
    expect(Object.keys(await replicasByNode()).sort()).toEqual(["kith-shard-0", "kith-shard-1"]);
  });
});

test.runIf(isLong)(
  "a new release is rolled out pod by pod, routers after shard nodes, and nobody drains",
  {
    timeout: 300_000,
  },
  async () => {
    onTestFailed(() => cluster.keep());
    const from = [cluster.shards, cluster.routers].map(({ events }) => events.length);
    const drainedBefore = cluster.logOf("kith-shard-0").split("replicas to others before").length;
    await underLoad(async () => {
      cluster.update("99.0.0");
      await cluster.settled(240_000);
    });
    const highest = cluster.shards.spec.replicas - 1;
    const order = Array.from({ length: highest + 1 }, (_, i) => `kith-shard-${highest - i}`);
    expect(cluster.shards.events.slice(from[0])).toEqual(order.flatMap((pod) => [`delete ${pod}`, `create ${pod}`]));
    const { nodes } = await client.cluster.describe();
    expect(nodes.map(({ version }) => version)).toEqual(nodes.map(() => "99.0.0"));
    const firstOldRouterEnded = cluster.routers.ended[0]?.deletedMs ?? 0;
    const lastOldShardEnded = cluster.shards.ended.at(-1)?.deletedMs ?? Infinity;
    expect(firstOldRouterEnded).toBeGreaterThan(lastOldShardEnded);
    const router = cluster.routers.pods[0]?.name ?? "";
    expect(cluster.logOf(router)).toMatch(/waits until the shard nodes are updated: .*kith-shard-0/);
    expect(cluster.logOf("kith-shard-0").split("replicas to others before").length).toBe(drainedBefore);
    // Each pod that ended was asked how many there are to be.
    expect(cluster.asked.filter((url) => url.includes("statefulsets")).length).toBeGreaterThanOrEqual(order.length);
  },
);
