import { tmpdir } from "node:os";
import { createIndex, type IndexOptions, type VectorIndex } from "../../libs/ann/index.js";
import { searchLoop } from "../../libs/ann/testing.js";
import { sleep, systemClock } from "../../libs/base/index.js";
import { type BenchData, type Matrix, truthOf } from "../lib/data.js";
import { recallWithTies } from "../lib/recall.js";
import { interleaved, type Spread, spreadOf } from "../lib/repeat.js";
import { formatNumber, formatTable } from "../lib/table.js";
import { type BuildReport, measureBuild } from "./build.js";
import type { SearchPlan } from "./search.js";

type Datatype = IndexOptions["datatype"];

/** One index with one beam width beside the baseline with the first of the beam widths. */
export interface AgainstReport {
  datatype: Datatype;
  ef: number;
  recall: number | undefined;
  /** Of a second of CPU, by the loop in C++. */
  queriesPerSecond: Spread;
  /** That over the one of the baseline in the same round. */
  rate: Spread;
  /** All bytes in memory that the index counts, over those of the baseline: a mapped file is not among them. */
  memory: number;
}

interface Built {
  datatype: Datatype;
  index: VectorIndex;
  build: BuildReport;
}

/**
 * Indexes of the same rows in several datatypes, of which the first is the baseline; all others keep the vectors as they were given in a mapped file and score by them.
 * They are searched in turns, by each beam width; the baseline is the first index with the first of them.
 */
export async function measureAgainst(
  options: IndexOptions,
  datatypes: readonly Datatype[],
  base: Matrix,
  data: BenchData,
  { efs, ...plan }: Omit<SearchPlan, "ef"> & { efs: readonly number[] },
): Promise<{ text: string; reports: AgainstReport[] }> {
  const truth = await truthOf(data, plan.metric, plan.k);
  const built: Built[] = [];
  const reports: AgainstReport[] = [];
  try {
    for (const datatype of datatypes) {
      const index = createIndex({ ...options, datatype, ...(datatype !== "f32" && { givenFolder: tmpdir() }) });
      built.push({ datatype, index, build: await measureBuild(index, base) });
    }
    await resting();
    const { rowCount } = data.queries;
    const repeats = Math.max(1, Math.ceil(searchesPerRun / rowCount));
    const variants = efs.flatMap((ef) => built.map((each) => ({ ...each, ef })));
    const search = ({ index, ef }: Built & { ef: number }): Promise<Run> =>
      Promise.resolve(searched(index, data.queries.values, { k: plan.k, ef }, repeats));
    for (const each of variants) await search(each);
    const runs = await interleaved(variants, plan.rounds, search);
    const ratesOf = (i: number): number[] => (runs[i] ?? []).map(({ queriesPerSecond }) => queriesPerSecond);
    for (const [i, { datatype, ef, build }] of variants.entries()) {
      const slots = runs[i]?.[0]?.slots ?? new Uint32Array();
      const found = Array.from({ length: rowCount }, (_, q) => [...slots.subarray(q * plan.k, (q + 1) * plan.k)]);
      reports.push({
        datatype,
        ef,
        recall: truth && recallWithTies(truth, plan.k, found, data, plan.metric),
        queriesPerSecond: spreadOf(ratesOf(i)),
        rate: spreadOf(ratesOf(i).map((rate, round) => rate / (ratesOf(0)[round] ?? rate))),
        memory: build.ratioToRaw / (built[0]?.build.ratioToRaw ?? 1),
      });
    }
  } finally {
    for (const { index } of built) await index.close();
  }
  return { text: tableOf(reports, plan.k), reports };
}

/** Each run asks all queries so often that it takes at least this many. */
const searchesPerRun = 2_000;

interface Run {
  queriesPerSecond: number;
  slots: Uint32Array;
}

function searched(index: VectorIndex, queries: Float32Array, how: { k: number; ef: number }, repeats: number): Run {
  const before = process.cpuUsage();
  let slots = new Uint32Array();
  for (let i = 0; i < repeats; i++) slots = new Uint32Array(searchLoop(index, queries, how).slots);
  const { user, system } = process.cpuUsage(before);
  return { queriesPerSecond: (repeats * queries.length) / index.options.dimension / ((user + system) / 1e6), slots };
}

/** Until the writers have looked after the links of the graphs: their CPU would count as that of searches. */
async function resting(): Promise<void> {
  for (let i = 0; i < 120; i++) {
    const before = process.cpuUsage();
    await sleep(systemClock, 500);
    const { user, system } = process.cpuUsage(before);
    if (user + system < 10_000) return;
  }
}

function tableOf(reports: readonly AgainstReport[], k: number): string {
  return formatTable(
    [
      { title: "datatype", align: "left" },
      ...["ef", `recall@${k}`, "queries per second of CPU", "× rate", "min", "max", "× memory"].map((title) => ({
        title,
      })),
    ],
    reports.map(({ datatype, ef, recall, queriesPerSecond, rate, memory }) => [
      datatype,
      String(ef),
      recall?.toFixed(4) ?? "-",
      formatNumber(queriesPerSecond.median),
      ...[rate.median, rate.min, rate.max].map((value) => value.toFixed(2)),
      memory.toFixed(3),
    ]),
  );
}
