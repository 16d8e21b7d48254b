import { type Runtime } from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import { type IndexFactory, type ReplicaOptions } from "../../libs/engine/index.js";
import type { Log } from "../../libs/log/index.js";
import { type ReplicaStatus, type ShardId } from "../../libs/model/index.js";
import { type Logger } from "../../libs/telemetry/index.js";
import { type FetchSnapshot } from "./peers.js";
import type { RestoredFiles } from "./backup/part-files.js";
import { type CountHandles } from "./file-handles.js";

export interface ShardHostOptions extends Runtime {
  nodeId: string;
  /** Folder of this node; replicas lie in replicas/<collection id>/<shard>. */
  data: string;
  collections: CollectionsView;
  log: Log;
  indexes: IndexFactory;
  logger: Logger;
  /** Undefined where there are no other nodes. */
  fetchSnapshot?: FetchSnapshot;
  /** What shards begin with that are restored by files; undefined where no backups are. */
  restoredFiles?: RestoredFiles;
  /** What a replica of another node says of itself; undefined where there are no other nodes. */
  statusOf?: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  /** How often replicas are compared, and verified; for tests. Milliseconds. */
  compareEveryMs?: number;
  verifyEveryMs?: number;
  /** What this node may take of copies, in bytes a second; 0 and missing: no limit. */
  copyBytesPerSecond?: () => number;
  /** How often replicas flush what they have applied, at least. Milliseconds. */
  flushEveryMs?: () => number;
  /** For each replica. */
  tuning?: ReplicaOptions["tuning"];
  store?: ReplicaOptions["store"];
  /** Of this process where it is missing. */
  countHandles?: CountHandles;
}
