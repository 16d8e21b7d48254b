import type { KithError } from "../../libs/base/index.js";
import { type Deferred } from "../../libs/base/index.js";
import type { Replica } from "../../libs/engine/index.js";
import type { LogState } from "../../libs/log/index.js";
import type { ReplicaStatus, ShardId } from "../../libs/model/index.js";

/** A replica that the catalog places on this node. */
export interface Hosted {
  readonly name: ShardId;
  readonly collection: string;
  /** Rejects where the replica was dropped, or the host closed, before it could be opened. */
  replica: Promise<Replica>;
  /** Resolves when the replica is open, or could not be opened at the first try. */
  readonly tried: Deferred<void>;
  readonly dropped: AbortController;
  /** The replica once it is open, for the hot path. */
  open: Replica | undefined;
  /** Why the last try to open it failed. */
  failure: KithError | undefined;
  /** Whether its collection was seen being deleted. */
  deleting: boolean;
  /** The shard's log when it was last asked; undefined before. */
  log: LogState | undefined;
}

export function keyOf({ collectionId, shard }: ShardId): string {
  return `${collectionId}/${shard}`;
}

/** What is told of a replica that is not open yet. */
export function unopened({ failure }: Hosted): ReplicaStatus {
  return {
    state: failure === undefined ? "initializing" : "stale",
    appliedSequence: 0,
    pointCount: 0,
    indexedVectorCount: 0,
    unindexedVectorCount: 0,
    memoryBytes: 0,
    diskBytes: 0,
    digest: "",
    digestFormat: 1,
    fault: failure === undefined ? "" : `it cannot be opened: ${failure.message}`,
    ...(failure && { faultCode: failure.code }),
    schemaVersion: 0,
    payloadIndexes: [],
    unindexedFields: [],
  };
}
