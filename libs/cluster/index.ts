export { type CollectionsView, collectionsView } from "./collections.js";
export {
  type Directory,
  type GivenName,
  namelessPrefix,
  type Names,
  type NamedCollection,
  withoutCollection,
} from "./directory.js";
export { Lease, leaseHolder, leaseRenewMs, leaseTtlMs } from "./lease.js";
export { heartbeatMs, type NodeRecord, type NodeState, NodesView } from "./nodes.js";
export {
  backupOperationIdOf,
  creationIdOf,
  schemaChangeIdOf,
  type DataOf,
  deletionIdOf,
  isKnown,
  isLive,
  isMerge,
  isMove,
  isSplit,
  type MoveReason,
  type Operation,
  type OperationKind,
  type OperationProgress,
  operationOfShard,
  promotionIdOf,
  textPromotionIdOf,
  type OperationRecord,
  type OperationState,
  type OperationSubject,
  type ReplicaMove,
  restoreIdOf,
  type ShardMerge,
  type ShardSplit,
  type StepOf,
} from "./operation.js";
export { type NewOperation, type OperationChange, Operations } from "./operations.js";
export {
  type ClusterSettings,
  SettingsView,
} from "./settings.js";
export { type FollowerPlace, FollowersView, followerTellMs } from "./followers.js";
export {
  type FollowedLog,
  type FollowedState,
  type StandbyProgress,
  type StandbyState,
  StandbyView,
} from "./standby.js";
export { CatalogView, type Versioned } from "./view.js";
