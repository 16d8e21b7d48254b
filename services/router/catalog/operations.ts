import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { OperationProgress, OperationRecord, Operations } from "../../../libs/cluster/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { Moves } from "./moves.js";
import type { Outages } from "./outage.js";
import type { Resharding } from "./resharding.js";

/** What the Cluster service shows of operations. Those that are live are run by the coordinator, wherever it is. */
export class OperationsApi {
  readonly #operations: Operations;
  readonly #moves: Moves;
  readonly #resharding: Resharding;
  readonly #outages: Outages;

  constructor(operations: Operations, moves: Moves, resharding: Resharding, outages: Outages) {
    this.#operations = operations;
    this.#moves = moves;
    this.#resharding = resharding;
    this.#outages = outages;
  }

  async list(): Promise<pb.ListOperationsResponse> {
    return { operations: await Promise.all(this.#operations.list().map((each) => this.#describe(each))) };
  }

  async moveReplica(request: pb.MoveReplicaRequest, call: CallContext): Promise<pb.MoveReplicaResponse> {
    return { operation: await this.#describe(await this.#moves.begin(request, call)) };
  }

  async splitShard(request: pb.SplitShardRequest, call: CallContext): Promise<pb.SplitShardResponse> {
    return { operation: await this.#describe(await this.#resharding.split(request, call)) };
  }

  async isolatePartition(request: pb.IsolatePartitionRequest, call: CallContext): Promise<pb.IsolatePartitionResponse> {
    return { operation: await this.#describe(await this.#resharding.isolate(request, call)) };
  }

  async mergeShards(request: pb.MergeShardsRequest, call: CallContext): Promise<pb.MergeShardsResponse> {
    return { operation: await this.#describe(await this.#resharding.merge(request, call)) };
  }

  async get({ id }: pb.GetOperationRequest, call: CallContext): Promise<pb.GetOperationResponse> {
    // The view may not have heard of one that has just begun.
    const read = (): ReturnType<Operations["read"]> => this.#operations.read(id);
    const found = this.#operations.get(id) ?? (isKeyPart(id) ? await this.#outages.guard(call, read) : undefined);
    if (found === undefined) throw unknown(id);
    return { operation: await this.#describe(found.value) };
  }

  async cancel({ id }: pb.CancelOperationRequest, call: CallContext): Promise<pb.CancelOperationResponse> {
    if (!isKeyPart(id)) throw unknown(id);
    try {
      const cancelled = await this.#outages.guard(call, () => this.#operations.cancel(id));
      return { operation: await this.#describe(cancelled) };
    } catch (error) {
      throw toKithError(error).code === "NOT_FOUND" ? unknown(id) : error;
    }
  }

  async #describe(record: OperationRecord): Promise<pb.Operation> {
    const move = await this.#moves.describe(record);
    return { ...operationTo(record), move, resharding: await this.#resharding.describe(record) };
  }
}

function isKeyPart(id: string): boolean {
  return id.length <= limits.nameLength && /^[A-Za-z0-9_-]+$/.test(id);
}

function unknown(id: string): KithError {
  return new KithError(
    "NOT_FOUND",
    `there is no operation "${id.slice(0, limits.nameLength)}"; it may have ended long ago`,
    {
      details: { operation: id.slice(0, limits.nameLength) },
    },
  );
}

function operationTo(record: OperationRecord): Omit<pb.Operation, "move" | "resharding"> {
  const { id, kind, state, step, subject, attempts, error, createdAtMs, updatedAtMs } = record;
  return {
    id,
    kind,
    state,
    step,
    collection: subject.collection,
    collectionId: subject.collectionId,
    shard: subject.shard,
    createdAt: new Date(createdAtMs),
    updatedAt: new Date(updatedAtMs),
    attempts,
    errorCode: error?.code ?? "",
    error: error?.message ?? "",
    progress: progressOf(record),
  };
}

function progressOf({ data }: OperationRecord): pb.OperationProgress | undefined {
  const { progress } = (data ?? {}) as { progress?: OperationProgress };
  return progress && { ...progress };
}
