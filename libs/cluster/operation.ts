import { createHash } from "node:crypto";
import { assert, type ErrorCode } from "../base/index.js";
import type { SlotRange } from "../model/index.js";

/** Version of the records below. A record of another one is kept and shown, but neither run nor changed. */
export const operationVersion = 1;

/**
 * "cancelling": what was done is being undone. It may still end as "done", where it was too late. "failed": it can never be done.
 */
export type OperationState = "running" | "cancelling" | "done" | "failed" | "cancelled";

/** What an operation is about. */
export interface OperationSubject {
  collectionId: string;
  /** Its name; by now it may be the name of another one. */
  collection: string;
  /** Id of the shard, where it is about one. */
  shard?: number;
}

/** An operation as the catalog keeps it. */
export interface OperationRecord<Kind extends string = string, Step extends string = string, Data = unknown> {
  version: number;
  /** A part of a key of the catalog. */
  id: string;
  kind: Kind;
  subject: OperationSubject;
  state: OperationState;
  /** What is to be done next, or was done last. */
  step: Step;
  /** What the steps keep for those behind them. */
  data: Data;
  createdAtMs: number;
  updatedAtMs: number;
  /** Attempts of this step that have failed. */
  attempts: number;
  /** Why the last attempt failed, or why the operation has. */
  error?: { code: ErrorCode; message: string };
}

/** The shards of the collection, whose logs are made, or removed. */
interface ShardIds {
  shards: number[];
}

/** Why a replica is moved. */
export type MoveReason = "requested" | "replicas" | "repair" | "drain" | "rebalance";

/** One replica of a shard: moved where both nodes are named, added where only `to` is, removed where only `from` is. */
export interface ReplicaMove {
  from?: string;
  to?: string;
  reason: MoveReason;
}

/** Each kind of operation, with the steps it may be at and what it keeps. Steps with the same names do the same. */
interface OperationKinds {
  change_schema: { step: "append"; data: ShardIds & { version: number } };
  /** Of a vector field, or of the index by BM25 of this path. */
  promote_generation: { step: "build"; data: { field: string; index?: string; generation: number } };
  backup_collection: { step: "begin" | "write" | "finish"; data: BackupData };
  create_collection: { step: "place" | "remove_logs" | "remove_record"; data: ShardIds };
  delete_collection: { step: "remove_logs" | "remove_record"; data: ShardIds };
  move_replica: { step: "join" | "copy" | "switch" | "drop"; data: ReplicaMove };
  split_shard: { step: "prepare" | "copy" | "seal" | "switch" | "drop"; data: ShardSplit };
  merge_shards: { step: "prepare" | "copy" | "seal" | "switch" | "drop"; data: ShardMerge };
  restore_collection: { step: "feed" | "indexes" | "check" | "open"; data: RestoreData };
}

/** A shard whose hash slots go to new ones. */
export interface ShardSplit {
  reason: "requested" | "size";
  /** Of the new shards: consecutive, and together those of the old one. */
  ranges: SlotRange[];
  /** Ids of the new shards; empty before they are made. */
  children: number[];
  /** Sequence with which the old shard's log ends; missing before it is sealed. */
  sealedAt?: number;
}

/** Shards whose hash slots go to one new shard. */
export interface ShardMerge {
  reason: "requested" | "size";
  /** Ids of the shards, in order of their slots, which are consecutive. */
  parents: number[];
  /** Id of the new shard; missing before it is made. */
  child?: number;
  /** How often the parents were begun to be read: what an earlier reader writes late has no effect. */
  term: number;
  /** Who reads them in this term. */
  reader: string;
  /** By id of the parent: how far it was read; see libs/backup/jobs.ts. */
  places: Record<string, { sequence: number; outcomes: number; scanned: string; isScanned: boolean }>;
  /** All of them were read, to the ends of their logs. */
  isFed?: boolean;
  /** By id of the parent, the sequence with which its log ends; missing before these are sealed. */
  sealedAt?: Record<string, number>;
  progress?: OperationProgress;
}

/** How far an operation is that moves data. */
export interface OperationProgress {
  /** So many points of all, where these are known. */
  points: number;
  totalPoints: number;
  /** Written or read so far, in this attempt. */
  bytes: number;
}

interface BackupData {
  /** Those that it consists of, as they were when it began. */
  shards: number[];
  location: string;
  /** Id of the backup. */
  backup: string;
  full: boolean;
  /** Of each shard; 0: no limit. */
  bytesPerSecond: number;
  startedAtMs: number;
  /** The backup that it builds upon. */
  base?: string;
  /** See BackupGroup in libs/backup. */
  group?: { name: string; size: number };
  progress?: OperationProgress;
}

/** What was fed of a part of a backup: see libs/backup/jobs.ts. */
interface Fed {
  files: number;
  points: number;
  expiring: number;
  content: string;
}

interface RestoreData {
  location: string;
  backup: string;
  until?: { timeMs: number } | { sequences: Record<string, number> };
  /** By id of the shard in the backup: where its log ended when the state of a time was begun to be read; later records do not count. */
  ends?: Record<string, number>;
  /** By id of the shard in the backup. */
  fed: Record<string, Fed & { isWhole?: boolean }>;
  progress?: OperationProgress;
}

export type OperationKind = keyof OperationKinds;
export type StepOf<K extends OperationKind> = OperationKinds[K]["step"];
export type DataOf<K extends OperationKind> = OperationKinds[K]["data"];

/** An operation of a kind that this version knows. */
export type Operation<K extends OperationKind = OperationKind> = {
  [T in K]: OperationRecord<T, StepOf<T>, DataOf<T>>;
}[K];

/** Each kind, with whether it can be cancelled. */
const cancellable: Record<OperationKind, boolean> = {
  backup_collection: true,
  create_collection: true,
  // The replicas are deleted as soon as the collection is marked.
  delete_collection: false,
  // A log that has the change cannot be rid of it.
  change_schema: false,
  // It does not answer by itself then.
  promote_generation: true,
  // What was made of the collection is deleted.
  restore_collection: true,
  move_replica: true,
  // Until the log has its end.
  split_shard: true,
  merge_shards: true,
};

/** Id of the operation that creates the collection. There is but one, for the collection's own id is never used again. */
export function creationIdOf(collectionId: string): string {
  return `create-${collectionId}`;
}

/** Id of the operation that brings the collection's schema to this version. */
export function schemaChangeIdOf(collectionId: string, version: number): string {
  return `schema-${collectionId}-${version}`;
}

/** Id of the operation that lets a generation of a field's index answer once it is whole. */
export function promotionIdOf(collectionId: string, field: string, generation: number): string {
  return `promote-${collectionId}-${generation}-${field}`;
}

/** Id of the operation that lets a generation of an index by BM25 answer once it is whole. Paths may hold what ids must not. */
export function textPromotionIdOf(collectionId: string, path: string, generation: number): string {
  const digest = createHash("sha256").update(path).digest("hex").slice(0, 16);
  return `promote-${collectionId}-${generation}-index-${digest}`;
}

/** Id of the operation that writes the backup. */
export function backupOperationIdOf(backup: string): string {
  return `backup-${backup}`;
}

/** Id of the operation that fills the collection from a backup. */
export function restoreIdOf(collectionId: string): string {
  return `restore-${collectionId}`;
}

/** Id of the operation that deletes the collection. */
export function deletionIdOf(collectionId: string): string {
  return `delete-${collectionId}`;
}

/** Whether it is the split of a shard, of a version that is known. */
export function isSplit(record: OperationRecord): record is Operation<"split_shard"> {
  return isKnown(record) && record.kind === "split_shard";
}

/** Whether it is a merge of shards, of a version that is known. */
export function isMerge(record: OperationRecord): record is Operation<"merge_shards"> {
  return isKnown(record) && record.kind === "merge_shards";
}

/** Whether the operation is about this shard of the collection. */
export function operationOfShard(
  record: OperationRecord,
  { collectionId, shard }: Pick<OperationSubject, "collectionId" | "shard">,
): boolean {
  if (shard === undefined || record.subject.collectionId !== collectionId) return false;
  return record.subject.shard === shard || (isMerge(record) && record.data.parents.includes(shard));
}

/** Whether it is the move of a replica, of a version that is known. */
export function isMove(record: OperationRecord): record is Operation<"move_replica"> {
  return isKnown(record) && record.kind === "move_replica";
}

export function isKnown(record: OperationRecord): record is Operation {
  return record.version === operationVersion && Object.hasOwn(cancellable, record.kind);
}

export function isCancellable({ kind }: Operation): boolean {
  return cancellable[kind];
}

/** Whether there is still something to do. */
export function isLive({ state }: OperationRecord): boolean {
  return state === "running" || state === "cancelling";
}

/** The catalog's JSON, checked for what later code relies on. */
export function parseOperation(json: string): OperationRecord {
  const value = JSON.parse(json) as OperationRecord;
  assert(
    typeof value.version === "number" &&
      typeof value.id === "string" &&
      typeof value.kind === "string" &&
      typeof value.subject?.collectionId === "string",
    `the catalog holds an operation record that is none: ${json.slice(0, 200)}`,
  );
  return value;
}
