import { Command } from "commander";
import { KithError } from "../../libs/base/index.js";
import { Api } from "../lib/api.js";
import { createCollection, fillCollection } from "../lib/collection.js";
import { loadData, type Matrix } from "../lib/data.js";
import { storesBelow, toFormat1 } from "../lib/former-store.js";
import {
  collectionOptions,
  type CollectionFlags,
  dataOptions,
  type DataFlags,
  runMain,
  whole,
} from "../lib/options.js";
import { type Spread, spreadOf } from "../lib/repeat.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatNumber, formatTable } from "../lib/table.js";
import { type Migration, MigrationWatch } from "./watch.js";

interface Flags extends DataFlags, CollectionFlags {
  shards: number;
  rounds: number;
  json?: string;
}

const readyTimeoutMs = 30_000;
const columns = [{ title: "points" }, { title: "points/s" }, { title: "µs CPU/point" }];

const command = new Command("bench:migrate")
  .description("how fast a node brings the stores of the first release to the present format when it starts")
  .option("--shards <n>", "shards of the collection: so many stores are migrated, up to four at once", whole(1, 256), 1)
  .option("--rounds <n>", "repetitions, on the same points", whole(1, 100), 5)
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-migrate");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 1 });
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const watch = new MigrationWatch(flags.shards);
  const server = await OwnServer.start({ kind: "embedded", onLine: (line, pid) => watch.take(line, pid) });
  const migrations: Migration[] = [];
  try {
    await load(server, flags, base);
    for (let round = 0; round < flags.rounds; round++) {
      await server.end();
      for (const store of storesBelow(server.dataDirectory)) await toFormat1(store);
      watch.begin();
      await server.launch();
      migrations.push(await watch.end());
      await expectPoints(server, flags.collection, base.rowCount);
    }
  } finally {
    await server.stop();
  }
  const rates = spreadOf(migrations.map(({ seconds }) => base.rowCount / seconds));
  const cpu = spreadOf(migrations.map(({ cpuSeconds }) => (cpuSeconds * 1e6) / base.rowCount));
  console.log(
    `\n${formatTable(columns, [[base.rowCount.toLocaleString("en-US"), ...[rates, cpu].map(formatSpread)]])}`,
  );
  const settings = { shards: flags.shards, rounds: flags.rounds, payloadBytes: flags.payloadBytes };
  const result = { data: { description: data.description, seed: data.seed }, settings, migrations };
  console.log(`\n${writeResult("migrate", result, flags.json)}`);
}

function formatSpread({ median, min, max }: Spread): string {
  return `${formatNumber(median)} (${formatNumber(min)}–${formatNumber(max)})`;
}

async function withApi(server: OwnServer, work: (api: Api) => Promise<unknown>): Promise<void> {
  const api = new Api(server.target);
  try {
    await api.ready(readyTimeoutMs);
    await work(api);
  } finally {
    api.close();
  }
}

async function load(server: OwnServer, flags: Flags, base: Matrix): Promise<void> {
  const { collection: name, payloadBytes, batch: batchPoints, inFlight } = flags;
  await withApi(server, async (api) => {
    await createCollection(api, { ...flags, name, dimension: base.dimension, replicas: 1 });
    await fillCollection(api, name, base, { payloadBytes, batchPoints, inFlight });
  });
}

async function expectPoints(server: OwnServer, name: string, count: number): Promise<void> {
  await withApi(server, async (api) => {
    const { pointCount } = await api.stats(name);
    if (pointCount !== count) throw new KithError("INTERNAL", `${pointCount} points are left of ${count}`);
  });
}
