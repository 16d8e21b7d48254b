import { readFileSync } from "node:fs";
import { sleep, systemClock } from "../../../libs/base/index.js";
import { KithError } from "../../../libs/client/index.js";
import { vectorOf } from "../data.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress } from "./crashes.js";

const overloadMs = 15_000;
/** Calls at once, on so many connections: each has 1,024 in a router's hands at most, the others wait in the client. */
const concurrency = 3_000;
const connections = 3;
/** What a process may take, in MiB: the heap of Node.js, the graphs, and what waits within its bounds. */
const memoryMaxMiB = 2_048;
/** What an overloaded server may say; the call's own time may run out too. */
const honest = new Set(["RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "SERVER_UNREACHABLE", "SHARD_UNAVAILABLE"]);

function memoryMiB(pid: number): number {
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  return kib / 1_024;
}

export const overload: Scenario = {
  name: "overload",
  title: `${concurrency} calls at once for ${overloadMs / 1_000} s: bounded memory, typed refusals, recovery`,
  rounds: 2,
  readsMayFail: true,
  cluster: { shardNodes: 2, replicas: 2, routers: 1 },
  shards: 2,
  replicas: 2,
  missing: () => (process.platform === "linux" ? undefined : "memory is read from /proc"),
  load: { pauseMs: 20 },
  async round(stage) {
    const { cluster, fault, worst, violate } = stage;
    await expectProgress(stage, 30, "writes before the overload");
    const before = await searchMs(stage);
    const outcomes = new Map<string, number>();
    const endMs = systemClock.monotonicMs() + overloadMs;
    // Clients without retries: nothing holds them back.
    const clients = await Promise.all(
      Array.from({ length: connections }, () => cluster.connect({ retry: { attempts: 1 } })),
    );
    const targets = clients.map((client) => client.collection("chaos"));
    const caller = async (worker: number): Promise<void> => {
      while (systemClock.monotonicMs() < endMs) {
        let outcome = "ok";
        try {
          const vector = vectorOf(worker, 7);
          await targets[worker % connections]?.query({
            vector,
            limit: 100,
            ef: 500,
            consistency: "none",
            deadlineMs: 5_000,
          });
        } catch (error) {
          if (!(error instanceof KithError)) throw error;
          outcome = error.code;
          await sleep(systemClock, 20);
        }
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    };
    const measure = (async () => {
      while (systemClock.monotonicMs() < endMs) {
        for (const node of [...cluster.shardNodes, ...cluster.routers]) {
          const size = memoryMiB(cluster.pidOf(node));
          worst(`memory of ${node.replace(/-\d+$/, "")}, MiB`, size);
          if (size > memoryMaxMiB) violate(`${node} takes ${Math.round(size)} MiB while overloaded`);
        }
        await sleep(systemClock, 500);
      }
    })();
    await Promise.all([measure, ...Array.from({ length: concurrency }, (_, worker) => caller(worker))]);
    for (const [outcome, count] of outcomes) {
      for (let i = 0; i < count; i++) fault(`call: ${outcome}`);
      if (outcome !== "ok" && !honest.has(outcome)) violate(`an overloaded server says ${outcome}, ${count} times`);
    }
    if ((outcomes.get("ok") ?? 0) === 0) violate("no call was answered during the overload");
    await expectProgress(stage, 30, "until writes go on after the overload");
    // Within ten seconds searches take as long as before.
    let after = await searchMs(stage);
    for (let i = 0; i < 20 && after > 3 * before + 5; i++) {
      await sleep(systemClock, 500);
      after = await searchMs(stage);
    }
    worst("median search before, ms", before);
    worst("median search after, ms", after);
    if (after > 3 * before + 5)
      violate(`a search takes ${after.toFixed(1)} ms after the overload, and ${before.toFixed(1)} before`);
  },
};

async function searchMs({ handle }: Stage): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 40; i++) {
    const startMs = systemClock.monotonicMs();
    await handle.query({ vector: vectorOf(i, 3), limit: 10, consistency: "none", deadlineMs: 20_000 });
    times.push(systemClock.monotonicMs() - startMs);
  }
  return times.sort((a, b) => a - b)[20] ?? 0;
}
