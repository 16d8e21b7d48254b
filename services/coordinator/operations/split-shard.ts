import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { Operation } from "../../../libs/cluster/index.js";
import type {
  Collection,
  ReplicaPlacement,
  ReplicaStatus,
  ShardId,
  ShardPlacement,
  SlotRange,
} from "../../../libs/model/index.js";
import type { Machine, OperationContext, Outcome } from "./machine.js";
import { recordKey, recordOf } from "./record-of.js";
import {
  awayMax,
  hasTurn,
  isAtRest,
  isBackedUp,
  isIndexed,
  laggingMs,
  lagMax,
  leaving,
  leavingMs,
  lookEveryMs,
  othersMs,
  sealedEveryMs,
  sealShard,
  statusesOf,
  turnEveryMs,
  unreadMs,
  withoutOperation,
} from "./resharding.js";

type Split = Operation<"split_shard">;
type Step = Promise<Outcome<"split_shard">>;

/**
 * The split of a shard. New shards are prepared whose replicas, on the nodes of the old ones, take the points of their slots and follow the old log.
 * When they have caught up that log is sealed: from then on writes wait. The new shards get logs that go on where the old one has ended, and then,
 * in one change of the record, its slots; writes find them there. Then the old shard is dropped. Until the seal all can be undone.
 */
export const splitShard: Machine<"split_shard"> = {
  async step(split, context) {
    switch (split.step) {
      case "prepare":
        return prepare(split, context);
      case "copy":
        return copy(split, context);
      case "seal":
        return seal(split, context);
      case "switch":
        return switchOver(split, context);
      case "drop":
        return drop(split, context);
    }
  },

  /** Behind the step that seals there is no way back: the log may have its end already. */
  async undo(split, context) {
    if (split.step !== "prepare" && split.step !== "copy") return splitShard.step(split, context);
    await change(split, context, (record, parent) => {
      const shards = record.shards.filter((each) => !isChild(each, split));
      return { ...record, shards: shards.map((each) => (each === parent ? withoutOperation(each, split) : each)) };
    });
    return cancelled;
  },
};

const cancelled = { kind: "end", state: "cancelled" } as const;

/** Makes the new shards known, whose replicas are then opened by their nodes. */
async function prepare(split: Split, context: OperationContext): Step {
  const record = await recordOf(split.subject, context);
  const shard = record && parentIn(record, split);
  if (record === undefined || shard === undefined) return cancelled;
  const refusal = refusalOf(split, record, shard);
  if (refusal !== undefined) return { kind: "end", state: "failed", error: refusal };
  if (!isAtRest(shard, split) || !hasTurn(split, [shard.shard], context)) return { kind: "wait", ms: turnEveryMs };
  const nowMs = context.clock.nowMs();
  const after = await change(split, context, (found, parent) => {
    if (found.shards.some((each) => isChild(each, split))) return undefined;
    if (refusalOf(split, found, parent) !== undefined || !isAtRest(parent, split)) return undefined;
    const children = split.data.ranges.map((range, i) => childOf(split, parent, found.nextShard + i, range, nowMs));
    const shards = found.shards.map((each) => (each === parent ? { ...each, operation: split.id } : each));
    return { ...found, nextShard: found.nextShard + children.length, shards: [...shards, ...children] };
  });
  const children = after?.shards.filter((each) => isChild(each, split)).map(({ shard: id }) => id) ?? [];
  // Somebody else has changed the shard: it is looked at again.
  if (children.length === 0) return { kind: "wait", ms: 0 };
  return { kind: "next", step: "copy", data: { ...split.data, children } };
}

function childOf(
  { id }: Split,
  parent: ShardPlacement,
  shard: number,
  { firstSlot, lastSlot }: SlotRange,
  sinceMs: number,
): ShardPlacement {
  const ancestors = [...(parent.origin?.ancestors ?? []), parent.shard];
  return {
    ...{ shard, firstSlot, lastSlot, epoch: parent.epoch, state: "preparing", operation: id },
    replicas: parent.replicas.map(({ node }) => ({ node, state: "joining", sinceMs, operation: id })),
    origin: { parents: [parent.shard], ancestors },
  };
}

/** Waits until the new replicas have their points and indexes, and have nearly come to the end of the log. */
async function copy(split: Split, context: OperationContext): Step {
  const record = await recordOf(split.subject, context);
  const parent = record && parentIn(record, split);
  const children = record === undefined ? [] : childrenIn(record, split);
  if (record === undefined || parent === undefined) return cancelled;
  if (parent.operation !== split.id || children.length === 0) return { kind: "undo" };
  const nodes = new Set(children.flatMap(({ replicas }) => replicas.map(({ node }) => node)));
  if ([...nodes].some((node) => context.awayMs(node) > awayMax)) return { kind: "undo" };
  const { lastSequence } = await context.log.state(idOf(split, parent.shard));
  const all = await Promise.all(children.map((child) => statusesOf(child, split, context)));
  const isReady = (status: ReplicaStatus | undefined): boolean =>
    status?.state === "active" && lastSequence - status.appliedSequence <= lagMax && isIndexed(status);
  if (!all.flat().every(isReady) || isBackedUp(split, context)) return { kind: "wait", ms: lookEveryMs };
  return { kind: "next", step: "seal" };
}

/** Sets the end of the log: writes wait from here on. */
async function seal(split: Split, context: OperationContext): Step {
  const record = await recordOf(split.subject, context);
  const parent = record && parentIn(record, split);
  if (record === undefined || parent === undefined) return cancelled;
  if (!context.isHolder()) return { kind: "wait", ms: 0 };
  const sealedAt = await sealShard(record, parent.shard, context);
  return { kind: "next", step: "switch", data: { ...split.data, sealedAt } };
}

/** The new shards get logs and slots. */
async function switchOver(split: Split, context: OperationContext): Step {
  const record = await recordOf(split.subject, context);
  const parent = record && parentIn(record, split);
  if (record === undefined || parent === undefined) return givenUp(split, context);
  const children = childrenIn(record, split);
  if (children.every(({ state }) => state === "active")) return { kind: "next", step: "drop" };
  const { sealedAt = 0 } = split.data;
  await Promise.all(children.map(({ shard }) => context.log.create(idOf(split, shard), { afterSequence: sealedAt })));
  const all = await Promise.all(children.map((child) => statusesOf(child, split, context)));
  const isThere = (status: ReplicaStatus): boolean => status.state === "active" && status.appliedSequence >= sealedAt;
  const known = all.map((statuses) => statuses.filter((each) => each !== undefined));
  if (!known.every((statuses) => statuses.some(isThere))) return { kind: "wait", ms: sealedEveryMs };
  const waitedMs = context.clock.nowMs() - split.updatedAtMs;
  const isPatient = waitedMs >= 0 && waitedMs < othersMs;
  if (isPatient && !known.flat().every(isThere)) return { kind: "wait", ms: sealedEveryMs };
  const nowMs = context.clock.nowMs();
  const after = await change(split, context, (found, { shard }) => {
    const epoch = found.epoch + 1;
    const shards = found.shards.map((each): ShardPlacement => {
      if (isChild(each, split)) return activated(each, split, epoch, nowMs);
      if (each.shard !== shard) return each;
      return leaving(each, split.id, epoch, nowMs);
    });
    return found.shards.some((each) => isChild(each, split)) ? { ...found, epoch, shards } : undefined;
  });
  return after === undefined ? givenUp(split, context) : { kind: "next", step: "drop" };
}

function activated(child: ShardPlacement, split: Split, epoch: number, sinceMs: number): ShardPlacement {
  const replicas = child.replicas.map(({ node }): ReplicaPlacement => ({ node, state: "active", sinceMs }));
  return { ...withoutOperation(child, split), epoch, state: "active", replicas };
}

/** The old shard goes, when nobody asks it or follows its log any more. */
async function drop(split: Split, context: OperationContext): Step {
  const record = await recordOf(split.subject, context);
  if (record === undefined) return givenUp(split, context);
  const parent = parentIn(record, split);
  if (parent !== undefined) {
    const sealedMs = context.clock.nowMs() - Math.max(...parent.replicas.map(({ sinceMs }) => sinceMs));
    // A wall clock that was set back is no reason to wait for ever.
    if (sealedMs >= 0 && sealedMs < leavingMs) return { kind: "wait", ms: leavingMs - sealedMs };
    const all = await Promise.all(childrenIn(record, split).map((child) => statusesOf(child, split, context)));
    const { sealedAt = 0 } = split.data;
    const isLagging = all.flat().some((status) => status !== undefined && status.appliedSequence < sealedAt);
    if (isLagging && sealedMs >= 0 && sealedMs < laggingMs) return { kind: "wait", ms: lookEveryMs };
    const isRead = context.isRead(idOf(split, parent.shard), sealedAt);
    if (!isRead && sealedMs >= 0 && sealedMs < unreadMs) return { kind: "wait", ms: lookEveryMs };
    await change(split, context, (found, { shard }) => {
      return { ...found, shards: found.shards.filter((each) => each.shard !== shard) };
    });
    if (!context.isHolder()) return { kind: "wait", ms: 0 };
  }
  await context.log.remove(idOf(split, split.subject.shard ?? 0));
  return { kind: "end", state: "done" };
}

/** The collection is gone, or goes: logs that were made too late for its deletion would be left over. */
async function givenUp(split: Split, { log }: OperationContext): Step {
  const shards = [split.subject.shard ?? 0, ...split.data.children];
  await Promise.all(shards.map((shard) => log.remove(idOf(split, shard))));
  return cancelled;
}

function idOf({ subject }: Split, shard: number): ShardId {
  return { collectionId: subject.collectionId, shard };
}

function parentIn({ shards }: Collection, { subject }: Split): ShardPlacement | undefined {
  return shards.find(({ shard }) => shard === subject.shard);
}

/** By the operation while they are prepared, and by their ids afterwards. */
function childrenIn({ shards }: Collection, { data }: Split): ShardPlacement[] {
  return shards.filter(({ shard }) => data.children.includes(shard));
}

function isChild({ state, operation }: ShardPlacement, { id }: Split): boolean {
  return state === "preparing" && operation === id;
}

/** Why the split cannot be made, by what the record has. */
function refusalOf({ data, subject }: Split, { shards }: Collection, parent: ShardPlacement): KithError | undefined {
  const refuse = (message: string): KithError =>
    new KithError("FAILED_PRECONDITION", message, { details: { collection: subject.collection, shard: parent.shard } });
  if (parent.state !== "active") return refuse(`shard ${parent.shard} owns no hash slots`);
  let next = parent.firstSlot;
  for (const { firstSlot, lastSlot } of data.ranges) {
    if (firstSlot !== next || lastSlot < firstSlot) next = Number.NaN;
    next = lastSlot + 1;
  }
  if (next !== parent.lastSlot + 1) return refuse(`shard ${parent.shard} has other hash slots by now`);
  const count = shards.filter(({ state }) => state === "active").length + data.ranges.length - 1;
  return count > limits.shardsMax
    ? refuse(`the collection would have ${count} shards; at most ${limits.shardsMax} are allowed`)
    : undefined;
}

/** Changes the record, by compare-and-set, and gives it as it is then; undefined where the shard or its collection is no more. */
async function change(
  { subject }: Split,
  context: OperationContext,
  edit: (record: Collection, parent: ShardPlacement) => Collection | undefined,
): Promise<Collection | undefined> {
  const { collections, isHolder } = context;
  const parentOf = ({ shards }: Collection): ShardPlacement | undefined =>
    shards.find(({ shard }) => shard === subject.shard);
  try {
    const record = await collections.modify(recordKey(subject, context), (found) => {
      const parent = parentOf(found);
      const isOurs = isHolder() && found.id === subject.collectionId && found.state === "ready";
      return isOurs && parent !== undefined ? edit(found, parent) : undefined;
    });
    return record.id === subject.collectionId && record.state === "ready" ? record : undefined;
  } catch (error) {
    // Deleted meanwhile.
    if (toKithError(error).code === "NOT_FOUND") return undefined;
    throw error;
  }
}
