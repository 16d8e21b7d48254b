import { abortReason, AssertionError, crc32c, KithError, withAbort } from "../../base/index.js";
import { idMapKey } from "../../model/index.js";
import type { LogEntry } from "../../log/index.js";
import type { WriteBatch } from "../../storage/index.js";
import { histogramOf, metricsEnabled, type Span, startSpan, traceFrom } from "../../telemetry/index.js";
import { decodeRecord, type ipb, mutationHashes, pb, recordFormatMax } from "../../wire/index.js";
import { formatDigest } from "./digest.js";
import { FinalState } from "./final-state.js";
import { gapFault, newerFault, recordFault } from "../replica/faults.js";
import type { RowChanges } from "../index/changes.js";
import { noFailures, type Outcome, refusal } from "./outcome.js";
import { encodeOutcomes } from "./outcome-codec.js";
import { reuseKey } from "./outcomes.js";
import { changedSchema, isKnownChange } from "./schema-change.js";
import { encodeSchema, type Schema, type StoreState, toJson } from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { checkIds, deletePoints, prepareUpsert, upsertPoints } from "./upserts.js";
import { payloadBytesOf, type TouchedPoint, WriteSet } from "./write-set.js";

const applyDuration = histogramOf("kith.replica.apply.duration");

interface DecodedEntry {
  sequence: number;
  data: Uint8Array;
  record: ipb.LogRecord;
  span: Span | undefined;
  /** Aligned with the record's operations, as the next: what tells a retry from another operation with its id. */
  contentHashes: readonly number[];
  /** The points that each touches. */
  points: TouchedPoint[][];
}

/** What a batch of records changes in memory, once it is written. */
interface Change {
  state: StoreState;
  schema: Schema;
  digest: bigint;
  rows: RowChanges;
}

/** An operation id; one of another length is not remembered. */
const idBytes = 16;

function keyReused(): KithError {
  return new KithError(
    "INVALID_ARGUMENT",
    "the idempotency key was used for another write before; this one had no effect here: send it again with a key of its own",
  );
}

/** Whether this version knows what the operation is: skipped, it would make replicas of different versions differ. */
function isKnown({ mutation }: ipb.Operation): boolean {
  switch (mutation?.$case) {
    case "upsert": {
      const { mode } = mutation.value;
      return mode >= pb.UpsertMode.UNSPECIFIED && mode <= pb.UpsertMode.UPDATE_ONLY;
    }
    case "delete":
      return true;
    case "changeSchema":
      return isKnownChange(mutation.value);
    default:
      return false;
  }
}

/** Whether a record is applied by itself, so that a batch knows one schema before and one after it. */
function changesSchema({ record }: DecodedEntry): boolean {
  return record.operations.some(({ mutation }) => mutation?.$case === "changeSchema");
}

/** Applies the log's records to an open replica: one LevelDB batch, then one step in memory. */
export class Applier {
  readonly #replica: OpenReplica;

  constructor(replica: OpenReplica) {
    this.#replica = replica;
  }

  /**
   * Applies consecutive entries. Rejects with what stopped the open replica; where an entry is missing or cannot be read, with
   * a fault that leaves the open replica as it is after the entries before, or before some of them.
   */
  async apply(entries: readonly LogEntry[]): Promise<void> {
    const { batchPoints, batchBytes } = this.#replica.context.tuning;
    let chunk: DecodedEntry[] = [];
    let points = 0;
    let sizeBytes = 0;
    let expected = this.#replica.appliedSequence + 1;
    for (const entry of entries) {
      if (entry.sequence !== expected++) throw gapFault(expected - 1, entry.sequence);
      const decoded = this.#decode(entry);
      const isAlone = changesSchema(decoded);
      if (isAlone && chunk.length > 0) {
        await this.#applyChunk(chunk);
        chunk = [];
      }
      chunk.push(decoded);
      sizeBytes += entry.data.length;
      for (const { mutation } of decoded.record.operations) {
        if (mutation?.$case === "upsert" || mutation?.$case === "delete") points += mutation.value.ids.length;
      }
      if (!isAlone && points < batchPoints && sizeBytes < batchBytes) continue;
      await this.#applyChunk(chunk);
      chunk = [];
      points = 0;
      sizeBytes = 0;
    }
    if (chunk.length > 0) await this.#applyChunk(chunk);
  }

  #decode(entry: LogEntry): DecodedEntry {
    let record: ipb.LogRecord;
    try {
      record = decodeRecord(entry.data);
    } catch (error) {
      throw recordFault(entry.sequence, error);
    }
    if (record.format > recordFormatMax || !record.operations.every(isKnown)) {
      throw this.#replica.fail(newerFault(entry.sequence));
    }
    const links = record.operations.map((operation) => operation.traceparent).filter((each) => each !== "");
    const parent = entry.traceparent ?? links[0];
    const span =
      parent === undefined
        ? undefined
        : startSpan(traceFrom(parent), "replica.apply", {
            role: "consumer",
            links,
            attributes: { sequence: entry.sequence, operations: record.operations.length },
          });
    return {
      sequence: entry.sequence,
      data: entry.data,
      record,
      span,
      contentHashes: mutationHashes(entry.data),
      points: [],
    };
  }

  async #applyChunk(chunk: readonly DecodedEntry[]): Promise<void> {
    const replica = this.#replica;
    const { clock } = replica.context;
    const startMs = metricsEnabled() ? clock.monotonicMs() : 0;
    try {
      const writeSet = new WriteSet(replica.store);
      for (const entry of chunk) {
        for (const { mutation } of entry.record.operations) {
          const ids = mutation?.$case === "upsert" || mutation?.$case === "delete" ? mutation.value.ids : [];
          entry.points.push(writeSet.touch(ids));
        }
      }
      await writeSet.readHeads();
      if (replica.stopped.aborted) throw abortReason(replica.stopped);
      const batch = replica.store.batch();
      const change = this.#evaluate(chunk, writeSet, batch);
      // Back-pressure of the indexes, before the write: what is written becomes visible at once. They have the rows of the
      // batches before, up to their bound, to go on with meanwhile.
      await withAbort(replica.indexes.accepted(), replica.stopped);
      await replica.fairLock.write(() => this.#write(batch, change));
    } catch (error) {
      for (const { span } of chunk) span?.end(error);
      throw replica.stopped.aborted && replica.fault === undefined ? error : replica.fail(error);
    }
    for (const { span } of chunk) span?.end();
    if (startMs > 0) applyDuration.record((clock.monotonicMs() - startMs) / 1000 / chunk.length);
    replica.context.onApplied(replica.appliedSequence);
  }

  /** First the disk, then the memory. */
  async #write(batch: WriteBatch, change: Change): Promise<void> {
    const replica = this.#replica;
    const written = replica.store.write(batch);
    replica.writing = written;
    replica.writtenSequence = change.state.appliedSequence;
    replica.writeEpoch++;
    await written;
    if (replica.stopped.aborted) throw abortReason(replica.stopped);
    this.#commit(change);
    replica.writeEpoch++;
  }

  /** Runs the records in order and puts what they change into the batch. */
  #evaluate(chunk: readonly DecodedEntry[], writeSet: WriteSet, batch: WriteBatch): Change {
    const replica = this.#replica;
    let { schema } = replica;
    for (const { sequence, record, contentHashes, points } of chunk) {
      const forgotten = replica.outcomes.advance(record.appendedAtMs);
      const done = new Map<string, Outcome>();
      for (const [i, operation] of record.operations.entries()) {
        const id = idMapKey(operation.operationId);
        const contentHash = contentHashes[i];
        const first = replica.outcomes.applied(id) ?? done.get(id);
        if (first !== undefined && first.refused === undefined) {
          const isSame = first.contentHash === undefined || first.contentHash === contentHash;
          if (!isSame) done.set(reuseKey(id, sequence), refusal(keyReused()));
          continue;
        }
        const outcome = this.#attempt(sequence, () => {
          if (operation.mutation?.$case !== "changeSchema") {
            return evaluate(operation, points[i] as TouchedPoint[], schema, sequence);
          }
          schema = changedSchema(schema, operation.mutation.value);
          return { affected: 0, failures: noFailures };
        });
        if (id.length === idBytes) done.set(id, { ...outcome, contentHash });
      }
      if (done.size > 0) {
        const outcomes = Array.from(done, ([id, outcome]) => ({ id, outcome }));
        batch.putOutcomes(sequence, encodeOutcomes(replica.outcomes.time.logTimeMs, outcomes));
        forgotten.push(...replica.outcomes.remember(sequence, outcomes));
      }
      for (const old of forgotten) batch.deleteOutcomes(old);
    }
    const change = this.#put(writeSet, batch, schema, chunk[chunk.length - 1] as DecodedEntry);
    batch.putMeta("state", toJson(change.state));
    if (schema !== replica.schema) batch.putMeta("schema", encodeSchema(schema));
    return change;
  }

  /** What an operation does; what got past a router, though it cannot be done, is refused as a whole. */
  #attempt(sequence: number, operation: () => Outcome): Outcome {
    try {
      return operation();
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      this.#replica.context.onAlarm({
        kind: "operation_refused",
        message: `record ${sequence} holds an operation that no router should have let through: ${error.message}`,
      });
      return refusal(error);
    }
  }

  /** Puts the final state of every touched point into the batch. */
  #put(writeSet: WriteSet, batch: WriteBatch, schema: Schema, last: DecodedEntry): Change {
    const replica = this.#replica;
    const final = new FinalState(replica, batch, schema);
    for (const point of writeSet.points.values()) final.put(point);
    const { rows, digest, fieldCounts } = final;
    const state: StoreState = {
      appliedSequence: last.sequence,
      lastChecksum: crc32c(last.data),
      digest: formatDigest(digest),
      ...replica.outcomes.time,
      slotEnd: replica.slots.end,
      pointCount: replica.pointCount + rows.insertedSlots.length - rows.tombstoneSlots.length,
      fieldCounts,
    };
    return { state, schema, digest, rows };
  }

  /** Makes the written batch visible. Synchronous: no query sees a part of it. */
  #commit(change: Change): void {
    const replica = this.#replica;
    const { slots, payloads, indexes } = replica;
    const { rows, schema, state } = change;
    if (schema !== replica.schema) replica.changeSchema(schema);
    const { insertedSlots, insertedPoints, tombstoneSlots, updatedSlots, updatedPoints } = rows;
    const { restampedSlots, restampedPoints } = rows;
    for (const slot of tombstoneSlots) {
      slots.tombstone(slot);
      payloads.delete(slot);
    }
    for (let i = 0; i < insertedSlots.length; i++) {
      const point = insertedPoints[i] as TouchedPoint;
      slots.insert(insertedSlots[i] as number, point.id, point.version, payloadBytesOf(point) > 0);
    }
    for (let i = 0; i < updatedSlots.length; i++) {
      const slot = updatedSlots[i] as number;
      const point = updatedPoints[i] as TouchedPoint;
      slots.update(slot, point.version, payloadBytesOf(point) > 0);
      payloads.delete(slot);
    }
    for (let i = 0; i < restampedSlots.length; i++) {
      const point = restampedPoints[i] as TouchedPoint;
      slots.update(restampedSlots[i] as number, point.version, payloadBytesOf(point) > 0);
    }
    indexes.apply(rows);
    replica.masks.apply(rows);
    replica.digest = change.digest;
    replica.fieldCounts = state.fieldCounts;
    replica.appliedSequence = state.appliedSequence;
    replica.lastChecksum = state.lastChecksum;
    replica.changedRows += insertedSlots.length + tombstoneSlots.length + updatedSlots.length;
  }
}

function evaluate(
  { mutation }: ipb.Operation,
  points: readonly TouchedPoint[],
  schema: Schema,
  sequence: number,
): Outcome {
  switch (mutation?.$case) {
    case "upsert": {
      const upsert = prepareUpsert(schema, mutation.value, sequence);
      return upsertPoints(upsert, mutation.value.mode, points);
    }
    case "delete":
      checkIds(mutation.value.ids);
      return deletePoints(points);
    default:
      throw new AssertionError("an operation of an unknown kind was let through");
  }
}
