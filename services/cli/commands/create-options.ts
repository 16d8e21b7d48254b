import { type Command, InvalidArgumentError, Option } from "commander";
import type { CreateOptions, SparseSpec, VectorSpec } from "../../../libs/client/index.js";
import { type Metric, metrics, type Datatype, datatypes } from "../../../libs/model/index.js";
import { UsageError } from "../failure.js";
import { finite, keyValue, whole } from "../values.js";

/** The options that say what a new collection looks like; `collection create` and `import --create` share them. */
export interface CreateFlags {
  dimension?: number;
  metric?: Metric;
  datatype?: Datatype;
  originals?: boolean;
  auto?: number;
  vector?: Record<string, VectorSpec>;
  sparse?: Record<string, SparseSpec>;
  multi?: boolean;
  links?: number;
  efConstruction?: number;
  efSearch?: number;
  shards?: number;
  replicas?: number;
  label?: Record<string, string>;
  partitionKey?: string;
}

export function addCreateOptions(command: Command): Command {
  return command
    .option("-d, --dimension <n>", "dimension of the vectors", whole(1))
    .addOption(new Option("-m, --metric <metric>", "similarity (default: cosine)").choices(metrics))
    .addOption(
      new Option("--datatype <type>", "how the index keeps vectors in memory (default: f32)").choices(datatypes),
    )
    .option("--multi", "points have a matrix instead of one vector, compared by late interaction (MaxSim)")
    .option(
      "--sparse <name[:idf]>",
      "sparse vector field, with idf weighed by how rare indices are; repeat for more",
      namedSparse,
    )
    .option("--originals", "keep the vectors as they were written too, in a file, and score results by them")
    .option(
      "--auto <recall>",
      "pick the datatype by the data once there are 10,000 vectors: the least memory with this recall@10",
      finite,
    )
    .option("--shards <n>", "shards (default: 1)", whole(1))
    .option("--replicas <n>", "replicas of each shard (default: the cluster's)", whole(1))
    .option("--links <n>", "links per node of the graph, HNSW M (default: 16)", whole(2))
    .option("--ef-construction <n>", "beam width of the build", whole(8))
    .option("--ef-search <n>", "beam width of a search that names none (default: 64)", whole(1))
    .option("--label <key=value>", "label; repeat for more", keyValue)
    .option("--partition-key <path>", "field of the payload by whose value points are put into shards, such as tenant");
}

/** name:dimension[:metric[:datatype[:multi]]] */
export function namedVector(text: string, before: Record<string, VectorSpec> | undefined): Record<string, VectorSpec> {
  const [name, dimension, metric, datatype, multi, ...rest] = text.split(":");
  if (!name || dimension === undefined || rest.length > 0 || (multi !== undefined && multi !== "multi")) {
    throw new InvalidArgumentError(
      "It must have the form name:dimension[:metric[:datatype[:multi]]], such as title:384:cosine.",
    );
  }
  if (before !== undefined && Object.hasOwn(before, name)) {
    throw new InvalidArgumentError(`The vector field "${name}" is named twice.`);
  }
  const spec: VectorSpec = { dimension: whole(1)(dimension) };
  if (metric !== undefined) spec.metric = oneOf(metrics, metric);
  if (datatype !== undefined) spec.datatype = oneOf(datatypes, datatype);
  if (multi !== undefined) spec.multivector = "maxSim";
  return { ...before, [name]: spec };
}

/** name[:idf] */
export function namedSparse(text: string, before: Record<string, SparseSpec> | undefined): Record<string, SparseSpec> {
  const [name, modifier, ...rest] = text.split(":");
  if (!name || (modifier !== undefined && modifier !== "idf") || rest.length > 0) {
    throw new InvalidArgumentError("It must have the form name or name:idf, such as words:idf.");
  }
  if (before !== undefined && Object.hasOwn(before, name)) {
    throw new InvalidArgumentError(`The sparse field "${name}" is named twice.`);
  }
  return { ...before, [name]: modifier === undefined ? {} : { modifier } };
}

function oneOf<T extends string>(known: readonly T[], text: string): T {
  const found = known.find((each) => each === text);
  if (found === undefined) throw new InvalidArgumentError(`"${text}" is none of ${known.join(", ")}.`);
  return found;
}

/** What the flags ask for. `dimension` fills in where the flags name none (the data tells). */
export function createOptionsOf(flags: CreateFlags, dimension?: number): CreateOptions {
  const shared = {
    ...(flags.links !== undefined && { m: flags.links }),
    ...(flags.efConstruction !== undefined && { efConstruction: flags.efConstruction }),
    ...(flags.efSearch !== undefined && { efSearch: flags.efSearch }),
    ...(flags.originals === true && { originals: true }),
    ...(flags.auto !== undefined && { autoRecall: flags.auto }),
  };
  let vectors: CreateOptions["vectors"];
  if (flags.vector !== undefined) {
    const { dimension: size, metric, datatype, multi } = flags;
    if (size !== undefined || metric !== undefined || datatype !== undefined || multi !== undefined) {
      throw new UsageError(
        "--vector names dimension, metric, datatype and multi of each field; leave out --dimension, --metric, --datatype and --multi",
      );
    }
    vectors = Object.fromEntries(Object.entries(flags.vector).map(([name, spec]) => [name, { ...spec, ...shared }]));
  } else {
    const size = flags.dimension ?? dimension;
    if (size === undefined && flags.sparse === undefined) {
      throw new UsageError(
        "say --dimension <n> for one unnamed vector, --vector <name:dimension[:metric]> for named ones, or --sparse <name>",
      );
    }
    if (size !== undefined) {
      vectors = {
        dimension: size,
        ...(flags.metric !== undefined && { metric: flags.metric }),
        ...(flags.datatype !== undefined && { datatype: flags.datatype }),
        ...(flags.multi === true && { multivector: "maxSim" }),
        ...shared,
      };
    }
  }
  return {
    ...(vectors && { vectors }),
    ...(flags.sparse && { sparse: flags.sparse }),
    ...(flags.shards !== undefined && { shards: flags.shards }),
    ...(flags.replicas !== undefined && { replicas: flags.replicas }),
    ...(flags.label !== undefined && { labels: flags.label }),
    ...(flags.partitionKey !== undefined && { partitionKey: flags.partitionKey }),
  };
}
