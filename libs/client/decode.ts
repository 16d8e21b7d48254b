import { KithError, setOwn } from "../base/index.js";
import {
  type CollectionState,
  type Datatype,
  type Metric,
  type Multivector,
  type StrictMode,
  strictLimits,
  strictRefusals,
} from "../model/index.js";
import { pb, unindexedFieldFrom } from "../wire/index.js";
import { givenNumber, shownValue } from "./given.js";
import { idFromWire } from "./ids.js";
import { rowsOf } from "./vectors.js";
import { wholeNumber } from "./numbers.js";
import { onlyKeys } from "./only-keys.js";
import { vectorSpecKeys } from "./option-keys.js";
import { payloadIndexesFromWire } from "./payload-index.js";
import { sparseFromWire, sparseInfoFromWire } from "./sparse.js";
import type { ClusterInfo, ClusterSettings, OperationInfo } from "./types/cluster.js";
import type { CollectionInfo, CollectionStats, VectorInfo, VectorSpec } from "./types/collections.js";
import type { Point, ScoredPoint } from "./types/points.js";
import type { ExplainStep, QueryResult } from "./types/queries.js";

const metricToWire: Record<Metric, pb.Metric> = { cosine: pb.Metric.COSINE, dot: pb.Metric.DOT, l2: pb.Metric.L2 };
export const datatypeToWire: Record<Datatype, pb.Datatype> = {
  f32: pb.Datatype.F32,
  f16: pb.Datatype.F16,
  bf16: pb.Datatype.BF16,
  i8: pb.Datatype.I8,
  i4: pb.Datatype.I4,
  binary: pb.Datatype.BINARY,
  pq16: pb.Datatype.PQ16,
  pq32: pb.Datatype.PQ32,
  pq64: pb.Datatype.PQ64,
};

const multivectorToWire: Record<Multivector, pb.Multivector> = { maxSim: pb.Multivector.MAX_SIM };

export function nameOf<T extends string>(table: Record<T, number>, value: number, otherwise: T): T {
  for (const name of Object.keys(table) as T[]) if (table[name] === value) return name;
  return otherwise;
}

export function lookUp<T extends string>(table: Record<T, number>, value: T, what: string): number {
  if (Object.hasOwn(table, value)) return table[value];
  throw new KithError(
    "INVALID_SCHEMA",
    `the ${what} ${shownValue(value)} is unknown; use one of ${Object.keys(table).join(", ")}`,
    { details: { [what]: String(value) } },
  );
}

export function vectorFieldToWire(name: string, spec: VectorSpec): pb.VectorField {
  onlyKeys(spec, vectorSpecKeys, name === "" ? "vectors" : `vectors.${name}`);
  return {
    name,
    dimension: wholeNumber(spec.dimension, "dimension"),
    metric: lookUp(metricToWire, spec.metric ?? "cosine", "metric"),
    datatype: lookUp(datatypeToWire, spec.datatype ?? "f32", "datatype"),
    m: wholeNumber(spec.m ?? 0, "m"),
    efConstruction: wholeNumber(spec.efConstruction ?? 0, "efConstruction"),
    efSearch: wholeNumber(spec.efSearch ?? 0, "efSearch"),
    ...(spec.multivector !== undefined && {
      multivector: lookUp(multivectorToWire, spec.multivector, "multivector"),
    }),
    ...(spec.originals !== undefined && { originals: spec.originals }),
    ...(spec.autoRecall !== undefined && { autoRecall: givenNumber(spec.autoRecall, "autoRecall") }),
  };
}

/** How the text of payloads becomes what callers get. */
export type ParsePayload = (json: string) => unknown;

function payloadFromWire<P>(bytes: Uint8Array, parse: ParsePayload): P | undefined {
  if (bytes.length === 0) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  try {
    return parse(text) as P;
  } catch (cause) {
    throw new KithError("CORRUPT_DATA", `a payload that the server sent could not be parsed: ${text.slice(0, 80)}`, {
      cause,
    });
  }
}

function addVectors(target: Point<unknown>, wire: Record<string, pb.Vector>): void {
  for (const name in wire) {
    const vector = wire[name] as pb.Vector;
    const { values } = vector;
    if (vector.indices.length > 0) setOwn((target.sparse ??= {}), name, sparseFromWire(vector));
    else if (vector.rows !== undefined) setOwn((target.matrices ??= {}), name, rowsOf(vector));
    else if (name === "") target.vector = values;
    else setOwn((target.vectors ??= {}), name, values);
  }
}

export function pointFromWire<P>(wire: pb.Point, parse: ParsePayload): Point<P> {
  const point: Point<P> = { id: idFromWire(wire.id), version: wire.version };
  const payload = payloadFromWire<P>(wire.payload, parse);
  if (payload !== undefined) point.payload = payload;
  addVectors(point, wire.vectors);
  if (wire.expiresAtMs > 0) point.expiresAt = new Date(wire.expiresAtMs);
  return point;
}

export function scoredPointFromWire<P>(wire: pb.ScoredPoint, parse: ParsePayload): ScoredPoint<P> {
  // A server of before leaves a score of 0 out.
  const point: ScoredPoint<P> = { id: idFromWire(wire.id), score: wire.score ?? 0, version: wire.version };
  const payload = payloadFromWire<P>(wire.payload, parse);
  if (payload !== undefined) point.payload = payload;
  addVectors(point, wire.vectors);
  if (wire.order !== undefined) point.order = wire.order;
  for (const path in wire.highlights) setOwn((point.highlights ??= {}), path, wire.highlights[path]?.fragments ?? []);
  return point;
}

export function queryResultFromWire<P>(wire: pb.QueryResponse, parse: ParsePayload): QueryResult<P> {
  const result: QueryResult<P> = {
    points: wire.points.map((point) => scoredPointFromWire<P>(point, parse)),
    missing: wire.missing,
    trace: wire.trace,
    tookUs: wire.tookUs,
  };
  if (wire.explain !== undefined) result.explain = explainFromWire(wire.explain);
  return result;
}

export function explainFromWire({ name, startUs, durationUs, facts, steps }: pb.Explain): ExplainStep {
  const known = facts.map(({ name: fact, value }): [string, string | number] => [fact, value?.value ?? ""]);
  return { name, startUs, durationUs, facts: Object.fromEntries(known), steps: steps.map(explainFromWire) };
}

function vectorInfoFromWire(wire: pb.VectorField): VectorInfo {
  return {
    name: wire.name,
    dimension: wire.dimension,
    metric: nameOf(metricToWire, wire.metric, "cosine"),
    datatype: nameOf(datatypeToWire, wire.datatype, "f32"),
    m: wire.m,
    efConstruction: wire.efConstruction,
    efSearch: wire.efSearch,
    ...(wire.multivector === pb.Multivector.MAX_SIM && { multivector: "maxSim" }),
    originals: wire.originals ?? false,
    ...(wire.autoRecall !== undefined && { autoRecall: wire.autoRecall }),
  };
}

const states: Record<CollectionState, pb.CollectionState> = {
  creating: pb.CollectionState.CREATING,
  ready: pb.CollectionState.READY,
  deleting: pb.CollectionState.DELETING,
};

export function collectionFromWire(wire: pb.Collection | undefined): CollectionInfo {
  if (wire === undefined) throw new KithError("INTERNAL", "the server answered without the collection");
  return {
    id: wire.id,
    name: wire.name,
    vectors: wire.vectors.map(vectorInfoFromWire),
    sparse: wire.sparseVectors.map(sparseInfoFromWire),
    shards: wire.shardCount,
    replicas: wire.replicationFactor,
    epoch: wire.epoch,
    createdAt: wire.createdAt,
    labels: { ...wire.labels },
    state: nameOf(states, wire.state, "creating"),
    strictMode: strictFromWire(wire.strictMode),
    payloadIndexes: payloadIndexesFromWire(wire.payloadIndexes),
    schemaVersion: wire.schemaVersion,
    aliases: [...wire.aliases],
    choices: wire.choices.map(({ datatype, trials, ...choice }) => ({
      ...choice,
      datatype: nameOf(datatypeToWire, datatype, "f32"),
      trials: trials.map((trial) => ({ ...trial, datatype: nameOf(datatypeToWire, trial.datatype, "f32") })),
    })),
    ...(wire.partitionKey !== undefined && wire.partitionKey !== "" && { partitionKey: wire.partitionKey }),
    ...(wire.recallTarget !== undefined && { recallTarget: wire.recallTarget }),
  };
}

/** INVALID_ARGUMENT for an unknown key: a limit that is misspelt would not hold. */
export function strictToWire(strict: StrictMode | undefined): pb.StrictMode | undefined {
  if (strict === undefined) return undefined;
  onlyKeys(strict, [...strictLimits, ...strictRefusals], "strictMode");
  for (const limit of strictLimits) if (strict[limit] !== undefined) wholeNumber(strict[limit], `strictMode.${limit}`);
  return pb.StrictMode.fromPartial(strict);
}

function strictFromWire(wire: pb.StrictMode | undefined): StrictMode {
  const strict: StrictMode = {};
  if (wire === undefined) return strict;
  for (const limit of strictLimits) if (wire[limit] !== 0) strict[limit] = wire[limit];
  for (const refusal of strictRefusals) if (wire[refusal]) strict[refusal] = true;
  return strict;
}

export function statsFromWire(wire: pb.CollectionStatsResponse): CollectionStats {
  const { unindexedFields, unusedIndexes, recalls, ...sizes } = wire;
  return {
    ...sizes,
    unindexedFields: unindexedFields.map(unindexedFieldFrom),
    unusedIndexes: unusedIndexes.map(({ path, since }) => ({ path, since: since ?? new Date(0) })),
    recalls: recalls.map((each) => ({ ...each })),
  };
}

export function clusterFromWire(wire: pb.DescribeClusterResponse): ClusterInfo {
  return {
    ...wire,
    shards: wire.shards.map((shard) => ({ ...shard, slots: shard.slots ?? { first: 0, last: 0 } })),
  };
}

export function settingsFromWire(wire: pb.ClusterSettings | undefined): ClusterSettings {
  const {
    repairAfterMs = 0,
    movesAtOnce = 0,
    copyBytesPerSecond = 0,
    autoRebalance = 0,
    rebalancePaused = 0,
    rebalanceThresholdPercent = 0,
    rebalanceMinBytes = 0,
    logRetentionMs = 0,
    logRetentionBytes = 0,
    logRetentionRecords = 0,
    logHoldMs = 0,
    replicaFlushMs = 0,
    splitShardBytes = 0,
    mergeShardBytes = 0,
  } = wire ?? {};
  return {
    repairAfterMs,
    movesAtOnce,
    copyBytesPerSecond,
    autoRebalance,
    rebalancePaused,
    rebalanceThresholdPercent,
    rebalanceMinBytes,
    logRetentionMs,
    logRetentionBytes,
    logRetentionRecords,
    logHoldMs,
    replicaFlushMs,
    splitShardBytes,
    mergeShardBytes,
  };
}

export function operationFromWire(wire: pb.Operation | undefined): OperationInfo {
  if (wire === undefined) throw new KithError("INTERNAL", "the server answered without the operation");
  return { ...wire };
}
