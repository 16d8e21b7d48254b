import { Command } from "commander";
import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import { type CollectionHandle, connect, type KithClient, type OperationInfo } from "../../libs/client/index.js";
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
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatTable } from "../lib/table.js";
import { type Calls, callColumns, noCalls, rowOfCalls, underLoad } from "../lib/under-load.js";

interface Flags extends DataFlags, CollectionFlags {
  into: number;
  json?: string;
}

const readyTimeoutMs = 30_000;
const longMs = 3_600_000;
/** How often it is looked at which step the operation is. */
const lookEveryMs = 20;
const command = new Command("bench:split")
  .description(
    "splits the only shard of a collection, and merges the new ones again, while it is searched and written: how long writes wait, and searches take",
  )
  .option("--into <n>", "new shards", whole(2, 16), 2)
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-split");
command.action(main);
await runMain(command);

async function main(flags: Flags): Promise<void> {
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 100 });
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const server = await OwnServer.start({ kind: "embedded" });
  const before: [Calls, Calls] = [noCalls(), noCalls()];
  const measured: Resharding[] = [];
  try {
    const api = new Api(server.target);
    await api.ready(readyTimeoutMs);
    const { collection: name, payloadBytes, batch: batchPoints, inFlight } = flags;
    await createCollection(api, { ...flags, name, shards: 1, dimension: base.dimension, replicas: 1 });
    const { indexedSeconds } = await fillCollection(api, name, base, { payloadBytes, batchPoints, inFlight });
    console.log(`loaded and indexed in ${indexedSeconds.toFixed(1)} s`);
    api.close();
    const client = await connect(server.target, { deadlineMs: longMs });
    const handle = client.collection(name);
    await handle.waitIndexed({ deadlineMs: longMs });
    await underLoad(handle, base, before, () => sleep(systemClock, 5_000));
    const split = await resharded("split", client, handle, base, () =>
      client.cluster.splitShard({ collection: name, shard: 0, into: flags.into }),
    );
    const shards = split.made;
    const merge = (): Promise<OperationInfo> => client.cluster.mergeShards({ collection: name, shards });
    tell(split);
    const merged = await resharded("merge", client, handle, base, merge);
    tell(merged);
    measured.push(split, merged);
    client.close();
  } finally {
    await server.stop();
  }
  const rows = [
    ["searches before", ...rowOfCalls(before[0])],
    ["writes before", ...rowOfCalls(before[1])],
    ...measured.flatMap(({ what, during }) => [
      [`searches during the ${what}`, ...rowOfCalls(during[0])],
      [`writes during the ${what}`, ...rowOfCalls(during[1])],
    ]),
  ];
  console.log(`\n${formatTable(callColumns, rows)}`);
  const result = {
    data: { description: data.description, seed: data.seed },
    settings: { into: flags.into, payloadBytes: flags.payloadBytes },
    measured: {
      reshardings: measured.map(({ what, seconds, steps, sealWaitMs }) => ({ what, seconds, steps, sealWaitMs })),
      rows,
    },
  };
  console.log(`\n${writeResult("split", result, flags.json)}`);
}

/** As soon as it is over: the next one may take long. */
function tell({ what, seconds, steps, sealWaitMs, during: [searches, writes] }: Resharding): void {
  const begun = `steps begun after ${JSON.stringify(steps)} s`;
  console.log(
    `\n${what} in ${seconds.toFixed(1)} s; ${begun}; the longest write about the seal took ${sealWaitMs.toFixed(0)} ms`,
  );
  const rows = [
    ["searches", ...rowOfCalls(searches)],
    ["writes", ...rowOfCalls(writes)],
  ];
  console.log(formatTable(callColumns, rows));
}

/** A split or a merge, and the calls that were made meanwhile. */
interface Resharding {
  what: "split" | "merge";
  seconds: number;
  /** By step, the seconds after which it was seen. */
  steps: Record<string, number>;
  sealWaitMs: number;
  during: [Calls, Calls];
  /** Ids of the new shards. */
  made: number[];
}

async function resharded(
  what: Resharding["what"],
  client: KithClient,
  handle: CollectionHandle,
  base: Matrix,
  begin: () => Promise<OperationInfo>,
): Promise<Resharding> {
  const during: [Calls, Calls] = [noCalls(), noCalls()];
  const steps: Record<string, number> = {};
  const result: Resharding = { what, seconds: 0, steps, sealWaitMs: 0, during, made: [] };
  const startedMs = performance.now();
  await underLoad(handle, base, during, async () => {
    let operation = await begin();
    while (operation.state === "running") {
      await sleep(systemClock, lookEveryMs);
      operation = await client.cluster.operation(operation.id);
      steps[operation.step] ??= since(startedMs);
    }
    if (operation.state !== "done")
      throw new KithError("FAILED_PRECONDITION", `the ${what} is ${operation.state}: ${operation.error}`);
    result.seconds = since(startedMs);
    result.sealWaitMs = longestWithin(during[1], startedMs, steps);
    result.made = operation.resharding?.to ?? [];
  });
  return result;
}

/** Of the calls that were under way between the seal and the step behind the switch, by when these were seen. */
function longestWithin({ times, startsMs }: Calls, startedMs: number, steps: Record<string, number>): number {
  const drop = steps["drop"] ?? 0;
  const fromMs = startedMs + (steps["seal"] ?? steps["switch"] ?? drop) * 1_000 - 2 * lookEveryMs;
  const toMs = startedMs + drop * 1_000;
  const within = times.filter((tookMs, i) => {
    const startMs = startsMs[i] ?? 0;
    return startMs <= toMs && startMs + tookMs >= fromMs;
  });
  return Math.max(0, ...within);
}

function since(startedMs: number): number {
  return (performance.now() - startedMs) / 1_000;
}
