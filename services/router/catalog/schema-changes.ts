import { type Clock, KithError, sleep, toKithError, withTimeout } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import {
  type CollectionsView,
  type NamedCollection,
  type Operations,
  schemaChangeIdOf,
} from "../../../libs/cluster/index.js";
import {
  changedCollection,
  type Collection,
  type PayloadIndex,
  parsePath,
  type ReplicaStatus,
  type SchemaChange,
} from "../../../libs/model/index.js";
import { payloadIndexTo, type pb } from "../../../libs/wire/index.js";
import { askActive, openStatus } from "../routing/active.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import type { Outages } from "./outage.js";
import { collectionTo, fieldFrom, indexFrom, sparseFrom } from "./collection-wire.js";
import { notFound } from "../access.js";
import { namedCollection } from "./named.js";

/** Pauses between two questions whether an index is built. */
const readyPollMinMs = 5;
const readyPollMaxMs = 200;
/** When a change that met another one is tried again. */
const busyRetryMs = 200;
/** So long it waits for others, of which there may be many: a change of the graphs of a collection is one for each of its fields. */
const othersMaxMs = 10_000;

/** A change before it has its version. */
export type Wish = SchemaChange extends infer C ? (C extends SchemaChange ? Omit<C, "version"> : never) : never;

export interface SchemaChangesOptions {
  view: CollectionsView;
  operations: Operations;
  routingTable: RoutingTable;
  clock: Clock;
  outages: Outages;
}

/**
 * Changes of schemas. The change is put into the collection's record, one at a time; the coordinator brings it into the logs, and then
 * into the record, so that no crash comes between the two.
 */
export class SchemaChanges {
  readonly #options: SchemaChangesOptions;

  constructor(options: SchemaChangesOptions) {
    this.#options = options;
  }

  async createPayloadIndex(
    request: pb.CreatePayloadIndexRequest,
    call: CallContext,
  ): Promise<pb.CreatePayloadIndexResponse> {
    const index = indexFrom(request.index);
    const before = namedCollection(this.#options.view, request.collection, call);
    const isThere = before.record.payloadIndexes.some((each) => isSame(each, index));
    const after = isThere ? before.record : await this.change(before, { kind: "addPayloadIndex", index }, call);
    if (request.wait) await this.#untilReady(after, index.path, call);
    return { collection: this.#toWire(after) };
  }

  async dropPayloadIndex(request: pb.DropPayloadIndexRequest, call: CallContext): Promise<pb.DropPayloadIndexResponse> {
    const before = namedCollection(this.#options.view, request.collection, call);
    const { text: path } = parsePath(request.path);
    return { collection: this.#toWire(await this.change(before, { kind: "dropPayloadIndex", path }, call)) };
  }

  async addVectorField(request: pb.AddVectorFieldRequest, call: CallContext): Promise<pb.AddVectorFieldResponse> {
    const wish = fieldWish(request);
    const before = namedCollection(this.#options.view, request.collection, call);
    return { collection: this.#toWire(await this.change(before, wish, call)) };
  }

  async dropVectorField(request: pb.DropVectorFieldRequest, call: CallContext): Promise<pb.DropVectorFieldResponse> {
    const { name } = request;
    const before = namedCollection(this.#options.view, request.collection, call);
    return { collection: this.#toWire(await this.change(before, { kind: "dropVector", name }, call)) };
  }

  async listPayloadIndexes(
    request: pb.ListPayloadIndexesRequest,
    call: CallContext,
  ): Promise<pb.ListPayloadIndexesResponse> {
    const { name, payloadIndexes } = namedCollection(this.#options.view, request.collection, call).record;
    if (payloadIndexes.length === 0) return { indexes: [] };
    const shards = await this.#statuses(name, call);
    return { indexes: payloadIndexes.map((index) => infoOf(index, shards)) };
  }

  /** Asks for a change, and waits until it is in the logs and in the record. */
  change(before: NamedCollection, wish: Wish, call: CallContext): Promise<Collection> {
    return this.#options.outages.guard(call, (guarded) => this.#bringThrough(before, wish, guarded));
  }

  async #bringThrough({ key, record: before }: NamedCollection, wish: Wish, call: CallContext): Promise<Collection> {
    const { view } = this.#options;
    const { id, name } = before;
    const version = await this.#begin(key, before, wish, call);
    try {
      await view.until(key, (record) => record?.id !== id || record.schemaVersion >= version, call.signal);
    } catch (error) {
      throw this.#notChanged(before, version, toKithError(error));
    }
    const after = view.get(key)?.value;
    if (after?.id !== id) throw notFound(name);
    return { ...after, name };
  }

  /** Puts the change into the record, behind one that is on its way; gives its version. COLLECTION_NOT_READY where that other one takes long. */
  async #begin(key: string, { id, name }: Collection, wish: Wish, call: CallContext): Promise<number> {
    const { view, clock } = this.#options;
    const untilMs = clock.monotonicMs() + othersMaxMs;
    for (;;) {
      let version = 0;
      let isBehind = false;
      try {
        await view.modify(key, (record) => {
          if (record.id !== id || record.state === "deleting") throw notFound(name);
          if (record.state !== "ready") throw busy(name, "its replicas are being placed");
          isBehind = record.change !== undefined;
          if (record.change !== undefined) throw busy(name, `it is on its way to version ${record.change.version}`);
          version = record.schemaVersion + 1;
          const change = { ...wish, version };
          // Refuses what cannot be; the coordinator does the same when it is in the logs.
          changedCollection({ ...record, name }, change);
          return { ...record, change };
        });
        return version;
      } catch (error) {
        const leftMs = untilMs - clock.monotonicMs();
        if (toKithError(error).code === "NOT_FOUND") throw notFound(name, error);
        if (!isBehind || leftMs <= 0) throw error;
        const isOver = (record: Collection | undefined): boolean => record?.id !== id || record.change === undefined;
        await withTimeout(clock, leftMs, (signal) => view.until(key, isOver, signal), call.signal).catch(() => {
          throw error;
        });
      }
    }
  }

  #notChanged({ id, name }: Collection, version: number, cause: KithError): KithError {
    const operation = this.#options.operations.get(schemaChangeIdOf(id, version))?.value;
    const why =
      operation === undefined
        ? "no coordinator has begun to; is one running?"
        : (operation.error?.message ?? "the coordinator is at it");
    return new KithError(
      cause.code,
      `the schema of "${name}" is to become version ${version}, but the change is not in all logs yet: ${why}`,
      { details: { collection: name, operation: schemaChangeIdOf(id, version) }, cause },
    );
  }

  /** Resolves when every active replica answers by the index, or it was dropped again. */
  async #untilReady({ name, schemaVersion }: Collection, path: string, call: CallContext): Promise<void> {
    const { clock } = this.#options;
    const isReady = (status: ReplicaStatus): boolean =>
      status.schemaVersion >= schemaVersion &&
      status.payloadIndexes.every((index) => index.path !== path || index.isReady);
    for (let pauseMs = readyPollMinMs; ; pauseMs = Math.min(readyPollMaxMs, pauseMs * 2)) {
      const shards = await this.#statuses(name, call);
      if (shards.flat().every(isReady)) return;
      await sleep(clock, pauseMs, call.signal);
    }
  }

  /** Of each shard, what its active replicas say; of one where none is active. */
  #statuses(name: string, call: CallContext): Promise<ReplicaStatus[][]> {
    return activeStatuses(this.#options.routingTable, name, call);
  }

  #toWire(record: Collection): pb.Collection {
    return collectionTo(record, this.#options.view.naming);
  }
}

/** Of each shard of a collection, what its active replicas say; of one where none is active. */
export function activeStatuses(table: RoutingTable, name: string, call: CallContext): Promise<ReplicaStatus[][]> {
  const { shards } = table.resolve(name, call);
  const ask = (shard: RoutedShard): Promise<ReplicaStatus[]> =>
    askActive(shard, 0, call, (api, context) => openStatus(api, shard.id, context));
  return Promise.all(shards.map(ask));
}

function fieldWish({ field, sparse }: pb.AddVectorFieldRequest): Wish {
  if (field !== undefined && sparse !== undefined) {
    throw new KithError("INVALID_SCHEMA", "the request names a dense and a sparse field; add one at a time");
  }
  if (field !== undefined) return { kind: "addVector", field: fieldFrom(field) };
  if (sparse !== undefined) return { kind: "addSparse", field: sparseFrom(sparse) };
  throw new KithError("INVALID_SCHEMA", "the request names no vector field");
}

function infoOf(index: PayloadIndex, shards: readonly ReplicaStatus[][]): pb.PayloadIndexInfo {
  const info = { index: payloadIndexTo(index), ready: true, pointCount: 0, valuePointCount: 0, memoryBytes: 0 };
  for (const replicas of shards) {
    const said = replicas.map(({ payloadIndexes }) => payloadIndexes.find(({ path }) => path === index.path));
    info.ready &&= said.every((each) => each?.isReady === true);
    const [first] = said;
    info.pointCount += first?.pointCount ?? 0;
    info.valuePointCount += first?.valuePointCount ?? 0;
    info.memoryBytes += first?.memoryBytes ?? 0;
  }
  return info;
}

function isSame(a: PayloadIndex, b: PayloadIndex): boolean {
  const bytesOf = (index: PayloadIndex): string => JSON.stringify(payloadIndexTo(index));
  return bytesOf(a) === bytesOf(b);
}

function busy(name: string, why: string): KithError {
  return new KithError(
    "COLLECTION_NOT_READY",
    `the schema of "${name}" cannot be changed now: ${why}; try again later`,
    {
      details: { collection: name },
      retryAfterMs: busyRetryMs,
    },
  );
}
