import type { FollowedState } from "../../../libs/cluster/index.js";
import type { Collection, ReplicaSource, ShardPlacement, ShardState } from "../../../libs/model/index.js";

/** A shard whose slots are others' by now is kept for so long: routers have heard of these by then. Milliseconds. */
const keptMs = 5_000;

export interface MirrorContext {
  /** The shards with replicas on nodes of this cluster, as many as there can be. */
  place(shards: readonly ShardPlacement[], replicationFactor: number): ShardPlacement[];
  /** Where the primary has replicas of it. */
  sourcesOf(theirs: ShardPlacement): ReplicaSource[];
  /** Whether a replica has all that the shard took over. */
  isReady(ours: ShardPlacement): boolean;
  /** The primary has removed the log of this shard before it was repeated to its end: those that came of it are copied from there. */
  isCutOff(ours: ShardPlacement): boolean;
  /** It was taken out because of that a moment ago. */
  isResting(shard: number): boolean;
  nowMs: number;
}

/**
 * The primary's record of a collection as this cluster is to have it: the same schema and shards, on nodes of its own. Shards that the primary has
 * split or merged are so here when a replica of each new one has all that it took over, in one step; until then the old ones answer.
 *
 * @param ours the record as it is; undefined where there is none
 */
export function mirrored(theirs: Collection, ours: Collection | undefined, context: MirrorContext): Collection {
  const wanted = theirs.shards.filter(({ state }) => state !== "sealed");
  if (ours === undefined) {
    const active = wanted.filter(({ state }) => state === "active").map((shard) => bare(shard, context));
    const shards = context.place(active, theirs.replicationFactor);
    return { ...theirs, shards };
  }
  const kept = ours.shards.filter((shard) => isKept(shard, ours, wanted, context));
  const added = wanted.flatMap((shard) => arrivalOf(shard, ours, kept, theirs, context));
  const shards = [...kept, ...added].map((shard) => withSources(shard, wanted, context));
  const active = wanted.filter(({ state }) => state === "active");
  const ownOf = ({ shard }: ShardPlacement): ShardPlacement | undefined => shards.find((each) => each.shard === shard);
  const isThere = (shard: ShardPlacement): boolean => {
    const own = ownOf(shard);
    return own !== undefined && (own.state === "active" || (own.state === "preparing" && context.isReady(own)));
  };
  if (!active.every(isThere)) return { ...theirs, epoch: ours.epoch, shards };
  const isAsTheirs = active.every((shard) => ownOf(shard)?.state === "active");
  if (isAsTheirs) return { ...theirs, shards };
  return { ...theirs, shards: shards.map((own) => switched(own, active, theirs.epoch, context.nowMs)) };
}

/** With nothing that is about the primary's nodes and operations. */
function bare({ operation: _, ...shard }: ShardPlacement, context: MirrorContext): ShardPlacement {
  return { ...shard, replicas: [], sources: context.sourcesOf({ ...shard }) };
}

/** Whether a shard of this cluster stays in its record. */
function isKept(
  shard: ShardPlacement,
  ours: Collection,
  wanted: readonly ShardPlacement[],
  context: MirrorContext,
): boolean {
  if (shard.state === "sealed") {
    const sinceMs = Math.max(...shard.replicas.map((each) => each.sinceMs));
    return Math.abs(context.nowMs - sinceMs) < keptMs;
  }
  if (shard.state === "active") return true;
  // The primary has undone what it was made for.
  if (!wanted.some((each) => each.shard === shard.shard)) return false;
  const parent = followedIn(shard, ours.shards);
  return parent === undefined || !context.isCutOff(parent);
}

/** The shard whose log a new one follows; undefined where it has one of its own. */
export function followedIn(shard: ShardPlacement, shards: readonly ShardPlacement[]): ShardPlacement | undefined {
  if (shard.state !== "preparing" || shard.origin === undefined || shard.origin.merge !== undefined) return undefined;
  return shards.find((each) => each.shard === shard.origin?.parents[0]);
}

/** A shard of the primary that is not here yet. */
function arrivalOf(
  shard: ShardPlacement,
  ours: Collection,
  kept: readonly ShardPlacement[],
  theirs: Collection,
  context: MirrorContext,
): ShardPlacement[] {
  if (ours.shards.some((each) => each.shard === shard.shard) || context.isResting(shard.shard)) return [];
  const { origin, ...made } = bare(shard, context);
  const parents = kept.filter((each) => each.state === "active" && origin?.parents.includes(each.shard) === true);
  const [first] = parents;
  const isWhole = first !== undefined && parents.length === origin?.parents.length;
  const merge = origin?.merge && { beginsBehind: origin.merge.beginsBehind };
  const isLocal = isWhole && (merge !== undefined || !context.isCutOff(first));
  // Without the shards that it comes from here, it is copied when the primary has it whole.
  if (!isLocal && shard.state !== "active") return [];
  const joining = { state: "joining", sinceMs: context.nowMs } as const;
  const replicas = first?.replicas.map(({ node }) => ({ node, ...joining })) ?? [];
  const [placed] = replicas.length > 0 ? [{ ...made, replicas }] : context.place([made], theirs.replicationFactor);
  if (placed === undefined) return [];
  const from = isLocal && origin !== undefined ? { origin: { ...origin, ...(merge && { merge }) } } : {};
  return [{ ...placed, state: "preparing", ...from }];
}

function withSources(own: ShardPlacement, wanted: readonly ShardPlacement[], context: MirrorContext): ShardPlacement {
  const theirs = wanted.find(({ shard }) => shard === own.shard);
  if (theirs === undefined) return own;
  return { ...own, sources: context.sourcesOf(theirs) };
}

/** As the primary has it: the new shards have the slots, and the old ones go. */
function switched(
  own: ShardPlacement,
  active: readonly ShardPlacement[],
  epoch: number,
  nowMs: number,
): ShardPlacement {
  const theirs = active.find(({ shard }) => shard === own.shard);
  if (theirs !== undefined) {
    if (own.state === "active") return own;
    const { origin, epoch: since } = theirs;
    const replicas = own.replicas.map(({ node }) => ({ node, state: "active" as const, sinceMs: nowMs }));
    return { ...own, state: "active", epoch: since, replicas, ...(origin && { origin }) };
  }
  if (own.state !== "active") return own;
  const replicas = own.replicas.map(({ node }) => ({ node, state: "leaving" as const, sinceMs: nowMs }));
  return { ...own, state: "sealed", epoch, replicas };
}

/**
 * What is told of a shard whose log is repeated.
 *
 * @param isWhole a replica of it has been whole
 */
export function shownState(mirror: FollowedState, shard: ShardState | undefined, isWhole: boolean): FollowedState {
  if (mirror !== "following") return mirror;
  // Those that have its slots have all that it takes over: nothing of it is missed.
  if (shard === "preparing") return "preparing";
  return isWhole ? "following" : "copying";
}
