/** Nodes that die or stand still leave the rotation within five seconds, searches go on meanwhile, and they come back by catching up. */
import { expect, test } from "vitest";
import { sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { CollectionHandle, KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, failureOf, Ledger, type Payload, range, vectorOf } from "../cluster/workload.js";

const cluster = useCluster(() => startProcesses({ shardNodes: 3, replicas: 2, routers: 2 }));
/** Within which a node that is away is known to be so. */
const detectionMs = 5_000;
/** This machine may be busy: a poll and its answer take time too. */
const slackMs = 5_000;

async function made(client: KithClient, name: string): Promise<Ledger> {
  const handle = client.collection<Payload>(name);
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 3 });
  const ledger = new Ledger(handle);
  await ledger.fill(0, 1_500);
  await eventually(() => compareDigests(client, 2), 20_000);
  // Routers ask each second how the replicas are; one that is not known to be active is not hedged to.
  await sleep(systemClock, 2_000);
  return ledger;
}

async function stateOf(client: KithClient, node: string): Promise<string | undefined> {
  return (await client.cluster.describe()).nodes.find(({ id }) => id === node)?.state;
}

/** Searches until `work` has ended; no search fails. */
async function searching(handle: CollectionHandle<Payload>, work: () => Promise<void>): Promise<void> {
  let isOver = false;
  const failures: string[] = [];
  let count = 0;
  const search = async (): Promise<void> => {
    for (; !isOver; count++) {
      const id = (count * 37) % 1_500;
      const query = handle.query({ vector: vectorOf(id, 1), limit: 1, consistency: "none", deadlineMs: 10_000 });
      const failure = await failureOf(query);
      if (failure !== undefined) failures.push(`${failure.code}: ${failure.message}`);
      else if ((await query).points[0]?.id !== id) failures.push(`point ${id} was not found`);
    }
  };
  const searches = [search(), search(), search()];
  try {
    await work();
  } finally {
    isOver = true;
    await Promise.all(searches);
  }
  expect(failures).toEqual([]);
  expect(count).toBeGreaterThan(20);
}

/** How long after `act` the node counts as down. */
async function detection(client: KithClient, node: string, act: () => Promise<void>): Promise<number> {
  const startMs = systemClock.monotonicMs();
  await act();
  await eventually(async () => expect(await stateOf(client, node)).toBe("down"), 20_000);
  return systemClock.monotonicMs() - startMs;
}

test("a node that is killed is down within 5 s, and no search fails", { timeout: 120_000 }, async () => {
  const client = await cluster().connect();
  const ledger = await made(client, "killed");
  await searching(ledger.handle, async () => {
    const tookMs = await detection(client, "shard-1", () => cluster().kill("shard-1"));
    expect(tookMs).toBeLessThan(detectionMs + slackMs);
  });
  await cluster().start("shard-1");
  await eventually(() => compareDigests(client, 2), 30_000);
  await ledger.verify();
});

test("a node that stands still is down within 5 s, and answers again when it has caught up", {
  timeout: 120_000,
}, async () => {
  const client = await cluster().connect();
  const ledger = await made(client, "paused");
  await searching(ledger.handle, async () => {
    try {
      const tookMs = await detection(client, "shard-2", async () => cluster().signal("shard-2", "SIGSTOP"));
      expect(tookMs).toBeLessThan(detectionMs + slackMs);
      // What it misses. The ids that are searched for stay as they are.
      const missed = range(5_000, 200).map((id) => ({ id, vector: vectorOf(id, 1), payload: { version: 1 } }));
      expect(await failureOf(ledger.handle.upsert(missed, { ack: "log" }))).toBeUndefined();
    } finally {
      cluster().signal("shard-2", "SIGCONT");
    }
    await eventually(async () => expect(await stateOf(client, "shard-2")).toBe("up"), 20_000);
  });
  expect(cluster().logOf("shard-2")).toMatch(/this process stood still for \d+ ms/);
  await eventually(() => compareDigests(client, 2), 30_000);
  expect(await ledger.handle.count()).toBe(1_700);
});

test("a coordinator that stands still is replaced, and does nothing when it goes on", {
  timeout: 120_000,
}, async () => {
  const [client, other] = await Promise.all([0, 1].map((router) => cluster().connect({ router })));
  const { coordinator } = await (client as KithClient).cluster.describe();
  const beside = (coordinator === "router-0" ? other : client) as KithClient;
  cluster().signal(coordinator, "SIGSTOP");
  try {
    await eventually(async () => {
      const { coordinator: now } = await beside.cluster.describe();
      expect(now).not.toBe("");
      expect(now).not.toBe(coordinator);
    }, 40_000);
    await beside.collection("made").create({ vectors: { dimension, metric: "l2" } });
  } finally {
    cluster().signal(coordinator, "SIGCONT");
  }
  await sleep(systemClock, 2_000);
  const { coordinator: after, nodes } = await beside.cluster.describe();
  expect(after).not.toBe(coordinator);
  expect(nodes.map(({ state }) => state)).toEqual(nodes.map(() => "up"));
  await beside.collection("made").drop();
});
