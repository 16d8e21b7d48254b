import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { OperationProgress, OperationRecord, Operations } from "../../../libs/cluster/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** What the Cluster service shows of operations. Those that are live are run by the coordinator, wherever it is. */
export class OperationsApi {
  readonly #operations: Operations;

  constructor(operations: Operations) {
    this.#operations = operations;
  }

  list(): pb.ListOperationsResponse {
    return { operations: this.#operations.list().map(operationTo) };
  }

  async get({ id }: pb.GetOperationRequest): Promise<pb.GetOperationResponse> {
    // The view may not have heard of one that has just begun.
    const found = this.#operations.get(id) ?? (isKeyPart(id) ? await this.#operations.read(id) : undefined);
    if (found === undefined) throw unknown(id);
    return { operation: operationTo(found.value) };
  }

  async cancel({ id }: pb.CancelOperationRequest): Promise<pb.CancelOperationResponse> {
    if (!isKeyPart(id)) throw unknown(id);
    try {
      return { operation: operationTo(await this.#operations.cancel(id)) };
    } catch (error) {
      throw toKithError(error).code === "NOT_FOUND" ? unknown(id) : error;
    }
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

function operationTo(record: OperationRecord): pb.Operation {
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
