import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { Command } from "commander";
import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import { Api } from "../lib/api.js";
import { createCollection, fillCollection } from "../lib/collection.js";
import { loadData, type Matrix } from "../lib/data.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  runMain,
  whole,
} from "../lib/options.js";
import { repositoryRoot } from "../lib/paths.js";
import { type ProcessMemory, processName, readMemory } from "../lib/process-stats.js";
import { interleaved, type Spread, spreadOf } from "../lib/repeat.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer, programOf } from "../lib/server.js";
import { formatMiB, formatTable } from "../lib/table.js";

interface Flags extends DataFlags, CollectionFlags {
  against?: string;
  shards: number;
  idle: number;
  rounds: number;
  starts: number;
  json?: string;
}

type Amounts = Pick<ProcessMemory, "residentBytes" | "proportionalBytes" | "privateBytes">;

/** One line of the table: the processes of one name under one program, over the rounds. */
interface Line {
  program: string;
  what: string;
  process: string;
  rounds: Amounts[];
}

const command = new Command("bench:memory")
  .description(
    "memory of each process of an idle `kith dev` and `kith up`, beside a bare Node process; of a loaded one with --seeded or --base; and start-up times",
  )
  .option("--against <folder>", "another checkout that is built, measured in turns with this one")
  .option("--shards <n>", "shard nodes of `kith up`", whole(1, 32), 2)
  .option("--idle <s>", "seconds between being ready (or loaded) and the reading", whole(0, 3600), 15)
  .option("--rounds <n>", "repetitions, programs taking turns", whole(1, 100), 3)
  .option("--starts <n>", "starts of `kith --version` that are timed in each round; 0: none", whole(0, 100), 5)
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-memory");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const base = await baseOf(flags);
  const programs = [
    { name: "this", root: repositoryRoot },
    ...(flags.against === undefined ? [] : [{ name: "against", root: resolve(flags.against) }]),
  ];
  console.log(`machine: ${describeMachine()}`);
  const lines: Line[] = [];
  const record = (program: string, what: string, pids: readonly number[]): void => {
    const memories = pids.map(readMemory).filter((memory) => memory !== undefined);
    if (memories.length === 0) {
      throw new KithError("FAILED_PRECONDITION", "memory is read from /proc/<pid>/smaps_rollup, which is missing here");
    }
    const amounts: { process: string; memory: Amounts }[] = memories.map((memory) => ({
      process: processName(memory.args),
      memory,
    }));
    if (memories.length > 1) amounts.push({ process: "all", memory: sumOf(memories) });
    for (const { process, memory } of amounts) {
      const known = lines.find((line) => line.program === program && line.what === what && line.process === process);
      if (known === undefined) lines.push({ program, what, process, rounds: [memory] });
      else known.rounds.push(memory);
    }
  };
  const starts = new Map<string, number[]>();
  await interleaved(programs, flags.rounds, async ({ name, root }) => {
    await withBareNode((pid) => record("node", "bare", [pid]));
    for (const kind of ["embedded", "up"] as const) {
      const server = await OwnServer.start({ kind, root, shards: flags.shards, replicas: 1 });
      try {
        await sleep(systemClock, flags.idle * 1000);
        record(name, kind === "embedded" ? "dev, idle" : "up, idle", server.pids);
        if (kind === "embedded" && base !== undefined) {
          await load(server, flags, base);
          await sleep(systemClock, flags.idle * 1000);
          record(name, `dev, ${base.rowCount} × ${base.dimension}`, server.pids);
        }
      } finally {
        await server.stop();
      }
    }
    const times = Array.from({ length: flags.starts }, () => timeOf(root));
    starts.set(name, [...(starts.get(name) ?? []), ...times]);
  });
  report(flags, lines, starts);
}

async function baseOf(flags: Flags): Promise<Matrix | undefined> {
  if (flags.seeded === undefined && flags.base === undefined) return undefined;
  return (await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 1 })).base;
}

function sumOf(memories: readonly Amounts[]): Amounts {
  const sum = (of: (memory: Amounts) => number): number => memories.reduce((total, memory) => total + of(memory), 0);
  return {
    residentBytes: sum((memory) => memory.residentBytes),
    proportionalBytes: sum((memory) => memory.proportionalBytes),
    privateBytes: sum((memory) => memory.privateBytes),
  };
}

/** What Node itself needs. */
async function withBareNode(read: (pid: number) => void): Promise<void> {
  const child = spawn(process.execPath, ["-e", "console.log(1); setInterval(() => {}, 1000)"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  try {
    await once(child.stdout, "data");
    await sleep(systemClock, 1000);
    read(child.pid ?? 0);
  } finally {
    child.kill("SIGKILL");
  }
}

async function load(server: OwnServer, flags: Flags, base: Matrix): Promise<void> {
  const api = new Api(server.target);
  try {
    const name = flags.collection;
    await createCollection(api, { ...flags, name, dimension: base.dimension, shards: 0, replicas: 0 });
    await fillCollection(api, name, base, {
      payloadBytes: flags.payloadBytes,
      batchPoints: flags.batch,
      inFlight: flags.inFlight,
    });
  } finally {
    api.close();
  }
}

/** Milliseconds that `kith --version` takes. */
function timeOf(root: string): number {
  const startMs = performance.now();
  execFileSync(process.execPath, [programOf(root), "--version"], { stdio: "ignore" });
  return performance.now() - startMs;
}

function report(flags: Flags, lines: readonly Line[], starts: ReadonlyMap<string, readonly number[]>): void {
  const results = lines.map(({ program, what, process, rounds }) => ({
    program,
    what,
    process,
    residentBytes: spreadOf(rounds.map((each) => each.residentBytes)),
    proportionalBytes: spreadOf(rounds.map((each) => each.proportionalBytes)),
    privateBytes: spreadOf(rounds.map((each) => each.privateBytes)),
  }));
  results.sort((a, b) => a.what.localeCompare(b.what) || a.process.localeCompare(b.process));
  const shown = ({ median, min, max }: Spread): string =>
    `${formatMiB(median)}${max - min < 1024 * 1024 ? "" : ` (${formatMiB(min)}–${formatMiB(max)})`}`;
  const columns = [
    ...["what", "process", "program"].map((title) => ({ title, align: "left" }) as const),
    ...["resident MiB", "proportional", "private"].map((title) => ({ title })),
  ];
  const rows = results.map(({ what, process, program, ...spread }) => [
    what,
    process,
    program,
    ...[spread.residentBytes, spread.proportionalBytes, spread.privateBytes].map(shown),
  ]);
  console.log(`\n${formatTable(columns, rows)}`);
  const versionMs = Object.fromEntries(
    [...starts].filter(([, times]) => times.length > 0).map(([program, times]) => [program, spreadOf(times)]),
  );
  for (const [program, { median, min, max }] of Object.entries(versionMs)) {
    console.log(`kith --version, ${program}: ${median.toFixed(0)} ms (${min.toFixed(0)}–${max.toFixed(0)})`);
  }
  console.log(`\n${writeResult("memory", { settings: { ...flags }, results, versionMs }, flags.json)}`);
}
