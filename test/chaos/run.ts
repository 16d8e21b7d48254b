import { SeededRandom, systemClock } from "../../libs/base/index.js";
import type { KithClient } from "../../libs/client/index.js";
import { startProcesses } from "../cluster/processes.js";
import { check, type Checked } from "./check.js";
import { dimension, type Stamp } from "./data.js";
import { History } from "./history.js";
import { Load } from "./load.js";
import type { Scenario, Stage } from "./scenario.js";

/** How much less of the true neighbours may be found after the faults than before: 0.5 points. */
const recallLoss = 0.005;
const stableCount = 1_000;
const idCount = 6_000;
const violationsShown = 20;

export interface ScenarioResult {
  name: string;
  title: string;
  seed: number;
  rounds: number;
  seconds: number;
  /** What was done to the cluster, by kind. */
  faults: Record<string, number>;
  writes: { ok: number; failed: number; unknown: number; unknownTaken: number };
  reads: { ok: number; failed: Record<string, number> };
  longestWriteGapMs: number;
  checks: number;
  slowestSettledMs: number;
  points: number;
  recall: { before: number; after: number };
  /** The largest of what scenarios measure. */
  worst: Record<string, number>;
  violations: string[];
}

export interface RunOptions {
  rounds: number;
  seed: number;
  /** Of what is run; default: those of the test run. */
  programs?: { program: string; natsBinary: string };
  log?: (line: string) => void;
}

/** Runs one scenario on a cluster of its own. Where something was violated, logs and data of the cluster are kept. */
export async function runScenario(scenario: Scenario, options: RunOptions): Promise<ScenarioResult> {
  const { rounds, seed, programs, log = () => undefined } = options;
  const startMs = systemClock.monotonicMs();
  const { shards, replicas } = scenario;
  const cluster = await startProcesses({ ...scenario.cluster, ...programs });
  const history = new History();
  const faults: Record<string, number> = {};
  const worst: Record<string, number> = {};
  let checked: Checked = { points: 0, settledMs: 0, recall: 1, unknownTaken: 0 };
  let before = 1;
  let checks = 0;
  let slowestSettledMs = 0;
  let longestWriteGapMs = 0;
  let load: Load | undefined;
  try {
    const clients: KithClient[] = await Promise.all(
      cluster.routers.map((_, router) => cluster.connect({ router, connectTimeoutMs: 30_000 })),
    );
    const [client] = clients;
    if (client === undefined) throw new Error("there is no router");
    const handles = clients.map((each) => each.collection<Stamp>("chaos"));
    const [handle] = handles;
    if (handle === undefined) throw new Error("there is no collection");
    await handle.create({ vectors: { dimension, metric: "l2" }, shards, replicas });
    const random = new SeededRandom(seed);
    load = new Load({ history, handles, random, stableCount, idCount, ...scenario.load });
    await load.fill();
    const judge = async (): Promise<void> => {
      checked = await check({ client, handle, history, divisions: scenario.divisions ?? shards, replicas });
      checks++;
      slowestSettledMs = Math.max(slowestSettledMs, checked.settledMs);
    };
    await judge();
    before = checked.recall;
    const stage: Stage = {
      ...{ cluster, client, handle, history, load, random },
      fault: (kind) => (faults[kind] = (faults[kind] ?? 0) + 1),
      worst: (name, value) => (worst[name] = Math.max(worst[name] ?? 0, Math.round(value))),
      violate: (message) => history.violate(message),
    };
    load.start();
    for (let round = 0; round < rounds; round++) {
      await scenario.round(stage, round);
      if ((round + 1) % (scenario.checkEvery ?? 1) !== 0 && round !== rounds - 1) continue;
      await load.stop();
      longestWriteGapMs = Math.max(longestWriteGapMs, history.longestWriteGapMs);
      await judge();
      log(
        `${scenario.name}: round ${round + 1} of ${rounds}, ${checked.points} points, recall ${checked.recall.toFixed(4)}`,
      );
      if (history.violations.length > 0) break;
      if (round !== rounds - 1) load.start();
    }
    if (checked.recall < before - recallLoss) {
      history.violate(`the recall is ${checked.recall.toFixed(4)}, and was ${before.toFixed(4)}`);
    }
    if (scenario.readsMayFail !== true && history.readsFailed > 0) {
      history.violate(
        `${history.readsFailed} reads failed: ${JSON.stringify(Object.fromEntries(history.readFailures))}`,
      );
    }
  } catch (error) {
    history.violate(
      `the scenario broke off: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  } finally {
    await load?.stop();
    if (history.violations.length > 0) cluster.keep();
    await cluster.close();
  }
  return {
    ...{ name: scenario.name, title: scenario.title, seed, rounds },
    seconds: Math.round((systemClock.monotonicMs() - startMs) / 1_000),
    faults,
    writes: {
      ok: history.count("ok"),
      failed: history.count("failed"),
      unknown: history.count("unknown"),
      unknownTaken: checked.unknownTaken,
    },
    reads: { ok: history.readsOk, failed: Object.fromEntries(history.readFailures) },
    longestWriteGapMs: Math.round(longestWriteGapMs),
    ...{ checks, slowestSettledMs: Math.round(slowestSettledMs), points: checked.points },
    recall: { before, after: checked.recall },
    worst,
    violations: history.violations.slice(0, violationsShown),
  };
}
