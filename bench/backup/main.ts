import { Command } from "commander";
import { KithError } from "../../libs/base/index.js";
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
import { readProcess } from "../lib/process-stats.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatNumber, formatTable } from "../lib/table.js";

interface Flags extends DataFlags, CollectionFlags {
  shards: number;
  restoreShards: number;
  root?: string;
  nodeArg?: string[];
  json?: string;
}

interface Measured {
  what: string;
  seconds: number;
  /** What all processes of the server used meanwhile. */
  cpuSeconds: number;
  points: number;
  /** Of vectors and payloads as they are stored. */
  megabytes: number;
  /** Written to the backup. */
  writtenMegabytes: number;
}

const readyTimeoutMs = 30_000;
const longMs = 3_600_000;
const columns = ["what", "s", "MB/s", "points/s", "CPU s", "MB written"].map((title) => ({ title }));

const command = new Command("bench:backup")
  .description(
    "how fast a collection is backed up to a folder, verified and restored, and what a further backup writes",
  )
  .option("--shards <n>", "shards of the collection", whole(1, 256), 2)
  .option(
    "--restore-shards <n>",
    "shards of one that is restored, beside one with as many as it was backed up with",
    whole(1, 256),
    3,
  )
  .option("--root <folder>", "another checkout that is built, to compare with")
  .option("--node-arg <arg...>", "further argument of node for the server, such as --node-arg=--cpu-prof")
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-backup");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 1 });
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const server = await OwnServer.start({
    kind: "embedded",
    ...(flags.root !== undefined && { root: flags.root }),
    ...(flags.nodeArg !== undefined && { nodeArgs: flags.nodeArg }),
  });
  const watched = (): (() => Pick<Measured, "seconds" | "cpuSeconds">) => {
    const startedMs = performance.now();
    const before = cpuSeconds(server);
    return () => ({ seconds: (performance.now() - startedMs) / 1_000, cpuSeconds: cpuSeconds(server) - before });
  };
  const measured: Measured[] = [];
  try {
    const api = new Api(server.target);
    await api.ready(readyTimeoutMs);
    const { collection: name, payloadBytes, batch: batchPoints, inFlight } = flags;
    await createCollection(api, { ...flags, name, dimension: base.dimension, replicas: 1 });
    await fillCollection(api, name, base, { payloadBytes, batchPoints, inFlight });
    api.close();
    const client = await connect(server.target, { deadlineMs: longMs });
    const megabytes = (base.rowCount * (base.dimension * 4 + payloadBytes)) / 1e6;
    const size = { points: base.rowCount, megabytes };
    await client.collection(name).waitIndexed({ deadlineMs: longMs });
    const full = await backUp(client, name, "full backup", size, measured, watched);
    await backUp(client, name, "again, nothing changed", size, measured, watched);
    for (const share of [0.0001, 0.001, 0.01]) {
      const changed = Math.max(1, Math.round(base.rowCount * share));
      const step = Math.floor(base.rowCount / changed);
      const ids = Array.from({ length: changed }, (_, i) => i * step);
      for (let from = 0; from < ids.length; from += 1_000) {
        await client.collection(name).setPayload(ids.slice(from, from + 1_000), { changed: share });
      }
      await backUp(client, name, `again, ${changed} spread points changed`, size, measured, watched);
    }
    const verified = watched();
    await client.backups.verify(full);
    measured.push({ ...size, what: "verify", ...verified(), writtenMegabytes: 0 });
    for (const shards of new Set([flags.shards, flags.restoreShards])) {
      const what = `restore, ${shards} shards`;
      const collection = `${name}-${shards}`;
      const restored = watched();
      let fed: ReturnType<typeof restored> | undefined;
      const onProgress = ({ step }: OperationInfo): void => {
        if (step !== "feed") fed ??= restored();
      };
      const { operation } = await client.backups.restore(full, { collection, shards });
      await client.backups.wait(operation, { everyMs: 20, onProgress });
      const end = restored();
      measured.push({ ...size, what: `${what}: files or logs`, ...(fed ?? end), writtenMegabytes: 0 });
      measured.push({ ...size, what: `${what}: compared`, ...end, writtenMegabytes: 0 });
      await client.collection(collection).waitIndexed({ deadlineMs: longMs });
      measured.push({ ...size, what: `${what}: all in the graph`, ...restored(), writtenMegabytes: 0 });
      await client.collection(collection).drop();
    }
    client.close();
  } finally {
    await server.stop();
  }
  const rows = measured.map((each) => [
    each.what,
    each.seconds.toFixed(2),
    formatNumber(each.megabytes / each.seconds),
    formatNumber(each.points / each.seconds),
    each.cpuSeconds.toFixed(2),
    each.writtenMegabytes === 0 ? "" : each.writtenMegabytes.toFixed(1),
  ]);
  console.log(`\n${formatTable(columns, rows)}`);
  const settings = { shards: flags.shards, restoreShards: flags.restoreShards, payloadBytes: flags.payloadBytes };
  const result = { data: { description: data.description, seed: data.seed }, settings, measured };
  console.log(`\n${writeResult("backup", result, flags.json)}`);
}

async function backUp(
  client: KithClient,
  name: string,
  what: string,
  size: { points: number; megabytes: number },
  measured: Measured[],
  watched: () => () => Pick<Measured, "seconds" | "cpuSeconds">,
): Promise<string> {
  const ended = watched();
  const { id, operation } = await client.backups.create(name);
  await client.backups.wait(operation, { everyMs: 20 });
  const used = ended();
  const backup = (await client.backups.list()).find((each) => each.id === id);
  measured.push({ ...size, what, ...used, writtenMegabytes: (backup?.writtenBytes ?? 0) / 1e6 });
  return id;
}

function cpuSeconds({ pids }: OwnServer): number {
  return pids.reduce((sum, pid) => sum + (readProcess(pid)?.cpuSeconds ?? 0), 0);
}
