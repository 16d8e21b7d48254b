export {
  checkCollectionName,
  checkCollectionSpec,
  checkLabels,
  checkVectorField,
  changedCollection,
  type Collection,
  type CollectionSpec,
  type CollectionState,
  currentField,
  type Datatype,
  datatypes,
  fieldOf,
  firstFields,
  indexDefaults,
  type Metric,
  metrics,
  parseCollection,
  type SchemaChange,
  type VectorField,
} from "./collection.js";
export {
  boundNames,
  type Bounds,
  type Condition,
  type Filter,
  filterOf,
  type GeoBoxCondition,
  type GeoPoint,
  type GeoPolygonCondition,
  type GeoRadiusCondition,
  type GeoRing,
  type HasIdCondition,
  type Integer,
  integer,
  invalidFilter,
  type IsEmptyCondition,
  isEmptyFilter,
  type IsNullCondition,
  type Match,
  type MatchList,
  type NestedCondition,
  type ValuesCountCondition,
} from "./filter.js";
export {
  compareIds,
  formatId,
  idFromKey,
  idFromName,
  idFromNum,
  idFromUuid,
  type IdKey,
  idKind,
  idMapKey,
  isIdKey,
  isUuid,
  isWellFormed,
} from "./id.js";
export { isJsonObject, JsonFloat, type JsonObject, type JsonValue, parseJson, printJson } from "./json.js";
export { formatJson, jsonDepth, type JsonMember, jsonMembers } from "./json-text.js";
export {
  parsePath,
  type Path,
  pathOf,
  type PathStep,
  printPathKey,
  readPath,
  readPathKey,
  someAtPath,
  valuesAtPath,
} from "./path.js";
export { checkPayload } from "./payload.js";
export {
  checkNewPayloadIndex,
  type PayloadIndex,
  type PayloadIndexKind,
  payloadIndexKinds,
  payloadIndexOf,
  type TextIndexOptions,
  type TextTokenizer,
  textTokenizers,
} from "./payload-index.js";
export { mergeIntoPayload, removeFromPayload } from "./payload-edit.js";
export type { ReplicaPlacement, ReplicaPlacementState, ShardPlacement, ShardState, SlotRange } from "./placement.js";
export {
  type Hit,
  type ItemFailure,
  type ItemFailureCode,
  itemFailureCodes,
  type OperationEffect,
  type OperationOutcome,
  type PayloadIndexStatus,
  type ReplicaState,
  type ReplicaStatus,
  type Select,
  type ShardCount,
  type ShardPage,
  type ShardPoints,
  type ShardQuery,
  type ShardQueryResult,
  type StoredPoint,
} from "./query.js";
export type {
  ContextPair,
  Decay,
  Example,
  Expression,
  Formula,
  FormulaDefault,
  Fusion,
  Lookup,
  OrderBy,
  Query,
  QueryStage,
  QueryTree,
  RecommendStrategy,
} from "./query-tree.js";
export type { Scorer, VectorPair } from "./scorer.js";
export type { ShardId } from "./shard-id.js";
export type { Snapshot, SnapshotChunk, SnapshotManifest, SnapshotWanted } from "./snapshot.js";
export {
  checkStrict,
  checkStrictExact,
  strictLimitName,
  strictLimits,
  strictRefusals,
  type StrictMode,
} from "./strict-mode.js";
export { checkQueryVector, checkVectors, checkWrittenVectors } from "./vector.js";
