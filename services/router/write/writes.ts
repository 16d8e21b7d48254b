import { KithError, limits, type Random, xxh64 } from "../../../libs/base/index.js";
import { checkStrict, type IdKey } from "../../../libs/model/index.js";
import { type CallContext, childCall } from "../../../libs/call/index.js";
import { counterOf, inSpan, traceparentOf } from "../../../libs/telemetry/index.js";
import { type ipb, pb } from "../../../libs/wire/index.js";
import {
  batchesOfPoints,
  batchOfColumns,
  checkBatchSize,
  checkDistinct,
  splitBatch,
  type PointBatch,
} from "./point-batch.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { keyOf } from "../ids.js";
import { checkStrictUpsert } from "./strict.js";
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
    const collection = this.#routingTable.resolve(request.collection);
    return this.#upsert(collection, batchesOfPoints(collection.record, request.points), request, call);
  }

  async upsertColumns(request: pb.UpsertColumnsRequest, call: CallContext): Promise<pb.UpsertResponse> {
    const collection = this.#routingTable.resolve(request.collection);
    return this.#upsert(collection, [batchOfColumns(collection.record, request)], request, call);
  }

  async #upsert(
    collection: RoutedCollection,
    batches: PointBatch[],
    { mode, options }: Pick<pb.UpsertRequest, "mode" | "options">,
    call: CallContext,
  ): Promise<pb.UpsertResponse> {
    if (mode < pb.UpsertMode.UNSPECIFIED || mode > pb.UpsertMode.UPDATE_ONLY) {
      throw new KithError("INVALID_ARGUMENT", `the upsert mode ${mode} does not exist`, { details: { mode } });
    }
    this.#routingTable.rates.take(collection.record, "maxWritesPerSecond");
    checkStrictUpsert(collection, batches);
    const ack = ackOf(options);
    const ids = new OperationIds(collection.record.id, options, this.#routingTable.runtime.random);
    return inSpan(
      call.trace,
      "router.upsert",
      { attributes: { "kith.collection": collection.record.name } },
      async (span) => {
        const traceparent = traceparentOf(span.trace);
        const inner = childCall(call, span.trace);
        const parts = batches.flatMap((batch) =>
          splitBatch(batch, shardIdOf(collection), mode).map((part) => ({ batch, ...part })),
        );
        const results = await this.#bounded(parts, ({ shard, upsert, sizeBytes }) => {
          const operation: ipb.Operation = {
            operationId: ids.next(),
            traceparent,
            mutation: { $case: "upsert", value: upsert },
          };
          return collection.laneOf(shard).write(operation, sizeBytes, ack, inner);
        });
        const errors: pb.ItemError[] = [];
        let upserted = 0;
        results.forEach(({ outcome }, i) => {
          const { batch, rows } = parts[i] as (typeof parts)[number];
          upserted += outcome?.affected ?? rows.length;
          for (const failure of outcome?.failures ?? []) {
            const index = batch.positions[rows[failure.index] as number] as number;
            errors.push({ index, code: failure.code, message: failure.message });
          }
        });
        writtenPoints.add(upserted, { "kith.collection": collection.record.name });
        errors.sort((a, b) => a.index - b.index);
        return { upserted, errors, token: tokenOf(collection, results, parts) };
      },
    );
  }

  async delete(request: pb.DeletePointsRequest, call: CallContext): Promise<pb.DeletePointsResponse> {
    const collection = this.#routingTable.resolve(request.collection);
    checkBatchSize(request.ids.length, "ids");
    const keys = request.ids.map((id, row) => keyOf(id, () => `ids[${row}]`));
    checkDistinct(keys, (row) => `ids[${row}]`);
    this.#routingTable.rates.take(collection.record, "maxWritesPerSecond");
    checkStrict(collection.record.strictMode, "maxBatchPoints", keys.length, "the number of ids");
    const ack = ackOf(request.options);
    const ids = new OperationIds(collection.record.id, request.options, this.#routingTable.runtime.random);
    return inSpan(
      call.trace,
      "router.delete",
      { attributes: { "kith.collection": collection.record.name } },
      async (span) => {
        const traceparent = traceparentOf(span.trace);
        const parts = splitIds(keys, shardIdOf(collection));
        const results = await this.#bounded(parts, ({ shard, shardIds, sizeBytes }) => {
          const operation: ipb.Operation = {
            operationId: ids.next(),
            traceparent,
            mutation: { $case: "delete", value: { ids: shardIds } },
          };
          return collection.laneOf(shard).write(operation, sizeBytes, ack, childCall(call, span.trace));
        });
        const deleted = results.reduce((sum, { outcome }) => sum + (outcome?.affected ?? 0), 0);
        return { deleted, token: tokenOf(collection, results, parts) };
      },
    );
  }

  /** Writes all parts, if there is room for them: they are held in memory until they are answered. */
  async #bounded<P extends { sizeBytes: number }>(
    parts: readonly P[],
    write: (part: P) => Promise<WriteResult>,
  ): Promise<WriteResult[]> {
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
      return await Promise.all(parts.map(write));
    } finally {
      this.#inFlightBytes -= sizeBytes;
    }
  }
}

interface DeletePart {
  /** Id of the shard. */
  shard: number;
  shardIds: IdKey[];
  sizeBytes: number;
}

/** Splits ids by shard, and each shard's so that a part is one record at most. Deterministic, as splitBatch. */
function splitIds(ids: readonly IdKey[], shardOf: (id: IdKey) => number): DeletePart[] {
  const open = new Map<number, DeletePart>();
  const parts: DeletePart[] = [];
  for (const id of ids) {
    const shard = shardOf(id);
    let part = open.get(shard);
    if (part === undefined || part.sizeBytes > limits.recordBytes) {
      part = { shard, shardIds: [], sizeBytes: 64 };
      open.set(shard, part);
      parts.push(part);
    }
    part.shardIds.push(id);
    part.sizeBytes += id.length + 4;
  }
  return parts;
}

function shardIdOf(collection: RoutedCollection): (id: IdKey) => number {
  return (id) => collection.shardOf(id).id.shard;
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

/** Ids of a call's operations: random, or derived from the idempotency key so that a retry has the same ones. */
class OperationIds {
  readonly #seed: Uint8Array | undefined;
  readonly #random: Random;
  #part = 0;

  constructor(collectionId: string, options: pb.WriteOptions | undefined, random: Random) {
    this.#random = random;
    const key = options?.idempotencyKey ?? "";
    const bytes = Buffer.byteLength(key);
    if (bytes > idempotencyKeyBytes) {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the idempotency key has ${bytes} bytes; at most ${idempotencyKeyBytes} are allowed`,
        {
          details: { sizeBytes: bytes, limitBytes: idempotencyKeyBytes },
        },
      );
    }
    this.#seed = key === "" ? undefined : Buffer.from(`${collectionId}\0${key}\0`);
  }

  next(): Uint8Array {
    if (this.#seed === undefined) return this.#random.bytes(16);
    const part = Buffer.from(String(this.#part++));
    const input = Buffer.concat([this.#seed, part]);
    const id = Buffer.allocUnsafe(16);
    id.writeBigUInt64BE(xxh64(input, 0n), 0);
    id.writeBigUInt64BE(xxh64(input, 0x6b697468n), 8);
    return id;
  }
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
