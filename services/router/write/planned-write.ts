import { KithError, limits } from "../../../libs/base/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import { checkFieldName, checkPayload, type IdKey, parsePath, type SlotRange } from "../../../libs/model/index.js";
import { checkStrictCondition, checkStrictFilter } from "../../../libs/query/index.js";
import { filterFromWire, filterToWire, type ipb, pb } from "../../../libs/wire/index.js";
import { keyOf } from "../ids.js";
import { partitionIn, scoped, storedId } from "../partitions.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import { checkOverwrite, checkRemoved, checkSet, storedByPayload } from "./partitioned-write.js";
import {
  batchesOfPoints,
  batchOfColumns,
  checkBatchSize,
  checkDistinct,
  givenPayload,
  type PointBatch,
  type Segment,
  splitBatch,
  type StoredAs,
} from "./point-batch.js";

type Mutation = NonNullable<ipb.Operation["mutation"]>;

/** One operation of a write: what goes to one shard, small enough for a record. */
export interface PlannedPart {
  /** Id of the shard. */
  shard: number;
  /** What the operation has its id from. */
  segment: Segment;
  sizeBytes: number;
  /** Goes into a record of its own: it may touch any number of points. */
  isAlone: boolean;
  mutation: Mutation;
  /** Of its items in the client's request; empty for a filter. */
  positions: readonly number[];
  /** Of the shard, where it is about all points there that pass. */
  slots?: SlotRange;
}

/** Largest time of expiry: it has 48 bits where it is stored, up to the year 10889. */
const expiryMaxMs = 2 ** 48 - 1;
const noBytes = new Uint8Array(0);

/** Conditions of an upsert, or of a write by ids. */
interface Conditions {
  expectedVersions: readonly number[];
  onlyIf: pb.Filter | undefined;
}

type Upsert = Conditions & Pick<pb.UpsertRequest, "mode" | "expiresAtMs">;

// Each of these checks a request against the collection, whole, before any of it is written, and splits it by shard. Splitting is
// deterministic: a retry splits alike. `at`: what the errors call the request, "" or "operations[3].".

export function planUpsert(collection: RoutedCollection, request: pb.UpsertRequest, at = ""): PlannedPart[] {
  const { points } = request;
  const isOfPoints = request.expiresAtMs.length === 0 && points.some(({ expiresAtMs }) => expiresAtMs > 0);
  const upsert = isOfPoints ? { ...request, expiresAtMs: points.map(({ expiresAtMs }) => expiresAtMs) } : request;
  return planBatches(
    collection,
    batchesOfPoints(collection.record, points, storedByPayload(collection), request.payloadOnly),
    upsert,
    points.length,
    at,
  );
}

export function planUpsertColumns(collection: RoutedCollection, request: pb.UpsertColumnsRequest): PlannedPart[] {
  const batch = batchOfColumns(collection.record, request, storedByPayload(collection));
  return planBatches(collection, [batch], request, batch.ids.length, "");
}

function planBatches(
  collection: RoutedCollection,
  batches: readonly PointBatch[],
  upsert: Upsert,
  count: number,
  at: string,
): PlannedPart[] {
  const { mode, expectedVersions, expiresAtMs } = upsert;
  if (mode < pb.UpsertMode.UNSPECIFIED || mode > pb.UpsertMode.UPDATE_ONLY) {
    throw new KithError("INVALID_ARGUMENT", `${at}mode: the upsert mode ${mode} does not exist`, { details: { mode } });
  }
  const onlyIf = encodedCondition(collection, upsert.onlyIf, `${at}only_if`);
  checkAligned(expectedVersions, count, `${at}expected_versions`);
  checkAligned(expiresAtMs, count, `${at}expires_at_ms`);
  for (const [i, each] of expiresAtMs.entries()) checkExpiry(each, `${at}expires_at_ms[${i}]`);
  const isPlain = onlyIf.length === 0 && expectedVersions.length === 0 && expiresAtMs.length === 0;
  return batches.flatMap((batch) =>
    splitBatch(batch, shardIdOf(collection), mode).map(
      ({ shard, segment, rows, sizeBytes, upsert: points, sparse }): PlannedPart => {
        const positions = rows.map((row) => batch.positions[row] as number);
        if (isPlain && sparse.length === 0) {
          const mutation: Mutation = { $case: "upsert", value: points };
          return { shard, segment, sizeBytes, isAlone: false, positions, mutation };
        }
        const { ids, vectors, payloads } = points;
        const target = { ids, filter: noBytes, expectedVersions: picked(expectedVersions, positions), onlyIf };
        const value = { mode, target, vectors, sparse, payloads, expiresAtMs: picked(expiresAtMs, positions) };
        const extraBytes = onlyIf.length + 16 * ids.length;
        const mutation: Mutation = { $case: "put", value };
        return { shard, segment, sizeBytes: sizeBytes + extraBytes, isAlone: false, positions, mutation };
      },
    ),
  );
}

export function planDelete(collection: RoutedCollection, request: pb.DeletePointsRequest, at = ""): PlannedPart[] {
  const { ids, filter, expectedVersions, onlyIf, partition } = request;
  if (filter !== undefined && ids.length > 0) {
    throw new KithError("INVALID_ARGUMENT", `${at}filter: a deletion is by ids or by a filter, not by both`);
  }
  const points: pb.WriteTarget["points"] =
    filter === undefined ? { $case: "ids", value: { ids } } : { $case: "filter", value: filter };
  const where = { target: at, ids: `${at}ids` };
  const isPlain = filter === undefined && expectedVersions.length === 0 && onlyIf === undefined;
  const wanted = { points, expectedVersions, onlyIf, ...(partition !== undefined && { partition }) };
  return planTarget(collection, wanted, where, 0, (target): Mutation => {
    return isPlain ? { $case: "delete", value: { ids: target.ids } } : { $case: "remove", value: { target } };
  });
}

export function planSetPayload(collection: RoutedCollection, request: pb.SetPayloadRequest, at = ""): PlannedPart[] {
  const { path } = request;
  const payload = checkedPayload(request, `${at}payload`);
  if (path !== "") checkPath(path, `${at}path`);
  checkSet(collection, payload, path, partitionOfTarget(collection, request.target, at));
  return planTarget(collection, request.target, targetAt(at), payload.length + path.length, (target): Mutation => {
    return { $case: "setPayload", value: { target, payload, path } };
  });
}

export function planOverwritePayload(
  collection: RoutedCollection,
  request: pb.OverwritePayloadRequest,
  at = "",
): PlannedPart[] {
  const payload = checkedPayload(request, `${at}payload`);
  checkOverwrite(collection, payload, partitionOfTarget(collection, request.target, at), `${at}payload`);
  return planTarget(collection, request.target, targetAt(at), payload.length, (target): Mutation => {
    return { $case: "overwritePayload", value: { target, payload } };
  });
}

export function planDeletePayload(
  collection: RoutedCollection,
  request: pb.DeletePayloadRequest,
  at = "",
): PlannedPart[] {
  const { paths } = request;
  if (paths.length === 0 || paths.length > limits.deletedPaths) {
    throw new KithError(
      "LIMIT_OUT_OF_RANGE",
      `${at}paths: there are ${paths.length}; give 1 to ${limits.deletedPaths}`,
      { details: { field: `${at}paths`, count: paths.length, limit: limits.deletedPaths } },
    );
  }
  for (const [i, path] of paths.entries()) checkPath(path, `${at}paths[${i}]`);
  checkRemoved(collection, paths);
  const sizeBytes = paths.reduce((sum, path) => sum + path.length + 4, 0);
  return planTarget(collection, request.target, targetAt(at), sizeBytes, (target): Mutation => {
    return { $case: "deletePayload", value: { target, paths } };
  });
}

export function planClearPayload(
  collection: RoutedCollection,
  request: pb.ClearPayloadRequest,
  at = "",
): PlannedPart[] {
  checkRemoved(collection, "all");
  return planTarget(collection, request.target, targetAt(at), 0, (target): Mutation => {
    return { $case: "clearPayload", value: { target } };
  });
}

/** Of every shard. */
export function planTruncate(collection: RoutedCollection): PlannedPart[] {
  const mutation: Mutation = { $case: "truncate", value: {} };
  const segment: Segment = { ids: [], positions: [] };
  return collection.shards.map(({ id, placement }) => ({
    shard: id.shard,
    segment,
    sizeBytes: 64,
    isAlone: true,
    positions: [],
    slots: placement,
    mutation,
  }));
}

export function planUpdateVectors(
  collection: RoutedCollection,
  request: pb.UpdateVectorsRequest,
  at = "",
): PlannedPart[] {
  const { expectedVersions } = request;
  const points = request.points.map(({ id, vectors }) => ({
    id,
    vectors,
    payload: noBytes,
    version: 0,
    expiresAtMs: 0,
  }));
  const partition = partitionIn(collection, request.partition, `${at}partition`);
  const storedAs: StoredAs = (id, _payload, where) => storedId(collection, id, partition, where());
  const isByKey = collection.partitionPath !== undefined;
  const batches = batchesOfPoints(collection.record, points, isByKey ? storedAs : undefined);
  const onlyIf = encodedCondition(collection, request.onlyIf, `${at}only_if`, partition);
  checkAligned(expectedVersions, points.length, `${at}expected_versions`);
  return batches.flatMap((batch) =>
    splitBatch(batch, shardIdOf(collection), pb.UpsertMode.UNSPECIFIED).map((part): PlannedPart => {
      const { ids, vectors } = part.upsert;
      const positions = part.rows.map((row) => batch.positions[row] as number);
      const target = { ids, filter: noBytes, expectedVersions: picked(expectedVersions, positions), onlyIf };
      const sizeBytes = part.sizeBytes + onlyIf.length + 8 * ids.length;
      const mutation: Mutation = { $case: "updateVectors", value: { target, vectors, sparse: part.sparse } };
      return { shard: part.shard, segment: part.segment, sizeBytes, isAlone: false, positions, mutation };
    }),
  );
}

export function planDeleteVectors(
  collection: RoutedCollection,
  request: pb.DeleteVectorsRequest,
  at = "",
): PlannedPart[] {
  const { vectors: fields } = request;
  if (fields.length === 0) throw new KithError("INVALID_ARGUMENT", `${at}vectors: name one vector field at least`);
  for (const name of fields) checkFieldName(collection.record, name);
  return planTarget(collection, request.target, targetAt(at), fields.join().length, (target): Mutation => {
    return { $case: "deleteVectors", value: { target, fields } };
  });
}

export function planSetExpiry(collection: RoutedCollection, request: pb.SetExpiryRequest, at = ""): PlannedPart[] {
  const { expiresAtMs } = request;
  checkExpiry(expiresAtMs, `${at}expires_at_ms`);
  return planTarget(collection, request.target, targetAt(at), 8, (target): Mutation => {
    return { $case: "setExpiry", value: { target, expiresAtMs } };
  });
}

/** One write of a batch, planned as it would be alone. */
export function planOperation(
  collection: RoutedCollection,
  { operation }: pb.WriteOperation,
  i: number,
): PlannedPart[] {
  if (operation === undefined) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `operations[${i}]: the operation is empty, or of a kind that this server does not know`,
    );
  }
  const at = `operations[${i}].${snakeCase(operation.$case)}.`;
  const { collection: name, options } = operation.value;
  if (name !== "" || options !== undefined) {
    const field = name === "" ? "options" : "collection";
    throw new KithError("INVALID_ARGUMENT", `${at}${field}: it belongs to the batch as a whole; leave it empty here`);
  }
  try {
    return plannedAs(collection, operation, at);
  } catch (error) {
    if (!(error instanceof KithError) || error.message.startsWith("operations[")) throw error;
    throw new KithError(error.code, `${at.slice(0, -1)}: ${error.message}`, { details: error.details });
  }
}

function plannedAs(
  collection: RoutedCollection,
  operation: NonNullable<pb.WriteOperation["operation"]>,
  at: string,
): PlannedPart[] {
  switch (operation.$case) {
    case "upsert":
      return planUpsert(collection, operation.value, at);
    case "delete":
      return planDelete(collection, operation.value, at);
    case "setPayload":
      return planSetPayload(collection, operation.value, at);
    case "overwritePayload":
      return planOverwritePayload(collection, operation.value, at);
    case "deletePayload":
      return planDeletePayload(collection, operation.value, at);
    case "clearPayload":
      return planClearPayload(collection, operation.value, at);
    case "updateVectors":
      return planUpdateVectors(collection, operation.value, at);
    case "deleteVectors":
      return planDeleteVectors(collection, operation.value, at);
    case "setExpiry":
      return planSetExpiry(collection, operation.value, at);
  }
}

interface Places {
  target: string;
  ids: string;
}

/** The value of the partition key that a target names. */
function partitionOfTarget(
  collection: RoutedCollection,
  target: pb.WriteTarget | undefined,
  at: string,
): string | undefined {
  return partitionIn(collection, target?.partition, `${targetAt(at).target}partition`);
}

function targetAt(at: string): Places {
  return { target: `${at}target.`, ids: `${at}target.ids` };
}

/** By ids: a part for each shard, and so many ids that it fits into a record. By filter: one for each shard. */
function planTarget(
  collection: RoutedCollection,
  target: pb.WriteTarget | undefined,
  places: Places,
  contentBytes: number,
  mutate: (target: ipb.Target) => Mutation,
): PlannedPart[] {
  const { points, expectedVersions = [] } = target ?? {};
  const partition = partitionIn(collection, target?.partition, `${places.target}partition`);
  const onlyIf = encodedCondition(collection, target?.onlyIf, `${places.target}only_if`, partition);
  if (points === undefined) {
    throw new KithError("INVALID_ARGUMENT", `${places.target}ids: the write is about no points; give ids or a filter`);
  }
  if (points.$case === "filter") {
    if (expectedVersions.length > 0) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `${places.target}expected_versions: versions are expected of points by id`,
      );
    }
    const { filter, shards } = targetFilter(collection, points.value, `${places.target}filter`, partition);
    const sizeBytes = 64 + filter.length + onlyIf.length + contentBytes;
    const mutation = mutate({ ids: [], filter, expectedVersions: [], onlyIf });
    const segment: Segment = { ids: [], positions: [] };
    return shards.map(({ id, placement }) => {
      return { shard: id.shard, segment, sizeBytes, isAlone: true, positions: [], slots: placement, mutation };
    });
  }
  const { ids } = points.value;
  checkBatchSize(ids.length, "ids");
  const keys = ids.map((id, row) => {
    return storedId(
      collection,
      keyOf(id, () => `${places.ids}[${row}]`),
      partition,
      places.ids,
    );
  });
  checkDistinct(keys, (row) => `${places.ids}[${row}]`);
  checkAligned(expectedVersions, keys.length, `${places.target}expected_versions`);
  return splitIds(keys, shardIdOf(collection)).map(({ shard, segment, rows, sizeBytes }) => ({
    shard,
    segment,
    sizeBytes: sizeBytes + onlyIf.length + contentBytes,
    isAlone: false,
    positions: rows,
    mutation: mutate({
      ids: rows.map((row) => keys[row] as IdKey),
      filter: noBytes,
      expectedVersions: picked(expectedVersions, rows),
      onlyIf,
    }),
  }));
}

interface IdsPart {
  shard: number;
  segment: Segment;
  rows: number[];
  sizeBytes: number;
}

function splitIds(ids: readonly IdKey[], shardOf: (id: IdKey) => number): IdsPart[] {
  const open = new Map<number, IdsPart>();
  const parts: IdsPart[] = [];
  let segment: Segment = { ids: [], positions: [] };
  let segmentBytes = 64;
  ids.forEach((id, row) => {
    const shard = shardOf(id);
    if (segmentBytes > limits.recordBytes) {
      segment = { ids: [], positions: [] };
      segmentBytes = 64;
      open.clear();
    }
    let part = open.get(shard);
    if (part === undefined) {
      part = { shard, segment, rows: [], sizeBytes: 64 };
      open.set(shard, part);
      parts.push(part);
    }
    segment.ids.push(id);
    segment.positions.push(row);
    segmentBytes += id.length + 12;
    part.rows.push(row);
    part.sizeBytes += id.length + 12;
  });
  return parts;
}

function shardIdOf(collection: RoutedCollection): (id: IdKey) => number {
  return (id) => collection.shardOf(id).id.shard;
}

function picked(column: readonly number[], positions: readonly number[]): number[] {
  return column.length === 0 ? [] : positions.map((position) => column[position] as number);
}

/** The filter of a target as it goes into the log, and the shards that can have such points. */
function targetFilter(
  collection: RoutedCollection,
  filter: pb.Filter,
  at: string,
  partition: string | undefined,
): { filter: Uint8Array; shards: readonly RoutedShard[] } {
  const meant = filterFromWire(filter, at);
  validateFilter(meant, at);
  checkStrictFilter(collection.record, meant, at);
  const scope = scoped(collection, meant, partition);
  const asked = scope.filter === meant || scope.filter === undefined ? filter : filterToWire(scope.filter);
  const bytes = pb.Filter.encode(asked).finish();
  // An empty filter passes every point: as a target it is said by a condition that is always true.
  return { filter: bytes.length === 0 ? pb.Filter.encode(everyPoint).finish() : bytes, shards: scope.shards };
}

/** A condition as it goes into the log; nothing for an empty one, which is none. */
function encodedCondition(
  collection: RoutedCollection,
  filter: pb.Filter | undefined,
  at: string,
  partition?: string,
): Uint8Array {
  if (filter === undefined) return noBytes;
  const meant = filterFromWire(filter, at);
  validateFilter(meant, at);
  checkStrictCondition(collection.record, meant, at);
  const { filter: asked } = scoped(collection, meant, partition);
  return pb.Filter.encode(asked === meant || asked === undefined ? filter : filterToWire(asked)).finish();
}

/** A filter with a filter in it that has no conditions. */
const everyPoint = pb.Filter.fromPartial({ must: [{ condition: { $case: "filter", value: {} } }] });

function checkAligned(column: readonly number[], count: number, at: string): void {
  if (column.length === 0 || column.length === count) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${at}: there are ${column.length} for ${count} points; give one for each, or none`,
    {
      details: { field: at, count: column.length, expected: count },
    },
  );
}

function checkExpiry(expiresAtMs: number, at: string): void {
  if (expiresAtMs <= expiryMaxMs) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${at}: ${expiresAtMs} is too late; give milliseconds since the Unix epoch, at most ${expiryMaxMs}`,
    { details: { field: at, value: expiresAtMs } },
  );
}

function checkPath(path: string, at: string): void {
  try {
    parsePath(path);
  } catch (error) {
    if (!(error instanceof KithError)) throw error;
    throw new KithError(error.code, `${at}: ${error.message}`, { details: { ...error.details, field: at } });
  }
}

function checkedPayload(request: Pick<pb.SetPayloadRequest, "payload" | "payloadStruct">, at: string): Uint8Array {
  const payload = givenPayload(request, () => at);
  if (payload.length === 0) throw new KithError("INVALID_PAYLOAD", `${at}: there is none; give a JSON object`);
  checkPayload(payload, () => at);
  return payload;
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
