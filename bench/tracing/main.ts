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
import { interleaved, pairedChange, spreadOf } from "../lib/repeat.js";
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
  json?: string;
}

/** A server with one setting of tracing, filled and ready. */
interface Traced {
  /** Share of queries that are traced; undefined: tracing is off. */
  ratio: number | undefined;
  server: OwnServer;
  api: Api;
}

const command = new Command("bench:tracing")
  .description("what tracing costs: servers with tracing off and at several sampling ratios, asked in turns")
  .option("--mode <list>", "unary, stream", listOf(oneOf(["unary", "stream"])), ["unary", "stream"])
  .option("--ratio <list>", "shares of the queries that are traced", listOf(positive), [0.01, 1])
  .option("--concurrency <n>", "queries always in flight", whole(1, 8_000), 64)
  .option("--duration <s>", "seconds that are measured, each time", positive, 5)
  .option("--warmup <s>", "seconds before", positive, 1)
  .option("--rounds <n>", "repetitions, the servers taking turns", whole(1, 100), 5)
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
  const receiver = new TraceReceiver();
  const all: Traced[] = [];
  try {
    const endpoint = await receiver.listen();
    for (const ratio of [undefined, ...flags.ratio]) all.push(await startTraced(ratio, endpoint, flags, data));
    await measure(flags, data, all, receiver);
  } finally {
    for (const { api, server } of all) {
      api.close();
      await server.stop();
    }
    receiver.close();
  }
}

async function startTraced(
  ratio: number | undefined,
  endpoint: string,
  flags: Flags,
  data: BenchData,
): Promise<Traced> {
  const env: Record<string, string> =
    ratio === undefined
      ? { OTEL_SDK_DISABLED: "true" }
      : {
          OTEL_TRACES_EXPORTER: "otlp",
          OTEL_METRICS_EXPORTER: "none",
          OTEL_LOGS_EXPORTER: "none",
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
          OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
          OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
          OTEL_TRACES_SAMPLER_ARG: String(ratio),
        };
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  const server = await OwnServer.start({ kind: "embedded", env });
  const api = new Api(server.target);
  await createCollection(api, { ...flags, name: flags.collection, dimension: base.dimension, shards: 0, replicas: 0 });
  await fillCollection(api, flags.collection, base, {
    payloadBytes: flags.payloadBytes,
    batchPoints: flags.batch,
    inFlight: flags.inFlight,
  });
  return { ratio, server, api };
}

async function measure(flags: Flags, data: BenchData, all: Traced[], receiver: TraceReceiver): Promise<void> {
  const name = (ratio: number | undefined): string => (ratio === undefined ? "off" : `${ratio * 100} %`);
  const results: object[] = [];
  const rows: string[][] = [];
  for (const mode of flags.mode) {
    const variant: Variant = {
      driver: "http2",
      mode,
      ef: 0,
      plan: { kind: "closed", concurrency: flags.concurrency },
    };
    const samples = await interleaved(all, flags.rounds, (traced, round) =>
      runOne(traced, variant, flags, data, round),
    );
    const [off, ...on] = samples.map((each) => each.map((sample) => sample.queriesPerSecond));
    const cpu = samples.map((each) =>
      spreadOf(each.map(({ server, queriesPerSecond }) => ((server?.cores ?? 0) / queriesPerSecond) * 1e6)),
    );
    [off, ...on].forEach((rates, i) => {
      const change = pairedChange(off ?? [], rates ?? []);
      const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
      const ratio = all[i]?.ratio;
      const rate = spreadOf(rates ?? []);
      results.push({ mode, ratio: ratio ?? 0, queriesPerSecond: rate, change, serverCpuUsPerQuery: cpu[i] });
      rows.push([
        mode,
        name(ratio),
        formatNumber(rate.median),
        i === 0 ? "-" : percent(change.median),
        i === 0 ? "-" : `${percent(change.min)}..${percent(change.max)}`,
        formatNumber(cpu[i]?.median ?? NaN),
      ]);
    });
  }
  const columns = [
    { title: "mode", align: "left" } as const,
    ...["traced", "QPS", "change", "min..max", "µs CPU/query"].map((title) => ({ title })),
  ];
  console.log(`\n${formatTable(columns, rows)}\nspans received: ${receiver.receivedBytes} bytes`);
  if (receiver.receivedBytes === 0) throw new KithError("INTERNAL", "no spans were exported: nothing was measured");
  const settings = { ...flags };
  const path = writeResult("tracing", { data: data.description, seed: data.seed, settings, results }, flags.json);
  console.log(`\n${path}`);
}

async function runOne(
  { server, api }: Traced,
  variant: Variant,
  flags: Flags,
  data: BenchData,
  round: number,
): Promise<VariantSample> {
  const session: Session = {
    api,
    target: server.target,
    description: "own, embedded",
    own: server,
    metricsUrl: undefined,
    pids: () => server.pids,
  };
  const sample = await runVariant(
    session,
    data,
    variant,
    {
      shape: { collection: flags.collection, limit: 10, withPayload: false },
      connections: 2,
      warmupMs: flags.warmup * 1000,
      durationMs: flags.duration * 1000,
    },
    round,
  );
  const errors = Object.entries(sample.errors);
  if (errors.length > 0) throw new KithError("INTERNAL", `queries failed: ${JSON.stringify(sample.errors)}`);
  return sample;
}
