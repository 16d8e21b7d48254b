import type {
  ShardId,
  IdKey,
  OperationOutcome,
  ReplicaStatus,
  Select,
  ShardCount,
  ShardPage,
  ShardPoints,
  ShardQuery,
  ShardQueryResult,
} from "../model/index.js";
import type { CallContext } from "../call/index.js";

/**
 * What a router asks of a node that hosts replicas. Implemented by the shard service (called directly where router and
 * shard share a process) and by LinkClient (over the link). SHARD_UNAVAILABLE where the node has no such replica or
 * it is not fit to answer. `minSequence`: wait until the replica has applied this sequence, within the call's deadline.
 */
export interface ShardApi {
  query(replica: ShardId, query: ShardQuery, call: CallContext): Promise<ShardQueryResult>;
  /** Those that exist, in the order asked. */
  get(
    replica: ShardId,
    ids: readonly IdKey[],
    select: Select,
    minSequence: number,
    call: CallContext,
  ): Promise<ShardPoints>;
  /** Points in order of id, after `after` (exclusive; undefined: from the start). */
  scroll(
    replica: ShardId,
    after: IdKey | undefined,
    limit: number,
    select: Select,
    minSequence: number,
    call: CallContext,
  ): Promise<ShardPage>;
  count(replica: ShardId, minSequence: number, call: CallContext): Promise<ShardCount>;
  /** Resolves when the sequence is applied, with the outcomes of the operations (empty outcome where no longer known). */
  wait(
    replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]>;
  /** Resolves when all vectors applied before the call are in the graph, with their number. */
  waitIndexed(replica: ShardId, call: CallContext): Promise<number>;
  /** A replica that answers that it is not active will not be before it has applied `minSequence`. */
  status(replica: ShardId, minSequence: number, call: CallContext): Promise<ReplicaStatus>;
}
