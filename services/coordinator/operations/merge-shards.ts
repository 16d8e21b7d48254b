import type { MergeJob } from "../../../libs/backup/index.js";
import { heardByMany, KithError, sleep, toKithError } from "../../../libs/base/index.js";
import type { Operation } from "../../../libs/cluster/index.js";
import type {
  Collection,
  ReplicaPlacement,
  ReplicaStatus,
  ShardId,
  ShardPlacement,
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

type Merge = Operation<"merge_shards">;
type Step = Promise<Outcome<"merge_shards">>;

/**
 * The new shard's log begins so many records behind the longest log of the old ones: versions of its writes are above all of theirs. A merge in which one of
 * these takes half of it is undone.
 */
const sequenceGap = 2 ** 24;
/** After the old shards were read the new one is to have all of them so soon; else they are read again. */
const fedMs = 5_000;
/** It is looked so often, in such pauses, before that is noted. */
const soonLooks = 50;
const soonEveryMs = 10;

/**
 * Neighbouring shards become one. A new shard is prepared, with a log of its own. Nodes of the old shards bring what these hold into that log, and what is
 * changed meanwhile. When the new replicas have nearly all, the old logs are sealed: from then on writes wait. When they have all, the new shard gets the
 * slots, in one change of the record; writes find it there. Then the old ones are dropped. Until the seal all can be undone.
 */
export const mergeShards: Machine<"merge_shards"> = {
  async step(merge, context) {
    switch (merge.step) {
      case "prepare":
        return prepare(merge, context);
      case "copy":
        return copy(merge, context);
      case "seal":
        return seal(merge, context);
      case "switch":
        return switchOver(merge, context);
      case "drop":
        return drop(merge, context);
    }
  },

  /** Behind the step that seals there is no way back: a log may have its end already. */
  async undo(merge, context) {
    if (merge.step !== "prepare" && merge.step !== "copy") return mergeShards.step(merge, context);
    await context.backups.jobs.abort(merge.id);
    await change(merge, context, (record) => {
      const shards = record.shards.filter((each) => !isChild(each, merge));
      return { ...record, shards: shards.map((each) => withoutOperation(each, merge)) };
    });
    const { child } = merge.data;
    if (child !== undefined && context.isHolder()) await context.log.remove(idOf(merge, child));
    return cancelled;
  },
};

const cancelled = { kind: "end", state: "cancelled" } as const;

/** Makes the new shard known, whose replicas are then opened by their nodes. */
async function prepare(merge: Merge, context: OperationContext): Step {
  const record = await recordOf(merge.subject, context);
  if (record === undefined) return cancelled;
  const refusal = refusalOf(merge, record);
  if (refusal !== undefined) return { kind: "end", state: "failed", error: refusal };
  const isReady = parentsIn(record, merge).every((each) => isAtRest(each, merge));
  if (!isReady || !hasTurn(merge, merge.data.parents, context)) return { kind: "wait", ms: turnEveryMs };
  const beginsBehind = Math.max(...(await endsOfLogs(merge, context))) + sequenceGap;
  const nowMs = context.clock.nowMs();
  const after = await change(merge, context, (found) => {
    const parents = parentsIn(found, merge);
    if (found.shards.some((each) => isChild(each, merge))) return undefined;
    if (refusalOf(merge, found) !== undefined || !parents.every((each) => isAtRest(each, merge))) return undefined;
    const child = childOf(merge, parents, found.nextShard, beginsBehind, nowMs);
    const shards = found.shards.map((each) => (parents.includes(each) ? { ...each, operation: merge.id } : each));
    return { ...found, nextShard: found.nextShard + 1, shards: [...shards, child] };
  });
  const child = after?.shards.find((each) => isChild(each, merge))?.shard;
  // Somebody else has changed the shards: they are looked at again.
  if (child === undefined) return { kind: "wait", ms: 0 };
  return { kind: "next", step: "copy", data: { ...merge.data, child } };
}

function childOf(
  { id, data }: Merge,
  parents: readonly ShardPlacement[],
  shard: number,
  beginsBehind: number,
  sinceMs: number,
): ShardPlacement {
  const [first] = parents as [ShardPlacement, ...ShardPlacement[]];
  const ancestors = [...new Set([...parents.flatMap(({ origin }) => origin?.ancestors ?? []), ...data.parents])];
  return {
    ...{ shard, epoch: Math.max(...parents.map(({ epoch }) => epoch)), state: "preparing", operation: id },
    firstSlot: first.firstSlot,
    lastSlot: (parents.at(-1) ?? first).lastSlot,
    replicas: first.replicas.map(({ node }) => ({ node, state: "joining", sinceMs, operation: id })),
    origin: { parents: [...data.parents], ancestors, merge: { beginsBehind } },
  };
}

/** Until the new replicas have all points and indexes, and the old logs are nearly read to their ends. */
async function copy(merge: Merge, context: OperationContext): Step {
  const { data } = merge;
  const record = await recordOf(merge.subject, context);
  const child = record && childIn(record, merge);
  if (record === undefined) return cancelled;
  const parents = parentsIn(record, merge);
  const isOurs = parents.length === data.parents.length && parents.every(({ operation }) => operation === merge.id);
  if (child === undefined || !isOurs) return { kind: "undo" };
  if (child.replicas.some(({ node }) => context.awayMs(node) > awayMax)) return { kind: "undo" };
  const beginsBehind = child.origin?.merge?.beginsBehind ?? 0;
  await context.log.create(idOf(merge, child.shard), { afterSequence: beginsBehind });
  const fed = await feed(merge, record, child, context);
  const ends = await endsOfLogs(merge, context);
  if (Math.max(...ends) > beginsBehind - sequenceGap / 2) return { kind: "undo" };
  if (fed.kind === "next") return fed;
  const isRead = data.parents.every((shard, i) => {
    const place = fed.state.places[shard];
    return place?.isScanned === true && (ends[i] as number) - place.sequence <= lagMax;
  });
  const next = { kind: "next", step: "copy", data: fed.state } as const;
  if (!isRead || isBackedUp(merge, context)) return next;
  const { lastSequence } = await context.log.state(idOf(merge, child.shard));
  const isReady = (status: ReplicaStatus | undefined): boolean =>
    status?.state === "active" && lastSequence - status.appliedSequence <= lagMax && isIndexed(status);
  const statuses = await statusesOf(child, merge, context);
  return statuses.every(isReady) ? { ...next, step: "seal" } : { kind: "wait", ms: lookEveryMs };
}

/** Has nodes bring what the old shards hold into the log of the new one, and tells after a second at most how far that is. */
async function feed(
  merge: Merge,
  record: Collection,
  child: ShardPlacement,
  context: OperationContext,
): Promise<
  Extract<Outcome<"merge_shards">, { kind: "next" }> | { kind: "fed"; state: Merge["data"]; isDone: boolean }
> {
  const { id, data, step } = merge;
  const { jobs } = context.backups;
  // Each attempt has a term of its own, which is in the record before the attempt begins.
  if (!jobs.mayLook(id, data.reader)) {
    return { kind: "next", step, data: { ...data, term: data.term + 1, reader: jobs.claim(id), isFed: false } };
  }
  const { state, isDone } = await jobs.look(id, data, async ({ signal, keep }) => {
    let kept = data;
    const done = new Map<number, { points: number; bytes: number }>();
    const ending = new AbortController();
    const all = heardByMany(AbortSignal.any([signal, ending.signal]));
    const counts = await Promise.all(parentsIn(record, merge).map((parent) => statusesOf(parent, merge, context)));
    const totalPoints = counts.reduce((sum, all) => sum + Math.max(0, ...all.map((each) => each?.pointCount ?? 0)), 0);
    const read = async (parent: ShardPlacement): Promise<void> => {
      const job = jobOf(merge, record, parent, child);
      const onProgress: Parameters<typeof context.backups.run>[2]["onProgress"] = ({ points, bytes, place }) => {
        done.set(parent.shard, { points, bytes });
        const sum = { points: 0, bytes: 0 };
        for (const each of done.values()) {
          sum.points += each.points;
          sum.bytes += each.bytes;
        }
        const places = place === undefined ? kept.places : { ...kept.places, [parent.shard]: place };
        kept = { ...kept, places, progress: { ...sum, totalPoints } };
        keep(kept);
      };
      await context.backups.run(nodeFor(merge, parent, context), job, { signal: all, onProgress });
    };
    const running = parentsIn(record, merge).map((parent) =>
      read(parent).catch((error: unknown) => {
        ending.abort(error);
        throw error;
      }),
    );
    const settled = await Promise.allSettled(running);
    if (ending.signal.aborted) throw ending.signal.reason;
    for (const each of settled) if (each.status === "rejected") throw each.reason;
  });
  return { kind: "fed", state: { ...data, ...progressOf(state) }, isDone };
}

function progressOf({ places, progress }: Merge["data"]): Pick<Merge["data"], "places" | "progress"> {
  return { places, ...(progress && { progress }) };
}

function jobOf(
  { data }: Merge,
  { id: collectionId, epoch }: Collection,
  { shard, firstSlot, lastSlot }: ShardPlacement,
  child: ShardPlacement,
): MergeJob & { kind: "merge" } {
  const place = data.places[shard];
  return {
    ...{ kind: "merge", shard: { collectionId, shard }, slots: { firstSlot, lastSlot }, into: child.shard },
    ...{ shardCount: data.parents.length, epoch, term: data.term, ...(place && { place }) },
  };
}

/** Another one with each attempt, among those that are up. */
function nodeFor({ data }: Merge, { shard, replicas }: ShardPlacement, { backups }: OperationContext): string {
  const able = replicas.filter(({ node }) => backups.nodes.stateOf(node) === "up");
  const chosen = able[data.term % Math.max(1, able.length)];
  if (chosen !== undefined) return chosen.node;
  throw new KithError("SHARD_UNAVAILABLE", `shard ${shard} has no replica on a node that is up`);
}

/** Sets the ends of the logs: writes wait from here on. */
async function seal(merge: Merge, context: OperationContext): Step {
  const record = await recordOf(merge.subject, context);
  if (record === undefined || childIn(record, merge) === undefined) return givenUp(merge, context);
  if (!context.isHolder()) return { kind: "wait", ms: 0 };
  const { parents } = merge.data;
  const ends = await Promise.all(parents.map((shard) => sealShard(record, shard, context)));
  const sealedAt = Object.fromEntries(parents.map((shard, i) => [shard, ends[i] as number]));
  return { kind: "next", step: "switch", data: { ...merge.data, sealedAt } };
}

/** The new shard gets the slots, when one of its replicas has all of the old ones. */
async function switchOver(merge: Merge, context: OperationContext): Step {
  const { data } = merge;
  const record = await recordOf(merge.subject, context);
  const child = record && childIn(record, merge);
  if (record === undefined || child === undefined) return givenUp(merge, context);
  if (child.state === "active") return { kind: "next", step: "drop" };
  const waitedMs = context.clock.nowMs() - merge.updatedAtMs;
  const look = async (): Promise<ReplicaStatus[]> =>
    (await statusesOf(child, merge, context)).filter((each) => each !== undefined);
  const isThere = ({ state, adoptedSequence = 0 }: ReplicaStatus): boolean => state === "active" && adoptedSequence > 0;
  let known = await look();
  if (!known.some(isThere)) {
    if (data.isFed === true && waitedMs >= 0 && waitedMs < fedMs) return { kind: "wait", ms: sealedEveryMs };
    if (data.isFed === true) return { kind: "next", step: "switch", data: { ...data, isFed: false } };
    const fed = await feed(merge, record, child, context);
    if (fed.kind === "next") return fed;
    // As a rule they have it at once, and writes wait: without a note in between.
    for (let i = 0; fed.isDone && i < soonLooks && !known.some(isThere); i++) {
      await sleep(context.clock, soonEveryMs);
      known = await look();
    }
    if (!known.some(isThere)) return { kind: "next", step: "switch", data: { ...fed.state, isFed: fed.isDone } };
  }
  const isPatient = waitedMs >= 0 && waitedMs < othersMs;
  if (isPatient && !known.every(isThere)) return { kind: "wait", ms: sealedEveryMs };
  const adopted = Math.max(...known.map(({ adoptedSequence = 0 }) => adoptedSequence));
  const nowMs = context.clock.nowMs();
  const after = await change(merge, context, (found) => {
    const epoch = found.epoch + 1;
    const isOurs = (each: ShardPlacement): boolean => isChild(each, merge);
    if (!found.shards.some(isOurs)) return undefined;
    const shards = found.shards.map((each): ShardPlacement => {
      if (isOurs(each)) return activated(each, merge, { epoch, nowMs, adopted });
      return data.parents.includes(each.shard) ? leaving(each, merge.id, epoch, nowMs) : each;
    });
    return { ...found, epoch, shards };
  });
  return after === undefined ? givenUp(merge, context) : { kind: "next", step: "drop" };
}

function activated(
  child: ShardPlacement,
  merge: Merge,
  { epoch, nowMs, adopted }: { epoch: number; nowMs: number; adopted: number },
): ShardPlacement {
  const { parents, sealedAt = {} } = merge.data;
  const replicas = child.replicas.map(({ node }): ReplicaPlacement => ({ node, state: "active", sinceMs: nowMs }));
  const { origin } = child;
  const ends = { parents: parents.map((shard) => ({ shard, sequence: sealedAt[shard] ?? 0 })), adopted };
  return {
    ...withoutOperation(child, merge),
    ...{ epoch, state: "active", replicas },
    ...(origin?.merge && { origin: { ...origin, merge: { ...origin.merge, ends } } }),
  };
}

/** The old shards go, when nobody asks them or reads them any more. */
async function drop(merge: Merge, context: OperationContext): Step {
  const record = await recordOf(merge.subject, context);
  if (record === undefined) return givenUp(merge, context);
  const parents = parentsIn(record, merge);
  const child = childIn(record, merge);
  if (parents.length > 0 && child !== undefined) {
    const sinceMs = parents.flatMap(({ replicas }) => replicas.map((each) => each.sinceMs));
    const sealedMs = context.clock.nowMs() - Math.max(...sinceMs);
    // A wall clock that was set back is no reason to wait for ever.
    if (sealedMs >= 0 && sealedMs < leavingMs) return { kind: "wait", ms: leavingMs - sealedMs };
    const statuses = await statusesOf(child, merge, context);
    const isLagging = statuses.some((status) => status !== undefined && (status.adoptedSequence ?? 0) === 0);
    if (isLagging && sealedMs >= 0 && sealedMs < laggingMs) return { kind: "wait", ms: lookEveryMs };
    const { sealedAt = {} } = merge.data;
    const isRead = merge.data.parents.every((shard) => context.isRead(idOf(merge, shard), sealedAt[shard] ?? 0));
    if (!isRead && sealedMs >= 0 && sealedMs < unreadMs) return { kind: "wait", ms: lookEveryMs };
    await change(merge, context, (found) => {
      return { ...found, shards: found.shards.filter((each) => !merge.data.parents.includes(each.shard)) };
    });
  }
  if (!context.isHolder()) return { kind: "wait", ms: 0 };
  await context.backups.jobs.abort(merge.id);
  await Promise.all(merge.data.parents.map((shard) => context.log.remove(idOf(merge, shard))));
  return { kind: "end", state: "done" };
}

/** The collection is gone, or goes: logs that were made too late for its deletion would be left over. */
async function givenUp(merge: Merge, { log, backups }: OperationContext): Step {
  await backups.jobs.abort(merge.id);
  const { parents, child } = merge.data;
  const shards = child === undefined ? parents : [...parents, child];
  await Promise.all(shards.map((shard) => log.remove(idOf(merge, shard))));
  return cancelled;
}

function idOf({ subject }: Merge, shard: number): ShardId {
  return { collectionId: subject.collectionId, shard };
}

/** In order of their slots; those that are there. */
function parentsIn({ shards }: Collection, { data }: Merge): ShardPlacement[] {
  return data.parents.flatMap((shard) => shards.find((each) => each.shard === shard) ?? []);
}

/** By the operation while it is prepared, and by its id afterwards. */
function childIn({ shards }: Collection, { data }: Merge): ShardPlacement | undefined {
  return shards.find(({ shard }) => shard === data.child);
}

function isChild({ state, operation }: ShardPlacement, { id }: Merge): boolean {
  return state === "preparing" && operation === id;
}

function endsOfLogs(merge: Merge, { log }: OperationContext): Promise<number[]> {
  return Promise.all(merge.data.parents.map(async (shard) => (await log.state(idOf(merge, shard))).lastSequence));
}

/** Why the merge cannot be made, by what the record has. */
function refusalOf(merge: Merge, record: Collection): KithError | undefined {
  const { data, subject } = merge;
  const refuse = (message: string): KithError =>
    new KithError("FAILED_PRECONDITION", message, {
      details: { collection: subject.collection, shards: data.parents.join() },
    });
  const parents = parentsIn(record, merge);
  const gone = data.parents.find((shard) => !parents.some((each) => each.shard === shard && each.state === "active"));
  if (gone !== undefined) return refuse(`shard ${gone} owns no hash slots`);
  const isGap = parents.some((each, i) => i > 0 && each.firstSlot !== (parents[i - 1]?.lastSlot ?? 0) + 1);
  return isGap ? refuse(`the shards ${data.parents.join(" and ")} have other hash slots by now`) : undefined;
}

/** Changes the record, by compare-and-set, and gives it as it is then; undefined where the collection is no more. */
async function change(
  { subject }: Merge,
  context: OperationContext,
  edit: (record: Collection) => Collection | undefined,
): Promise<Collection | undefined> {
  const { collections, isHolder } = context;
  try {
    const record = await collections.modify(recordKey(subject, context), (found) => {
      const isOurs = isHolder() && found.id === subject.collectionId && found.state === "ready";
      return isOurs ? edit(found) : undefined;
    });
    return record.id === subject.collectionId && record.state === "ready" ? record : undefined;
  } catch (error) {
    // Deleted meanwhile.
    if (toKithError(error).code === "NOT_FOUND") return undefined;
    throw error;
  }
}
