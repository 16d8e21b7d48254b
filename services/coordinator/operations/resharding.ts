/** What splits and merges of shards have in common. */
import { isMove, type OperationRecord, operationOfShard } from "../../../libs/cluster/index.js";
import type { Collection, ReplicaPlacement, ReplicaStatus, ShardPlacement } from "../../../libs/model/index.js";
import { encodeRecord } from "../../../libs/wire/index.js";
import type { OperationContext } from "./machine.js";

/** How often it is looked whether new shards have caught up. */
export const lookEveryMs = 250;
/** The same, while writes wait. */
export const sealedEveryMs = 20;
/** How long an operation that waits for its turn waits. */
export const turnEveryMs = 500;
/** An old shard is still there for so long: routers have heard of the new ones by then, and what they had asked it is answered. */
export const leavingMs = 2_000;
/** Replicas of new shards that can be asked, and do not have all of the old ones, are waited for so long before these go. */
export const laggingMs = 30_000;
/** A cluster that follows this one, and has not read an old log to its end, is waited for so long before that goes. */
export const unreadMs = 60_000;
/** While writes wait, so long for replicas of which another one is there already. */
export const othersMs = 300;
/** A node with one of the new replicas that is away for so long ends the operation. */
export const awayMax = 60_000;
/** The end of a log is set when each new replica is so few records behind it, */
export const lagMax = 256;
/** and has at most this share of its vectors, and so many, outside of its graph: each is scanned by every search. */
const unindexedShare = 0.02;
const unindexedMax = 20_000;

export function isIndexed({ indexedVectorCount, unindexedVectorCount }: ReplicaStatus): boolean {
  const share = unindexedShare * (indexedVectorCount + unindexedVectorCount);
  return unindexedVectorCount <= Math.min(unindexedMax, Math.max(1_000, share));
}

/** Nothing else changes the shard or its replicas. */
export function isAtRest({ operation, replicas }: ShardPlacement, { id }: Pick<OperationRecord, "id">): boolean {
  if (operation !== undefined && operation !== id) return false;
  return replicas.every((each) => each.operation === undefined && each.state === "active");
}

export function withoutOperation(shard: ShardPlacement, { id }: Pick<OperationRecord, "id">): ShardPlacement {
  const { operation, ...rest } = shard;
  return operation === undefined || operation === id ? rest : shard;
}

/** One after the other: each has whole indexes built. `shards`: those whose slots it gives to others. */
export function hasTurn(
  { id, subject }: Pick<OperationRecord, "id" | "subject">,
  shards: readonly number[],
  { liveOperations }: OperationContext,
): boolean {
  const live = liveOperations();
  const reshardings = live.filter(({ kind }) => kind === "split_shard" || kind === "merge_shards");
  const isFirst = reshardings.findIndex((each) => each.id === id) === 0;
  const isOneUnderWay = reshardings.some((each) => each.id !== id && each.step !== "prepare");
  // Two of one shard may have been begun at once: the older one goes first, and the other one finds no such shard then.
  const isMoved = live.some((each) => {
    const isOfOurs = shards.some((shard) => operationOfShard(each, { ...subject, shard }));
    return isMove(each) && isOfOurs && each.step !== "join";
  });
  return isFirst && !isOneUnderWay && !isMoved;
}

/** A backup reads the shards that were there when it began. */
export function isBackedUp(
  { subject }: Pick<OperationRecord, "subject">,
  { liveOperations }: OperationContext,
): boolean {
  return liveOperations().some(({ kind, subject: other }) => {
    return kind === "backup_collection" && other.collectionId === subject.collectionId;
  });
}

/** What its replicas say of themselves; undefined of one that cannot be asked. */
export function statusesOf(
  { shard, replicas }: ShardPlacement,
  { subject }: Pick<OperationRecord, "subject">,
  context: OperationContext,
): Promise<(ReplicaStatus | undefined)[]> {
  const name = { collectionId: subject.collectionId, shard };
  return Promise.all(replicas.map(({ node }) => context.statusOf(node, name).catch(() => undefined)));
}

/** Gives the log of a shard its last record, and the sequence of that; the same when repeated. */
export function sealShard(
  { id: collectionId, epoch }: Collection,
  shard: number,
  { log, clock }: OperationContext,
): Promise<number> {
  const mutation = { $case: "seal" as const, value: { epoch: epoch + 1 } };
  const operations = [{ operationId: new Uint8Array(0), traceparent: "", mutation }];
  return log.seal({ collectionId, shard }, encodeRecord({ epoch, appendedAtMs: clock.nowMs(), operations }));
}

/** A shard whose slots are others' by now. */
export function leaving(shard: ShardPlacement, operation: string, epoch: number, sinceMs: number): ShardPlacement {
  const replicas = shard.replicas.map(({ node }): ReplicaPlacement => ({ node, state: "leaving", sinceMs, operation }));
  return { ...shard, epoch, state: "sealed", replicas };
}
