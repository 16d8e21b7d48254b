/**
 * Replicas are moved while the node that gives, the node that takes, or the coordinator is killed with -9: each move comes to an end, and no
 * write is lost. KITH_MOVE_ROUNDS sets the number of rounds (npm run test:long: 20 of each).
 */
import { expect, test } from "vitest";
import { sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import type { KithClient, OperationInfo } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { randomFrom } from "../cluster/damage.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, Ledger, type Payload, range } from "../cluster/workload.js";

const seed = Number(process.env["KITH_SEED"] ?? Date.now() % 1_000_000);
const rounds = Number(process.env["KITH_MOVE_ROUNDS"] ?? 20);
const pointCount = 8_000;
/** So that a copy of 8,000 points takes about a second. */
const copyBytesPerSecond = 1_500_000;
const cluster = useCluster(() => startProcesses({ shardNodes: 3, replicas: 2, routers: 2 }));

/** A client of a router that is not the coordinator, with the id of the one that is. */
async function besideCoordinator(): Promise<{ client: KithClient; coordinator: string }> {
  const [first, second] = await Promise.all([0, 1].map((router) => cluster().connect({ router })));
  return eventually(async () => {
    const { coordinator } = await (first as KithClient).cluster.describe();
    expect(cluster().routers).toContain(coordinator);
    return { client: (coordinator === "router-0" ? second : first) as KithClient, coordinator };
  }, 30_000);
}

/** Begins the move of a replica to the node that has none. */
async function beginMove(client: KithClient): Promise<OperationInfo> {
  const { shards } = await client.cluster.describe();
  const nodes = shards[0]?.replicas.map(({ node }) => node) ?? [];
  const to = cluster().shardNodes.find((node) => !nodes.includes(node)) ?? "";
  return client.cluster.moveReplica({ collection: "killed", shard: 0, from: nodes[0] ?? "", to });
}

/** The operation has ended, and two replicas are active and equal. */
async function expectSettled(client: KithClient, id: string): Promise<string> {
  const state = await eventually(async () => {
    const operation = await client.cluster.operation(id);
    expect(["done", "failed", "cancelled"]).toContain(operation.state);
    return operation.state;
  }, 90_000);
  await eventually(async () => {
    const { shards } = await client.cluster.describe();
    expect(shards[0]?.replicas.map(({ placement }) => placement)).toEqual(["active", "active"]);
    await compareDigests(client, 2);
  }, 60_000);
  return state;
}

async function filled(): Promise<Ledger> {
  const client = await cluster().connect();
  const handle = client.collection<Payload>("killed");
  const ledger = new Ledger(handle);
  if (!(await handle.exists())) await handle.create({ vectors: { dimension, metric: "l2" } });
  await ledger.fill(0, pointCount);
  await client.cluster.updateSettings({ copyBytesPerSecond });
  return ledger;
}

test.each(["join", "copy", "drop"])(
  "a coordinator that is killed at the step %s loses no move",
  {
    timeout: 60_000 + rounds * 120_000,
  },
  async (step) => {
    const ledger = await filled();
    for (let round = 0; round < rounds; round++) {
      const { client, coordinator } = await besideCoordinator();
      const { id } = await beginMove(client);
      if (step !== "join") {
        await eventually(async () => expect((await client.cluster.operation(id)).step).toBe(step), 60_000);
      }
      await cluster().kill(coordinator);
      expect(await expectSettled(client, id)).toBe("done");
      await cluster().start(coordinator);
    }
    await eventually(() => ledger.verify(), 20_000);
  },
);

test.each(["from", "to"] as const)(
  `a node that is killed while a replica is moved, the one it comes %s (seed ${seed})`,
  {
    timeout: 60_000 + rounds * 120_000,
  },
  async (side) => {
    const random = randomFrom(seed);
    const ledger = await filled();
    const client = await cluster().connect();
    for (let round = 0; round < rounds; round++) {
      const { id, move } = await beginMove(client);
      await eventually(async () => expect((await client.cluster.operation(id)).step).not.toBe("join"), 20_000);
      await sleep(systemClock, random(1_500));
      const node = move?.[side] ?? "";
      await cluster().kill(node);
      await ledger.write(range(random(pointCount), 50), { deadlineMs: 10_000 });
      await cluster().start(node);
      await expectSettled(client, id);
    }
    await eventually(() => ledger.verify(), 20_000);
  },
);
