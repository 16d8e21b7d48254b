import { mkdirSync, mkdtempSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep, systemClock } from "../../../libs/base/index.js";
import { type CrashOrder, crashPoints } from "../crash-points.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress, patiently, untilActive } from "./crashes.js";

/** Scenarios say in files here what nodes do: see preload.ts. */
const folder = mkdtempSync(join(tmpdir(), "kith-chaos-orders-"));
const preload = new URL("../preload.js", import.meta.url).href;
const env = { CHAOS_FOLDER: folder, NODE_OPTIONS: `--import=${preload}` };
/** How long it may take until a process comes to the point at which it is to end. */
const reachedWithinMs = 60_000;

function tell(node: string, kind: "crash" | "clock", text: string): void {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${node}.${kind}`);
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

/** Does what brings a node to renames again and again: indexes of payloads are built, and their files put into place. */
async function buildIndexes({ handle, random }: Stage, until: Promise<unknown>): Promise<void> {
  let ended = false;
  void until.then(() => {
    ended = true;
  });
  const endMs = systemClock.monotonicMs() + reachedWithinMs;
  while (!ended && systemClock.monotonicMs() < endMs) {
    const field = `f${random.below(1_000)}`;
    await patiently(() => handle.createPayloadIndex(field, "integer"));
    await sleep(systemClock, 200);
    await patiently(() => handle.dropPayloadIndex(field));
  }
}

export const crashesAtPoints: Scenario = {
  name: "crash-points",
  title:
    "kill -9 at named points: the log has acknowledged, before and after a batch, before and after a rename, before a trim",
  rounds: crashPoints.length * 50,
  readsMayFail: true,
  checkEvery: crashPoints.length,
  cluster: { shardNodes: 2, replicas: 2, routers: 2, env },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 5 },
  async round(stage, round) {
    const { client, cluster, random, fault, violate } = stage;
    // So that logs are trimmed all the time.
    const keep = { logRetentionMs: 0, logRetentionRecords: 200, logHoldMs: 1_000, replicaFlushMs: 200 };
    if (round === 0) await client.cluster.updateSettings(keep);
    await expectProgress(stage, 20, "writes before a crash");
    const { point, role } = crashPoints[round % crashPoints.length] as (typeof crashPoints)[number];
    const { coordinator } = await patiently(() => client.cluster.describe());
    const ofRole = role === "shard" ? cluster.shardNodes : cluster.routers;
    const victim = point === "before-trim" ? coordinator : (ofRole[random.below(ofRole.length)] as string);
    const isRepeated = point === "log-acknowledged" || point.endsWith("batch");
    const order: CrashOrder = { point, after: isRepeated ? 1 + random.below(20) : 1 };
    const ended = cluster.ended(victim);
    tell(victim, "crash", JSON.stringify(order));
    const reached = Promise.race([ended.then(() => true), sleep(systemClock, reachedWithinMs).then(() => false)]);
    if (point.endsWith("rename")) await buildIndexes(stage, ended);
    if (await reached) fault(`kill -9 ${point}`);
    else {
      violate(`${victim} did not come to ${point} within ${reachedWithinMs} ms`);
      await cluster.kill(victim);
    }
    await cluster.start(victim);
    await untilActive(stage);
  },
};

/** How long a clock is wrong. */
const wrongMs = 5_000;
const hourMs = 3_600_000;

export const clockSteps: Scenario = {
  name: "clock-steps",
  title: "the wall clock of a shard node, of a router, of the coordinator, or of all steps by an hour, and back",
  rounds: 16,
  checkEvery: 4,
  cluster: { shardNodes: 2, replicas: 2, routers: 2, env },
  shards: 2,
  replicas: 2,
  load: { pauseMs: 5 },
  async round(stage, round) {
    const { client, cluster, random, fault, history, violate } = stage;
    await expectProgress(stage, 30, "writes before a step of the clock");
    const unknownBefore = history.count("unknown");
    const { coordinator } = await patiently(() => client.cluster.describe());
    const some = (nodes: readonly string[]): string[] => [nodes[random.below(nodes.length)] as string];
    const kinds = [
      ["a shard node", some(cluster.shardNodes)],
      ["a router", some(cluster.routers)],
      ["the coordinator", [coordinator]],
      ["all nodes", [...cluster.shardNodes, ...cluster.routers]],
    ] as const;
    const [what, nodes] = kinds[round % kinds.length] as (typeof kinds)[number];
    const step = Math.floor(round / kinds.length) % 2 === 0 ? hourMs : -hourMs;
    for (const node of nodes) tell(node, "clock", String(step));
    fault(`clock of ${what} by ${step > 0 ? "+" : "-"}1 h, and back`);
    await sleep(systemClock, wrongMs);
    await expectProgress(stage, 20, "writes beside a wrong clock");
    for (const node of nodes) tell(node, "clock", "0");
    await expectProgress(stage, 20, "writes after a clock was put right");
    const unknown = history.count("unknown") - unknownBefore;
    if (unknown > 0) violate(`${unknown} writes failed while the clock of ${what} was wrong`);
    await untilActive(stage);
  },
};
