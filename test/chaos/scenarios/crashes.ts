import { sleep, systemClock } from "../../../libs/base/index.js";
import { KithError } from "../../../libs/client/index.js";
import type { Scenario, Stage } from "../scenario.js";

const progressMs = 60_000;

/** What a client sees, again while its router is away: it may be the one that was killed. */
export async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  const endMs = systemClock.monotonicMs() + 60_000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof KithError) || !error.retryable || systemClock.monotonicMs() > endMs) throw error;
      await sleep(systemClock, 200);
    }
  }
}

/** Writes go on. */
export async function expectProgress({ load, violate, worst }: Stage, count: number, what: string): Promise<void> {
  const startMs = systemClock.monotonicMs();
  if (await load.progress(count, progressMs)) worst(`${what}, ms`, systemClock.monotonicMs() - startMs);
  else violate(`${what}: fewer than ${count} writes were acknowledged within ${progressMs} ms`);
}

export const shardCrashes: Scenario = {
  name: "shard-crashes",
  title: "crash loop of shard nodes under writes",
  rounds: 200,
  checkEvery: 20,
  cluster: { shardNodes: 3, replicas: 2, routers: 2 },
  shards: 3,
  replicas: 2,
  async round(stage) {
    const { cluster, random, fault } = stage;
    const victim = cluster.shardNodes[random.below(cluster.shardNodes.length)] as string;
    await sleep(systemClock, random.below(500));
    await cluster.kill(victim);
    fault("kill -9 of a shard node");
    await expectProgress(stage, 10, "writes beside a dead node");
    await cluster.start(victim);
    // Also while it catches up.
    await sleep(systemClock, random.below(1_500));
    await untilActive(stage);
  },
};

/** All replicas answer: so that the next death leaves one. */
export async function untilActive({ client, violate }: Stage, withinMs = 60_000): Promise<void> {
  const endMs = systemClock.monotonicMs() + withinMs;
  for (;;) {
    const { shards } = await patiently(() => client.cluster.describe());
    if (shards.every(({ replicas }) => replicas.every(({ state }) => state === "active"))) return;
    if (systemClock.monotonicMs() > endMs) {
      violate(`not all replicas are active within ${withinMs} ms`);
      return;
    }
    await sleep(systemClock, 100);
  }
}

export const everythingDies: Scenario = {
  name: "everything-dies",
  title: "kill -9 of all nodes and of NATS at once",
  rounds: 20,
  readsMayFail: true,
  cluster: { shardNodes: 3, replicas: 2, routers: 2 },
  shards: 3,
  replicas: 2,
  async round(stage) {
    const { cluster, random, fault } = stage;
    await expectProgress(stage, 50, "writes before everything dies");
    await sleep(systemClock, random.below(500));
    const nodes = [...cluster.shardNodes, ...cluster.routers];
    await Promise.all([cluster.killNats(), ...nodes.map((node) => cluster.kill(node))]);
    fault("kill -9 of everything");
    // In any order.
    const starts = [() => cluster.startNats(), ...nodes.map((node) => () => cluster.start(node))];
    while (starts.length > 0) await starts.splice(random.below(starts.length), 1)[0]?.();
    await expectProgress(stage, 50, "until writes go on after everything died");
  },
};

export const routerCrashes: Scenario = {
  name: "router-crashes",
  title: "kill -9 of routers, the coordinator among them",
  rounds: 20,
  // A call that is under way when its router dies is repeated by the client, at another one where it knows one; here each client knows one.
  readsMayFail: true,
  checkEvery: 5,
  cluster: { shardNodes: 2, replicas: 2, routers: 2 },
  shards: 2,
  replicas: 2,
  async round(stage, round) {
    const { cluster, random, fault } = stage;
    const victim = cluster.routers[round % cluster.routers.length] as string;
    await sleep(systemClock, random.below(500));
    await cluster.kill(victim);
    fault("kill -9 of a router");
    await expectProgress(stage, 20, "writes beside a dead router");
    await cluster.start(victim);
    await expectProgress(stage, 50, "writes after a router came back");
  },
};

export const rollingRestart: Scenario = {
  name: "rolling-restart",
  title: "all nodes restarted one by one, in order",
  rounds: 5,
  cluster: { shardNodes: 3, replicas: 2, routers: 2, flags: ["--drain-timeout", "10s"] },
  shards: 3,
  replicas: 2,
  async round(stage) {
    const { cluster, fault, worst, history } = stage;
    const unknownBefore = history.count("unknown");
    for (const node of cluster.shardNodes) {
      await cluster.stop(node);
      fault("orderly restart of a shard node");
      await cluster.start(node);
      await untilActive(stage);
      await expectProgress(stage, 20, "writes after a shard node came back");
    }
    // Of an orderly restart clients see nothing but retries.
    const unknown = history.count("unknown") - unknownBefore;
    worst("writes that clients saw fail", unknown);
    if (unknown > 0) stage.violate(`${unknown} writes failed while shard nodes were restarted in order`);
  },
};

export const trimmedPast: Scenario = {
  name: "trimmed-past",
  title: "logs are trimmed past a stopped replica: it takes a copy when it comes back",
  rounds: 3,
  cluster: { shardNodes: 2, replicas: 2, routers: 1 },
  shards: 1,
  replicas: 2,
  async round(stage, round) {
    const { client, cluster, fault, violate } = stage;
    // Nothing is kept for its age, and for replicas that are away only for a second; what is written while a copy is taken is.
    const keep = { logRetentionMs: 0, logRetentionRecords: 200, logHoldMs: 1_000, replicaFlushMs: 200 };
    if (round === 0) await client.cluster.updateSettings(keep);
    await expectProgress(stage, 50, "writes before a replica is stopped");
    const [before] = (await client.cluster.describe()).shards;
    const victim = cluster.shardNodes[round % 2] as string;
    if (round % 2 === 0) await cluster.kill(victim);
    else await cluster.stop(victim);
    fault("stopped replica");
    await expectProgress(stage, 600, "writes beside a stopped replica");
    const endMs = systemClock.monotonicMs() + 120_000;
    while (systemClock.monotonicMs() < endMs) {
      const [shard] = (await client.cluster.describe()).shards;
      if ((shard?.logFirstSequence ?? 0) > (before?.logSequence ?? 0)) break;
      await sleep(systemClock, 500);
    }
    const said = cluster.logOf(victim).length;
    await cluster.start(victim);
    await untilActive(stage);
    if (cluster.logOf(victim).slice(said).includes("copied the replica of")) fault("copy of another replica");
    else violate(`${victim} came back behind the trimmed log without a copy`);
  },
};
