/**
 * A shard node is killed with -9 in the middle of writes, again and again. No acknowledged write may be lost, replicas must be
 * equal by digest when they have caught up, and every vector must still be found by itself.
 * KITH_KILL_ROUNDS sets the number of rounds (npm run test:long: 100).
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { NatsCluster } from "../cluster/cluster.js";
import { eventually } from "../cluster/eventually.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload } from "../cluster/workload.js";

const rounds = Number(process.env["KITH_KILL_ROUNDS"] ?? 4);
const replicas = 2;
let cluster: NatsCluster;

beforeAll(async () => {
  cluster = await startProcesses({ shardNodes: 3, replicas });
}, 120_000);
afterAll(() => cluster?.close());

test(`${rounds} rounds of kill -9 in the middle of writes lose nothing`, {
  timeout: 60_000 + rounds * 30_000,
}, async () => {
  const client = await cluster.connect();
  const handle = client.collection<Payload>("killed");
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 3, replicas });
  const ledger = new Ledger(handle);
  let nextId = 0;
  for (let round = 0; round < rounds; round++) {
    const victim = cluster.shardNodes[round % cluster.shardNodes.length] as string;
    let writing = true;
    const writers = [0, 1, 2].map(async () => {
      while (writing) {
        const fresh = Array.from({ length: 20 }, () => nextId++);
        const old = Array.from({ length: 5 }, (_, i) => (fresh[0] as number) - 100 - i * 7).filter((id) => id >= 0);
        await ledger.write([...fresh, ...old.filter((id) => ledger.attempted.has(id))], { deadlineMs: 5_000 });
      }
    });
    const before = ledger.acknowledged.size;
    await eventually(() => expect(ledger.acknowledged.size).toBeGreaterThan(before + 100));
    await cluster.kill(victim);
    const atKill = ledger.acknowledged.size;
    // With the other replica of each shard alive, writes go on.
    await eventually(() => expect(ledger.acknowledged.size).toBeGreaterThan(atKill + 100));
    await cluster.start(victim);
    await eventually(() => expect(ledger.acknowledged.size).toBeGreaterThan(atKill + 300));
    writing = false;
    await Promise.all(writers);
    await eventually(() => compareDigests(client, replicas), 30_000);
    await ledger.verify();
    expect(await ledger.selfRecall()).toBeGreaterThanOrEqual(0.99);
  }
});
