/** Nodes, shards, operations and settings of a cluster. */
import type { PartitionValue } from "./points.js";

export interface NodeInfo {
  id: string;
  address: string;
  zone: string;
  roles: string[];
  /** joining, up, draining, down or removed. */
  state: string;
  memoryBytes: number;
  diskFreeBytes: number;
  uptimeMs: number;
  version: string;
  /** Replicas that are placed on it. */
  replicaCount: number;
}

export interface ReplicaInfo {
  node: string;
  /** joining (it follows the log and is not asked yet), active, or leaving (asked only where no active one can answer). */
  placement: string;
  /** When it came into this placement. */
  placedAt?: Date | undefined;
  /** initializing, catching_up, active, stale or removing. */
  state: string;
  appliedSequence: number;
  /** Records behind the log; absent where the log cannot be reached. */
  lag?: number | undefined;
  pointCount: number;
  memoryBytes: number;
  diskBytes: number;
  /** Content digest at `appliedSequence`, hexadecimal. */
  digest: string;
  /** Why the replica is stale, or what it is doing; "" where there is nothing to tell. */
  fault: string;
  /** Bytes that have come, and about how many there are, while it copies another replica. */
  copiedBytes: number;
  copyBytes: number;
  /** Reads a second, as an average over some ten seconds. */
  readsPerSecond: number;
  /** Id of the master key that its points are encrypted with on the disk; "" where they are not encrypted. */
  masterKey: string;
  /** Whether points are left that are encrypted with another key, or not at all: they are rewritten in the background. */
  encrypting: boolean;
}

export interface ShardInfo {
  collection: string;
  /** Its id, never used again in its collection. */
  shard: number;
  /** preparing (it owns no hash slot yet), active, or sealed (its slots are another shard's by now). */
  state: string;
  /** Epoch of the collection in which the shard got its slots and its state. */
  epoch: number;
  /** Hash slots, inclusive. */
  slots: { first: number; last: number };
  /** Last sequence of the shard's log; absent where the log cannot be reached. */
  logSequence?: number | undefined;
  /** First sequence that the log still holds: what was before has been trimmed. */
  logFirstSequence?: number | undefined;
  /** Size of the log. */
  logBytes?: number | undefined;
  replicas: ReplicaInfo[];
}

export interface ClusterInfo {
  cluster: string;
  version: string;
  /** "embedded" or "jetstream". */
  logKind: string;
  logAvailable: boolean;
  /** Node that holds the coordinator's lease; "" for none. */
  coordinator: string;
  nodes: NodeInfo[];
  shards: ShardInfo[];
}

/** A query that took long in the router that was asked. */
export interface SlowQueryInfo {
  endedAt: Date | undefined;
  /** Id of the router. */
  node: string;
  /** query, query_groups, search_matrix, scroll, count, facet or get. */
  kind: string;
  collection: string;
  tookUs: number;
  /** What was asked for, without vectors, ids and values of payloads. */
  shape: string;
  /** "" where the query was answered. */
  errorCode: string;
}

export interface SlowQueries {
  /** Newest first. */
  queries: SlowQueryInfo[];
  /** Slow queries that were not kept, because there were too many at once. */
  skipped: number;
  /** From so many milliseconds on a query is slow; 0: none are kept. */
  thresholdMs: number;
}

/** Something that the cluster does in steps, each of which outlives a crash of who does it. */
export interface OperationInfo {
  id: string;
  /** create_collection, delete_collection, change_schema, backup_collection, restore_collection, move_replica, promote_generation, split_shard, merge_shards; newer servers may have more. */
  kind: string;
  /** running, cancelling (what was done is being undone), done, failed or cancelled. */
  state: string;
  /** What is to be done next, or was done last. */
  step: string;
  /** Name of the collection that it is about, by now perhaps another one's. */
  collection: string;
  collectionId: string;
  /** Id of the shard, where it is about one. */
  shard?: number | undefined;
  createdAt: Date | undefined;
  updatedAt: Date | undefined;
  /** Attempts of this step that have failed. */
  attempts: number;
  /** Code of why the last attempt failed, or the operation has; "" for no failure. */
  errorCode: string;
  error: string;
  /** Of what moves data: how far it is. */
  progress?: OperationProgress | undefined;
  /** Of `move_replica`. */
  move?: MoveInfo | undefined;
  /** Of `split_shard` and `merge_shards`. */
  resharding?: ReshardingInfo | undefined;
}

export interface OperationProgress {
  points: number;
  /** 0 where it is not known. */
  totalPoints: number;
  /** Written or read in this attempt. */
  bytes: number;
}

/** A replica that is moved from one node to another, added (`from` is ""), or removed (`to` is ""). */
export interface MoveInfo {
  from: string;
  to: string;
  /** requested, replicas (the collection asks for more or fewer), repair, drain or rebalance. */
  reason: string;
  /** Bytes that have come, and about how many there are, while the new replica is being filled. */
  copiedBytes: number;
  totalBytes: number;
  /** Records that it has still to apply; absent where that is not known. */
  lag?: number | undefined;
}

/** Hash slots that go from some shards to others. */
export interface ReshardingInfo {
  /** Ids of the shards that have them before. */
  from: number[];
  /** Ids of the shards that get them; empty before these are made. */
  to: number[];
  /** requested, or size (a shard has grown beyond the setting). */
  reason: string;
  /** Bytes of the old shards that have come, and about how many there are (0: not known), for all replicas of the new ones, while these are being filled. */
  copiedBytes: number;
  totalBytes: number;
  /** Records that the slowest of them has still to apply; absent where that is not known. */
  lag?: number | undefined;
  /** Vectors that are not in their indexes yet. */
  unindexedVectorCount: number;
}

/** A shard that is to be split. */
export interface SplitRequest {
  collection: string;
  /** Its id. */
  shard: number;
  /** Number of the new shards, 2 to 16; default 2. */
  into?: number;
}

/** Shards that are to be merged into one. */
export interface MergeRequest {
  collection: string;
  /** Their ids, 2 to 16, in any order. Their hash slots must be next to each other. */
  shards: readonly number[];
}

/** A value of a partition key that is to have a shard of its own. */
export interface IsolateRequest {
  collection: string;
  partition: PartitionValue;
}

/** What holds for the whole cluster. */
export interface ClusterSettings {
  /** A node that is away for so many milliseconds has its replicas rebuilt on others; 0: never. */
  repairAfterMs: number;
  /** Replicas that are moved, added or rebuilt at once. */
  movesAtOnce: number;
  /** What each node takes of copies, in bytes a second; 0: as much as it can. */
  copyBytesPerSecond: number;
  /** 1: the cluster balances its nodes by itself; 0: when it is told to. */
  autoRebalance: number;
  /** 1: no move that balances nodes begins; those under way go on. */
  rebalancePaused: number;
  /** Nothing is moved while the most loaded node has at most so many hundredths more than the mean. */
  rebalanceThresholdPercent: number;
  /** Nothing is moved while the most and the least loaded node differ by less, in bytes. */
  rebalanceMinBytes: number;
  /** Records of a log are kept for so many milliseconds after they were written; 0: no longer than replicas need them. */
  logRetentionMs: number;
  /** Of each shard's log, about so many bytes are kept at most because of `logRetentionMs`. */
  logRetentionBytes: number;
  /** So many of the latest records of each log are always kept. */
  logRetentionRecords: number;
  /** A replica that is away or has no content yet, and an operation that reads the log, keep records for so many milliseconds at most. */
  logHoldMs: number;
  /** Replicas flush what they have applied to the disk every so many milliseconds at least; a log is trimmed up to there at most. */
  replicaFlushMs: number;
  /** A shard whose replicas have more bytes is split in two; 0: none is split by itself. */
  splitShardBytes: number;
  /** Neighbouring shards that were one before and have at most so many bytes together are merged; 0: none is merged by itself. */
  mergeShardBytes: number;
}

/** A cluster that follows, or has followed, another one. */
export interface StandbyInfo {
  /** Name of the cluster that is followed. */
  primary: string;
  /** "following": it takes no changes of its own; "promoting"; "promoted": it is a cluster of its own for good. */
  phase: string;
  since: Date | undefined;
  /** Whether the primary answered when this was told. */
  reachable: boolean;
  /** What is wrong with following as a whole; "" where nothing is. */
  reason: string;
  /** Collections that are here and not in the primary, where nobody is known to have deleted them. */
  orphans: string[];
  /** When the rest was told. */
  toldAt: Date | undefined;
  /** Records of all logs that are not here yet, as far as is known. */
  lag: number;
  /** All that the primary had so many milliseconds ago is here; undefined where that is not known of each log. */
  lagMs?: number | undefined;
  logs: FollowedLogInfo[];
}

/** How far the log of one shard is. */
export interface FollowedLogInfo {
  collection: string;
  shard: number;
  /** following, preparing (others have its slots yet), copying (no replica has what was before yet), sealed (its slots go to other shards), waiting or failed. */
  state: string;
  /** The last record that is here, and in the primary as far as is known. */
  sequence: number;
  primarySequence: number;
  lag: number;
  lagMs?: number | undefined;
  /** Why it waits, or has failed. */
  reason: string;
}

/** Moves that make the nodes equally loaded. */
export interface RebalancePlan {
  /** Empty where they are so already. */
  moves: { collection: string; shard: number; from: string; to: string; sizeBytes: number }[];
  /** Copied by all of them. */
  sizeBytes: number;
  /** About how long they take, by the settings. */
  expectedMs: number;
  /** What the replicas of each node take, before and after, and how often they are read. */
  nodes: { node: string; sizeBytes: number; plannedBytes: number; readsPerSecond: number }[];
  /** Ids of the operations that have begun. */
  operations: string[];
}

/** Which replica of a shard is moved, and where to: without `from` one is added, without `to` one is removed. */
export interface MoveRequest {
  collection: string;
  shard: number;
  /** Node ids. */
  from?: string;
  to?: string;
}
