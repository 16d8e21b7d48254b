import { randomBytes } from "node:crypto";
import { Command } from "commander";
import { connect, type CollectionHandle, type KithClient } from "../../libs/client/index.js";
import { runMain, whole } from "../lib/options.js";
import { readProcess } from "../lib/process-stats.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatTable } from "../lib/table.js";

interface Flags {
  points: number;
  dimension: number;
  payloadBytes: number;
  queries: number;
  rounds: number;
  json?: string;
}

/** Microseconds of CPU of the server's process, for each point or query. */
interface Round {
  ingestUs: number;
  /** Of ten ids: nothing is decrypted. */
  queryUs: number;
  /** With the payloads of the ten, each of which is read from LevelDB and decrypted. */
  payloadQueryUs: number;
}

interface Side {
  name: string;
  server: OwnServer;
  client: KithClient;
  rounds: Round[];
}

const batch = 500;
const inFlight = 16;

const command = new Command("bench:encryption")
  .description("what encryption at rest costs: CPU of ingest and of queries with and without a master key, in turns")
  .option("--points <n>", "points of each round", whole(1_000, 1_000_000), 20_000)
  .option("--dimension <n>", "of their vectors", whole(2, 4_096), 128)
  .option("--payload-bytes <n>", "text of each payload", whole(0, 60_000), 400)
  .option("--queries <n>", "queries of each kind and round", whole(100, 1_000_000), 4_000)
  .option("--rounds <n>", "turns", whole(1, 100), 3)
  .option("--json <file>", "where the result goes; default: bench/results")
  .action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  console.log(`machine: ${describeMachine()}`);
  // Payloads of a cache of one byte are read from LevelDB each time.
  const key = randomBytes(32).toString("base64");
  const kinds: [string, Record<string, string>][] = [
    ["plain", {}],
    ["encrypted", { KITH_ENCRYPTION_KEY: key }],
  ];
  const sides: Side[] = [];
  try {
    for (const [name, env] of kinds) {
      const server = await OwnServer.start({ kind: "embedded", env: { KITH_PAYLOAD_CACHE_BYTES: "1", ...env } });
      sides.push({ name, server, client: await connect(server.target), rounds: [] });
    }
    for (let round = 0; round < flags.rounds; round++) {
      const turn = round % 2 === 0 ? sides : [...sides].reverse();
      for (const side of turn) side.rounds.push(await measure(side, round, flags));
    }
  } finally {
    for (const { client, server } of sides) {
      client.close();
      await server.stop();
    }
  }
  const [plain, encrypted] = sides as [Side, Side];
  const figures = ["ingestUs", "queryUs", "payloadQueryUs"] as const;
  const rows = figures.map((figure) => {
    const [a, b] = [plain, encrypted].map(({ rounds }) => rounds.map((each) => each[figure])) as [number[], number[]];
    const ratios = a.map((each, i) => (b[i] as number) / each);
    return [
      figure,
      median(a).toFixed(1),
      median(b).toFixed(1),
      ...[median(ratios), Math.min(...ratios), Math.max(...ratios)].map((each) => each.toFixed(2)),
    ];
  });
  console.log(
    `\n${formatTable(
      ["µs CPU", "plain", "encrypted", "× median", "lowest", "highest"].map((title) => ({ title })),
      rows,
    )}`,
  );
  const path = writeResult(
    "encryption",
    { settings: flags, plain: plain.rounds, encrypted: encrypted.rounds },
    flags.json,
  );
  console.log(`\nresult: ${path}`);
}

async function measure({ client, server }: Side, round: number, flags: Flags): Promise<Round> {
  const handle = client.collection(`round-${round}`);
  const { dimension } = flags;
  await handle.create({ vectors: { dimension, metric: "l2" } });
  const random = seeded(round + 1);
  const text = "x".repeat(flags.payloadBytes);
  const vector = (): Float32Array => Float32Array.from({ length: dimension }, random);
  const points = Array.from({ length: flags.points }, (_, id) => ({ id, vector: vector(), payload: { text, id } }));
  const ingestUs = await cpuOf(server, flags.points, async () => {
    for (let from = 0; from < points.length; from += batch) await handle.upsert(points.slice(from, from + batch));
    await handle.waitIndexed();
  });
  const queries = Array.from({ length: flags.queries }, vector);
  await ask(handle, queries.slice(0, 200), false);
  const queryUs = await cpuOf(server, queries.length, () => ask(handle, queries, false));
  const payloadQueryUs = await cpuOf(server, queries.length, () => ask(handle, queries, true));
  await handle.drop();
  return { ingestUs, queryUs, payloadQueryUs };
}

/** All queries, some at once. */
async function ask(handle: CollectionHandle, queries: readonly Float32Array[], withPayload: boolean): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < queries.length; i = next++) {
      await handle.query({ vector: queries[i], limit: 10, withPayload });
    }
  };
  await Promise.all(Array.from({ length: inFlight }, work));
}

/** CPU of the server's processes for each of so many things, in microseconds. */
async function cpuOf({ pids }: OwnServer, count: number, work: () => Promise<void>): Promise<number> {
  const used = (): number => pids.reduce((sum, pid) => sum + (readProcess(pid)?.cpuSeconds ?? 0), 0);
  const before = used();
  await work();
  return ((used() - before) * 1e6) / count;
}

/** Numbers in [-1, 1) from a seed. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}
