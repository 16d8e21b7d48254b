import { KithError, limits } from "../base/index.js";
import { native } from "./native.js";
import type { IndexOptions, Metric, Datatype } from "./types.js";

const metrics: readonly Metric[] = ["cosine", "dot", "l2"];
const datatypes: readonly Datatype[] = ["f32", "f16", "bf16", "i8", "i4", "pq16", "pq32", "binary", "pq64"];

/** Rows below which a scan beats the graph; see the crossing in bench/ann. */
const defaultGraphThreshold = 4096;
/** Rows that may wait for the graph: scanning so many costs about as much as one search of the graph. */
const defaultTailRowsMax = 8192;

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new KithError("INVALID_ARGUMENT", `${name} is ${value}; it must be a whole number from ${least} to ${most}`, {
      details: { field: name, value, least, most },
    });
  }
  return value;
}

/** Checks the options and fills in the defaults. Throws INVALID_ARGUMENT. */
export function completeOptions(options: IndexOptions): Required<IndexOptions> {
  if (!metrics.includes(options.metric)) {
    throw new KithError("INVALID_ARGUMENT", `metric is ${String(options.metric)}; use cosine, dot or l2`);
  }
  if (!datatypes.includes(options.datatype)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `datatype is ${String(options.datatype)}; use one of ${datatypes.join(", ")}`,
    );
  }
  if (options.datatype === "binary" && options.metric !== "cosine") {
    throw new KithError("INVALID_ARGUMENT", `binary goes with the metric cosine alone, not with ${options.metric}`);
  }
  if (options.datatype.startsWith("pq") && (options.givenFolder ?? "") === "") {
    throw new KithError(
      "INVALID_ARGUMENT",
      `${options.datatype} goes with a folder for the vectors as they were given`,
    );
  }
  const graphThreshold = integer("graphThreshold", options.graphThreshold ?? defaultGraphThreshold, 0, 2 ** 31);
  return {
    dimension: integer("dimension", options.dimension, 1, limits.dimensionMax),
    metric: options.metric,
    datatype: options.datatype,
    // In f32 the rows are as they were given.
    givenFolder: options.datatype === "f32" ? "" : (options.givenFolder ?? ""),
    m: integer("m", options.m, 2, 128),
    efConstruction: integer("efConstruction", options.efConstruction, 4, 4096),
    graphThreshold,
    tailRowsMax: integer(
      "tailRowsMax",
      options.tailRowsMax ?? Math.max(defaultTailRowsMax, graphThreshold),
      1,
      2 ** 31,
    ),
  };
}

/** The options as the addon reads them. */
export function optionWords(options: Readonly<Required<IndexOptions>>): Uint32Array {
  const { option, metric, datatype } = native().layout;
  const words = new Uint32Array(option.words);
  words[option.dimension] = options.dimension;
  words[option.metric] = metric[options.metric];
  words[option.datatype] = datatype[options.datatype];
  words[option.m] = options.m;
  words[option.efConstruction] = options.efConstruction;
  words[option.graphThreshold] = options.graphThreshold;
  return words;
}
