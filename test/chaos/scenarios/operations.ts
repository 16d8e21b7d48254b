import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, systemClock } from "../../../libs/base/index.js";
import type { KithClient, OperationInfo } from "../../../libs/client/index.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress, patiently, untilActive } from "./crashes.js";

const endedWithinMs = 120_000;
const backups = join(tmpdir(), `kith-chaos-backups-${process.pid}`);

async function ended(stage: Stage, client: KithClient, id: string): Promise<OperationInfo | undefined> {
  const endMs = systemClock.monotonicMs() + endedWithinMs;
  for (;;) {
    const operation = await patiently(() => client.cluster.operation(id));
    if (["done", "failed", "cancelled"].includes(operation.state)) return operation;
    if (systemClock.monotonicMs() > endMs) {
      stage.violate(
        `operation ${id} (${operation.kind}) is still at its step ${operation.step} after ${endedWithinMs} ms`,
      );
      return undefined;
    }
    await sleep(systemClock, 200);
  }
}

type Side = "source" | "target" | "coordinator";
const sides: readonly Side[] = ["source", "target", "coordinator"];

/** Kills one of those that take part, and starts it again. */
async function killOne(
  { cluster, client, fault }: Stage,
  side: Side,
  kind: string,
  nodes: Record<string, string>,
): Promise<void> {
  const { coordinator } = await patiently(() => client.cluster.describe());
  const victim = side === "coordinator" ? coordinator : (nodes[side] ?? "");
  if (victim === "") return;
  await cluster.kill(victim);
  fault(`kill -9 of the ${side} of a ${kind}`);
  await sleep(systemClock, 500);
  await cluster.start(victim);
}

export const movesWithKills: Scenario = {
  name: "moves-with-kills",
  title: "a replica is moved while the node that gives, the node that takes, or the coordinator is killed",
  rounds: 60,
  readsMayFail: true,
  checkEvery: 3,
  cluster: { shardNodes: 3, replicas: 2, routers: 2 },
  shards: 1,
  replicas: 2,
  load: { pauseMs: 10 },
  async round(stage, round) {
    const { client, cluster, random, worst } = stage;
    // So that a copy of some thousand points takes about a second.
    if (round === 0) await client.cluster.updateSettings({ copyBytesPerSecond: 1_500_000 });
    await expectProgress(stage, 10, "writes before a move");
    const { shards } = await patiently(() => client.cluster.describe());
    const holders = shards[0]?.replicas.map(({ node }) => node) ?? [];
    const from = holders[random.below(holders.length)] ?? "";
    const to = cluster.shardNodes.find((node) => !holders.includes(node)) ?? "";
    const { id } = await patiently(() => client.cluster.moveReplica({ collection: "chaos", shard: 0, from, to }));
    await sleep(systemClock, random.below(2_000));
    const startMs = systemClock.monotonicMs();
    await killOne(stage, sides[round % sides.length] as Side, "move", { source: from, target: to });
    await ended(stage, client, id);
    worst("until the move has ended, ms", systemClock.monotonicMs() - startMs);
    await untilActive(stage);
  },
};

export const reshapesWithKills: Scenario = {
  name: "reshapes-with-kills",
  title:
    "a shard is split, and its parts are merged, while a node that gives, a node that takes, or the coordinator is killed",
  rounds: 120,
  readsMayFail: true,
  checkEvery: 6,
  cluster: { shardNodes: 3, replicas: 2, routers: 2 },
  shards: 1,
  // What a write does is whole in each shard of the finest division.
  divisions: 2,
  replicas: 2,
  load: { pauseMs: 10 },
  async round(stage, round) {
    const { client, random, worst } = stage;
    if (round === 0) await client.cluster.updateSettings({ copyBytesPerSecond: 1_500_000 });
    await expectProgress(stage, 10, "writes before shards change");
    const { shards } = await patiently(() => client.cluster.describe());
    const holders = shards.flatMap(({ replicas }) => replicas.map(({ node }) => node));
    const [first] = shards;
    const isSplit = shards.length === 1;
    const { id } = await patiently(() =>
      isSplit
        ? client.cluster.splitShard({ collection: "chaos", shard: first?.shard ?? 0, into: 2 })
        : client.cluster.mergeShards({ collection: "chaos", shards: shards.map(({ shard }) => shard) }),
    );
    await sleep(systemClock, random.below(2_000));
    const startMs = systemClock.monotonicMs();
    const victims = { source: holders[random.below(holders.length)] ?? "", target: holders.at(-1) ?? "" };
    const kind = isSplit ? "split" : "merge";
    await killOne(stage, sides[Math.floor(round / 2) % sides.length] as Side, kind, victims);
    const end = await ended(stage, client, id);
    stage.fault(`${kind} ${end?.state ?? "not ended"}`);
    worst(`until the ${kind} has ended, ms`, systemClock.monotonicMs() - startMs);
    await untilActive(stage);
  },
};

export const drainsWithKills: Scenario = {
  name: "drains-with-kills",
  title: "a node is drained while it, another node, or the coordinator is killed, and taken back",
  rounds: 20,
  readsMayFail: true,
  checkEvery: 2,
  cluster: { shardNodes: 3, replicas: 2, routers: 2 },
  shards: 3,
  replicas: 2,
  load: { pauseMs: 10 },
  async round(stage, round) {
    const { client, cluster, random, violate } = stage;
    await expectProgress(stage, 10, "writes before a drain");
    const node = cluster.shardNodes[round % cluster.shardNodes.length] as string;
    const other = cluster.shardNodes[(round + 1) % cluster.shardNodes.length] as string;
    await patiently(() => client.cluster.drain(node));
    await sleep(systemClock, random.below(1_500));
    await killOne(stage, sides[round % sides.length] as Side, "drain", { source: node, target: other });
    const endMs = systemClock.monotonicMs() + endedWithinMs;
    for (;;) {
      const { nodes } = await patiently(() => client.cluster.describe());
      const left = nodes.find(({ id }) => id === node)?.replicaCount;
      if (left === 0) break;
      if (systemClock.monotonicMs() > endMs) {
        violate(`${node} still has ${left} replicas ${endedWithinMs} ms after it was asked to be drained`);
        break;
      }
      await sleep(systemClock, 200);
    }
    await patiently(() => client.cluster.undrain(node));
    await untilActive(stage);
  },
};

export const backupsWithKills: Scenario = {
  name: "backups-with-kills",
  title: "a backup is made, and restored, while a shard node or the coordinator is killed: it is whole, or is none",
  rounds: 20,
  readsMayFail: true,
  checkEvery: 4,
  cluster: { shardNodes: 2, replicas: 2, routers: 2, env: { KITH_BACKUP_FOLDER: backups } },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 10 },
  async round(stage, round) {
    const { client, cluster, random, fault, worst, violate } = stage;
    await expectProgress(stage, 10, "writes before a backup");
    const { id, operation } = await patiently(() => client.backups.create("chaos", { maxBytesPerSecond: 1_000_000 }));
    await sleep(systemClock, random.below(1_500));
    const node = cluster.shardNodes[random.below(cluster.shardNodes.length)] as string;
    await killOne(stage, round % 2 === 0 ? "coordinator" : "source", "backup", { source: node });
    const end = await ended(stage, client, operation);
    const listed = await patiently(() => client.backups.list({ collection: "chaos" }));
    const isListed = listed.some((backup) => backup.id === id);
    fault(`backup ${end?.state ?? "not ended"}`);
    if (end?.state === "done") {
      const { pointCount } = await patiently(() => client.backups.verify(id));
      worst("points of a backup", pointCount);
    } else if (isListed) violate(`backup ${id} is listed, and its operation is ${end?.state ?? "not ended"}`);
    if (round % 4 === 3) {
      if (end?.state === "done") await restored(stage, id, round % 8 === 3 ? "coordinator" : "source");
      rmSync(backups, { recursive: true, force: true });
    }
    await untilActive(stage);
  },
};

/** A backup that was made under kills gives a collection of as many points as it says, under a kill as well. */
async function restored(stage: Stage, id: string, side: Side): Promise<void> {
  const { client, cluster, random, fault, violate } = stage;
  const { pointCount } = await patiently(() => client.backups.verify(id));
  const { operation } = await patiently(() => client.backups.restore(id, { collection: "again" }));
  await sleep(systemClock, random.below(400));
  await killOne(stage, side, "restore", { source: cluster.shardNodes[random.below(cluster.shardNodes.length)] ?? "" });
  const end = await ended(stage, client, operation);
  fault(`restore ${end?.state ?? "not ended"}`);
  if (end?.state !== "done") return violate(`backup ${id} was not restored: ${end?.error ?? "it has not ended"}`);
  const count = await client.collection("again").count({ consistency: "linearizable", deadlineMs: 30_000 });
  if (count !== pointCount) violate(`backup ${id} has ${pointCount} points, and restored it has ${count}`);
  await client.collection("again").drop();
}
