import { monitorEventLoopDelay } from "node:perf_hooks";
import type { VectorIndex } from "../../libs/ann/index.js";
import { searchLoop } from "../../libs/ann/testing.js";
import type { GroundTruth } from "../../libs/datasets/index.js";
import { rowOf, type BenchData, type MetricName } from "../lib/data.js";
import { recallWithTies } from "../lib/recall.js";
import { interleaved, spreadOf, type Spread } from "../lib/repeat.js";

export interface SearchReport {
  name: string;
  ef: number;
  threads: number;
  recall: number | undefined;
  queriesPerSecond: Spread;
  /** Median over the rounds of this variant's rate over that of the C++ loop in the same round. */
  shareOfLoop?: number;
  loopDelayP99Ms?: number;
}

interface Run {
  queriesPerSecond: number;
  found: number[][];
  loopDelayP99Ms?: number;
}

export interface SearchPlan {
  ef: number;
  k: number;
  threads: number;
  inFlight: number;
  rounds: number;
  metric: MetricName;
}

/** Each run asks all queries so often that it takes at least this many. */
const searchesPerRun = 10_000;

/** JavaScript, the same loop in C++, and the graph library's own search, taking turns on one graph with one beam. */
export async function measureSearch(
  index: VectorIndex,
  data: BenchData,
  truth: GroundTruth | undefined,
  plan: SearchPlan,
): Promise<SearchReport[]> {
  const { queries } = data;
  const repeats = Math.max(1, Math.ceil(searchesPerRun / queries.rowCount));
  const variants = [
    { name: "JavaScript, batched", threads: plan.threads, run: () => fromJavaScript(index, data, plan, repeats) },
    { name: "the same loop in C++", threads: 1, run: () => inNative(index, data, plan, repeats, false) },
    { name: "usearch's own search", threads: 1, run: () => inNative(index, data, plan, repeats, true) },
  ];
  for (const variant of variants) await variant.run();
  const runs = await interleaved(variants, plan.rounds, (variant) => variant.run());
  const loop = (runs[1] ?? []).map((run) => run.queriesPerSecond);
  return variants.map(({ name, threads }, i) => {
    const own = runs[i] ?? [];
    const rates = own.map((run) => run.queriesPerSecond);
    const delays = own.flatMap((run) => run.loopDelayP99Ms ?? []);
    return {
      name,
      ef: plan.ef,
      threads,
      recall: truth && recallWithTies(truth, plan.k, own[0]?.found ?? [], data, plan.metric),
      queriesPerSecond: spreadOf(rates),
      ...(i === 1 ? {} : { shareOfLoop: spreadOf(rates.map((rate, round) => rate / (loop[round] ?? rate))).median }),
      ...(delays.length > 0 && { loopDelayP99Ms: spreadOf(delays).median }),
    };
  });
}

async function fromJavaScript(index: VectorIndex, data: BenchData, plan: SearchPlan, repeats: number): Promise<Run> {
  const { k, ef } = plan;
  const { rowCount } = data.queries;
  const total = rowCount * repeats;
  const queries = Array.from({ length: rowCount }, (_, query) => rowOf(data.queries, query));
  const found: number[][] = [];
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  let next = 0;
  const startedMs = performance.now();
  const client = async (): Promise<void> => {
    while (next < total) {
      const query = next++ % rowCount;
      const { slots } = await index.search(queries[query] as Float32Array, { k, ef });
      if (found[query] === undefined) found[query] = [...slots];
    }
  };
  await Promise.all(Array.from({ length: plan.inFlight }, client));
  const seconds = (performance.now() - startedMs) / 1000;
  delay.disable();
  return { queriesPerSecond: total / seconds, found, loopDelayP99Ms: delay.percentile(99) / 1e6 };
}

async function inNative(
  index: VectorIndex,
  data: BenchData,
  plan: SearchPlan,
  repeats: number,
  byUsearch: boolean,
): Promise<Run> {
  const { k, ef } = plan;
  const { values, rowCount } = data.queries;
  let seconds = 0;
  let slots = new Uint32Array();
  for (let i = 0; i < repeats; i++) {
    const run = searchLoop(index, values, { k, ef, byUsearch });
    seconds += run.seconds;
    slots = new Uint32Array(run.slots);
  }
  const found = Array.from({ length: rowCount }, (_, query) => [...slots.subarray(query * k, (query + 1) * k)]);
  return { queriesPerSecond: (rowCount * repeats) / seconds, found };
}
