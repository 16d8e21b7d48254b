import { isErrorCode, KithError, sleep } from "../base/index.js";
import type { UnaryDefinition } from "../rpc/common/index.js";
import { pb } from "../wire/index.js";
import { operationFromWire } from "./decode.js";
import { backupGroupKeys, backupKeys } from "./option-keys.js";
import { onlyKeys } from "./only-keys.js";
import type { Transport } from "./transport.js";
import type { CallOptions } from "./types/calls.js";
import type { OperationInfo } from "./types/cluster.js";

/** Backups of several collections that were begun together: each is of a moment of its own. */
export interface BackupGroup {
  /** 1 to 128 letters, digits, "_", "-" and ".". */
  name: string;
  /** How many backups it has, at least 1: it is whole where as many are there. */
  size: number;
}

/** A backup that is whole. */
export interface BackupInfo {
  id: string;
  collection: string;
  collectionId: string;
  startedAt: Date | undefined;
  endedAt: Date | undefined;
  /** The backup whose data it uses as well; "" for none. */
  base: string;
  pointCount: number;
  /** All that it needs. */
  sizeBytes: number;
  /** What was written for it. */
  writtenBytes: number;
  shards: BackupShardInfo[];
  /** Undefined where it is of none. */
  group: BackupGroup | undefined;
}

export interface BackupShardInfo {
  shard: number;
  firstSlot: number;
  lastSlot: number;
  /** The last record of the shard's log that the backup has. */
  sequence: number;
  pointCount: number;
  sizeBytes: number;
  digest: string;
}

export interface LocationOptions extends CallOptions {
  /** "file:folder" or "s3:folder" within what the servers are configured with. Default: that folder itself. */
  location?: string;
}

export interface CreateBackupOptions extends LocationOptions {
  /** Writes everything, also what an earlier backup has. Default: false. */
  full?: boolean;
  /** Bytes that each shard may write in a second. Default: no limit. */
  maxBytesPerSecond?: number;
  /** The backup is one of several that belong together. Default: of none. */
  group?: BackupGroup;
}

export interface RestoreBackupOptions extends LocationOptions {
  /** Name of the new collection. Default: as it was called. */
  collection?: string;
  /** Default: as many as the backup has. */
  shards?: number;
  /** Default: as the collection had. */
  replicas?: number;
  /** A later state, from the logs of the collection: as of a time, or of sequences by id of the shard. */
  until?: Date | Readonly<Record<number, number>>;
}

export interface WaitOptions extends Pick<CallOptions, "signal"> {
  /** Called after each look. */
  onProgress?: (operation: OperationInfo) => void;
  /** Milliseconds between two looks. Default: 500. */
  everyMs?: number;
}

/** Backups of collections, in a folder or an object store that the servers reach. */
export class Backups {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Begins a backup; `wait` for its operation. Repeated after a broken connection it may begin another one. */
  async create(collection: string, options: CreateBackupOptions = {}): Promise<{ id: string; operation: string }> {
    onlyKeys(options, backupKeys.create, "options");
    const { location = "", full = false, maxBytesPerSecond = 0, group } = options;
    if (group !== undefined) onlyKeys(group, backupGroupKeys, "options.group");
    const request = { collection, location, full, maxBytesPerSecond, group };
    return this.#once("create", pb.BackupsService.create, request, options);
  }

  /** Newest first; of one collection, or of all; of one group, or whichever. */
  async list(options: LocationOptions & { collection?: string; group?: string } = {}): Promise<BackupInfo[]> {
    onlyKeys(options, backupKeys.list, "options");
    const { location = "", collection = "", group = "" } = options;
    const response = await this.#read("list", pb.BackupsService.list, { location, collection, group }, options);
    return response.backups;
  }

  /** Reads everything that the backup is made of. CORRUPT_DATA where something is damaged or missing. Takes its time: give a deadline. */
  async verify(
    id: string,
    options: LocationOptions = {},
  ): Promise<{ pointCount: number; fileCount: number; sizeBytes: number }> {
    onlyKeys(options, backupKeys.verify, "options");
    return this.#read("verify", pb.BackupsService.verify, { id, location: options.location ?? "" }, options);
  }

  /** Begins to make a collection of a backup; `wait` for its operation. COLLECTION_EXISTS, NOT_FOUND. */
  async restore(
    id: string,
    options: RestoreBackupOptions = {},
  ): Promise<{ collection: string; collectionId: string; operation: string }> {
    onlyKeys(options, backupKeys.restore, "options");
    const { location = "", collection = "", shards = 0, replicas = 0, until } = options;
    const request = {
      id,
      location,
      collection,
      shardCount: shards,
      replicationFactor: replicas,
      until: untilOf(until),
    };
    return this.#once("restore", pb.BackupsService.restore, request, options);
  }

  /** What later backups have in common with it stays. NOT_FOUND. */
  async delete(id: string, options: LocationOptions = {}): Promise<{ deletedBytes: number }> {
    onlyKeys(options, backupKeys.delete, "options");
    return this.#once("delete", pb.BackupsService.delete, { id, location: options.location ?? "" }, options);
  }

  /** Resolves when the operation is done; rejects with what made it fail, or with CANCELLED where it was undone. */
  async wait(operation: string, options: WaitOptions = {}): Promise<OperationInfo> {
    onlyKeys(options, backupKeys.wait, "options");
    const { signal, onProgress, everyMs = 500 } = options;
    for (;;) {
      const call = signal === undefined ? {} : { signal };
      const response = await this.#read("wait", pb.ClusterService.getOperation, { id: operation }, call);
      const info = operationFromWire(response.operation);
      onProgress?.(info);
      if (info.state === "done") return info;
      if (info.state === "cancelled") throw new KithError("CANCELLED", `the operation ${operation} was cancelled`);
      if (info.state === "failed") {
        throw new KithError(isErrorCode(info.errorCode) ? info.errorCode : "INTERNAL", info.error);
      }
      await sleep(this.#transport.clock, everyMs, signal);
    }
  }

  #read<Req, Res>(
    name: string,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    options: CallOptions | undefined,
  ): Promise<Res> {
    return this.#transport.call(`kith.client.backups.${name}`, options, (call) =>
      this.#transport.retried(method, request, call),
    );
  }

  #once<Req, Res>(
    name: string,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    options: CallOptions | undefined,
  ): Promise<Res> {
    return this.#transport.call(`kith.client.backups.${name}`, options, (call) =>
      this.#transport.unary(method, request, call),
    );
  }
}

function untilOf(until: RestoreBackupOptions["until"]): pb.RestoreBackupRequest["until"] {
  if (until === undefined) return undefined;
  if (until instanceof Date) return { $case: "time", value: until };
  const shards: Record<number, number> = {};
  for (const [shard, sequence] of Object.entries(until)) shards[Number(shard)] = sequence;
  return { $case: "sequences", value: { shards } };
}
