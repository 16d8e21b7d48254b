/**
 * The TypeScript SDK of Kith.
 *
 * ```ts
 * import { connect } from "kith";
 *
 * const client = await connect("127.0.0.1:7700");
 * const films = client.collection<{ title: string; year: number }>("films");
 * await films.create({ vectors: { dimension: 3, metric: "cosine" }, shards: 2 });
 * await films.upsert({ id: 1, vector: [0.1, 0.9, 0.2], payload: { title: "Metropolis", year: 1927 } });
 * const { points } = await films.query({ vector: [0.1, 0.8, 0.3], limit: 5 });
 * for (const { id, score, payload } of points) console.log(id, score, payload?.title);
 * client.close();
 * ```
 *
 * Every failure is a {@link KithError}: switch on its `code`, never on its message. Reads see what the same client wrote
 * before. Reads, and writes under their idempotency key, are repeated where that can help, within a budget.
 */
export { defaultTarget, KithError, type ErrorCode } from "../base/index.js";
export { FilterBuilder, type PathOf, type TypedFilter, type ValueAt, where } from "./builder.js";
export { payloadIndexKinds, textTokenizers } from "../model/index.js";
export type { AliasAction, AliasInfo } from "./aliases.js";
export type {
  BackupInfo,
  Backups,
  BackupShardInfo,
  CreateBackupOptions,
  LocationOptions,
  RestoreBackupOptions,
  WaitOptions,
} from "./backups.js";
export { connect, type ConnectOptions, type KithClient } from "./client.js";
export type { CollectionHandle, CountOptions, ScrollOptions } from "./collection.js";
export type { ColumnsInput } from "./columns.js";
export type {
  AccessLimits,
  CreateKeyOptions,
  KeyInfo,
  Keys,
  MadeKey,
  RoleInfo,
  RoleRuleInput,
  Roles,
  RoleVerb,
  RotateKeyOptions,
} from "./keys.js";
export type { RetryOptions } from "./retry.js";
export type { TlsOptions } from "./transport.js";
export type { ChangeEvent, WatchOptions } from "./watch.js";
export type {
  AlteredVectorField,
  AlterPayloadIndexOptions,
  AlterVectorFieldOptions,
  BuildTrial,
  CallOptions,
  ClusterInfo,
  ClusterSettings,
  FollowedLogInfo,
  StandbyInfo,
  CollectionInfo,
  CollectionStats,
  ContextPairInput,
  CreateOptions,
  CreatePayloadIndexOptions,
  DecayInput,
  DeleteResult,
  DistanceMatrix,
  ExampleInput,
  ExplainStep,
  ExpressionInput,
  FacetOptions,
  FacetResult,
  FilterInput,
  FusionInput,
  GenerationInfo,
  GenerationOptions,
  GenerationShadow,
  GenerationState,
  GeoInput,
  GroupsResult,
  Id,
  ItemError,
  JsonObject,
  LookupInput,
  MatrixOptions,
  FeedbackInput,
  MmrInput,
  MoveInfo,
  MoveRequest,
  ReshardingInfo,
  IsolateRequest,
  MergeRequest,
  PartitionValue,
  SplitRequest,
  NodeInfo,
  OperationInfo,
  OperationProgress,
  OrderByInput,
  PayloadIndexInfo,
  PayloadIndexKind,
  PayloadIndexOptions,
  PayloadIndexSpec,
  Point,
  PointGroup,
  PointInput,
  PrefetchInput,
  PromoteGenerationOptions,
  QueryBatchItem,
  QueryExpression,
  QueryGroupsOptions,
  QueryInput,
  QueryOptions,
  QueryResult,
  ReadConsistency,
  RebalancePlan,
  ReadOptions,
  ReplicaInfo,
  ScoredPoint,
  SelectOptions,
  SetPayloadOptions,
  ShardInfo,
  SlowQueries,
  SlowQueryInfo,
  SparseInfo,
  SparseInput,
  SparseSpec,
  SparseVector,
  RecallStats,
  StrictMode,
  TargetOptions,
  TextGenerationInfo,
  TextIndexOptions,
  TextTokenizer,
  Token,
  TraceSpan,
  UnindexedField,
  UpdateOptions,
  UpsertOptions,
  UpsertResult,
  VectorChoice,
  VectorInfo,
  MatrixInput,
  VectorInput,
  VectorSpec,
  VectorsInput,
  WriteAck,
  WriteBatchItem,
  WriteBatchResult,
  WriteCallOptions,
  WriteConditions,
  WriteMode,
  WriteOperation,
  WriteResult,
  WriteTarget,
} from "./types.js";
export type { SettledBatch, UpsertManyOptions, UpsertManyProgress, UpsertManyResult } from "./upsert-many.js";

export type { Bm25Input } from "./bm25.js";
export { hybridQuery, type HybridInput, type HybridWeights } from "./hybrid.js";
export { highlightOf, type HighlightOptions } from "./highlight.js";
