/**
 * Nodes are killed with -9 in the middle of writes, again and again: a shard, the router, or both at once. No acknowledged
 * write may be lost, no deleted point may come back, replicas must be equal by digest when they have caught up, and the
 * recall must stay what it was. KITH_KILL_ROUNDS sets the number of rounds (npm run test:long: 100).
 */
import { expect, test } from "vitest";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload, range } from "../cluster/workload.js";

const rounds = Number(process.env["KITH_KILL_ROUNDS"] ?? 2);
const replicas = 2;
/** Enough for a graph in every shard. */
const filled = 15_000;
const cluster = useCluster(() => startProcesses({ shardNodes: 3, replicas }));

/** Whom a round kills: mostly one shard, then the router, then both. */
function victimsOf(round: number): string[] {
  const { shardNodes, routers } = cluster();
  const shard = shardNodes[round % shardNodes.length] as string;
  const router = routers[0] as string;
  if (round % 4 === 2) return [router];
  return round % 4 === 3 ? [shard, router] : [shard];
}

test(`${rounds} rounds of kill -9 in the middle of writes lose nothing`, {
  timeout: 60_000 + rounds * 30_000,
}, async () => {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("killed");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 3, replicas });
  const ledger = new Ledger(handle);
  await ledger.fill(0, filled);
  await handle.waitIndexed();
  const recallBefore = await ledger.recall();
  let nextId = filled;
  for (let round = 0; round < rounds; round++) {
    const victims = victimsOf(round);
    let writing = true;
    const writers = [0, 1, 2].map(async (writer) => {
      for (let turn = 0; writing; turn++) {
        const fresh = range(nextId, 20);
        nextId += 20;
        // Each writer has ids of its own, so that the order of two writes of one id is known.
        const old = range(0, 5).map((i) => (writer + 3 * (round * 997 + turn * 31 + i * 7)) % filled);
        await ledger.write([...fresh, ...new Set(old.filter((id) => id % 3 === writer))], { deadlineMs: 5_000 });
        if (turn % 4 === 3) await ledger.delete(fresh.slice(0, 5), { deadlineMs: 5_000 });
      }
    });
    let acknowledged = ledger.acknowledged.size;
    const grows = async (by: number): Promise<void> => {
      await eventually(() => expect(ledger.acknowledged.size).toBeGreaterThan(acknowledged + by), 30_000);
      acknowledged = ledger.acknowledged.size;
    };
    await grows(100);
    await Promise.all(victims.map((victim) => cluster().kill(victim)));
    // With the other replica of each shard alive, writes go on.
    if (victims.every((victim) => cluster().shardNodes.includes(victim))) await grows(100);
    for (const victim of victims) await cluster().start(victim);
    await grows(200);
    writing = false;
    await Promise.all(writers);
    await eventually(() => compareDigests(client, replicas), 30_000);
    await ledger.verify();
    expect(await ledger.selfRecall()).toBe(1);
    expect(await ledger.recall()).toBeGreaterThanOrEqual(recallBefore - 0.01);
  }
});
