import { sleep, systemClock } from "../../../libs/base/index.js";
import type { NatsServers } from "../../cluster/nats-servers.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress } from "./crashes.js";

/** Within which writes go on when one of three servers has died. */
const resumeMs = 15_000;

function serversOf({ cluster }: Stage): NatsServers {
  if (cluster.natsServers === undefined) throw new Error("this scenario needs several nats-servers");
  return cluster.natsServers;
}

export const natsCrashes: Scenario = {
  name: "nats-crashes",
  title: "kill -9 of each nats-server of three, the leader first: writes go on within 15 s, searches without an error",
  rounds: 3,
  cluster: { shardNodes: 2, replicas: 2, routers: 1, natsServers: 3 },
  shards: 2,
  replicas: 2,
  load: { writeDeadlineMs: 20_000 },
  async round(stage) {
    const servers = serversOf(stage);
    const leader = await servers.leader();
    const order = [leader, ...Array.from({ length: servers.count }, (_, i) => i).filter((i) => i !== leader)];
    for (const [at, i] of order.entries()) {
      await expectProgress(stage, 20, "writes before a nats-server dies");
      const startMs = systemClock.monotonicMs();
      await servers.kill(i);
      stage.fault(at === 0 ? "kill -9 of the leading nats-server" : "kill -9 of a nats-server");
      if (!(await stage.load.progress(5, resumeMs))) stage.violate(`writes do not go on within ${resumeMs} ms`);
      stage.worst("until writes go on, ms", systemClock.monotonicMs() - startMs);
      servers.begin(i);
      await servers.healthy(i);
    }
  },
};

export const natsAway: Scenario = {
  name: "nats-away",
  title: "the only nats-server dies, or stands still, for some seconds: searches go on, writes go on afterwards",
  rounds: 6,
  cluster: { shardNodes: 2, replicas: 2, routers: 1 },
  shards: 2,
  replicas: 2,
  checkEvery: 2,
  async round(stage, round) {
    const { cluster, random, fault } = stage;
    await expectProgress(stage, 20, "writes before NATS goes");
    const awayMs = 1_000 + random.below(6_000);
    if (round % 2 === 0) {
      await cluster.killNats();
      fault("kill -9 of NATS");
      await sleep(systemClock, awayMs);
      await cluster.startNats();
    } else {
      cluster.signalNats("SIGSTOP");
      fault("SIGSTOP of NATS");
      try {
        await sleep(systemClock, awayMs);
      } finally {
        cluster.signalNats("SIGCONT");
      }
    }
    await expectProgress(stage, 20, "until writes go on when NATS is back");
  },
};
