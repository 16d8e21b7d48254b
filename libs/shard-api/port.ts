import type { CallContext } from "../call/index.js";
import type { OperationOutcome, ReplicaStatus, ShardId } from "../model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest } from "./reads.js";

/**
 * What a router asks of a node that hosts replicas. Implemented by the shard service (called directly where router and
 * shard share a process) and by LinkClient (over the link). SHARD_UNAVAILABLE where the node has no such replica or
 * it is not fit to answer.
 */
export interface ShardApi {
  /** Waits until the replica has applied the request's `minSequence`, within the call's deadline. */
  read<K extends ReadKind>(
    kind: K,
    replica: ShardId,
    request: ReadRequest<K>,
    call: CallContext,
  ): Promise<ReadAnswer<K>>;
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
