import { KithError } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";
import type { Api } from "./api.js";
import { bulkLoad, type BulkLoadResult } from "./bulk-load.js";
import type { Matrix, MetricName } from "./data.js";

export const datatypeNames = ["f32", "f16", "bf16", "i8"] as const;
export type DatatypeName = (typeof datatypeNames)[number];

const metrics: Record<MetricName, pb.Metric> = {
  l2: pb.Metric.L2,
  cosine: pb.Metric.COSINE,
  dot: pb.Metric.DOT,
};
const datatypes: Record<DatatypeName, pb.Datatype> = {
  f32: pb.Datatype.F32,
  f16: pb.Datatype.F16,
  bf16: pb.Datatype.BF16,
  i8: pb.Datatype.I8,
};

export interface CollectionOptions {
  name: string;
  dimension: number;
  metric: MetricName;
  datatype: DatatypeName;
  /** 0: the server's default, as for the next two. */
  m: number;
  efConstruction: number;
  /** The vectors as they were written in a mapped file beside the codes. */
  originals?: boolean;
  replicas: number;
  shards: number;
}

/** Creates the collection anew. */
export async function createCollection(api: Api, options: CollectionOptions): Promise<void> {
  if (await api.exists(options.name)) await api.drop(options.name);
  await api.create(
    pb.CreateCollectionRequest.fromPartial({
      name: options.name,
      shardCount: options.shards,
      replicationFactor: options.replicas,
      vectors: [
        {
          dimension: options.dimension,
          metric: metrics[options.metric],
          datatype: datatypes[options.datatype],
          m: options.m,
          efConstruction: options.efConstruction,
          ...(options.originals === true && { originals: true }),
        },
      ],
    }),
  );
}

export function metricOf(collection: pb.Collection): MetricName {
  const metric = collection.vectors.find(({ name }) => name === "")?.metric;
  const known = (Object.keys(metrics) as MetricName[]).find((name) => metrics[name] === metric);
  if (known === undefined) throw new KithError("UNKNOWN_VECTOR", `${collection.name} has no unnamed vector`);
  return known;
}

export interface FillResult {
  load: BulkLoadResult;
  /** From the first point sent to all vectors in the graph. */
  indexedSeconds: number;
}

export interface FillOptions {
  payloadBytes: number;
  batchPoints: number;
  inFlight: number;
}

/** Fills the collection with the rows, ids from 0, and waits until all are in the graph. */
export async function fillCollection(
  api: Api,
  name: string,
  vectors: Matrix,
  options: FillOptions,
): Promise<FillResult> {
  const startMs = performance.now();
  const load = await bulkLoad(api, { collection: name, vectors, ack: "applied", ...options });
  await api.waitIndexed(name);
  return { load, indexedSeconds: (performance.now() - startMs) / 1000 };
}
