import { KithError } from "../../../libs/base/index.js";
import { isMove, type Operation } from "../../../libs/cluster/index.js";
import type {
  Collection,
  ReplicaPlacement,
  ReplicaStatus,
  ShardId,
  ShardPlacement,
} from "../../../libs/model/index.js";
import type { Machine, OperationContext, Outcome } from "./machine.js";
import { recordKey, recordOf } from "./record-of.js";

type Move = Operation<"move_replica">;
type Step = Promise<Outcome<"move_replica">>;

/** How often a step that waits for a replica looks at it. */
const lookEveryMs = 500;
/** How long one that waits for its turn waits. */
const turnEveryMs = 1_000;
/** How long a replica is still there after it is leaving: routers have heard of it by then, and what they had asked it is answered. */
const leavingMs = 2_000;
/** A target that is away for so long is given up. */
const targetAwayMs = 60_000;
/** A new replica is asked when at most this share of its vectors, and so many, are outside of its graph: each is scanned by every search. */
const unindexedShare = 0.02;
const unindexedMax = 20_000;
/** Nor is it asked while it is so many records behind its log. */
const lagMax = 256;

/**
 * A replica that is moved, added or removed. The new one joins: its node copies another replica and follows the log. When it has caught up it
 * becomes active and the old one leaving, in one change of the record; then the old one is taken out of the record, and its node deletes it.
 * At each moment the shard has as many replicas that answer as before. Cancelled, all is as it was before, also after the change: the
 * old one has followed the log until it is taken out.
 */
export const moveReplica: Machine<"move_replica"> = {
  async step(move, context) {
    switch (move.step) {
      case "join":
        return join(move, context);
      case "copy":
        return copy(move, context);
      case "switch":
        return switchOver(move, context);
      case "drop":
        return drop(move, context);
    }
  },
  undo,
};

async function join(move: Move, context: OperationContext): Step {
  const { to } = move.data;
  const shard = await shardOf(move, context);
  if (shard === undefined || shard.state !== "active") return cancelled;
  const refusal = refusalOf(move, shard, context);
  if (refusal !== undefined) return failed(refusal);
  const isPaused = move.data.reason === "rebalance" && context.settings().rebalancePaused === 1;
  if (isPaused || isElsewhereMoved(move, shard) || !hasTurn(move, context)) return { kind: "wait", ms: turnEveryMs };
  if (to === undefined) return { kind: "next", step: "switch" };
  const joining: ReplicaPlacement = { node: to, state: "joining", sinceMs: context.clock.nowMs(), operation: move.id };
  const after = await changeShard(move, context, (found) => {
    const isStillFit = refusalOf(move, found, context) === undefined && !isElsewhereMoved(move, found);
    if (!isStillFit || found.replicas.some((each) => isOurs(each, move, "joining"))) return undefined;
    return [...found.replicas, joining];
  });
  // Somebody else has changed the shard: it is looked at again.
  if (after?.replicas.some((each) => isOurs(each, move, "joining")) !== true) return { kind: "wait", ms: 0 };
  return { kind: "next", step: "copy" };
}

/** Waits until the new replica has caught up with its log and has its index. */
async function copy(move: Move, context: OperationContext): Step {
  const { to = "", from } = move.data;
  const shard = await shardOf(move, context);
  if (shard === undefined) return cancelled;
  if (!shard.replicas.some((each) => isOurs(each, move, "joining"))) return { kind: "undo" };
  if (context.awayMs(to) > targetAwayMs) return { kind: "undo" };
  if (move.data.reason === "repair" && from !== undefined && (await isActive(from, move, context))) {
    return { kind: "undo" };
  }
  const status = await statusOf(to, move, context);
  if (status === undefined || !(await isReady(status, move, shard, context))) return { kind: "wait", ms: lookEveryMs };
  const { lastSequence } = await context.log.state(nameOf(move));
  const isClose = lastSequence - status.appliedSequence <= lagMax;
  return isClose ? { kind: "next", step: "switch" } : { kind: "wait", ms: lookEveryMs };
}

/** The new one becomes active, and the old one leaving. */
async function switchOver(move: Move, context: OperationContext): Step {
  const { from, to } = move.data;
  const shard = await shardOf(move, context);
  if (shard === undefined) return cancelled;
  if (to === undefined) {
    const others = shard.replicas.filter(({ node, state }) => node !== from && state === "active");
    const answering = await Promise.all(others.map(({ node }) => isActive(node, move, context)));
    if (!answering.includes(true)) return { kind: "wait", ms: lookEveryMs };
  } else if (!(await isActive(to, move, context)) && !shard.replicas.some((each) => isSwitched(each, move))) {
    return { kind: "next", step: "copy" };
  }
  const after = await changeShard(move, context, ({ replicas }) => {
    const isJoined = to === undefined || replicas.some((each) => isOurs(each, move, "joining"));
    return isJoined ? switched(replicas, move, context.clock.nowMs()) : undefined;
  });
  if (after === undefined) return cancelled;
  if (to !== undefined && !after.replicas.some((each) => isSwitched(each, move))) return { kind: "undo" };
  return from === undefined ? { kind: "end", state: "done" } : { kind: "next", step: "drop" };
}

function switched(replicas: readonly ReplicaPlacement[], { id, data }: Move, nowMs: number): ReplicaPlacement[] {
  return replicas.map((replica): ReplicaPlacement => {
    if (replica.node === data.to) return { node: replica.node, state: "active", sinceMs: nowMs };
    if (replica.node !== data.from) return replica;
    return { node: replica.node, state: "leaving", sinceMs: nowMs, operation: id };
  });
}

/** The old one is taken out of the record, after the routers have had time to hear of it. */
async function drop(move: Move, context: OperationContext): Step {
  const shard = await shardOf(move, context);
  const old = shard?.replicas.find((each) => isOurs(each, move, "leaving"));
  if (old === undefined) return { kind: "end", state: "done" };
  const leftMs = old.sinceMs + leavingMs - context.clock.nowMs();
  // A wall clock that was set back is no reason to wait for ever.
  if (leftMs > 0 && leftMs <= leavingMs) return { kind: "wait", ms: leftMs };
  await changeShard(move, context, ({ replicas }) => {
    const staying = replicas.filter((each) => !isOurs(each, move, "leaving"));
    return staying.some(({ state }) => state === "active") ? staying : undefined;
  });
  return { kind: "end", state: "done" };
}

/** Back to what was before, where that is still there. */
async function undo(move: Move, context: OperationContext): Step {
  const { from } = move.data;
  const shard = await shardOf(move, context);
  if (shard === undefined) return cancelled;
  if (!shard.replicas.some(({ operation }) => operation === move.id)) {
    return shard.replicas.some((each) => isSwitched(each, move)) ? { kind: "end", state: "done" } : cancelled;
  }
  const isLeaving = shard.replicas.some((each) => isOurs(each, move, "leaving"));
  // What is gone cannot come back, and what would not answer shall not take the place of what does.
  if (isLeaving && (from === undefined || !(await isActive(from, move, context)))) return drop(move, context);
  await changeShard(move, context, ({ replicas }) => {
    const before = replicas.flatMap((each): ReplicaPlacement[] => {
      if (isOurs(each, move, "joining") || (isLeaving && isSwitched(each, move))) return [];
      if (!isOurs(each, move, "leaving")) return [each];
      return [{ node: each.node, state: "active", sinceMs: context.clock.nowMs() }];
    });
    return before.some(({ state }) => state === "active") ? before : undefined;
  });
  return cancelled;
}

const cancelled = { kind: "end", state: "cancelled" } as const;

function failed(error: KithError): Outcome<"move_replica"> {
  return { kind: "end", state: "failed", error };
}

function nameOf({ subject }: Move): ShardId {
  return { collectionId: subject.collectionId, shard: subject.shard ?? 0 };
}

function isOurs(replica: ReplicaPlacement, { id, data }: Move, state: "joining" | "leaving"): boolean {
  const node = state === "joining" ? data.to : data.from;
  return replica.node === node && replica.state === state && replica.operation === id;
}

/** Whether it is the new replica after the switch. */
function isSwitched({ node, state }: ReplicaPlacement, { data }: Move): boolean {
  return node === data.to && state === "active";
}

/** Another operation is at the shard: one at a time changes its replicas. */
function isElsewhereMoved({ id }: Move, { operation: other, replicas }: ShardPlacement): boolean {
  return other !== undefined || replicas.some(({ operation }) => operation !== undefined && operation !== id);
}

/** Of the moves that bring a replica, so many go on as the settings say: those that have begun, and then the oldest. */
function hasTurn({ id, data }: Move, { liveOperations, settings }: OperationContext): boolean {
  if (data.to === undefined) return true;
  const moves = liveOperations()
    .filter(isMove)
    .filter((each) => each.data.to !== undefined);
  const before = moves.findIndex((each) => each.id === id);
  const isPaused = settings().rebalancePaused === 1;
  const isWaiting = (each: Move): boolean => each.step === "join" && !(isPaused && each.data.reason === "rebalance");
  const ahead = moves.filter((each, i) => each.id !== id && (each.step !== "join" || (i < before && isWaiting(each))));
  return ahead.length < settings().movesAtOnce;
}

/** Why the move cannot be made, by what is placed where. */
function refusalOf(
  move: Move,
  { shard, replicas }: ShardPlacement,
  { stateOf }: OperationContext,
): KithError | undefined {
  const { from, to } = move.data;
  const refuse = (message: string): KithError =>
    new KithError("FAILED_PRECONDITION", message, { details: { collection: move.subject.collection, shard } });
  if (from !== undefined && !replicas.some(({ node }) => node === from)) {
    return refuse(`shard ${shard} has no replica on node ${from}`);
  }
  if (to === undefined) {
    const isLast = !replicas.some(({ node, state }) => node !== from && state === "active");
    return isLast ? refuse(`the replica of shard ${shard} on node ${from} is its last one`) : undefined;
  }
  const present = replicas.find(({ node }) => node === to);
  if (present !== undefined && !isOurs(present, move, "joining")) {
    return refuse(`shard ${shard} has a replica on node ${to} already`);
  }
  const state = stateOf(to);
  return state === "up" || present !== undefined ? undefined : refuse(`node ${to} is ${state}`);
}

/**
 * Whether searches may be sent to a new replica. Under writes that no graph keeps up with it never has few vectors outside of its graph: then it is
 * enough that it has no more of them than one that answers already.
 */
async function isReady(
  { state, indexedVectorCount, unindexedVectorCount }: ReplicaStatus,
  move: Move,
  { replicas }: ShardPlacement,
  context: OperationContext,
): Promise<boolean> {
  if (state !== "active") return false;
  const allowed = Math.min(unindexedMax, Math.max(1_000, unindexedShare * (indexedVectorCount + unindexedVectorCount)));
  if (unindexedVectorCount <= allowed) return true;
  const answering = replicas.filter((replica) => replica.state === "active");
  const others = await Promise.all(answering.map(({ node }) => statusOf(node, move, context)));
  return others.some((other) => other?.state === "active" && unindexedVectorCount <= other.unindexedVectorCount);
}

async function isActive(node: string, move: Move, context: OperationContext): Promise<boolean> {
  return (await statusOf(node, move, context))?.state === "active";
}

async function statusOf(node: string, move: Move, context: OperationContext): Promise<ReplicaStatus | undefined> {
  return context.statusOf(node, nameOf(move)).catch(() => undefined);
}

/** The shard as the catalog has it now; undefined where it, or its collection, is no more. */
async function shardOf(move: Move, context: OperationContext): Promise<ShardPlacement | undefined> {
  const record = await recordOf(move.subject, context);
  return record?.shards.find(({ shard }) => shard === move.subject.shard);
}

/** Changes the replicas of the shard, by compare-and-set, and gives the shard as it is then; undefined where it is no more. */
async function changeShard(
  move: Move,
  context: OperationContext,
  change: (shard: ShardPlacement) => ReplicaPlacement[] | undefined,
): Promise<ShardPlacement | undefined> {
  const { subject } = move;
  const { collections, isHolder } = context;
  const ofShard = ({ shard }: ShardPlacement): boolean => shard === subject.shard;
  const record = await collections.modify(recordKey(subject, context), (found: Collection) => {
    if (!isHolder() || found.id !== subject.collectionId || found.state !== "ready") return undefined;
    const shard = found.shards.find(ofShard);
    const replicas = shard && change(shard);
    if (replicas === undefined) return undefined;
    return { ...found, shards: found.shards.map((each) => (ofShard(each) ? { ...each, replicas } : each)) };
  });
  return record.id === subject.collectionId ? record.shards.find(ofShard) : undefined;
}
