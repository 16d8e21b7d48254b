/**
 * What a shard is to its collection. "preparing": it is being filled, and owns no slot yet. "active": it owns its slots, and takes reads and
 * writes. "sealed": its slots are another shard's by now; it takes no more writes, and is kept until nobody copies from it.
 */
export type ShardState = "preparing" | "active" | "sealed";

/**
 * What a replica is to its shard. "joining": the node follows the log, and nobody asks it for anything yet. "active": it is asked, and waited
 * for. "leaving": it is asked where no active one can answer, and nobody waits for it.
 */
export type ReplicaPlacementState = "joining" | "active" | "leaving";

/** One replica's place. */
export interface ReplicaPlacement {
  /** Node id. */
  node: string;
  state: ReplicaPlacementState;
  /** Wall clock at which it came into this state, milliseconds since the Unix epoch. For people. */
  sinceMs: number;
  /** Id of the operation that brings it, or takes it away; missing for one that is at rest. */
  operation?: string;
}

/** Hash slots, first and last inclusive. */
export interface SlotRange {
  firstSlot: number;
  lastSlot: number;
}

/** One shard's place: its hash slots, and the nodes that hold its replicas. */
export interface ShardPlacement extends SlotRange {
  /** Its id, never used again in its collection: it says nothing about a position among the shards. */
  shard: number;
  /** The collection's epoch in which the shard got its slots and its state. */
  epoch: number;
  state: ShardState;
  /** At most one for each node; empty until the coordinator has placed the shard. */
  replicas: ReplicaPlacement[];
  /** Where its slots were before; missing for one that was made with its collection. */
  origin?: ShardOrigin;
  /** In a standby cluster: where the primary has replicas of it, to be copied where no other one here can be. */
  sources?: ReplicaSource[];
  /** Id of the operation that gives its slots to others, or gives it slots; missing for one that is at rest. */
  operation?: string;
}

/** A replica of another cluster. */
export interface ReplicaSource {
  /** Id of its node. */
  node: string;
  /** host:port of that node's link. */
  address: string;
}

/** Where the slots of a shard were before they were its own. */
export interface ShardOrigin {
  /** Ids of the shards that had them last. */
  parents: number[];
  /** Ids of all that ever had them, the parents included. What was seen of one of these is seen where as much was seen of this shard. */
  ancestors: number[];
  /** Where several shards were merged into it. */
  merge?: MergeOrigin;
}

/** What a shard is made of that takes over the slots of several ones. It has a log of its own from the beginning. */
export interface MergeOrigin {
  /** The sequence behind which its log begins: above all that the logs of its parents ever come to. */
  beginsBehind: number;
  /** Where the logs of its parents end, and from where on its own log has writes; missing before it has their slots. */
  ends?: { parents: { shard: number; sequence: number }[]; adopted: number };
}

/** The shard whose log a replica follows until that is sealed: its own shard takes over a part of the slots. */
export interface FollowedShard {
  shard: number;
  /** Those that are followed. */
  slots: SlotRange;
  /** All of the shard that is followed. */
  allSlots: SlotRange;
}

/** What replicas of the shard follow in place of a log of their own; undefined where they have one. */
export function followedBy(shards: readonly ShardPlacement[], shard: number): FollowedShard | undefined {
  const own = shards.find((each) => each.shard === shard);
  const parent = shards.find((each) => each.shard === own?.origin?.parents[0]);
  if (own?.state !== "preparing" || own.origin?.merge !== undefined || parent === undefined) return undefined;
  return { shard: parent.shard, slots: slotsOf(own), allSlots: slotsOf(parent) };
}

function slotsOf({ firstSlot, lastSlot }: SlotRange): SlotRange {
  return { firstSlot, lastSlot };
}

/** A placement as this or an earlier version wrote it: the first kept the ids of nodes, and nothing of the states. */
export type StoredPlacement = SlotRange & { shard: number } & (
    | Pick<ShardPlacement, "epoch" | "state" | "replicas">
    | { nodes: string[] }
  );

/** `epoch`, `sinceMs`: for a placement whose record does not tell them, those of its collection. */
export function currentPlacement(stored: StoredPlacement, epoch: number, sinceMs: number): ShardPlacement {
  if (!("nodes" in stored)) return stored;
  const { shard, firstSlot, lastSlot, nodes } = stored;
  const replicas = nodes.map((node): ReplicaPlacement => ({ node, state: "active", sinceMs }));
  return { shard, firstSlot, lastSlot, epoch, state: "active", replicas };
}
