import { readFileSync } from "node:fs";
import { sleep, systemClock } from "../../../libs/base/index.js";
import { KithError } from "../../../libs/client/index.js";
import { vectorOf } from "../data.js";
import type { Scenario, Stage } from "../scenario.js";
import { expectProgress } from "./crashes.js";

const overloadMs = 15_000;
/** Calls begin so many times as often as they can be answered, whether those before have ended or not. */
const factor = 10;
const inFlightMax = 10_000;
/** Calls that begin without a pause: a call's time runs from its beginning, and its bytes leave in the next turn of the event loop. */
const burst = 20;
const connections = 200;
/** By so many callers, each of which waits for its answer, the rate that can be kept up is measured. */
const steadyCallers = 16;
const steadyMs = 3_000;
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
  title: `${factor} times the rate that can be kept up for ${overloadMs / 1_000} s, up to ${inFlightMax} calls at once on ${connections} connections: bounded memory, typed refusals, recovery`,
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
    const refusedMs: number[] = [];
    // Clients without retries: nothing holds them back.
    const clients = await Promise.all(
      Array.from({ length: connections }, () => cluster.connect({ retry: { attempts: 1 } })),
    );
    const targets = clients.map((client) => client.collection("chaos"));
    const search = async (at: number): Promise<string> => {
      // Wide ones, so that the servers are at their limit before those that ask them.
      const query = { vector: vectorOf(at, 7), limit: 1_000, ef: 4_000, deadlineMs: 5_000 };
      const startMs = systemClock.monotonicMs();
      try {
        await targets[at % connections]?.query({ ...query, consistency: "none" });
        return "ok";
      } catch (error) {
        if (!(error instanceof KithError)) throw error;
        if (error.code === "RESOURCE_EXHAUSTED") refusedMs.push(systemClock.monotonicMs() - startMs);
        return error.code;
      }
    };
    const perSecond = await steadyRate(search);
    worst("searches a second that can be kept up", perSecond);
    const endMs = systemClock.monotonicMs() + overloadMs;
    let inFlight = 0;
    const began: Promise<void>[] = [];
    const generate = async (): Promise<void> => {
      const startMs = systemClock.monotonicMs();
      while (systemClock.monotonicMs() < endMs) {
        const due = ((systemClock.monotonicMs() - startMs) / 1_000) * factor * perSecond;
        for (let i = 0; i < burst && began.length < due && inFlight < inFlightMax; i++) {
          inFlight++;
          const call = search(began.length).then((outcome) => {
            inFlight--;
            outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          });
          began.push(call);
        }
        worst("calls at once", inFlight);
        await sleep(systemClock, 5);
      }
      worst("calls begun a second", (began.length / overloadMs) * 1_000);
      await Promise.all(began);
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
    await Promise.all([measure, generate()]);
    for (const each of clients) each.close();
    for (const [outcome, count] of outcomes) {
      for (let i = 0; i < count; i++) fault(`call: ${outcome}`);
      if (outcome !== "ok" && !honest.has(outcome)) violate(`an overloaded server says ${outcome}, ${count} times`);
    }
    if ((outcomes.get("ok") ?? 0) === 0) violate("no call was answered during the overload");
    const early = outcomes.get("RESOURCE_EXHAUSTED") ?? 0;
    const late = outcomes.get("DEADLINE_EXCEEDED") ?? 0;
    if (early < late) violate(`${late} calls were left to their deadlines, and ${early} refused early`);
    worst("median until a call is refused, ms", refusedMs.sort((a, b) => a - b)[refusedMs.length >> 1] ?? 0);
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

/** Searches a second, by callers each of which waits for its answer. */
async function steadyRate(search: (at: number) => Promise<string>): Promise<number> {
  const endMs = systemClock.monotonicMs() + steadyMs;
  let answered = 0;
  const call = async (caller: number): Promise<void> => {
    for (let i = 0; systemClock.monotonicMs() < endMs; i++) {
      if ((await search(caller + i * steadyCallers)) === "ok") answered++;
    }
  };
  await Promise.all(Array.from({ length: steadyCallers }, (_, caller) => call(caller)));
  return (answered / steadyMs) * 1_000;
}

async function searchMs({ handle }: Stage): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 40; i++) {
    const startMs = systemClock.monotonicMs();
    await handle.query({ vector: vectorOf(i, 3), limit: 10, consistency: "none", deadlineMs: 20_000 });
    times.push(systemClock.monotonicMs() - startMs);
  }
  return times.sort((a, b) => a - b)[20] ?? 0;
}
