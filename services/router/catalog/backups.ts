import { type BackupLocations, type BackupRecord, BackupRepository, newBackupId } from "../../../libs/backup/index.js";
import { type Clock, KithError, limits, type Random, toKithError } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import {
  backupOperationIdOf,
  type CollectionsView,
  type Operations,
  restoreIdOf,
} from "../../../libs/cluster/index.js";
import {
  checkCollectionSpec,
  type Collection,
  type RestoreOrigin,
  withoutGenerations,
} from "../../../libs/model/index.js";
import { newShards } from "../../../libs/sharding/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { checkCollectionRoom, namedCollection } from "./named.js";
import { checkOnlyOne, keyOf } from "./record-key.js";
import { restoredParts } from "./restored-parts.js";

export interface BackupsOptions {
  locations: BackupLocations;
  view: CollectionsView;
  operations: Operations;
  clock: Clock;
  random: Random;
}

/** The Backups service. What takes long is an operation, which the coordinator runs; a router reads and deletes by itself. */
export class Backups {
  readonly #options: BackupsOptions;

  constructor(options: BackupsOptions) {
    this.#options = options;
  }

  async create(request: pb.CreateBackupRequest, call: CallContext): Promise<pb.CreateBackupResponse> {
    const { locations, view, operations, clock, random } = this.#options;
    const { key, record } = namedCollection(view, request.collection, call);
    const { group } = request;
    if (group !== undefined) checkGroup(group);
    if (record.state !== "ready" || record.restoring !== undefined) {
      throw new KithError("COLLECTION_NOT_READY", `the collection "${record.name}" is not ready yet`, {
        details: { collection: record.name },
        retryAfterMs: 1_000,
      });
    }
    const location = locations.normal(request.location);
    await locations.open(location);
    const nowMs = clock.nowMs();
    const backup = newBackupId(nowMs, random);
    await operations.create({
      id: backupOperationIdOf(backup),
      kind: "backup_collection",
      subject: { collectionId: record.id, collection: key },
      step: "begin",
      data: {
        ...{ location, backup, full: request.full, startedAtMs: nowMs, shards: [] },
        bytesPerSecond: request.maxBytesPerSecond,
        ...(group && { group }),
      },
    });
    return { id: backup, operation: backupOperationIdOf(backup) };
  }

  async list({ location, collection, group }: pb.ListBackupsRequest): Promise<pb.ListBackupsResponse> {
    const backups = await (await this.#repository(location)).list();
    const ofCollection = backups.filter((each) => collection === "" || each.collection.name === collection);
    return { backups: ofCollection.filter((each) => group === "" || each.group?.name === group).map(backupTo) };
  }

  async verify({ location, id }: pb.VerifyBackupRequest, call: CallContext): Promise<pb.VerifyBackupResponse> {
    return (await this.#repository(location)).verify(id, call.cancellation ?? call.signal);
  }

  async delete({ location, id }: pb.DeleteBackupRequest): Promise<pb.DeleteBackupResponse> {
    return { deletedBytes: await (await this.#repository(location)).delete(id) };
  }

  /** Writes the record of the new collection, which says where its points come from; the coordinator does the rest. */
  async restore(request: pb.RestoreBackupRequest, call: CallContext): Promise<pb.RestoreBackupResponse> {
    const { locations, view, clock, random } = this.#options;
    const location = locations.normal(request.location);
    const backup = await (await this.#repository(location)).get(request.id);
    const spec = specOf(request, backup);
    // Those without vector fields were asked for as such.
    checkCollectionSpec(spec, true);
    const until = untilOf(request, backup);
    const source = until && this.#source(backup);
    const { name, fields, labels, shardCount, replicationFactor } = spec;
    const sparseFields = source === undefined ? spec.sparseFields : source.sparseFields;
    const { strictMode, recallTarget, partitionKey } = backup.collection;
    checkCollectionRoom(view, shardCount);
    // Files that are not encrypted would stay so.
    const restored = until || locations.isEncrypted ? undefined : restoredParts(backup, shardCount);
    const id = random.bytes(10).toString("hex");
    const key = await keyOf(view, clock, name, id, call);
    const record: Collection = {
      ...{ id, name: key, labels, replicationFactor },
      // The build that answers there is the first one here.
      fields: (source?.fields ?? fields).map(withoutGenerations),
      ...(sparseFields && { sparseFields }),
      ...(strictMode && { strictMode }),
      ...(recallTarget !== undefined && { recallTarget }),
      ...(partitionKey !== undefined && { partitionKey }),
      ...{ epoch: 1, createdAtMs: clock.nowMs(), state: "creating", nextShard: shardCount },
      ...{ payloadIndexes: [], schemaVersion: 1, shards: newShards(shardCount) },
      ...restored?.collection,
      restoring: { location, backup: backup.id, ...(until && { until }), ...(restored && { parts: restored.parts }) },
    };
    try {
      await view.create(key, record);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      throw new KithError("COLLECTION_EXISTS", `a collection "${name}" exists already: restore under another name`, {
        details: { collection: name },
      });
    }
    await checkOnlyOne(view, clock, name, record);
    const operation = restoreIdOf(id);
    try {
      // Where this process dies before, the coordinator finds by the record that it is to be done.
      await this.#options.operations.create({
        ...{ id: operation, kind: "restore_collection", step: "feed" },
        subject: { collectionId: id, collection: key },
        data: { location, backup: backup.id, ...(until && { until }), fed: {} },
      });
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
    }
    return { collection: name, collectionId: id, operation };
  }

  /** The collection whose logs go on from the backup. */
  #source({ collection }: BackupRecord): Collection {
    const source = this.#options.view.values().find(({ id }) => id === collection.id);
    if (source !== undefined && source.state === "ready") return source;
    throw new KithError(
      "FAILED_PRECONDITION",
      `the collection ${collection.id} ("${collection.name}") is gone, and its logs with it: only the state of the backup itself can be restored`,
      { details: { collectionId: collection.id } },
    );
  }

  async #repository(location: string): Promise<BackupRepository> {
    return new BackupRepository(await this.#options.locations.open(location));
  }
}

const groupPattern = /^[A-Za-z0-9_.-]{1,128}$/;

function checkGroup({ name, size }: pb.BackupGroup): void {
  if (!groupPattern.test(name)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `group.name: ${JSON.stringify(name.slice(0, 140))} must be 1 to 128 letters, digits, "_", "-" and "."`,
      { details: { field: "group.name" } },
    );
  }
  if (size >= 1 && size <= limits.collectionsMax) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `group.size: ${size} must be how many backups the group has, from 1 to ${limits.collectionsMax}`,
    { details: { field: "group.size" } },
  );
}

function specOf(
  { collection, shardCount, replicationFactor }: pb.RestoreBackupRequest,
  { collection: source, parts }: BackupRecord,
): Pick<Collection, "name" | "fields" | "sparseFields" | "labels" | "replicationFactor"> & { shardCount: number } {
  return {
    name: collection === "" ? source.name : collection,
    fields: source.fields,
    ...(source.sparseFields && { sparseFields: source.sparseFields }),
    labels: source.labels,
    shardCount: shardCount === 0 ? parts.length : shardCount,
    replicationFactor: replicationFactor === 0 ? source.replicationFactor : replicationFactor,
  };
}

function untilOf({ until }: pb.RestoreBackupRequest, backup: BackupRecord): RestoreOrigin["until"] {
  if (until === undefined) return undefined;
  if (until.$case === "time") {
    const timeMs = until.value.getTime();
    if (timeMs >= backup.endedAtMs) return { timeMs };
    throw new KithError(
      "INVALID_ARGUMENT",
      `the backup ${backup.id} ended at ${new Date(backup.endedAtMs).toISOString()}, after the time ${until.value.toISOString()} that is asked for: restore from an earlier one`,
      { details: { backup: backup.id } },
    );
  }
  const sequences: Record<string, number> = {};
  for (const [shard, sequence] of Object.entries(until.value.shards)) {
    const part = backup.parts.find((each) => each.shard === Number(shard));
    if (part === undefined || sequence < part.sequence) {
      const why = part === undefined ? "does not have that shard" : `has it at ${part.sequence} already`;
      throw new KithError("INVALID_ARGUMENT", `sequence ${sequence} of shard ${shard}: the backup ${backup.id} ${why}`);
    }
    sequences[shard] = sequence;
  }
  return { sequences };
}

function backupTo(backup: BackupRecord): pb.Backup {
  const { id, collection, startedAtMs, endedAtMs, base, group, pointCount, sizeBytes, writtenBytes, parts } = backup;
  return {
    ...{ id, collection: collection.name, collectionId: collection.id, base: base ?? "" },
    ...{ startedAt: new Date(startedAtMs), endedAt: new Date(endedAtMs) },
    ...{ pointCount, sizeBytes, writtenBytes, group },
    shards: parts.map(({ shard, slots, sequence, pointCount: points, sizeBytes: bytes, digest }) => ({
      ...{ shard, firstSlot: slots.firstSlot, lastSlot: slots.lastSlot, sequence },
      ...{ pointCount: points, sizeBytes: bytes, digest },
    })),
  };
}
