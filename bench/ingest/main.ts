import { Command } from "commander";
import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import { bulkLoad } from "../lib/bulk-load.js";
import { createCollection } from "../lib/collection.js";
import { loadData, type Matrix } from "../lib/data.js";
import type { LatencySummary } from "../lib/histogram.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  listOf,
  oneOf,
  runMain,
  type ServerFlags,
  serverOptions,
  whole,
} from "../lib/options.js";
import { ProcessWatch, readProcess } from "../lib/process-stats.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { type Session, withSession } from "../lib/session.js";
import { formatMiB, formatMs, formatNumber, formatTable } from "../lib/table.js";
import { measureRestart, type RestartResult } from "./restart.js";
import { measureRoundTrips, type RoundTrips } from "./round-trip.js";

type AckName = "log" | "applied";

interface Flags extends ServerFlags, DataFlags, CollectionFlags {
  ack: AckName[];
  originals?: boolean;
  roundTrips: number;
  restart: boolean;
  json?: string;
}

interface IngestReport {
  ack: AckName;
  points: number;
  pointsPerSecond: number;
  batchLatency: LatencySummary;
  retries: number;
  /** Vectors not in the graph yet when the last point was acknowledged. */
  unindexedAtEnd: number;
  /** From the first point sent to all in the graph. */
  indexedSeconds: number;
  vectorsBuiltPerSecond: number;
  serverCores: number | undefined;
  rssPeakBytes: number | undefined;
  memory: MemoryReport;
}

/** Between the end of a load and the reading of the memory: what the load used is given back. */
const settleMs = 10_000;

interface MemoryReport {
  rawBytes: number;
  /** What the replicas themselves count: vectors, graph, ids. */
  countedBytes: number;
  /** Growth of the private memory of the server by the first load, where its processes are known: later ones reuse freed memory. */
  privateGrowthBytes: number | undefined;
  /** The same of all that is resident, with the parts of mapped files that are in memory at the moment. */
  residentGrowthBytes: number | undefined;
}

const command = new Command("bench:ingest")
  .description("durable ingest, how the graph keeps up, read-your-write round trips, memory, and restart after kill -9")
  .option("--ack <list>", "acknowledgements to compare: log, applied", listOf(oneOf(["log", "applied"])), [
    "log",
    "applied",
  ])
  .option("--originals", "with the vectors as they were written in a mapped file")
  .option("--round-trips <n>", "read-your-write round trips of each acknowledgement; 0: none", whole(0, 100_000), 300)
  .option("--no-restart", "leave out kill -9 and restart (with --self only)")
  .option("--json <file>", "where the result goes; default: bench/results");
serverOptions(command);
dataOptions(command);
collectionOptions(command, "bench-ingest");
command.action(async (flags: Flags) => withSession(flags, (session) => main(session, flags)));
await runMain(command);

async function main(session: Session, flags: Flags): Promise<void> {
  const { api } = session;
  // Queries are not read: every phase asks for vectors of the base.
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 1 });
  const base = data.base;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  console.log(`machine: ${describeMachine()}\nserver:  ${session.description}\ndata:    ${data.description}`);
  const ingests: IngestReport[] = [];
  const trips: RoundTrips[] = [];
  const name = flags.collection;
  for (const ack of flags.ack) {
    ingests.push(await measureIngest(session, flags, base, ack, ingests.length === 0));
    if (flags.roundTrips > 0) {
      const firstId = base.rowCount;
      trips.push(
        await measureRoundTrips(api, { collection: name, vectors: base, firstId, count: flags.roundTrips, ack }),
      );
    }
  }
  let restart: RestartResult | undefined;
  if (session.own !== undefined && flags.restart) restart = await measureRestart(session.own, name, base);
  else await api.drop(name);
  console.log(`\n${formatIngests(ingests)}`);
  if (trips.length > 0) console.log(`\n${formatTrips(trips)}`);
  if (restart !== undefined) console.log(`\n${formatRestart(restart)}`);
  const path = writeResult(
    "ingest",
    {
      server: session.description,
      data: { description: data.description, seed: data.seed, metric: flags.metric },
      settings: flags,
      ingests,
      roundTrips: trips,
      restart,
    },
    flags.json,
  );
  console.log(`\n${path}`);
  if (restart !== undefined && restart.pointCountAfter < restart.pointCountBefore) {
    throw new KithError("INTERNAL", `${restart.pointCountBefore - restart.pointCountAfter} points were lost`);
  }
}

async function measureIngest(
  session: Session,
  flags: Flags,
  base: Matrix,
  ack: AckName,
  first: boolean,
): Promise<IngestReport> {
  const { api } = session;
  const name = flags.collection;
  await createCollection(api, { ...flags, name, dimension: base.dimension });
  const pids = session.pids();
  const bytesOf = (kind: "privateBytes" | "rssBytes"): number =>
    pids.reduce((sum, pid) => sum + (readProcess(pid)?.[kind] ?? 0), 0);
  const before = { privateBytes: bytesOf("privateBytes"), rssBytes: bytesOf("rssBytes") };
  const growthOf = (kind: "privateBytes" | "rssBytes"): number | undefined =>
    pids.length === 0 || !first ? undefined : bytesOf(kind) - before[kind];
  const watch = new ProcessWatch(pids);
  const startMs = performance.now();
  watch.start();
  const load = await bulkLoad(api, {
    collection: name,
    vectors: base,
    ack,
    batchPoints: flags.batch,
    inFlight: flags.inFlight,
    payloadBytes: flags.payloadBytes,
  });
  const usage = watch.stop();
  const unindexedAtEnd = base.rowCount - (await api.stats(name)).indexedVectorCount;
  await waitApplied(session, name, base.rowCount);
  await api.waitIndexed(name);
  const indexedSeconds = (performance.now() - startMs) / 1000;
  const stats = await api.stats(name);
  await sleep(systemClock, settleMs);
  return {
    ack,
    points: load.points,
    pointsPerSecond: load.pointsPerSecond,
    batchLatency: load.batchLatency.summary(),
    retries: load.retries,
    unindexedAtEnd,
    indexedSeconds,
    vectorsBuiltPerSecond: base.rowCount / indexedSeconds,
    serverCores: usage?.cores,
    rssPeakBytes: usage?.rssPeakBytes,
    memory: {
      rawBytes: base.values.byteLength,
      countedBytes: stats.memoryBytes,
      privateGrowthBytes: growthOf("privateBytes"),
      residentGrowthBytes: growthOf("rssBytes"),
    },
  };
}

/** WaitIndexed speaks of what was applied before it was called; with ack=log the last points may not be. */
async function waitApplied(session: Session, name: string, rowCount: number): Promise<void> {
  const endMs = performance.now() + 600_000;
  for (;;) {
    const { pointCount } = await session.api.stats(name);
    if (pointCount >= rowCount) return;
    if (performance.now() > endMs) {
      throw new KithError("DEADLINE_EXCEEDED", `only ${pointCount} of ${rowCount} acknowledged points were applied`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function formatIngests(reports: readonly IngestReport[]): string {
  const titles = [
    "points/s",
    "batch p50 ms",
    "p99",
    "retries",
    "not in graph at end",
    "all in graph s",
    "vectors/s built",
  ];
  const memory = ["cores", "peak MiB", "raw MiB", "counted × raw", "private growth × raw", "resident growth × raw"];
  const columns = [{ title: "ack", align: "left" } as const, ...[...titles, ...memory].map((title) => ({ title }))];
  const rows = reports.map(({ memory: { rawBytes, countedBytes, ...growth }, ...report }) => [
    report.ack,
    formatNumber(report.pointsPerSecond),
    formatMs(report.batchLatency.p50Us),
    formatMs(report.batchLatency.p99Us),
    String(report.retries),
    formatNumber(report.unindexedAtEnd),
    report.indexedSeconds.toFixed(1),
    formatNumber(report.vectorsBuiltPerSecond),
    report.serverCores?.toFixed(2) ?? "-",
    report.rssPeakBytes === undefined ? "-" : formatMiB(report.rssPeakBytes),
    formatMiB(rawBytes),
    (countedBytes / rawBytes).toFixed(2),
    ...[growth.privateGrowthBytes, growth.residentGrowthBytes].map((bytes) =>
      bytes === undefined ? "-" : (bytes / rawBytes).toFixed(2),
    ),
  ]);
  return formatTable(columns, rows);
}

function formatTrips(trips: readonly RoundTrips[]): string {
  const titles = ["p50 ms", "p95", "p99", "max", "write p50", "write p95", "query p50", "query p95"];
  const columns = [{ title: "read your write, ack", align: "left" } as const, ...titles.map((title) => ({ title }))];
  const rows = trips.map(({ ack, total, write, query }) => [
    ack,
    ...[total.p50Us, total.p95Us, total.p99Us, total.maxUs].map(formatMs),
    ...[write.p50Us, write.p95Us, query.p50Us, query.p95Us].map(formatMs),
  ]);
  return formatTable(columns, rows);
}

function formatRestart(result: RestartResult): string {
  return [
    `restart after kill -9: serves after ${result.readySeconds.toFixed(2)} s, first right answer after ${result.firstCorrectSeconds.toFixed(2)} s,`,
    `  ${(result.selfRecall * 100).toFixed(1)} % of sampled points find themselves, ${result.pointCountAfter} of ${result.pointCountBefore} points`,
  ].join("\n");
}
