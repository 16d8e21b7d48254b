import { Command, Option } from "commander";
import { KithError, sleep, systemClock } from "../../libs/base/index.js";
import { type CollectionHandle, connect, type GenerationInfo } from "../../libs/client/index.js";
import { type Datatype, datatypes } from "../../libs/model/index.js";
import { Api } from "../lib/api.js";
import { createCollection, fillCollection } from "../lib/collection.js";
import { loadData, type Matrix } from "../lib/data.js";
import { collectionOptions, type CollectionFlags, dataOptions, type DataFlags, runMain } from "../lib/options.js";
import { describeMachine, writeResult } from "../lib/result.js";
import { OwnServer } from "../lib/server.js";
import { formatTable } from "../lib/table.js";
import { type Calls, callColumns, noCalls, rowOfCalls, underLoad } from "../lib/under-load.js";

interface Flags extends DataFlags, CollectionFlags {
  to: Datatype;
  originals?: boolean;
  json?: string;
}

const readyTimeoutMs = 30_000;
const longMs = 3_600_000;
const restMs = 5_000;

const command = new Command("bench:generation")
  .description(
    "changes the datatype of a collection, and takes it back, while it is searched and written: what fails, and how long calls take",
  )
  .addOption(new Option("--to <type>", "the datatype that it gets").choices(datatypes).default("i8"))
  .option("--originals", "with the vectors as they were written")
  .option("--json <file>", "where the result goes; default: bench/results");
dataOptions(command);
collectionOptions(command, "bench-generation");
command.action(main);
await runMain(command);

/** A part of the run, with the calls that were made meanwhile. */
interface Phase {
  what: string;
  seconds: number;
  calls: [Calls, Calls];
}

async function main(flags: Flags): Promise<void> {
  const data = await loadData({ ...flags, queries: flags.queries ?? flags.base, queryCount: 100 });
  const { base } = data;
  if (base === undefined) throw new KithError("INVALID_ARGUMENT", "there is nothing to load: name --base or --seeded");
  console.log(`machine: ${describeMachine()}\ndata:    ${data.description}`);
  const server = await OwnServer.start({ kind: "embedded" });
  const phases: Phase[] = [];
  let generations: GenerationInfo[] = [];
  try {
    const api = new Api(server.target);
    await api.ready(readyTimeoutMs);
    const { collection: name, payloadBytes, batch: batchPoints, inFlight } = flags;
    await createCollection(api, { ...flags, name, shards: 1, dimension: base.dimension, replicas: 1 });
    await fillCollection(api, name, base, { payloadBytes, batchPoints, inFlight });
    api.close();
    const client = await connect(server.target, { deadlineMs: longMs });
    const handle = client.collection(name);
    await handle.waitIndexed({ deadlineMs: longMs });
    const { to: datatype, originals = false } = flags;
    const run = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      phases.push(await phase(what, handle, base, work));
    };
    await run("before", () => sleep(systemClock, restMs));
    await run("meanwhile", () => handle.alterVectorField("", { datatype, originals, wait: true, deadlineMs: longMs }));
    generations = await handle.listGenerations();
    await run("afterwards", () => sleep(systemClock, restMs));
    await run("rollback", () => handle.rollbackGeneration());
    client.close();
  } finally {
    await server.stop();
  }
  const rows = phases.flatMap(({ what, seconds, calls: [searches, writes] }) => [
    [`searches ${what}, ${seconds.toFixed(1)} s`, ...rowOfCalls(searches)],
    [`writes ${what}`, ...rowOfCalls(writes)],
  ]);
  console.log(`\n${formatTable(callColumns, rows)}`);
  console.log(JSON.stringify(generations));
  const settings = { to: flags.to, originals: flags.originals ?? false, payloadBytes: flags.payloadBytes };
  const result = {
    data: { description: data.description, seed: data.seed },
    settings,
    measured: { rows, generations },
  };
  console.log(`\n${writeResult("generation", result, flags.json)}`);
}

async function phase(
  what: string,
  handle: CollectionHandle,
  base: Matrix,
  work: () => Promise<unknown>,
): Promise<Phase> {
  const calls: [Calls, Calls] = [noCalls(), noCalls()];
  const startedMs = performance.now();
  await underLoad(handle, base, calls, async () => {
    await work();
  });
  return { what, seconds: (performance.now() - startedMs) / 1_000, calls };
}
