import { sleep, systemClock } from "../../../libs/base/index.js";
import { KithError } from "../../../libs/client/index.js";
import { vectorOf } from "../data.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress, untilActive } from "./crashes.js";

/** Searches begin so often, whether those before have ended or not. */
const everyMs = 10;
const calmMs = 5_000;
const watchedMs = 12_000;
/** Of searches that begin within it, the 99th percentile is taken; a hundred of them. */
const windowMs = 1_000;
const slowFactor = 3;
/** Below this a percentile is that of the machine. */
const floorMs = 50;
const disturbedMaxMs = 5_000;
const detectedWithinMs = 5_000;

interface Search {
  beganMs: number;
  tookMs: number;
  code?: string;
}

function p99(searches: readonly Search[]): number {
  const times = searches.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  return times[Math.ceil(times.length * 0.99) - 1] ?? 0;
}

/** Searches at a fixed rate, by a client with its usual retries. */
async function searchFor({ handle, random }: Stage, forMs: number): Promise<Search[]> {
  const startMs = systemClock.monotonicMs();
  const running: Promise<Search>[] = [];
  for (let dueMs = startMs; dueMs < startMs + forMs; dueMs += everyMs) {
    await sleep(systemClock, Math.max(0, dueMs - systemClock.monotonicMs()));
    const beganMs = systemClock.monotonicMs();
    const query = { vector: vectorOf(random.below(1_000), 1), limit: 10, deadlineMs: 10_000 };
    running.push(
      handle.query({ ...query, consistency: "none" }).then(
        () => ({ beganMs, tookMs: systemClock.monotonicMs() - beganMs }),
        (error: unknown) => {
          if (!(error instanceof KithError)) throw error;
          return { beganMs, tookMs: systemClock.monotonicMs() - beganMs, code: error.code };
        },
      ),
    );
  }
  return Promise.all(running);
}

/** Until the router counts the node as down, in milliseconds. */
async function detection({ client }: Stage, node: string, sinceMs: number): Promise<number> {
  for (;;) {
    const { nodes } = await client.cluster.describe();
    const tookMs = systemClock.monotonicMs() - sinceMs;
    if (nodes.find(({ id }) => id === node)?.state === "down" || tookMs > watchedMs) return tookMs;
    await sleep(systemClock, 20);
  }
}

export const nodeDeath: Scenario = {
  name: "node-death",
  title: `100 searches a second while one of two replicas dies or stands still: no error, the 99th percentile above ${slowFactor} × for at most 5 s`,
  rounds: 6,
  cluster: { shardNodes: 2, replicas: 2, routers: 1 },
  shards: 2,
  replicas: 2,
  load: { writers: 1, searchers: 1, pauseMs: 20 },
  async round(stage, round) {
    const { cluster, fault, worst, violate } = stage;
    await expectProgress(stage, 20, "writes before a node dies");
    const before = p99(await searchFor(stage, calmMs));
    const victim = cluster.shardNodes[Math.floor(round / 2) % 2] as string;
    const isKill = round % 2 === 0;
    const what = isKill ? "kill -9" : "SIGSTOP";
    const searching = searchFor(stage, watchedMs);
    await sleep(systemClock, windowMs);
    const diedMs = systemClock.monotonicMs();
    if (isKill) await cluster.kill(victim);
    else cluster.signal(victim, "SIGSTOP");
    fault(`${what} of a shard node`);
    try {
      const detectedMs = await detection(stage, victim, diedMs);
      worst(`until a node is seen as down after ${what}, ms`, detectedMs);
      if (detectedMs > detectedWithinMs) violate(`a dead node was seen as down after ${Math.round(detectedMs)} ms`);
      const searches = await searching;
      for (const { code } of searches) if (code !== undefined) violate(`a search failed after ${what}: ${code}`);
      const limitMs = Math.max(slowFactor * before, floorMs);
      let disturbedMs = 0;
      let worstMs = 0;
      for (let fromMs = diedMs; fromMs < diedMs + watchedMs - 2 * windowMs; fromMs += windowMs) {
        const ms = p99(searches.filter(({ beganMs }) => beganMs >= fromMs && beganMs < fromMs + windowMs));
        worstMs = Math.max(worstMs, ms);
        if (ms > limitMs) disturbedMs = fromMs + windowMs - diedMs;
      }
      worst("99th percentile before, ms", before);
      worst(`99th percentile of the worst second after ${what}, ms`, worstMs);
      worst(`until the 99th percentile is within its limit after ${what}, ms`, disturbedMs);
      if (disturbedMs > disturbedMaxMs)
        violate(`the 99th percentile is above ${Math.round(limitMs)} ms for ${disturbedMs} ms after ${what}`);
    } finally {
      if (isKill) await cluster.start(victim);
      else cluster.signal(victim, "SIGCONT");
    }
    await untilActive(stage);
  },
};
