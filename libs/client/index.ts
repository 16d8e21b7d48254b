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
  BackupGroup,
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
export type { TlsOptions } from "./tls.js";
export type { ChangeEvent, WatchOptions } from "./watch.js";
export type { PayloadIndexKind, StrictMode, TextIndexOptions, TextTokenizer, UnindexedField } from "../model/index.js";
export type {
  ContextPairInput,
  DecayInput,
  ExampleInput,
  ExpressionInput,
  FeedbackInput,
  FusionInput,
  GeoInput,
  LookupInput,
  MmrInput,
  OrderByInput,
  PrefetchInput,
  QueryExpression,
} from "./types/expressions.js";
export type { CallOptions, ReadConsistency, Token, WriteAck, WriteCallOptions } from "./types/calls.js";
export type {
  ClusterInfo,
  ClusterSettings,
  FollowedLogInfo,
  IsolateRequest,
  MergeRequest,
  MoveInfo,
  MoveRequest,
  NodeInfo,
  OperationInfo,
  OperationProgress,
  RebalancePlan,
  ReplicaInfo,
  ReshardingInfo,
  ShardInfo,
  SlowQueries,
  SlowQueryInfo,
  SplitRequest,
  StandbyInfo,
} from "./types/cluster.js";
export type {
  BuildTrial,
  CollectionInfo,
  CollectionStats,
  CreateOptions,
  RecallStats,
  SparseInfo,
  SparseSpec,
  UpdateOptions,
  VectorChoice,
  VectorInfo,
  VectorSpec,
} from "./types/collections.js";
export type {
  AlterPayloadIndexOptions,
  AlterVectorFieldOptions,
  AlteredVectorField,
  GenerationInfo,
  GenerationOptions,
  GenerationShadow,
  GenerationState,
  PromoteGenerationOptions,
  TextGenerationInfo,
} from "./types/generations.js";
export type {
  CreatePayloadIndexOptions,
  PayloadIndexInfo,
  PayloadIndexOptions,
  PayloadIndexSpec,
} from "./types/payload-indexes.js";
export type {
  PartitionValue,
  Point,
  PointInput,
  ReadOptions,
  ScoredPoint,
  SelectOptions,
  VectorsInput,
} from "./types/points.js";
export type {
  DistanceMatrix,
  ExplainStep,
  FacetOptions,
  FacetResult,
  GroupsResult,
  MatrixOptions,
  PointGroup,
  QueryBatchItem,
  QueryGroupsOptions,
  HighlightInput,
  QueryInput,
  QueryOptions,
  QueryResult,
  TraceSpan,
} from "./types/queries.js";
export type {
  DeleteResult,
  ItemError,
  SetPayloadOptions,
  TargetOptions,
  UpsertOptions,
  UpsertResult,
  WriteBatchItem,
  WriteBatchResult,
  WriteConditions,
  WriteMode,
  WriteOperation,
  WriteResult,
  WriteTarget,
} from "./types/writes.js";
export type {
  FilterInput,
  Id,
  JsonObject,
  MatrixInput,
  SparseInput,
  SparseVector,
  VectorInput,
} from "./types/values.js";
export type { SettledBatch, UpsertManyOptions, UpsertManyProgress, UpsertManyResult } from "./upsert-many.js";

export type { Bm25Input } from "./bm25.js";
export { hybridQuery, type HybridInput, type HybridWeights } from "./hybrid.js";
export { highlightOf, type HighlightOptions } from "./highlight.js";
