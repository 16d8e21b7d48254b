import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { KithError } from "../../libs/base/index.js";
import { connect } from "../../libs/client/index.js";
import { Api } from "../lib/api.js";
import { createCollection, fillCollection } from "../lib/collection.js";
import { type BenchData, loadData } from "../lib/data.js";
import { Histogram } from "../lib/histogram.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  positive,
  runMain,
  whole,
} from "../lib/options.js";
import { type ProcessUsage, ProcessWatch } from "../lib/process-stats.js";
import { interleaved, type Spread, spreadOf } from "../lib/repeat.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatMs, formatNumber, formatTable } from "../lib/table.js";
import type { HttpDriverOptions, OnDone, QueryDriver } from "../load/driver.js";
import { http2UnaryDriver } from "../load/http2-drivers.js";
import { type LoadSample, runLoad } from "../load/loop.js";
import type { QueryShape } from "../load/requests.js";
import { makeCredentials } from "./credentials.js";
import { questionsOf, sameAnswers } from "./questions.js";
import { restDriver } from "./rest-driver.js";

interface Flags extends DataFlags, CollectionFlags {
  concurrency: number;
  connections: number;
  ef: number;
  limit: number;
  duration: number;
  warmup: number;
  rounds: number;
  withPayload: boolean;
  qdrant: boolean;
  json?: string;
}

/** One way to ask the same. */
interface Door {
  name: string;
  server: OwnServer;
  open: (onDone: OnDone) => Promise<QueryDriver>;
}

interface DoorSample extends LoadSample {
  server: ProcessUsage | undefined;
  client: ProcessUsage | undefined;
}

interface DoorReport {
  door: string;
  queriesPerSecond: Spread;
  p50Us: number;
  p99Us: number;
  serverCpuUsPerQuery: Spread;
  serverLoopUsPerQuery: Spread;
  clientCores: Spread;
  /** Over plain gRPC in the same round. */
  rateRatio: Spread;
  cpuRatio: Spread;
  errors: Record<string, number>;
}

const readyTimeoutMs = 10_000;
/** Load before the first round, each: compilers come to rest. */
const settleMs = 1_500;

const command = new Command("bench:doors")
  .description("what the ways in cost: gRPC, REST, Qdrant's, API keys, tokens and TLS, asked the same in turns")
  .option("--concurrency <n>", "queries always in flight", whole(1, 1_000), 16)
  .option("--connections <n>", "connections of gRPC; REST has one for each query in flight", whole(1, 1_000), 2)
  .option("--ef <n>", "beam width; 0: the collection's", whole(0, 8192), 64)
  .option("--limit <n>", "results of a query", whole(1, 10_000), 10)
  .option("--duration <s>", "seconds that are measured, each time", positive, 2)
  .option("--warmup <s>", "seconds before", positive, 0.3)
  .option("--rounds <n>", "repetitions, the doors taking turns", whole(1, 1000), 3)
  .option("--with-payload", "have payloads answered: see --payload-bytes", false)
  .option("--qdrant", "only the doors for Qdrant's clients, beside Kith's own; without keys, tokens and TLS", false)
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-doors");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const seeded = flags.base === undefined ? { seeded: flags.seeded ?? "20000x128" } : {};
  const data = await loadData({ ...flags, ...seeded });
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const folder = await mkdtemp(join(tmpdir(), "kith-doors-"));
  const servers: OwnServer[] = [];
  try {
    const credentials = await makeCredentials(folder);
    const { env, tlsArgs, ca, token, adminKey } = credentials;
    // A process has TLS for all calls or for none, so that there are two; the one that is not asked stands still.
    const plain = await OwnServer.start({ kind: "embedded", env, args: ["--qdrant", "0"] });
    servers.push(plain);
    await fill(plain, flags, data, undefined);
    const secure = flags.qdrant ? undefined : await OwnServer.start({ kind: "embedded", env, args: tlsArgs });
    if (secure !== undefined) {
      servers.push(secure);
      await fill(secure, flags, data, ca);
    }
    const key = await makeKey(plain.target, adminKey);
    const { connections, concurrency } = flags;
    const { collection, ef, limit, withPayload } = flags;
    const shape: QueryShape = { collection, ef, limit, withPayload };
    const asked = questionsOf(shape, data.queries);
    await sameAnswers(plain, shape, data.queries, asked);
    const grpc = (name: string, server: OwnServer, more: Partial<HttpDriverOptions>): Door => ({
      name,
      server,
      open: (onDone) => http2UnaryDriver({ target: server.target, connections, requests: asked.grpc, onDone, ...more }),
    });
    const rest = (name: string, target: string, path: string, bodies: readonly string[]): Door => ({
      name,
      server: plain,
      open: (onDone) => restDriver({ target, path, connections: concurrency, bodies, onDone }),
    });
    const toQdrant = { target: plain.targetOf("qdrantGrpc"), path: asked.paths.qdrantGrpc, requests: asked.qdrantGrpc };
    const doors: Door[] = [
      grpc("gRPC", plain, {}),
      grpc("Qdrant's gRPC", plain, toQdrant),
      rest("REST", plain.httpTarget, asked.paths.rest, asked.rest),
      rest("Qdrant's REST", plain.targetOf("qdrant"), asked.paths.qdrantRest, asked.qdrantRest),
    ];
    if (secure !== undefined) {
      doors.push(
        grpc("gRPC, API key", plain, { headers: { "api-key": key } }),
        grpc("gRPC, token", plain, { headers: { authorization: `Bearer ${token}` } }),
        grpc("gRPC, TLS", secure, { ca }),
      );
    }
    const queryCount = asked.grpc.length;
    for (const door of doors) await measure(door, flags, queryCount, settleMs, 100);
    const samples = await interleaved(doors, flags.rounds, (door) =>
      measure(door, flags, queryCount, flags.warmup * 1000, flags.duration * 1000),
    );
    const reports = reportsOf(doors, samples);
    console.log(`\n${format(reports)}`);
    const { duration, rounds, payloadBytes } = flags;
    const asking = { concurrency, connections, ef, limit, withPayload, payloadBytes };
    const settings = { ...asking, duration, rounds, metric: flags.metric };
    const about = { data: { description: data.description, seed: data.seed }, settings };
    console.log(`\n${writeResult("doors", { ...about, reports }, flags.json)}`);
    const failed = reports.filter(({ errors }) => Object.keys(errors).length > 0);
    if (failed.length > 0) {
      const text = failed.map(({ door, errors }) => `${door}: ${JSON.stringify(errors)}`).join("; ");
      throw new KithError("INTERNAL", `some queries failed, so that the figures say nothing: ${text}`);
    }
  } finally {
    for (const server of servers) await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function fill(server: OwnServer, flags: Flags, data: BenchData, ca: Buffer | undefined): Promise<void> {
  if (data.base === undefined) throw new KithError("INVALID_ARGUMENT", "name the vectors to load: --base or --seeded");
  const api = new Api(server.target, ca);
  try {
    await api.ready(readyTimeoutMs);
    const { collection: name, metric, datatype, m, efConstruction } = flags;
    const { dimension } = data.base;
    await createCollection(api, { name, dimension, metric, datatype, m, efConstruction, replicas: 1, shards: 1 });
    await fillCollection(api, name, data.base, {
      payloadBytes: flags.payloadBytes,
      batchPoints: flags.batch,
      inFlight: flags.inFlight,
    });
  } finally {
    api.close();
  }
}

/** An API key of the catalog, for reading. */
async function makeKey(target: string, apiKey: string): Promise<string> {
  const client = await connect(target, { apiKey });
  try {
    return (await client.keys.create("bench", { role: "reader" })).secret;
  } finally {
    client.close();
  }
}

async function measure(
  door: Door,
  flags: Flags,
  queryCount: number,
  warmupMs: number,
  durationMs: number,
): Promise<DoorSample> {
  const server = new ProcessWatch(door.server.pids);
  const client = new ProcessWatch([process.pid]);
  let usage: { server: ProcessUsage | undefined; client: ProcessUsage | undefined } = {
    server: undefined,
    client: undefined,
  };
  const sample = await runLoad({
    plan: { kind: "closed", concurrency: flags.concurrency },
    warmupMs,
    durationMs,
    queryCount,
    open: door.open,
    onWindow: (edge) => {
      if (edge === "start") {
        server.start();
        client.start();
      } else usage = { server: server.stop(), client: client.stop() };
    },
  });
  return { ...sample, ...usage };
}

function reportsOf(doors: readonly Door[], samples: readonly (readonly DoorSample[])[]): DoorReport[] {
  const costs = samples.map((each) => each.map(costOf));
  const [base = []] = costs;
  return doors.map(({ name }, i) => {
    const own = costs[i] ?? [];
    const latency = new Histogram();
    const errors: Record<string, number> = {};
    for (const sample of samples[i] ?? []) {
      latency.add(sample.latency);
      for (const [code, count] of Object.entries(sample.errors)) errors[code] = (errors[code] ?? 0) + count;
    }
    const spread = (of: (cost: Cost, round: number) => number): Spread => spreadOf(own.map(of));
    return {
      door: name,
      queriesPerSecond: spread(({ rate }) => rate),
      p50Us: latency.percentileUs(0.5),
      p99Us: latency.percentileUs(0.99),
      serverCpuUsPerQuery: spread(({ cpuUs }) => cpuUs),
      serverLoopUsPerQuery: spread(({ loopUs }) => loopUs),
      clientCores: spread(({ clientCores }) => clientCores),
      rateRatio: spread(({ rate }, round) => rate / (base[round]?.rate ?? Number.NaN)),
      cpuRatio: spread(({ cpuUs }, round) => cpuUs / (base[round]?.cpuUs ?? Number.NaN)),
      errors,
    };
  });
}

interface Cost {
  rate: number;
  cpuUs: number;
  loopUs: number;
  clientCores: number;
}

function costOf({ queriesPerSecond: rate, server, client }: DoorSample): Cost {
  return {
    rate,
    cpuUs: ((server?.cores ?? Number.NaN) / rate) * 1e6,
    loopUs: ((server?.mainThreadCores ?? Number.NaN) / rate) * 1e6,
    clientCores: client?.cores ?? Number.NaN,
  };
}

function format(reports: readonly DoorReport[]): string {
  const range = ({ min, max }: Spread, digits: (value: number) => string): string => `${digits(min)}..${digits(max)}`;
  const ratio = (value: number): string => value.toFixed(2);
  const titles = [
    ...["queries/s", "min..max", "p50 ms", "p99 ms", "µs CPU/query", "on the loop", "client cores"],
    ...["× queries/s", "min..max", "× CPU", "min..max"],
  ];
  return formatTable(
    [{ title: "door", align: "left" }, ...titles.map((title) => ({ title }))],
    reports.map((report) => [
      report.door,
      formatNumber(report.queriesPerSecond.median),
      range(report.queriesPerSecond, formatNumber),
      formatMs(report.p50Us),
      formatMs(report.p99Us),
      formatNumber(report.serverCpuUsPerQuery.median),
      formatNumber(report.serverLoopUsPerQuery.median),
      report.clientCores.median.toFixed(2),
      ratio(report.rateRatio.median),
      range(report.rateRatio, ratio),
      ratio(report.cpuRatio.median),
      range(report.cpuRatio, ratio),
    ]),
  );
}
