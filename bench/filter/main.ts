import { Command } from "commander";
import {
  dataOptions,
  type DataFlags,
  listOf,
  oneOf,
  runMain,
  type ServerFlags,
  serverOptions,
  whole,
} from "../lib/options.js";
import { withSession } from "../lib/session.js";
import { type CpuFlags, measureCpu } from "./cpu.js";
import { phases, type TargetFlags, measureTargets } from "./targets.js";

const command = new Command("bench:filter").description("what filters and payload indexes cost");

command
  .command("cpu", { isDefault: true })
  .description("CPU and memory of tests, indexes and masks, in one process without a server")
  .option("--points <count>", "points of the memory measurement", whole(1_000, 10_000_000), 1_000_000)
  .option("--seed <number>", "seed of the points", whole(0, 0xffff_ffff), 1)
  .action((options: CpuFlags) => measureCpu(options));

const targets = command
  .command("targets")
  .description(
    "filtered queries, ingest with indexes, facets, scrolls and deletes on a server, as ratios within one run",
  )
  .option("--phases <list>", "what is measured, all on the same points", listOf(oneOf(phases)), [...phases])
  .option("--rounds <n>", "how often everything takes its turn", whole(1, 100), 3)
  .option("--duration <ms>", "measured window of a load", whole(100, 600_000), 2_000)
  .option("--concurrency <n>", "queries in flight", whole(1, 1_000), 16)
  .option("--ef <n>", "beam width of all queries", whole(1, 10_000), 64)
  .option("--keep", "leave the collections when all is done")
  .option("--existing", "take the collections that a run before left (--keep), and leave them")
  .option("--json <file>", "where the result goes; default: bench/results");
serverOptions(targets);
dataOptions(targets);
targets.action((flags: TargetFlags & ServerFlags & DataFlags) =>
  withSession(flags, (session) => measureTargets(session, flags)),
);

await runMain(command);
