import type { ShardId, SlotRange } from "../model/index.js";

/** Writes what a replica of this node holds as a part of a backup. */
export interface WritePartJob {
  kind: "write";
  location: string;
  /** Of the backup. */
  backup: string;
  /** The backup whose files may be used again. */
  base?: string | undefined;
  shard: ShardId;
  slots: SlotRange;
  /** The replica must have applied so much of its log; missing: whatever it has. */
  minSequence?: number | undefined;
  /** The files of the replica will do in the place of its points. */
  takesFiles?: boolean | undefined;
  /** 0: no limit. */
  bytesPerSecond: number;
}

/** Up to where the state of a part is brought by the records of its log. `end`: the last one that may count, whatever its time. */
export type Until = { sequence: number } | { timeMs: number; end?: number };

/** Puts the points of a part into the logs of another collection. */
export interface FeedPartJob {
  kind: "feed";
  /** That it is done for. */
  operation: string;
  location: string;
  backup: string;
  /** Of the part. */
  shard: number;
  until?: Until | undefined;
  target: { collectionId: string; epoch: number; shards: (SlotRange & { shard: number })[] };
  /** What was fed before, and is passed over. */
  before: FedFiles;
}

/** The first files of a part, which were fed. */
export interface FedFiles {
  files: number;
  points: number;
  /** Of them, those that expire. */
  expiring: number;
  /** Sum of the digests of the others without versions, which another collection has of its own; hexadecimal text. */
  content: string;
}

/** All of a part. */
export interface FedPart extends FedFiles {
  /** Sequence that the part was brought to. */
  sequence: number;
}

/** Reads what a replica of this node holds, to compare it. */
export interface DigestJob {
  kind: "digest";
  shard: ShardId;
  /** Of all replicas' logs; the replica must have applied it. */
  minSequence: number;
}
export interface ShardContentDigest {
  content: string;
  points: number;
  expiring: number;
}

/**
 * Brings what a replica of this node holds, and comes to hold until its log is sealed, into the log of the shard that its own is merged into.
 */
export interface MergeJob {
  kind: "merge";
  shard: ShardId;
  slots: SlotRange;
  /** Id of the shard that takes it. */
  into: number;
  /** Shards that are merged into that one. */
  shardCount: number;
  /** Of the collection. */
  epoch: number;
  /** Rises with each attempt: what an earlier one writes late has no effect. */
  term: number;
  /** How far an earlier attempt has come; missing where nothing is known. */
  place?: MergePlace | undefined;
}

/** As the engine's HandoverPlace. */
export interface MergePlace {
  sequence: number;
  outcomes: number;
  scanned: string;
  isScanned: boolean;
}

/** What shard nodes do for backups, and for shards that are merged. */
export interface BackupJobs {
  write: { job: WritePartJob; result: { sequence: number } };
  feed: { job: FeedPartJob; result: FedPart };
  digest: { job: DigestJob; result: ShardContentDigest };
  merge: { job: MergeJob; result: { place: MergePlace } };
}
export type BackupJobKind = keyof BackupJobs;
export type BackupJob<K extends BackupJobKind = BackupJobKind> = BackupJobs[K]["job"];
export type BackupResult<K extends BackupJobKind = BackupJobKind> = BackupJobs[K]["result"];

/** What is done of a job. */
export interface BackupProgress {
  points: number;
  /** Written, or read, since the job began. */
  bytes: number;
  /** Of a feed. */
  fed?: FedFiles;
  /** Of a merge: all up to there is in the log of the other shard. */
  place?: MergePlace;
}

export interface BackupCall {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: BackupProgress) => void;
}

/** A node whose replicas can be backed up and filled. */
export interface BackupWorker {
  run<K extends BackupJobKind>(job: BackupJobs[K]["job"] & { kind: K }, call: BackupCall): Promise<BackupResult<K>>;
}
