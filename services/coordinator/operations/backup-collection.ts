import {
  isWhole,
  backupKey,
  type BackupPart,
  type BackupRecord,
  BackupRepository,
  begunKey,
  encodeJson,
  findJson,
  formatMark,
  partKey,
  sharedFilesOf,
  sharedPrefixesOf,
} from "../../../libs/backup/index.js";
import { abortReason, crc32c, heardByMany, KithError, toKithError } from "../../../libs/base/index.js";
import type { Operation } from "../../../libs/cluster/index.js";
import type { Collection, ShardPlacement } from "../../../libs/model/index.js";
import type { Machine, OperationContext, Outcome } from "./machine.js";

type Backup = Operation<"backup_collection">;

/** Shards that are written at once. */
const shardsAtOnce = 4;

/**
 * A backup of a collection. A replica of each shard writes its part, and the record of the backup comes last: one without it is none. Parts
 * that are whole are not written again, and of one that is not, the files that were noted are used again.
 */
export const backupCollection: Machine<"backup_collection"> = {
  async step(operation, context) {
    const record = await recordOf(operation, context);
    if (record?.state !== "ready") {
      return cannot(`the collection "${operation.subject.collection}" was deleted`, operation, context);
    }
    if (operation.step === "begin") return begin(operation, record, context);
    const shards = record.shards.filter(
      ({ shard, state }) => state === "active" && operation.data.shards.includes(shard),
    );
    if (shards.length < operation.data.shards.length) {
      return cannot(
        "shards of the collection were split or merged meanwhile: begin another backup",
        operation,
        context,
      );
    }
    return operation.step === "write" ? write(operation, shards, context) : finish(operation, record, context);
  },

  async undo({ id, data }, context) {
    await context.backups.jobs.abort(id);
    const repository = await repositoryOf(data, context);
    // It was whole before it was cancelled.
    if ((await findJson(repository.store, backupKey(data.backup))) !== undefined) return { kind: "end", state: "done" };
    await repository.discard(data.backup);
    return { kind: "end", state: "cancelled" };
  },
};

type Step = Promise<Outcome<"backup_collection">>;

/** Chooses what it builds upon, and says so: what is used is not deleted meanwhile. */
async function begin({ data, subject }: Backup, { shards: all }: Collection, context: OperationContext): Step {
  const { collectionId } = subject;
  const repository = await repositoryOf(data, context);
  const base = data.full ? undefined : await repository.latest(collectionId);
  const begun = { ...formatMark, id: data.backup, collectionId, ...(base && { base: base.id }) };
  await repository.store.put(begunKey(data.backup), encodeJson(begun));
  const shards = all.flatMap(({ shard, state }) => (state === "active" ? [shard] : []));
  return { kind: "next", step: "write", data: { ...data, shards, ...(base && { base: base.id }) } };
}

async function write(
  { id, data, subject }: Backup,
  shards: readonly ShardPlacement[],
  context: OperationContext,
): Step {
  const { jobs } = context.backups;
  const looked = await jobs.look(id, data, async ({ signal, keep }) => {
    const progress = new Map<number, { points: number; bytes: number }>();
    const tell = (): void => {
      const all = [...progress.values()];
      const points = all.reduce((sum, each) => sum + each.points, 0);
      const bytes = all.reduce((sum, each) => sum + each.bytes, 0);
      keep({ ...data, progress: { points, bytes, totalPoints: 0 } });
    };
    const waiting = [...shards];
    const ending = new AbortController();
    const all = heardByMany(AbortSignal.any([signal, ending.signal]));
    const worker = async (): Promise<void> => {
      for (let shard = waiting.shift(); shard !== undefined; shard = waiting.shift()) {
        const { shard: number } = shard;
        await writeShard(data, subject.collectionId, shard, context, {
          signal: all,
          onProgress: (each) => {
            progress.set(number, each);
            tell();
          },
        });
      }
    };
    await together(Array.from({ length: shardsAtOnce }, worker), ending);
  });
  if (!looked.isDone) return { kind: "next", step: "write", data: looked.state };
  return { kind: "next", step: "finish", data: looked.state };
}

/** Resolves when all have; where one fails, the others are ended, and waited for, first. */
export async function together(work: readonly Promise<void>[], ending: AbortController): Promise<void> {
  const failed = work.map((each) => each.catch((error: unknown) => ending.abort(toKithError(error))));
  await Promise.all(failed);
  if (ending.signal.aborted) throw abortReason(ending.signal);
}

async function writeShard(
  { location, backup, base, bytesPerSecond }: Backup["data"],
  collectionId: string,
  { shard, firstSlot, lastSlot, replicas }: ShardPlacement,
  { backups, log }: OperationContext,
  call: Parameters<OperationContext["backups"]["run"]>[2],
): Promise<void> {
  const slots = { firstSlot, lastSlot };
  // What was acknowledged before it was asked for is in the log, and perhaps not in each replica yet.
  const { lastSequence: minSequence } = await log.state({ collectionId, shard });
  // What is encrypted is so with keys of its replica.
  const takesFiles = !backups.locations.isEncrypted;
  const about = { location, backup, base, slots, minSequence, bytesPerSecond, takesFiles };
  const job = { kind: "write", ...about, shard: { collectionId, shard } } as const;
  await onReplica(replicas, shard, backups, (node) => backups.run(node, job, call), call.signal);
}

/** Has a node work that has an active replica: where one cannot, the next is asked. */
export async function onReplica<T>(
  replicas: ShardPlacement["replicas"],
  shard: number,
  { nodes }: Pick<OperationContext["backups"], "nodes">,
  work: (node: string) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const able = replicas.filter(({ node, state }) => state === "active" && nodes.stateOf(node) === "up");
  let last = new KithError("SHARD_UNAVAILABLE", `shard ${shard} has no active replica on a node that is up`);
  for (const { node } of able) {
    try {
      return await work(node);
    } catch (error) {
      last = toKithError(error);
      if (signal.aborted || !last.retryable) throw last;
    }
  }
  throw last;
}

/** Looks whether everything is there that the backup names, and makes it one. */
async function finish(operation: Backup, record: Collection, context: OperationContext): Step {
  const { data } = operation;
  const { location, backup, base, group, startedAtMs } = data;
  const { store } = await repositoryOf(data, context);
  const parts: BackupRecord["parts"] = [];
  const sizes = new Map<string, number>();
  const owners = new Set<string>();
  let [pointCount, sizeBytes, writtenBytes] = [0, 0, 0];
  for (const shard of data.shards) {
    const part = await findJson<BackupPart>(store, partKey(backup, shard));
    if (part === undefined) {
      return cannot(
        `the part of shard ${shard} is not in ${store.description} as the coordinator sees it: is ${location} the same on all nodes?`,
        operation,
        context,
      );
    }
    const { slots, sequence, incarnation, digest, replica, schema } = part;
    let bytes = part.outcomes?.sizeBytes ?? 0;
    for (const [file, size] of sharedFilesOf(part)) {
      owners.add(file.split("/")[1] ?? "");
      sizes.set(file, size);
      bytes += size;
    }
    parts.push({
      ...{ shard, slots, sequence, incarnation, digest, pointCount: part.pointCount, sizeBytes: bytes },
      crc32c: crc32c(await store.get(partKey(backup, shard))),
      ...(replica && { storeFormat: replica.format }),
      schemaVersion: (JSON.parse(schema) as { version: number }).version,
    });
    pointCount += part.pointCount;
    sizeBytes += bytes;
    writtenBytes += part.writtenBytes;
  }
  for (const owner of owners) {
    for (const prefix of sharedPrefixesOf(owner)) {
      for await (const { key, sizeBytes: size } of store.list(prefix)) {
        if (isWhole(size, sizes.get(key))) sizes.delete(key);
      }
    }
  }
  const [missing] = sizes.keys();
  if (missing !== undefined) return cannot(`the file ${missing} is missing or cut short`, operation, context);
  const { id, fields, sparseFields, payloadIndexes, schemaVersion, replicationFactor, labels } = record;
  const { strictMode, recallTarget, partitionKey } = record;
  const name = context.collections.naming.nameOf(id) ?? record.name;
  const whole: BackupRecord = {
    ...formatMark,
    id: backup,
    collection: {
      ...{ id, name, fields, payloadIndexes, schemaVersion, replicationFactor, labels },
      ...(sparseFields && { sparseFields }),
      ...(strictMode && { strictMode }),
      ...(recallTarget !== undefined && { recallTarget }),
      ...(partitionKey !== undefined && { partitionKey }),
    },
    startedAtMs,
    endedAtMs: context.clock.nowMs(),
    ...(base !== undefined && { base }),
    ...(group && { group }),
    ...{ pointCount, sizeBytes, writtenBytes, parts },
  };
  if (!context.isHolder()) return { kind: "next", step: "finish", data };
  await store.put(backupKey(backup), encodeJson(whole));
  await store.remove(begunKey(backup));
  return { kind: "end", state: "done" };
}

/** What can never be done. Nothing is left of it. */
async function cannot(message: string, { id, data }: Backup, context: OperationContext): Step {
  await context.backups.jobs.abort(id);
  await (await repositoryOf(data, context)).discard(data.backup);
  return { kind: "end", state: "failed", error: new KithError("FAILED_PRECONDITION", message) };
}

async function repositoryOf(
  { location }: Pick<Backup["data"], "location">,
  { backups }: OperationContext,
): Promise<BackupRepository> {
  return new BackupRepository(await backups.locations.open(location));
}

async function recordOf({ subject }: Backup, { collections }: OperationContext): Promise<Collection | undefined> {
  const record = (await collections.read(subject.collection))?.value;
  return record?.id === subject.collectionId ? record : undefined;
}
