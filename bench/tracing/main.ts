import { Command } from "commander";
import { KithError } from "../../libs/base/index.js";
import type { Mode } from "../load/driver.js";
import { runVariant, type Variant, type VariantSample } from "../load/variants.js";
import { Api } from "../lib/api.js";
import { createCollection, fillCollection } from "../lib/collection.js";
import { type BenchData, loadData } from "../lib/data.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  listOf,
  oneOf,
  positive,
  runMain,
  whole,
} from "../lib/options.js";
import { interleaved, pairedChange, type Spread, spreadOf } from "../lib/repeat.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import type { Session } from "../lib/session.js";
import { formatNumber, formatTable } from "../lib/table.js";
import { TraceReceiver } from "./receiver.js";

interface Flags extends DataFlags, CollectionFlags {
  mode: Mode[];
  ratio: number[];
  concurrency: number;
  duration: number;
  warmup: number;
  rounds: number;
  sets: number;
  nodeArg?: string[];
  json?: string;
}

/** How a server traces: "off again" is a second one without tracing, and shows how much servers differ by themselves. */
type Setting = "off" | "off again" | number;

/** A server with one setting of tracing, filled and ready. */
interface Traced {
  setting: Setting;
  server: OwnServer;
  api: Api;
}

interface Costs {
  queriesPerSecond: number[];
  cpuUsPerQuery: number[];
}

/** Seconds of load before the first round of a set: the compiler and the writers of the graph come to rest. */
const settleSeconds = 3;

const command = new Command("bench:tracing")
  .description(
    "what tracing costs: servers with tracing off (two of them) and at several sampling ratios, asked in turns",
  )
  .option("--mode <list>", "unary, stream", listOf(oneOf(["unary", "stream"])), ["unary", "stream"])
  .option("--ratio <list>", "shares of the queries that are traced", listOf(positive), [0.01, 1])
  .option("--concurrency <n>", "queries always in flight", whole(1, 8_000), 64)
  .option("--duration <s>", "seconds that are measured, each time", positive, 1)
  .option("--warmup <s>", "seconds before", positive, 0.2)
  .option("--rounds <n>", "repetitions in each set, the servers taking turns", whole(1, 1000), 20)
  .option("--sets <n>", "sets of fresh servers", whole(1, 100), 6)
  .option("--node-arg <arg...>", "further argument of node for the servers, such as --node-arg=--cpu-prof")
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-tracing");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const tooLarge = flags.ratio.find((ratio) => ratio > 1);
  if (tooLarge !== undefined) throw new KithError("INVALID_ARGUMENT", `--ratio ${tooLarge} is not in 0..1`);
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base });
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const settings: Setting[] = ["off", "off again", ...flags.ratio];
  const receiver = new TraceReceiver();
  /** By mode, then by setting, then by set. */
  const costs = flags.mode.map(() => settings.map((): Costs[] => []));
  try {
    const endpoint = await receiver.listen();
    for (let set = 0; set < flags.sets; set++) await measureSet(flags, data, settings, endpoint, costs, set);
  } finally {
    receiver.close();
  }
  if (receiver.receivedBytes === 0) throw new KithError("INTERNAL", "no spans were exported: nothing was measured");
  report(flags, data, settings, costs);
}

/** Starts fresh servers, one for each setting, and asks them in turns. */
async function measureSet(
  flags: Flags,
  data: BenchData,
  settings: readonly Setting[],
  endpoint: string,
  costs: Costs[][][],
  set: number,
): Promise<void> {
  const all: Traced[] = [];
  try {
    // Another order in every set: the place in it must not be taken for the setting.
    for (let i = 0; i < settings.length; i++) {
      const setting = settings[(i + set) % settings.length] as Setting;
      all.push(await startTraced(setting, endpoint, flags, data));
    }
    for (const [modeIndex, mode] of flags.mode.entries()) {
      const variant: Omit<Variant, "session"> = {
        driver: "http2",
        mode,
        ef: 0,
        plan: { kind: "closed", concurrency: flags.concurrency },
      };
      for (const traced of all) await runOne(traced, variant, flags, data, 0, settleSeconds * 1000);
      const samples = await interleaved(all, flags.rounds, (traced, round) =>
        runOne(traced, variant, flags, data, round, flags.warmup * 1000),
      );
      for (const [i, { setting }] of all.entries()) {
        const queriesPerSecond = (samples[i] ?? []).map((sample) => sample.queriesPerSecond);
        const cpuUsPerQuery = (samples[i] ?? []).map(
          ({ server, queriesPerSecond }) => ((server?.cores ?? NaN) / queriesPerSecond) * 1e6,
        );
        costs[modeIndex]?.[settings.indexOf(setting)]?.push({ queriesPerSecond, cpuUsPerQuery });
      }
    }
  } finally {
    for (const { api, server } of all) {
      api.close();
      await server.stop();
    }
  }
}

async function startTraced(setting: Setting, endpoint: string, flags: Flags, data: BenchData): Promise<Traced> {
  const env: Record<string, string> =
    typeof setting === "string"
      ? { OTEL_SDK_DISABLED: "true" }
      : {
          OTEL_TRACES_EXPORTER: "otlp",
          OTEL_METRICS_EXPORTER: "none",
          OTEL_LOGS_EXPORTER: "none",
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
          OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
          OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
          OTEL_TRACES_SAMPLER_ARG: String(setting),
          // Of 5 s most windows would see no export.
          OTEL_BSP_SCHEDULE_DELAY: "500",
        };
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  const server = await OwnServer.start({ kind: "embedded", env, nodeArgs: flags.nodeArg ?? [] });
  const api = new Api(server.target);
  await createCollection(api, { ...flags, name: flags.collection, dimension: base.dimension, shards: 0, replicas: 0 });
  await fillCollection(api, flags.collection, base, {
    payloadBytes: flags.payloadBytes,
    batchPoints: flags.batch,
    inFlight: flags.inFlight,
  });
  return { setting, server, api };
}

/**
 * Changes are taken within each round, the middle of the rounds for each set, and the middle of the sets with their extremes:
 * rounds do not tell how processes differ, sets do.
 */
function report(flags: Flags, data: BenchData, settings: readonly Setting[], costs: Costs[][][]): void {
  const results: object[] = [];
  const rows: string[][] = [];
  for (const [modeIndex, mode] of flags.mode.entries()) {
    const [off = [], ...others] = costs[modeIndex] ?? [];
    const changeOf = (sets: readonly Costs[], what: keyof Costs): Spread =>
      spreadOf(sets.map((each, set) => pairedChange(off[set]?.[what] ?? [], each[what]).median));
    for (const [i, sets] of [off, ...others].entries()) {
      const setting = settings[i] as Setting;
      const rate = spreadOf(sets.flatMap((each) => each.queriesPerSecond));
      const cpu = spreadOf(sets.flatMap((each) => each.cpuUsPerQuery));
      const rateChange = changeOf(sets, "queriesPerSecond");
      const cpuChange = changeOf(sets, "cpuUsPerQuery");
      results.push({ mode, setting, queriesPerSecond: rate, rateChange, cpuUsPerQuery: cpu, cpuChange });
      rows.push([
        mode,
        typeof setting === "string" ? setting : `${setting * 100} %`,
        formatNumber(rate.median),
        i === 0 ? "-" : formatChange(rateChange),
        formatNumber(cpu.median),
        i === 0 ? "-" : formatChange(cpuChange),
      ]);
    }
  }
  const columns = [
    { title: "mode", align: "left" } as const,
    ...["traced", "QPS", "change (of sets)", "µs CPU/query", "change (of sets)"].map((title) => ({ title })),
  ];
  console.log(`\n${formatTable(columns, rows)}`);
  const path = writeResult(
    "tracing",
    { data: data.description, seed: data.seed, settings: { ...flags }, results },
    flags.json,
  );
  console.log(`\n${path}`);
}

/** "+1.2 % (-0.3..+2.0)" */
function formatChange({ median, min, max }: Spread): string {
  const percent = (share: number): string => `${share < 0 ? "" : "+"}${(share * 100).toFixed(1)}`;
  return `${percent(median)} % (${percent(min)}..${percent(max)})`;
}

async function runOne(
  { server, api }: Traced,
  variant: Omit<Variant, "session">,
  flags: Flags,
  data: BenchData,
  round: number,
  warmupMs: number,
): Promise<VariantSample> {
  const session: Session = {
    api,
    target: server.target,
    name: "embedded",
    description: "own, embedded",
    shards: 0,
    own: server,
    metricsUrl: undefined,
    pids: () => server.pids,
  };
  const sample = await runVariant(
    data,
    { ...variant, session },
    {
      shape: { collection: flags.collection, limit: 10, withPayload: false },
      connections: 2,
      warmupMs,
      durationMs: flags.duration * 1000,
    },
    round,
  );
  const errors = Object.entries(sample.errors);
  if (errors.length > 0) throw new KithError("INTERNAL", `queries failed: ${JSON.stringify(sample.errors)}`);
  return sample;
}
