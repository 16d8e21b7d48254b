import type { IndexOptions, LoadedIndex, VectorIndex } from "../../ann/index.js";
import type { Runtime } from "../../base/index.js";
import type { KeyRing } from "../../encryption/index.js";
import type { Log } from "../../log/index.js";
import type { StoreOptions } from "../../storage/index.js";
import type {
  Collection,
  FollowedShard,
  ReplicaState,
  Snapshot,
  SnapshotWanted,
  OperationOutcome,
} from "../../model/index.js";

/** Where indexes come from: libs/ann, or a double in tests. */
export interface IndexFactory {
  create(options: IndexOptions): VectorIndex;
  /** Undefined where the directory holds no index; rejects where it holds a damaged one. */
  load(directory: string, options: IndexOptions): Promise<LoadedIndex | undefined>;
  /** Encrypts the checkpoints of indexes that are not made by it. */
  keys?: KeyRing | undefined;
}

/** Something that a person who runs the cluster should know. */
export interface Alarm {
  /** Stable word: "record_corrupt", "store_corrupt", "checkpoint_dropped", … */
  kind: string;
  message: string;
}

/** A snapshot with the node that gives it. */
export interface PeerSnapshot extends Snapshot {
  from: string;
  /** It is of another cluster, whose log this one's may still be behind. */
  mayBeAhead?: boolean;
}

/** The other replicas of the shard. */
export interface Peers {
  /** A snapshot of one that can give what is wanted; SHARD_UNAVAILABLE, with what each says, where none can. */
  fetch(wanted: SnapshotWanted, signal: AbortSignal): Promise<PeerSnapshot>;
  /** The snapshot that broke off (`wanted.resume`), from the node that gave it; NOT_FOUND where it is not held any more. */
  resume?(from: string, wanted: SnapshotWanted, signal: AbortSignal): Promise<PeerSnapshot>;
}

/** Bounds and thresholds of one replica; every one has a default. */
export interface ReplicaTuning {
  /** Bytes of payloads kept in memory. */
  payloadCacheBytes: number;
  /** Bytes of answers kept in memory, for requests that come again before anything is applied; 0: none. */
  answerCacheBytes: number;
  /** How long operation ids are remembered, by the log's time. Must be equal on all replicas of a shard. */
  operationWindowMs: number;
  /** Most operation ids remembered (32 failed items count as a further one). Must be equal on all replicas of a shard. */
  operationWindowCount: number;
  /** A checkpoint is written after so many changed rows … */
  checkpointRows: number;
  /** … that are also this share of all points; */
  checkpointShare: number;
  /** and on close, if so many rows changed. */
  checkpointRowsOnClose: number;
  /** A new generation of an index is built when this share of its rows is dead … */
  deadShare: number;
  /** … and they are so many. */
  deadRows: number;
  /** Points and bytes of log that share one LevelDB batch. */
  batchPoints: number;
  batchBytes: number;
  /** Calls that wait for a sequence before more get RESOURCE_EXHAUSTED. */
  waitersMax: number;
  /** Changes of points that are kept for those who watch, at least; up to twice as many. */
  changesKept: number;
  /** Rows applied without waiting for the graph while a recovery's rows are still entering it. */
  recoveryHeadroomRows: number;
  /** Wipe-and-replay attempts before the replica stays stale, or copies another one. */
  rebuildAttempts: number;
  retryInitialMs: number;
  retryMaxMs: number;
}

export const defaultTuning: ReplicaTuning = {
  payloadCacheBytes: 32 * 1024 * 1024,
  answerCacheBytes: 0,
  operationWindowMs: 10 * 60_000,
  // 135 bytes each (measured): 68 MB at most, and 100 s of 5,000 writes of one point a second.
  operationWindowCount: 500_000,
  checkpointRows: 50_000,
  checkpointShare: 0.2,
  checkpointRowsOnClose: 1_000,
  deadShare: 0.25,
  deadRows: 10_000,
  // One step on the event loop costs 7 µs a point (measured, 128-d): a record of 900 points is a batch by itself, 6 ms.
  batchPoints: 512,
  batchBytes: 4 * 1024 * 1024,
  waitersMax: 65_536,
  // 10 to 40 bytes each.
  changesKept: 1_000_000,
  recoveryHeadroomRows: 50_000,
  rebuildAttempts: 3,
  retryInitialMs: 500,
  retryMaxMs: 30_000,
};

/** Asks a replica of another shard of the collection what operations of a record did to all points of that shard. */
export type AskFollowed = (
  shard: number,
  sequence: number,
  operationIds: readonly Uint8Array[],
  signal: AbortSignal,
) => Promise<OperationOutcome[]>;

export interface ReplicaOptions extends Runtime {
  /** The replica's own directory; made if it is not there, and wiped when the replica rebuilds itself from the log. */
  directory: string;
  collection: Collection;
  shard: number;
  log: Log;
  indexes: IndexFactory;
  onAlarm(alarm: Alarm): void;
  /** Undefined where the shard has no other replicas. */
  peers?: Peers;
  /** A replica that has nothing yet copies another one before it follows the log; where none can be copied, the log gives everything. */
  startsAsCopy?: boolean;
  /** What the replica follows in place of a log of its own, as the catalog has it now; undefined where its shard has one. */
  follows?: () => FollowedShard | undefined;
  /** The sequence behind which the shard's log begins, where that is not 0: it is above those of the shards that are merged into this one. */
  beginsBehind?: number | undefined;
  /** What operations in the log of the shard that it follows did, as a replica of that shard tells. */
  told?: AskFollowed;
  /** Waits until so many bytes more of a copy may come. */
  pace?: (sizeBytes: number, signal: AbortSignal) => Promise<void>;
  /** How often what was applied is flushed to the disk, at least; missing: once a minute. Milliseconds. */
  flushEveryMs?: () => number;
  onStateChange?(state: ReplicaState): void;
  tuning?: Partial<ReplicaTuning>;
  /** LevelDB's shares of the memory, and the keys where it is encrypted. */
  store?: Partial<StoreOptions>;
}
