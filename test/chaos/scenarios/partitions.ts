import { sleep, systemClock } from "../../../libs/base/index.js";
import type { Cut } from "../../cluster/proxy.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress, untilActive } from "./crashes.js";

const both: Cut = { toServer: true, toClient: true };
const out: Cut = { toServer: true, toClient: false };
const back: Cut = { toServer: false, toClient: true };

/** Longer than others wait until a node is down. */
const shortMs = 2_000;
const longMs = 8_000;

interface Partition {
  what: string;
  /** Cuts, and gives what mends it. */
  begin: (stage: Stage, victim: string) => () => void;
}

const natsOf = (what: string, cut: Cut): Partition => ({
  what,
  begin: ({ cluster }, victim) => {
    const { nats } = cluster.networkOf(victim);
    nats.cut(cut);
    return () => nats.mend();
  },
});
const linkOf = (what: string, cut: Cut): Partition => ({
  what,
  begin: ({ cluster }, victim) => {
    const { link } = cluster.networkOf(victim);
    link?.cut(cut);
    return () => link?.mend();
  },
});

const partitions: readonly Partition[] = [
  natsOf("shard node cut off from NATS", both),
  linkOf("shard node cut off from routers", both),
  natsOf("shard node hears NATS and is not heard", out),
  natsOf("shard node is heard by NATS and hears nothing", back),
  linkOf("shard node is not reached by routers, and they hear it", out),
  linkOf("shard node is reached by routers, and not heard", back),
];

export const cutShard: Scenario = {
  name: "cut-shard",
  title: "partitions of a shard node from NATS and from routers, in both directions and in one",
  rounds: 12,
  checkEvery: 3,
  cluster: { shardNodes: 3, replicas: 2, routers: 1, cuttable: true },
  shards: 3,
  replicas: 2,
  load: { pauseMs: 5, writeDeadlineMs: 15_000 },
  async round(stage, round) {
    const { cluster, random, fault, history } = stage;
    await expectProgress(stage, 30, "writes before a partition");
    const unknownBefore = history.count("unknown");
    const victim = cluster.shardNodes[random.below(cluster.shardNodes.length)] as string;
    const { what, begin } = partitions[round % partitions.length] as Partition;
    const mend = begin(stage, victim);
    fault(what);
    try {
      await sleep(systemClock, random.float() < 0.3 ? shortMs : longMs);
      await expectProgress(stage, 5, "writes beside a node that is cut off");
    } finally {
      mend();
    }
    // The other replica confirms what this one does not.
    const unknown = history.count("unknown") - unknownBefore;
    if (unknown > 0) stage.violate(`${unknown} writes were not confirmed within their deadline: ${what}`);
    await untilActive(stage);
  },
};

export const cutRouter: Scenario = {
  name: "cut-router",
  title: "a router, and the coordinator, cut off from NATS: searches go on, writes go on afterwards",
  rounds: 6,
  checkEvery: 2,
  cluster: { shardNodes: 2, replicas: 2, routers: 2, cuttable: true },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 5, writeDeadlineMs: 15_000 },
  async round(stage, round) {
    const { cluster, fault } = stage;
    await expectProgress(stage, 30, "writes before a partition");
    const victim = cluster.routers[round % cluster.routers.length] as string;
    const { nats } = cluster.networkOf(victim);
    const cut = [both, out, back][round % 3] as Cut;
    nats.cut(cut);
    fault(cut === both ? "router cut off from NATS" : "router cut off from NATS in one direction");
    try {
      await sleep(systemClock, longMs);
    } finally {
      nats.mend();
    }
    await expectProgress(stage, 30, "until writes go on after a partition");
  },
};
