import { sleep, systemClock } from "../../../libs/base/index.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress, untilActive } from "./crashes.js";

/** How long a process stands still, in the order of the rounds. */
const pausesMs = [5_000, 20_000, 60_000];

async function pause({ cluster, fault }: Stage, node: string, ms: number, kind: string): Promise<void> {
  cluster.signal(node, "SIGSTOP");
  fault(`SIGSTOP of ${kind} for ${ms / 1_000} s`);
  try {
    await sleep(systemClock, ms);
  } finally {
    cluster.signal(node, "SIGCONT");
  }
}

export const pausedShard: Scenario = {
  name: "paused-shard",
  title: "a shard node stands still for 5, 20 and 60 s",
  rounds: 3,
  cluster: { shardNodes: 3, replicas: 2, routers: 1 },
  shards: 3,
  replicas: 2,
  load: { pauseMs: 5 },
  async round(stage, round) {
    const { cluster } = stage;
    // So that routers have learned how long a shard takes.
    await expectProgress(stage, 100, "writes before a pause");
    await pause(stage, cluster.shardNodes[round % 3] as string, pausesMs[round % 3] as number, "a shard node");
    await untilActive(stage);
    await expectProgress(stage, 20, "until writes go on after a pause");
  },
};

export const pausedCoordinator: Scenario = {
  name: "paused-coordinator",
  title: "a router, and the coordinator, stand still for 5, 20 and 60 s",
  rounds: 3,
  readsMayFail: true,
  cluster: { shardNodes: 2, replicas: 2, routers: 2 },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 5 },
  async round(stage, round) {
    const { client, cluster } = stage;
    await expectProgress(stage, 50, "writes before a pause");
    const { coordinator } = await client.cluster.describe();
    const ms = pausesMs[round % 3] as number;
    // In turns: the one that coordinates, and the one that does not.
    const beside = cluster.routers.find((router) => router !== coordinator) as string;
    const isCoordinator = round % 2 === 0 && cluster.routers.includes(coordinator);
    await pause(stage, isCoordinator ? coordinator : beside, ms, isCoordinator ? "the coordinator" : "a router");
    await expectProgress(stage, 50, "until writes go on after a pause");
  },
};

/** Of searches with and without a slow replica: how much longer the slowest hundredth may take. */
const slowFactor = 2;

export const slowReplica: Scenario = {
  name: "slow-replica",
  title:
    "a replica that stands still half of the time: hedging keeps the 99th percentile of searches within 2 times, or 50 ms",
  rounds: 3,
  cluster: { shardNodes: 2, replicas: 2, routers: 1 },
  shards: 1,
  replicas: 2,
  load: { writers: 1, searchers: 1, pauseMs: 10 },
  async round(stage) {
    const { cluster, fault, worst, violate } = stage;
    const before = await p99(stage, 300);
    let isOver = false;
    const slow = (async () => {
      while (!isOver) {
        cluster.signal("shard-1", "SIGSTOP");
        fault("SIGSTOP of a shard node for 0.1 s");
        await sleep(systemClock, 100);
        cluster.signal("shard-1", "SIGCONT");
        await sleep(systemClock, 100);
      }
    })();
    let during: number;
    try {
      during = await p99(stage, 300);
    } finally {
      isOver = true;
      await slow;
    }
    worst("99th percentile before, ms", Math.round(before * 10) / 10);
    worst("99th percentile with a slow replica, ms", Math.round(during * 10) / 10);
    if (during > Math.max(slowFactor * before, 50)) {
      violate(
        `the 99th percentile of searches is ${during.toFixed(1)} ms with a slow replica, and ${before.toFixed(1)} ms without`,
      );
    }
  },
};

async function p99({ handle, random }: Stage, count: number): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const vector = Float32Array.from({ length: 16 }, () => random.float());
    const startMs = systemClock.monotonicMs();
    await handle.query({ vector, limit: 10, consistency: "none", deadlineMs: 10_000 });
    times.push(systemClock.monotonicMs() - startMs);
    await sleep(systemClock, 2);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(count * 0.99)] ?? 0;
}
