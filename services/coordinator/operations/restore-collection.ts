import {
  type BackupRecord,
  BackupRepository,
  ContentDigest,
  type FedFiles,
  type FeedPartJob,
} from "../../../libs/backup/index.js";
import { heardByMany, KithError, toKithError, withTimeout } from "../../../libs/base/index.js";
import { type NewOperation, type Operation, restoreIdOf } from "../../../libs/cluster/index.js";
import { changedCollection, type Collection, type RestoreOrigin } from "../../../libs/model/index.js";
import { addHash, formatDigest } from "../../../libs/hash/index.js";
import { onReplica, together } from "./backup-collection.js";
import { appendToAll } from "./change-schema.js";
import type { Machine, OperationContext, Outcome } from "./machine.js";
import { awaitFiles, hopeless } from "./restored-files.js";

type Restore = Operation<"restore_collection">;
type Step = Promise<Outcome<"restore_collection">>;

/** Parts that are fed at once. */
const partsAtOnce = 2;
/** A step waits so long for the replicas to be placed. */
const placedMs = 1_000;

/**
 * A collection is filled from a backup: its replicas begin with the files of those that were backed up; or its points go through its logs to the shards that
 * own them now, as writes do; then its payload indexes are made, and what its replicas hold is compared with what was fed. It answers nobody before all of
 * that is done.
 */
export const restoreCollection: Machine<"restore_collection"> = {
  async step(operation, context) {
    const { subject } = operation;
    const record = (await context.collections.read(subject.collection))?.value;
    if (record?.id === subject.collectionId && record.state === "creating") {
      await placed(record, context);
      return { kind: "next", step: operation.step };
    }
    if (record?.id !== subject.collectionId || record.state !== "ready") {
      await context.backups.jobs.abort(operation.id);
      return { kind: "end", state: "cancelled" };
    }
    if (record.restoring === undefined) return { kind: "end", state: "done" };
    try {
      switch (operation.step) {
        case "feed":
          if (record.restoring.parts !== undefined) {
            return await awaitFiles(operation, record, await backupOf(operation.data, context), context);
          }
          return await (needsEnds(operation) ? noteEnds(operation, context) : feed(operation, record, context));
        case "indexes":
          return await makeIndexes(operation, record, context);
        case "check":
          return await check(operation, record, context);
        case "open":
          await context.collections.modify(record.name, (found) => opened(found, record.id, context));
          return { kind: "end", state: "done" };
      }
    } catch (error) {
      const wrong = toKithError(error);
      if (!hopeless.includes(wrong.code)) throw error;
      await giveUp(operation, context);
      return { kind: "end", state: "failed", error: wrong };
    }
  },

  async undo(operation, context) {
    await context.backups.jobs.abort(operation.id);
    const isOpen = await giveUp(operation, context);
    return { kind: "end", state: isOpen ? "done" : "cancelled" };
  },
};

export function newRestore(
  { id, name }: Collection,
  { location, backup, until }: RestoreOrigin,
): NewOperation<"restore_collection"> {
  return {
    id: restoreIdOf(id),
    kind: "restore_collection",
    subject: { collectionId: id, collection: name },
    step: "feed",
    data: { location, backup, ...(until && { until }), fed: {} },
  };
}

/** Has what was made of the collection deleted; true where it is in use already. */
async function giveUp({ subject }: Restore, { collections, isHolder }: OperationContext): Promise<boolean> {
  try {
    const record = await collections.modify(subject.collection, (found) =>
      isHolder() && found.id === subject.collectionId && found.restoring !== undefined && found.state !== "deleting"
        ? { ...found, state: "deleting" }
        : undefined,
    );
    return record.id === subject.collectionId && record.state === "ready";
  } catch (error) {
    if (toKithError(error).code === "NOT_FOUND") return false;
    throw error;
  }
}

/** Looks for a second whether the replicas are placed by now. */
async function placed({ name, id }: Collection, { collections, clock }: OperationContext): Promise<void> {
  const isPlaced = (record: Collection | undefined): boolean => record?.id !== id || record.state !== "creating";
  try {
    await withTimeout(clock, placedMs, (signal) => collections.until(name, isPlaced, signal));
  } catch (error) {
    if (toKithError(error).code !== "DEADLINE_EXCEEDED") throw error;
  }
}

function opened(found: Collection, id: string, { isHolder }: OperationContext): Collection | undefined {
  if (!isHolder() || found.id !== id || found.state !== "ready" || found.restoring === undefined) return undefined;
  const open = { ...found };
  delete open.restoring;
  return open;
}

function needsEnds({ data }: Restore): boolean {
  return data.until !== undefined && "timeMs" in data.until && data.ends === undefined;
}

/** Where the logs end by now: an attempt that is made again feeds the same state, whatever was written meanwhile, even before the time that is asked for. */
async function noteEnds({ data }: Restore, context: OperationContext): Step {
  const { collection, parts } = await backupOf(data, context);
  const ends: Record<string, number> = {};
  for (const { shard, sequence } of parts) {
    try {
      const { lastSequence } = await context.log.state({ collectionId: collection.id, shard });
      ends[shard] = Math.max(sequence, lastSequence);
    } catch (error) {
      // Who is to read it tells what that means.
      if (toKithError(error).code !== "NOT_FOUND") throw error;
    }
  }
  return { kind: "next", step: "feed", data: { ...data, ends } };
}

async function feed({ id, data }: Restore, record: Collection, context: OperationContext): Step {
  const { backups } = context;
  const backup = await backupOf(data, context);
  const looked = await backups.jobs.look(id, data, async ({ signal, keep }) => {
    let state = data;
    const bytes = new Map<number, number>();
    const note = (shard: number, fed: FedFiles & { isWhole?: boolean }): void => {
      const all: Restore["data"]["fed"] = { ...state.fed, [shard]: fed };
      const points = Object.values(all).reduce((sum, each) => sum + each.points, 0);
      const sum = [...bytes.values()].reduce((total, each) => total + each, 0);
      state = { ...state, fed: all, progress: { points, bytes: sum, totalPoints: backup.pointCount } };
      keep(state);
    };
    const waiting = backup.parts.map(({ shard }) => shard).filter((shard) => data.fed[shard]?.isWhole !== true);
    const ending = new AbortController();
    const all = heardByMany(AbortSignal.any([signal, ending.signal]));
    const worker = async (first: number): Promise<void> => {
      for (let turn = first, shard = waiting.shift(); shard !== undefined; turn++, shard = waiting.shift()) {
        const part = shard;
        const fed = await feedOne(id, data, part, record, context, turn, {
          signal: all,
          onProgress: (progress) => {
            bytes.set(part, progress.bytes);
            if (progress.fed !== undefined) note(part, progress.fed);
          },
        });
        note(part, { ...fed, isWhole: true });
      }
    };
    await together(
      Array.from({ length: partsAtOnce }, (_, i) => worker(i)),
      ending,
    );
  });
  return { kind: "next", step: looked.isDone ? "indexes" : "feed", data: looked.state };
}

const nothingFed: FedFiles = { files: 0, points: 0, expiring: 0, content: new ContentDigest().text };

/** Any shard node can do it; each in its turn. */
async function feedOne(
  operation: string,
  data: Restore["data"],
  shard: number,
  { id: collectionId, epoch, shards }: Collection,
  { backups }: OperationContext,
  turn: number,
  call: Parameters<OperationContext["backups"]["run"]>[2],
): Promise<FedFiles> {
  const { location, backup, until, ends } = data;
  const able = backups.nodes
    .all()
    .filter((node) => node.roles.includes("shard") && backups.nodes.stateOf(node.id) === "up");
  const node = able[turn % Math.max(1, able.length)];
  if (node === undefined) throw new KithError("SHARD_UNAVAILABLE", "no shard node is up");
  const target = {
    collectionId,
    epoch,
    shards: shards.flatMap(({ shard: number, state, firstSlot, lastSlot }) =>
      state === "active" ? [{ shard: number, firstSlot, lastSlot }] : [],
    ),
  };
  const wanted = until && wantedOf(until, shard, ends);
  // What is replayed is fed from the beginning: the same records, which the logs know, or the same points again.
  const before = wanted === undefined ? (data.fed[shard] ?? nothingFed) : nothingFed;
  const { files, points, expiring, content } = before;
  return backups.run(
    node.id,
    {
      ...{ kind: "feed", operation, location, backup, shard, target },
      ...(wanted && { until: wanted }),
      before: { files, points, expiring, content },
    },
    call,
  );
}

/** Up to where a part is brought; undefined: as it was backed up. */
function wantedOf(
  until: NonNullable<Restore["data"]["until"]>,
  shard: number,
  ends: Restore["data"]["ends"],
): FeedPartJob["until"] {
  if ("timeMs" in until) {
    const end = ends?.[shard];
    return { timeMs: until.timeMs, ...(end !== undefined && { end }) };
  }
  const sequence = until.sequences[shard];
  return sequence === undefined ? undefined : { sequence };
}

async function backupOf({ location, backup }: Restore["data"], { backups }: OperationContext): Promise<BackupRecord> {
  return new BackupRepository(await backups.locations.open(location)).get(backup);
}

/** Through the logs, as any change of the schema; one after the other, and harmless when repeated. */
async function makeIndexes({ id, data }: Restore, record: Collection, context: OperationContext): Step {
  const { collections, isHolder } = context;
  const { collection } = await backupOf(data, context);
  let present = record;
  for (const index of collection.payloadIndexes) {
    if (present.payloadIndexes.some(({ path }) => path === index.path)) continue;
    const change = { kind: "addPayloadIndex", index, version: present.schemaVersion + 1 } as const;
    await appendToAll(`${id}-${change.version}`, present, change, context);
    present = await collections.modify(record.name, (found) =>
      isHolder() && found.id === record.id && found.schemaVersion === change.version - 1
        ? changedCollection(found, change)
        : undefined,
    );
  }
  return { kind: "next", step: "check" };
}

/** Compares what the replicas hold with what was fed. */
async function check({ id, data }: Restore, record: Collection, context: OperationContext): Step {
  const { backups, log } = context;
  const looked = await backups.jobs.look(id, data, async ({ signal, keep }) => {
    const waiting = record.shards.filter(({ state }) => state === "active");
    const progress = new Map<number, number>();
    const found = { points: 0, expiring: 0, content: 0n };
    const ending = new AbortController();
    const all = heardByMany(AbortSignal.any([signal, ending.signal]));
    const fed = sumOf(Object.values(data.fed));
    const worker = async (): Promise<void> => {
      for (let shard = waiting.shift(); shard !== undefined; shard = waiting.shift()) {
        const name = { collectionId: record.id, shard: shard.shard };
        const { lastSequence } = await log.state(name);
        const job = { kind: "digest", shard: name, minSequence: lastSequence } as const;
        const onProgress = ({ points }: { points: number }): void => {
          progress.set(name.shard, points);
          const sum = [...progress.values()].reduce((total, each) => total + each, 0);
          keep({ ...data, progress: { points: sum, bytes: 0, totalPoints: fed.points } });
        };
        const call = { signal: all, onProgress };
        const part = await onReplica(shard.replicas, name.shard, backups, (node) => backups.run(node, job, call), all);
        found.points += part.points;
        found.expiring += part.expiring;
        found.content = addHash(found.content, BigInt(`0x${part.content}`));
      }
    };
    await together(Array.from({ length: partsAtOnce }, worker), ending);
    const isSame =
      found.content === fed.content &&
      found.points - found.expiring === fed.points - fed.expiring &&
      // Some may have expired meanwhile.
      found.expiring <= fed.expiring;
    if (isSame) return;
    throw new KithError(
      "CORRUPT_DATA",
      `the restored collection holds ${textOf(found)}; the backup gave it ${textOf(fed)}`,
    );
  });
  return { kind: "next", step: looked.isDone ? "open" : "check", data: looked.state };
}

interface Content {
  points: number;
  expiring: number;
  content: bigint;
}

function sumOf(parts: readonly FedFiles[]): Content {
  const sum: Content = { points: 0, expiring: 0, content: 0n };
  for (const { points, expiring, content } of parts) {
    sum.points += points;
    sum.expiring += expiring;
    sum.content = addHash(sum.content, BigInt(`0x${content}`));
  }
  return sum;
}

function textOf({ points, expiring, content }: Content): string {
  return `${points} points (${expiring} that expire) with the digest ${formatDigest(content)}`;
}
