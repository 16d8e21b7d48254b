/**
 * Shards are merged while a node that holds them, or the coordinator, is killed with -9: each merge comes to an end, and no write is lost.
 * KITH_MERGE_ROUNDS sets the number of rounds of each.
 */
import { expect, test } from "vitest";
import { sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { randomFrom } from "../cluster/damage.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload, range } from "../cluster/workload.js";

const seed = Number(process.env["KITH_SEED"] ?? Date.now() % 1_000_000);
const rounds = Number(process.env["KITH_MERGE_ROUNDS"] ?? 5);
const pointCount = 4_000;
const steps = ["prepare", "copy", "seal", "switch", "drop"];
const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas: 2, routers: 2 }));

/** A client of a router that is not the coordinator, with the id of the one that is. */
async function besideCoordinator(): Promise<{ client: KithClient; coordinator: string }> {
  const [first, second] = await Promise.all([0, 1].map((router) => cluster().connect({ router })));
  return eventually(async () => {
    const { coordinator } = await (first as KithClient).cluster.describe();
    expect(cluster().routers).toContain(coordinator);
    return { client: (coordinator === "router-0" ? second : first) as KithClient, coordinator };
  }, 30_000);
}

async function filled(client: KithClient, name: string): Promise<Ledger> {
  const handle = client.collection<Payload>(name);
  await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2 });
  const ledger = new Ledger(handle);
  await ledger.fill(0, pointCount);
  return ledger;
}

/** The merge has ended as it should, all replicas are active and equal, and nothing is lost. */
async function expectSettled(client: KithClient, id: string, ledger: Ledger): Promise<void> {
  await eventually(async () => {
    const operation = await client.cluster.operation(id);
    expect(["done", "cancelled"], JSON.stringify(operation)).toContain(operation.state);
  }, 120_000);
  await eventually(() => compareDigests(client, 2), 60_000);
  await eventually(() => ledger.verify(), 30_000);
}

test.each(steps)(
  "a coordinator that is killed at the step %s loses no merge",
  {
    timeout: 60_000 + rounds * 180_000,
  },
  async (step) => {
    for (let round = 0; round < rounds; round++) {
      const { client, coordinator } = await besideCoordinator();
      const name = `${step}-${round}`;
      const ledger = await filled(client, name);
      const { id } = await client.cluster.mergeShards({ collection: name, shards: [0, 1] });
      if (step !== "prepare") {
        // Steps may be over before they are seen.
        await eventually(async () => {
          const { step: now } = await client.cluster.operation(id);
          expect(steps.indexOf(now)).toBeGreaterThanOrEqual(steps.indexOf(step));
        }, 60_000);
      }
      await cluster().kill(coordinator);
      await ledger.write(range(round * 50, 50), { deadlineMs: 60_000 });
      await expectSettled(client, id, ledger);
      await cluster().start(coordinator);
      await client.collection(name).drop();
    }
  },
);

test(`a node that is killed while shards on it are merged (seed ${seed})`, {
  timeout: 60_000 + rounds * 180_000,
}, async () => {
  const random = randomFrom(seed);
  const client = await cluster().connect();
  for (let round = 0; round < rounds; round++) {
    const name = `node-${round}`;
    const ledger = await filled(client, name);
    const { id } = await client.cluster.mergeShards({ collection: name, shards: [0, 1] });
    await sleep(systemClock, random(2_500));
    const node = cluster().shardNodes[round % 2] ?? "";
    await cluster().kill(node);
    await ledger.write(range(random(pointCount - 50), 50), { deadlineMs: 10_000 });
    await cluster().start(node);
    await expectSettled(client, id, ledger);
    await client.collection(name).drop();
  }
});
