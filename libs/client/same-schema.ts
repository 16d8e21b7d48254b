import { KithError } from "../base/index.js";
import { specsOf } from "./points.js";
import type { CollectionInfo, CreateOptions } from "./types/collections.js";

/** COLLECTION_EXISTS, with the differences, where the collection is not as the options say; what they leave open may be anything. */
export function checkSameSchema(info: CollectionInfo, options: CreateOptions): void {
  const differences = differencesOf(info, options);
  if (differences.length === 0) return;
  throw new KithError(
    "COLLECTION_EXISTS",
    `the collection "${info.name}" exists with another schema: ${differences.join("; ")}; choose another name, or what it has`,
    { details: { collection: info.name, differences: differences.join("; ") } },
  );
}

function differencesOf(info: CollectionInfo, options: CreateOptions): string[] {
  const { sparse = {}, shards, replicas, partitionKey } = options;
  const wanted = new Map(specsOf(options));
  const differences: string[] = [];
  const compare = (what: string, has: string | number, wants: string | number | undefined): void => {
    if (wants !== undefined && wants !== has) differences.push(`${what} is ${has}, not ${wants}`);
  };
  for (const field of info.vectors) {
    const of = field.name === "" ? "" : ` of "${field.name}"`;
    const spec = wanted.get(field.name);
    if (spec === undefined) {
      differences.push(field.name === "" ? "it has an unnamed vector" : `it has a vector "${field.name}" too`);
      continue;
    }
    compare(`the dimension${of}`, field.dimension, spec.dimension);
    compare(`the metric${of}`, field.metric, spec.metric ?? "cosine");
    // Whatever was picked by the data.
    if (spec.autoRecall === undefined) compare(`the datatype${of}`, field.datatype, spec.datatype ?? "f32");
    compare(`multivector${of}`, field.multivector ?? "none", spec.multivector ?? "none");
    compare(`m${of}`, field.m, spec.m);
    compare(`efConstruction${of}`, field.efConstruction, spec.efConstruction);
  }
  const known = new Set(info.vectors.map(({ name }) => name));
  for (const name of wanted.keys()) {
    if (!known.has(name)) differences.push(name === "" ? "it has no unnamed vector" : `it has no vector "${name}"`);
  }
  for (const { name, modifier } of info.sparse) {
    if (!Object.hasOwn(sparse, name)) differences.push(`it has a sparse vector "${name}" too`);
    else compare(`the modifier of "${name}"`, modifier ?? "none", sparse[name]?.modifier ?? "none");
  }
  for (const name of Object.keys(sparse)) {
    if (!info.sparse.some((field) => field.name === name)) differences.push(`it has no sparse vector "${name}"`);
  }
  compare("the number of shards", info.shards, shards);
  compare("the number of replicas", info.replicas, replicas);
  compare("the partition key", info.partitionKey ?? "none", partitionKey);
  return differences;
}
