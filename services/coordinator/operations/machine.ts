import type {
  BackupCall,
  BackupJobKind,
  BackupJobs,
  BackupLocations,
  BackupResult,
} from "../../../libs/backup/index.js";
import type { Clock, KithError } from "../../../libs/base/index.js";
import type {
  ClusterSettings,
  CollectionsView,
  DataOf,
  NodesView,
  NodeState,
  Operation,
  OperationKind,
  OperationRecord,
  StepOf,
} from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ReplicaStatus, ShardId } from "../../../libs/model/index.js";
import type { Jobs } from "../jobs.js";
import type { Placements } from "../placements.js";

/** What the steps of operations work with. */
export interface OperationContext {
  readonly collections: CollectionsView;
  readonly log: Log;
  readonly clock: Clock;
  readonly placements: Placements;
  readonly backups: BackupContext;
  /** The settings of the cluster as they are now. */
  readonly settings: () => ClusterSettings;
  readonly stateOf: (node: string) => NodeState;
  /** How long a node has been away, as far as this process knows; 0 for one that is there. Milliseconds. */
  readonly awayMs: (node: string) => number;
  /** What a replica says of itself; rejects where its node cannot be asked. */
  readonly statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  /** Whether the clusters that follow this one, and are there, have read a log up to a sequence. */
  readonly isRead: (shard: ShardId, through: number) => boolean;
  /** The operations that have not ended, oldest first. */
  readonly liveOperations: () => OperationRecord[];
  /** Whether this process still is the coordinator. To be asked right before each change of a record. */
  readonly isHolder: () => boolean;
}

/** What backups need beside that. */
export interface BackupContext {
  readonly locations: BackupLocations;
  readonly nodes: NodesView;
  readonly jobs: Jobs;
  /** Has a node work. SHARD_UNAVAILABLE where it cannot be reached. */
  run<K extends BackupJobKind>(
    node: string,
    job: BackupJobs[K]["job"] & { kind: K },
    call: BackupCall,
  ): Promise<BackupResult<K>>;
}

/** What came of a step. After the lease was lost it counts for nothing. */
export type Outcome<K extends OperationKind> =
  | { kind: "next"; step: StepOf<K>; data?: DataOf<K> }
  /** Not yet: the step is to be looked at again after so many milliseconds. Nothing is written. */
  | { kind: "wait"; ms: number }
  /** The operation cannot, or shall not, come to its end: what was done is to be undone. */
  | { kind: "undo" }
  | { kind: "end"; state: "done" | "cancelled" }
  | { kind: "end"; state: "failed"; error: KithError };

/**
 * One kind of operation. A step may be repeated: its process may die before what came of it is written, and for a moment two processes
 * may hold themselves to be the coordinator. A step that throws is tried again later.
 */
export interface Machine<K extends OperationKind> {
  step(operation: Operation<K>, context: OperationContext): Promise<Outcome<K>>;
  /** One step back, of an operation that is being cancelled; for kinds that can be. */
  undo?(operation: Operation<K>, context: OperationContext): Promise<Outcome<K>>;
}
