import { setMaxListeners } from "node:events";
import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import { xxh64 } from "../../../libs/hash/index.js";
import { type CallContext, childCall } from "../../../libs/call/index.js";
import { toFailure } from "../../../libs/rpc/common/index.js";
import { counterOf, inSpan, traceparentOf } from "../../../libs/telemetry/index.js";
import { pb } from "../../../libs/wire/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutingTable } from "../routing/routing-table.js";
import {
  planClearPayload,
  planDelete,
  planDeletePayload,
  planDeleteVectors,
  type PlannedPart,
  planOperation,
  planOverwritePayload,
  planSetExpiry,
  planSetPayload,
  planTruncate,
  planUpdateVectors,
  planUpsert,
  planUpsertColumns,
} from "./planned-write.js";
import { accessOf, ruleOf } from "../access.js";
import { restricted, ruleBytes } from "./restricted.js";
import { effectsOf } from "./effects-of-parts.js";
import type { Segment } from "./point-batch.js";
import { checkStrictWrite } from "./strict.js";
import type { Ack, WriteResult } from "./write-lane.js";

const writtenPoints = counterOf("kith.write.points");

const idempotencyKeyBytes = 64;

/** The write half of the Points service: validate, group by shard, append, wait as asked. */
export class Writes {
  readonly #routingTable: RoutingTable;
  readonly #limitBytes: number;
  #inFlightBytes = 0;

  /** `limitBytes`: of all writes in flight together. */
  constructor(routingTable: RoutingTable, limitBytes: number = limits.inFlightWriteBytes) {
    this.#routingTable = routingTable;
    this.#limitBytes = limitBytes;
  }

  async upsert(request: pb.UpsertRequest, call: CallContext): Promise<pb.UpsertResponse> {
    return this.#retrying(request, call, (collection, ids) =>
      this.#upsert(collection, planUpsert(collection, request), request.options, ids, call),
    );
  }

  async upsertColumns(request: pb.UpsertColumnsRequest, call: CallContext): Promise<pb.UpsertResponse> {
    return this.#retrying(request, call, (collection, ids) =>
      this.#upsert(collection, planUpsertColumns(collection, request), request.options, ids, call),
    );
  }

  async #upsert(
    collection: RoutedCollection,
    parts: readonly PlannedPart[],
    options: pb.WriteOptions | undefined,
    ids: OperationIds,
    call: CallContext,
  ): Promise<pb.UpsertResponse> {
    const results = await this.#write("upsert", collection, parts, options, ids, call);
    const { affected, errors } = effectsOf(results, parts);
    const isKnown = results.some(({ outcome }) => outcome !== undefined);
    const upserted = isKnown ? affected : parts.reduce((sum, { positions }) => sum + positions.length, 0);
    writtenPoints.add(upserted, { "kith.collection": collection.record.name });
    return { upserted, errors, token: tokenOf(collection, results, parts) };
  }

  async delete(request: pb.DeletePointsRequest, call: CallContext): Promise<pb.DeletePointsResponse> {
    const { affected, errors, token } = await this.#parts("delete", request, planDelete, call);
    return { deleted: affected, errors, token };
  }

  setPayload(request: pb.SetPayloadRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("set_payload", request, planSetPayload, call);
  }

  overwritePayload(request: pb.OverwritePayloadRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("overwrite_payload", request, planOverwritePayload, call);
  }

  deletePayload(request: pb.DeletePayloadRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("delete_payload", request, planDeletePayload, call);
  }

  clearPayload(request: pb.ClearPayloadRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("clear_payload", request, planClearPayload, call);
  }

  updateVectors(request: pb.UpdateVectorsRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("update_vectors", request, planUpdateVectors, call);
  }

  deleteVectors(request: pb.DeleteVectorsRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("delete_vectors", request, planDeleteVectors, call);
  }

  setExpiry(request: pb.SetExpiryRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("set_expiry", request, planSetExpiry, call);
  }

  #parts<R extends { collection: string; options: pb.WriteOptions | undefined }>(
    name: string,
    request: R,
    plan: (collection: RoutedCollection, request: R) => PlannedPart[],
    call: CallContext,
  ): Promise<pb.WriteResponse> {
    return this.#retrying(request, call, async (collection, ids) => {
      const parts = plan(collection, request);
      return answerOf(collection, await this.#write(name, collection, parts, request.options, ids, call), parts);
    });
  }

  /** Writes again where hash slots have gone to other shards meanwhile: under the same ids, so that what was written is not repeated. */
  #retrying<T>(
    { collection: name, options }: { collection: string; options: pb.WriteOptions | undefined },
    call: CallContext,
    write: (collection: RoutedCollection, ids: OperationIds) => Promise<T>,
  ): Promise<T> {
    const key = keyOf(options) || this.#routingTable.runtime.random.bytes(16);
    return this.#routingTable.epochs.retrying(name, call, async () => {
      const collection = this.#routingTable.resolve(name, call);
      const { record } = collection;
      const rule = ruleOf(call, record);
      // A key names one write in a collection, and among the points that the caller may touch.
      const scope = rule === undefined ? "" : `\0${xxh64(ruleBytes(rule), 0n)}`;
      return write(collection, new OperationIds(`${record.id}${scope}`, key));
    });
  }

  truncate(request: pb.TruncateRequest, call: CallContext): Promise<pb.WriteResponse> {
    return this.#parts("truncate", request, planTruncate, call);
  }

  /** All operations go to the lanes of their shards at once and in order, which the lanes keep; each has its own answer. */
  batch(request: pb.WriteBatchRequest, call: CallContext): Promise<pb.WriteBatchResponse> {
    return this.#retrying(request, call, (collection, ids) => this.#batch(collection, request, ids, call));
  }

  async #batch(
    collection: RoutedCollection,
    request: pb.WriteBatchRequest,
    ids: OperationIds,
    call: CallContext,
  ): Promise<pb.WriteBatchResponse> {
    const { length } = request.operations;
    if (length === 0) throw new KithError("INVALID_ARGUMENT", "the batch has no operations; give at least one");
    if (length > limits.batchOperations) {
      throw new KithError(
        "BATCH_TOO_LARGE",
        `the batch has ${length} operations; at most ${limits.batchOperations} are allowed`,
        { details: { count: length, limit: limits.batchOperations } },
      );
    }
    const operations = request.operations.map((each, i) => planOperation(collection, each, i));
    const parts = operations.flatMap((own, operation) => own.map((part) => ({ ...part, operation })));
    const settled = await this.#settled("batch", collection, parts, request.options, ids, call);
    const stale = settled.find((each) => each.status === "rejected" && toKithError(each.reason).code === "STALE_EPOCH");
    if (stale?.status === "rejected") throw stale.reason;
    const results: pb.WriteBatchResult[] = operations.map((own, operation) => {
      const outcomes = settled.filter((_, i) => parts[i]?.operation === operation);
      const failed = outcomes.find((each) => each.status === "rejected");
      if (failed !== undefined) return { outcome: { $case: "failure", value: toFailure(toKithError(failed.reason)) } };
      const written = outcomes.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
      return { outcome: { $case: "response", value: answerOf(collection, written, own) } };
    });
    const written = settled.flatMap((each, i) => {
      return each.status === "fulfilled" ? [{ result: each.value, part: parts[i] as PlannedPart }] : [];
    });
    const token = tokenOf(
      collection,
      written.map(({ result }) => result),
      written.map(({ part }) => part),
    );
    return { results, token };
  }

  /** Writes all parts; rejects with the first failure. */
  async #write(
    name: string,
    collection: RoutedCollection,
    parts: readonly PlannedPart[],
    options: pb.WriteOptions | undefined,
    ids: OperationIds,
    call: CallContext,
  ): Promise<WriteResult[]> {
    return this.#inSpan(name, collection, parts, options, ids, call, (writes) => Promise.all(writes));
  }

  #settled(
    name: string,
    collection: RoutedCollection,
    parts: readonly PlannedPart[],
    options: pb.WriteOptions | undefined,
    ids: OperationIds,
    call: CallContext,
  ): Promise<PromiseSettledResult<WriteResult>[]> {
    return this.#inSpan(name, collection, parts, options, ids, call, (writes) => Promise.allSettled(writes));
  }

  async #inSpan<T>(
    name: string,
    collection: RoutedCollection,
    parts: readonly PlannedPart[],
    options: pb.WriteOptions | undefined,
    ids: OperationIds,
    call: CallContext,
    gather: (writes: Promise<WriteResult>[]) => Promise<T>,
  ): Promise<T> {
    this.#routingTable.rates.take(collection.record, "maxWritesPerSecond");
    const { usage } = accessOf(call);
    const rule = ruleOf(call, collection.record);
    checkStrictWrite(collection, parts, usage, rule !== undefined);
    const ack = ackOf(options);
    usage?.spend(...costOf(parts));
    const written = rule === undefined ? parts : parts.map((part) => restricted(part, rule));
    return inSpan(
      call.trace,
      `router.${name}`,
      { attributes: { "kith.collection": collection.record.name } },
      async (span) => {
        const traceparent = traceparentOf(span.trace);
        const inner = childCall(call, span.trace);
        // Each part listens for the caller's end.
        if (inner.signal !== undefined) setMaxListeners(written.length + 10, inner.signal);
        return this.#bounded(written, () =>
          gather(
            written.map(({ shard, segment, sizeBytes, isAlone, mutation }) => {
              const operation = { operationId: ids.of(segment), traceparent, mutation };
              return collection.laneOf(shard).write(operation, sizeBytes, ack, inner, isAlone);
            }),
          ),
        );
      },
    );
  }

  /** Runs the writes of all parts, if there is room for them: they are held in memory until they are answered. */
  async #bounded<T>(parts: readonly { sizeBytes: number }[], write: () => Promise<T>): Promise<T> {
    const limitBytes = this.#limitBytes;
    const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    if (this.#inFlightBytes + sizeBytes > limitBytes) {
      throw new KithError(
        "RESOURCE_EXHAUSTED",
        `${this.#inFlightBytes} bytes of writes are in flight in this router, and ${sizeBytes} more are beyond its ${limitBytes}; slow down and try again`,
        { details: { inFlightBytes: this.#inFlightBytes, sizeBytes, limitBytes }, retryAfterMs: 100 },
      );
    }
    this.#inFlightBytes += sizeBytes;
    try {
      return await write();
    } finally {
      this.#inFlightBytes -= sizeBytes;
    }
  }
}

function ackOf(options: pb.WriteOptions | undefined): Ack {
  switch (options?.ack ?? pb.Ack.UNSPECIFIED) {
    case pb.Ack.UNSPECIFIED:
    case pb.Ack.APPLIED:
      return "applied";
    case pb.Ack.LOG:
      return "log";
    case pb.Ack.ALL:
      return "all";
    default:
      throw new KithError(
        "INVALID_ARGUMENT",
        `the acknowledgement ${options?.ack} does not exist; use LOG, APPLIED or ALL`,
      );
  }
}

/** The idempotency key of a call; "" where it has none. */
function keyOf(options: pb.WriteOptions | undefined): string {
  const key = options?.idempotencyKey ?? "";
  const bytes = Buffer.byteLength(key);
  if (bytes <= idempotencyKeyBytes) return key;
  throw new KithError(
    "INVALID_ARGUMENT",
    `the idempotency key has ${bytes} bytes; at most ${idempotencyKeyBytes} are allowed`,
    {
      details: { sizeBytes: bytes, limitBytes: idempotencyKeyBytes },
    },
  );
}

/** Ids of a call's operations: they follow from its key and from the order of its segments, so that a retry has the same ones. */
class OperationIds {
  readonly #seed: Uint8Array;
  readonly #bySegment = new Map<Segment, Uint8Array>();

  /** `scope`: in which the key names one write. */
  constructor(scope: string, key: string | Uint8Array) {
    this.#seed = Buffer.concat([Buffer.from(`${scope}\0`), Buffer.from(key), Buffer.from("\0")]);
  }

  of(segment: Segment): Uint8Array {
    const known = this.#bySegment.get(segment);
    if (known !== undefined) return known;
    const input = Buffer.concat([this.#seed, Buffer.from(String(this.#bySegment.size))]);
    const id = Buffer.allocUnsafe(16);
    id.writeBigUInt64BE(xxh64(input, 0n), 0);
    id.writeBigUInt64BE(xxh64(input, 0x6b697468n), 8);
    this.#bySegment.set(segment, id);
    return id;
  }
}

/** Points that a write names, and its bytes: of those that a filter selects nothing is known. */
function costOf(parts: readonly PlannedPart[]): [points: number, bytes: number] {
  let [points, bytes] = [0, 0];
  for (const { positions, sizeBytes } of parts) {
    points += positions.length;
    bytes += sizeBytes;
  }
  return [points, bytes];
}

function answerOf(
  collection: RoutedCollection,
  results: readonly WriteResult[],
  parts: readonly PlannedPart[],
): pb.WriteResponse {
  return { ...effectsOf(results, parts), token: tokenOf(collection, results, parts) };
}

function tokenOf(
  collection: RoutedCollection,
  results: readonly WriteResult[],
  parts: readonly { shard: number }[],
): pb.Token {
  const highest = new Map<number, number>();
  results.forEach(({ sequence }, i) => {
    const { shard } = parts[i] as { shard: number };
    highest.set(shard, Math.max(sequence, highest.get(shard) ?? 0));
  });
  return {
    shards: [...highest].map(([shard, sequence]) => ({ shard, sequence })).sort((a, b) => a.shard - b.shard),
    collectionId: collection.record.id,
  };
}
