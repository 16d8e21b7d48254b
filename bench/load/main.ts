import { Command, Option } from "commander";
import { KithError } from "../../libs/base/index.js";
import { createCollection, fillCollection, metricOf } from "../lib/collection.js";
import { type BenchData, loadData, type MetricName } from "../lib/data.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  listOf,
  oneOf,
  positive,
  runMain,
  type ServerFlags,
  serverOptions,
  whole,
} from "../lib/options.js";
import { interleaved } from "../lib/repeat.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { type Session, withSessions } from "../lib/session.js";
import { formatNumber } from "../lib/table.js";
import type { DriverKind, Mode } from "./driver.js";
import type { LoadPlan } from "./loop.js";
import { findTruth, measureRecall } from "./measure-recall.js";
import { formatProcesses, formatReports, summarize } from "./report.js";
import type { QueryShape } from "./requests.js";
import { runVariant, type Variant } from "./variants.js";

interface Flags extends ServerFlags, DataFlags, CollectionFlags {
  existing?: boolean;
  keep?: boolean;
  driver: DriverKind[];
  mode: Mode[];
  concurrency: number[];
  rate?: number[];
  clock: "poisson" | "constant";
  spin?: boolean;
  connections: number;
  ef: number[];
  limit: number;
  withPayload?: boolean;
  duration: number;
  warmup: number;
  rounds: number;
  recall: boolean;
  json?: string;
}

const command = new Command("bench:load")
  .description("load test of a running Kith, or of one that it starts: throughput, latency and recall")
  .option("--existing", "query the collection as it is, without loading anything")
  .option("--keep", "leave the collection behind")
  .option(
    "--driver <list>",
    "http2 (cheap), grpc-js (what Node services see), h2load",
    listOf(oneOf(["http2", "grpc-js", "h2load"])),
    ["http2"],
  )
  .option("--mode <list>", "unary, stream (QueryStream)", listOf(oneOf(["unary", "stream"])), ["unary", "stream"])
  .option("--concurrency <list>", "closed loop: queries always in flight", listOf(whole(1, 8_000)), [64])
  .option("--rate <list>", "open loop instead: queries that arrive each second", listOf(positive))
  .addOption(new Option("--clock <kind>", "open loop: arrivals").choices(["poisson", "constant"]).default("poisson"))
  .option("--spin", "open loop: send to the microsecond, at the cost of one core")
  .option("--connections <n>", "connections", whole(1, 1000), 2)
  .option("--ef <list>", "beam widths; 0: the collection's", listOf(whole(0, 8192)), [64])
  .option("--limit <n>", "results of a query, and k of recall@k", whole(1, 10_000), 10)
  .option("--with-payload", "have payloads returned")
  .option("--duration <s>", "seconds that are measured", positive, 10)
  .option("--warmup <s>", "seconds before", positive, 2)
  .option("--rounds <n>", "repetitions, the variants taking turns", whole(1, 100), 1)
  .option("--no-recall", "leave the recall out")
  .option("--json <file>", "where the result goes; default: bench/results");
serverOptions(command);
dataOptions(command);
collectionOptions(command, "bench-load");
command.action(async (flags: Flags) => withSessions(flags, (sessions) => main(sessions, flags)));
await runMain(command);

/** Every combination that can be run; h2load knows closed unary loads only. */
function variantsOf(session: Session, flags: Flags): Variant[] {
  const plans: LoadPlan[] =
    flags.rate === undefined
      ? flags.concurrency.map((concurrency) => ({ kind: "closed", concurrency }))
      : flags.rate.map((ratePerSecond) => ({
          kind: "open",
          ratePerSecond,
          clock: flags.clock,
          seed: flags.seed,
          spin: flags.spin === true,
        }));
  const all = flags.driver.flatMap((driver) =>
    flags.mode.flatMap((mode) =>
      flags.ef.flatMap((ef) => plans.map((plan): Variant => ({ session, driver, mode, ef, plan }))),
    ),
  );
  const possible = all.filter(
    ({ driver, mode, plan }) => driver !== "h2load" || (mode === "unary" && plan.kind === "closed"),
  );
  if (possible.length === 0) throw new KithError("INVALID_ARGUMENT", "h2load drives unary calls in a closed loop only");
  return possible;
}

async function main(sessions: readonly Session[], flags: Flags): Promise<void> {
  const data = await loadData(flags);
  console.log(`machine:    ${describeMachine()}\ndata:       ${data.description}`);
  const prepared: Prepared[] = [];
  for (const session of sessions) {
    console.log(`server:     ${session.description}`);
    prepared.push(await prepare(session, flags, data));
  }
  const variants = prepared.flatMap(({ session }) => variantsOf(session, flags));
  const options = {
    shape: shapeOf(flags),
    connections: flags.connections,
    warmupMs: flags.warmup * 1000,
    durationMs: flags.duration * 1000,
  };
  const samples = await interleaved(variants, flags.rounds, (variant, round) =>
    runVariant(data, variant, options, round),
  );
  const reports = variants.map((variant, i) =>
    summarize(
      variant,
      samples[i] ?? [],
      prepared.find(({ session }) => session === variant.session)?.recalls.get(variant.ef),
    ),
  );
  console.log(`\n${formatReports(reports, flags.limit)}`);
  if (reports.some(({ processes }) => processes.length > 1)) console.log(`\n${formatProcesses(reports)}`);
  const collections = await Promise.all(sessions.map(({ api }) => api.stats(flags.collection)));
  const path = writeResult(
    "load",
    {
      server: sessions.map(({ description }) => description),
      data: {
        description: data.description,
        seed: data.seed,
        metric: prepared[0]?.metric,
        truth: prepared[0]?.truthSource,
      },
      settings: { ...flags, existing: flags.existing === true },
      collection: collections,
      variants: reports,
    },
    flags.json,
  );
  console.log(`\n${path}`);
  if (flags.existing !== true && flags.keep !== true) for (const { api } of sessions) await api.drop(flags.collection);
  const failed = reports.some(({ errors }) => Object.keys(errors).length > 0);
  if (failed) throw new KithError("INTERNAL", "some queries failed; see the errors above");
}

function shapeOf(flags: Flags): Omit<QueryShape, "ef"> {
  return { collection: flags.collection, limit: flags.limit, withPayload: flags.withPayload === true };
}

function missingBase(): never {
  throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded, or use --existing");
}

/** A server with its collection, and what queries find there. */
interface Prepared {
  session: Session;
  metric: MetricName;
  /** By ef. */
  recalls: Map<number, number>;
  truthSource: string | undefined;
}

async function prepare(session: Session, flags: Flags, data: BenchData): Promise<Prepared> {
  const { api } = session;
  let metric = flags.metric;
  if (flags.existing === true) metric = metricOf(await api.collection(flags.collection));
  else await fill(session, flags, data.base ?? missingBase());
  const recalls = new Map<number, number>();
  if (!flags.recall) return { session, metric, recalls, truthSource: undefined };
  const shape = shapeOf(flags);
  const truth = await findTruth(api, data, metric, { ...shape, ef: 0 });
  for (const ef of flags.ef) recalls.set(ef, await measureRecall(api, data, metric, truth, { ...shape, ef }));
  return { session, metric, recalls, truthSource: truth.source };
}

async function fill(session: Session, flags: Flags, base: Parameters<typeof fillCollection>[2]): Promise<void> {
  const { api, shards } = session;
  await createCollection(api, { ...flags, shards, name: flags.collection, dimension: base.dimension });
  const { load, indexedSeconds } = await fillCollection(api, flags.collection, base, {
    payloadBytes: flags.payloadBytes,
    batchPoints: flags.batch,
    inFlight: flags.inFlight,
  });
  const rate = formatNumber(load.pointsPerSecond);
  console.log(`collection: ${load.points} points at ${rate}/s, all in the graph after ${indexedSeconds.toFixed(1)} s`);
}
