import { Command } from "commander";
import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import { connect, type KithClient, type OperationInfo } from "../../libs/client/index.js";
import { Api } from "../lib/api.js";
import { createCollection, fillCollection } from "../lib/collection.js";
import { loadData } from "../lib/data.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  runMain,
  whole,
} from "../lib/options.js";
import { type OneProcessUsage, ProcessWatch } from "../lib/process-stats.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatNumber, formatTable } from "../lib/table.js";

interface Flags extends DataFlags, CollectionFlags {
  rounds: number;
  throttle: number;
  root?: string;
  json?: string;
}

interface Measured {
  what: string;
  /** Of the copy as it is sent. */
  megabytes: number;
  /** From the beginning of the copy until all of it was on the disk of the new replica, by its node's log. */
  copySeconds: number;
  /** Until the replica had applied the log, and the old one was gone. */
  seconds: number;
  /** What all processes of the cluster used meanwhile. */
  cpuSeconds: number;
  processes: OneProcessUsage[];
}

const readyTimeoutMs = 60_000;
const longMs = 3_600_000;
const lookEveryMs = 10;
const columns = ["what", "MB", "copy s", "copy MB/s", "whole move s", "CPU s"].map((title) => ({ title }));

const command = new Command("bench:move")
  .description("how fast the only replica of a shard is moved from one shard node to another one, on one machine")
  .option("--root <folder>", "another checkout that is built, to compare with")
  .option("--rounds <n>", "moves without a limit of the rate", whole(1, 100), 2)
  .option("--throttle <bytes>", "bytes a second of one more move; 0: none", whole(0, 2 ** 40), 64 * 1024 * 1024)
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-move");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 1 });
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const copy: Copy = { beganMs: 0, endedMs: 0 };
  const onLine = (line: string): void => {
    if (line.includes("this replica copies")) copy.beganMs = performance.now();
    if (line.includes("this replica has copied")) copy.endedMs = performance.now();
  };
  const server = await OwnServer.start({
    ...{ kind: "up", shards: 2, replicas: 1, onLine },
    ...(flags.root !== undefined && { root: flags.root }),
  });
  const measured: Measured[] = [];
  try {
    const api = new Api(server.target);
    await api.ready(readyTimeoutMs);
    const { collection: name, payloadBytes, batch: batchPoints, inFlight } = flags;
    await createCollection(api, { ...flags, name, shards: 1, dimension: base.dimension, replicas: 1 });
    await fillCollection(api, name, base, { payloadBytes, batchPoints, inFlight });
    api.close();
    const client = await connect(server.target, { deadlineMs: longMs });
    await client.collection(name).waitIndexed({ deadlineMs: longMs });
    await client.cluster.updateSettings({ autoRebalance: 0, copyBytesPerSecond: 0 });
    const move = async (what: string): Promise<void> => {
      const watch = new ProcessWatch(server.pids);
      watch.start();
      const moved = await moveReplica(client, name, copy, what);
      const { cpuSeconds = 0, processes = [] } = watch.stop() ?? {};
      measured.push({ ...moved, cpuSeconds, processes });
    };
    for (let round = 1; round <= flags.rounds; round++) await move(`move ${round}`);
    if (flags.throttle > 0) {
      await client.cluster.updateSettings({ copyBytesPerSecond: flags.throttle });
      await move(`at ${formatNumber(flags.throttle / 1e6)} MB/s at most`);
    }
    client.close();
  } finally {
    await server.stop();
  }
  const rows = measured.map(({ what, megabytes, copySeconds, seconds, cpuSeconds }) => [
    what,
    megabytes.toFixed(1),
    copySeconds.toFixed(2),
    formatNumber(megabytes / copySeconds),
    seconds.toFixed(2),
    cpuSeconds.toFixed(2),
  ]);
  console.log(`\n${formatTable(columns, rows)}`);
  const settings = { payloadBytes: flags.payloadBytes, throttle: flags.throttle };
  const result = { data: { description: data.description, seed: data.seed }, settings, measured };
  console.log(`\n${writeResult("move", result, flags.json)}`);
}

/** When a copy has begun and ended, by what nodes log. */
interface Copy {
  beganMs: number;
  endedMs: number;
}

async function moveReplica(
  client: KithClient,
  collection: string,
  copy: Copy,
  what: string,
): Promise<Omit<Measured, "cpuSeconds" | "processes">> {
  const { shards, nodes } = await client.cluster.describe();
  const from = shards.find((shard) => shard.collection === collection)?.replicas[0]?.node ?? "";
  const to = nodes.find(({ id, roles }) => roles.includes("shard") && id !== from)?.id ?? "";
  const startedMs = performance.now();
  let bytes = 0;
  let operation: OperationInfo = await client.cluster.moveReplica({ collection, shard: 0, from, to });
  while (operation.state === "running") {
    await sleep(systemClock, lookEveryMs);
    operation = await client.cluster.operation(operation.id);
    bytes = Math.max(bytes, operation.move?.totalBytes ?? 0);
  }
  if (operation.state !== "done")
    throw new KithError("FAILED_PRECONDITION", `the move is ${operation.state}: ${operation.error}`);
  if (copy.beganMs < startedMs) throw new KithError("INTERNAL", "no node has told of a copy");
  const copySeconds = (copy.endedMs - copy.beganMs) / 1_000;
  return { what, megabytes: bytes / 1e6, copySeconds, seconds: (performance.now() - startedMs) / 1_000 };
}
