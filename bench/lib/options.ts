import { type Command, InvalidArgumentError, Option } from "commander";
import { KithError } from "../../libs/base/index.js";
import { datatypeNames } from "./collection.js";

export function whole(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`it must be a whole number in ${min}..${max}`);
    }
    return value;
  };
}

export function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new InvalidArgumentError("it must be a number above 0");
  return value;
}

export function listOf<T>(each: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(",").map((part) => each(part.trim()));
}

export function oneOf<T extends string>(values: readonly T[]): (text: string) => T {
  return (text) => {
    const found = values.find((value) => value === text);
    if (found === undefined) throw new InvalidArgumentError(`it must be one of ${values.join(", ")}`);
    return found;
  };
}

/** A Kith that a benchmark starts: `kith dev`, or `kith up` with so many shard nodes. */
export interface OwnServerKind {
  kind: "embedded" | "up";
  /** Shard nodes, and shards of the collection; undefined: what --shards says. */
  shards: number | undefined;
}

/** "embedded", "up", "up:2". */
function ownServerKind(text: string): OwnServerKind {
  const [, kind, shards] = /^(embedded|up)(?::([1-9]\d?))?$/.exec(text) ?? [];
  if (kind !== "embedded" && kind !== "up") {
    throw new InvalidArgumentError("it must be embedded, up, or one of them with a number of shards, such as up:2");
  }
  return { kind, shards: shards === undefined ? undefined : Number(shards) };
}

/** Where Kith is: a running one, or one that the benchmark starts. */
export interface ServerFlags {
  target?: string;
  self?: OwnServerKind[];
  shards: number;
  replicas: number;
  pid?: number[];
  metrics?: string;
  nodeArg?: string[];
}

export function serverOptions(command: Command): Command {
  return command
    .option("-t, --target <host:port>", "a running Kith")
    .option(
      "--self <kind>",
      "start one for the benchmark, in processes of its own: embedded, up, or up:<shards>",
      listOf(ownServerKind),
    )
    .option("--shards <n>", "shards of the collection, and nodes of --self up; 0: the default", whole(0, 256), 0)
    .option("--replicas <n>", "replicas of the collection; 0: the default", whole(0, 7), 0)
    .option("--pid <pids>", "processes of a running Kith whose CPU and memory are measured", listOf(whole(1)))
    .option("--metrics <url>", "its page for Prometheus, for the delay of the event loop")
    .option("--node-arg <arg...>", "further argument of node for --self, such as --node-arg=--cpu-prof");
}

export interface CollectionFlags {
  collection: string;
  metric: "l2" | "cosine" | "dot";
  datatype: (typeof datatypeNames)[number];
  m: number;
  efConstruction: number;
  payloadBytes: number;
  batch: number;
  inFlight: number;
}

export function collectionOptions(command: Command, name: string): Command {
  return command
    .option("-c, --collection <name>", "the collection; made anew unless --existing", name)
    .addOption(new Option("--metric <metric>", "distance").choices(["l2", "cosine", "dot"]).default("l2"))
    .addOption(new Option("--datatype <type>", "how the index keeps vectors").choices(datatypeNames).default("f32"))
    .option("--m <n>", "links per node of the graph; 0: the default", whole(0, 512), 0)
    .option("--ef-construction <n>", "beam width of the build; 0: the default", whole(0, 8192), 0)
    .option("--payload-bytes <n>", "size of each payload; 0: none", whole(0, 65_536), 0)
    .option("--batch <n>", "points of one message of the bulk load", whole(1, 10_000), 1000)
    .option("--in-flight <n>", "messages of the bulk load that wait for their answer", whole(1, 1024), 8);
}

export interface DataFlags {
  base?: string;
  queries?: string;
  truth?: string;
  seeded?: string;
  seed: number;
  clusters: number;
  queryCount: number;
  rows?: number;
}

export function dataOptions(command: Command): Command {
  return command
    .option("--base <file>", "vectors to load: fvecs, bvecs, fbin, u8bin, npy, jsonl")
    .option("--queries <file>", "query vectors")
    .option("--truth <file>", "true neighbours: ibin, ivecs; without it they are computed")
    .option("--seeded <rows×dimension>", "generate the data instead of reading it: 100000x128")
    .option("--seed <n>", "seed of generated data and of arrivals", whole(0, 0xffff_ffff), 1)
    .option("--clusters <n>", "clusters of generated data; 0: none, the hardest case", whole(0, 1_000_000), 1000)
    .option("--query-count <n>", "queries to use", whole(1, 1_000_000), 1000)
    .option("--rows <n>", "take only the first rows of the base", whole(1));
}

/** Parses and runs; an error is one line (with what caused it under --verbose), and exit code 1. */
export async function runMain(command: Command): Promise<void> {
  command.option("--verbose", "show where an error comes from").showHelpAfterError("(--help shows the options)");
  try {
    await command.parseAsync();
  } catch (error) {
    const text = error instanceof KithError ? `${error.code}: ${error.message}` : String((error as Error).message);
    console.error(command.opts<{ verbose?: boolean }>().verbose === true ? error : text);
    process.exitCode = 1;
  }
}
