import { abortReason, assert, AssertionError, crc32c, deferred, KithError, withAbort } from "../../base/index.js";
import { idMapKey, type IdKey } from "../../model/index.js";
import type { LogEntry } from "../../log/index.js";
import type { WriteBatch } from "../../storage/index.js";
import { histogramOf, metricsEnabled, type Span, startSpan, traceFrom } from "../../telemetry/index.js";
import { decodeRecord, type ipb, mutationHashes, recordFormatMax } from "../../wire/index.js";
import { formatDigest } from "../../hash/index.js";
import { adopt, clearWhere, isCovered, isWhole } from "./adopt.js";
import { encodeChanges, type SeenRecord } from "./change-feed.js";
import { ChangeNotes, seenChanges } from "./change-notes.js";
import { FinalState } from "./final-state.js";
import { forgottenFault, gapFault, newerFault, recordFault } from "../replica/faults.js";
import type { RowChanges } from "../index/changes.js";
import { noFailures, type Outcome, refusal } from "./outcome.js";
import { encodeOutcomes } from "./outcome-codec.js";
import {
  idsOf,
  isAlone,
  isKnown,
  isTargeted,
  mayBeRefusedForAll,
  mutationOf,
  readsParts,
  readsVectors,
  ruleOf,
} from "./mutation.js";
import { partOf } from "./part-of-record.js";
import { reuseKey } from "./outcomes.js";
import { changedSchema } from "./schema-change.js";
import { TargetedWrites } from "./targeted-write.js";
import { truncate } from "./truncate.js";
import { Turns } from "./turns.js";
import { slotsAt } from "../recover/lineage.js";
import { ownsOf } from "../recover/share.js";
import {
  type Adoption,
  encodeSchema,
  type Schema,
  type StoreState,
  toJson,
  vectorFieldsOf,
} from "../recover/schema.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { checkIds, deletePoints, prepareUpsert, upsertPoints } from "./upserts.js";
import { expiryOf, payloadBytesOf, type TouchedPoint, WriteSet } from "./write-set.js";

const applyDuration = histogramOf("kith.replica.apply.duration");

interface DecodedEntry {
  sequence: number;
  data: Uint8Array;
  /** Of the record as the log keeps it; undefined: that is `data`. */
  checksum: number | undefined;
  record: ipb.LogRecord;
  span: Span | undefined;
  /** Aligned with the record's operations, as the next: what tells a retry from another operation with its id. */
  contentHashes: readonly (number | undefined)[];
  /** Whether it ends the log. */
  isSeal: boolean;
  /** What was not looked at may have had its operations refused: to be asked for. */
  isAsked: boolean;
  /** The points that each touches. */
  points: TouchedPoint[][];
  /** Of each, which points it is about, where other shards have done a part of it: undefined for all. */
  about: readonly (About | undefined)[];
}

type About = (id: IdKey) => boolean;

/** What of an operation is still to be done. */
interface Rest {
  operation: ipb.Operation;
  hash: number | undefined;
  about: About | undefined;
}

/** What a batch of records changes in memory, once it is written. */
interface Change {
  state: StoreState;
  schema: Schema;
  digest: bigint;
  /** All points of before are gone; the rows are of those that came afterwards. */
  isTruncated: boolean;
  rows: RowChanges;
  /** What the replica has of shards that are merged into its own. */
  adoption: Adoption | undefined;
  /** Points that the records changed, and what these were and are, where somebody watches. */
  changed: { count: number; seen: readonly SeenRecord[] | undefined };
}

/** Payloads that are read at once for the mutations of a batch of records, in bytes. */
const preloadedBytes = 16 * 1024 * 1024;
/** After each record whose sequence is a multiple of it all replicas tell their digest. */
const digestMarkEvery = 256;
/** Rows of indexes that change in one step; beyond them, so many at a time. */
const stepRows = 4_096;
const pieceRows = 256;
/** An operation id; one of another length is not remembered. */
const idBytes = 16;

function keyReused(): KithError {
  return new KithError(
    "INVALID_ARGUMENT",
    "the idempotency key was used for another write before; this one had no effect here: send it again with a key of its own",
  );
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
      if (decoded.isSeal) {
        if (chunk.length > 0) await this.#applyChunk(chunk);
        // What stands behind it counts for nothing.
        return this.#applyChunk([decoded]);
      }
      // What was before a record is what is stored, for those who watch.
      const stands = this.#replica.changes.wants !== undefined || decoded.record.operations.some(isAlone);
      if (stands && chunk.length > 0) {
        await this.#applyChunk(chunk);
        chunk = [];
      }
      chunk.push(decoded);
      sizeBytes += entry.data.length;
      for (const operation of decoded.record.operations) points += idsOf(operation).length;
      const isMark = entry.sequence % digestMarkEvery === 0;
      if (!stands && !isMark && points < batchPoints && sizeBytes < batchBytes) continue;
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
    const { follows } = this.#replica.identity;
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
    const common = {
      sequence: entry.sequence,
      data: entry.data,
      checksum: entry.checksum,
      span,
      isSeal: record.operations.some(({ mutation }) => mutation?.$case === "seal"),
      points: [],
    };
    if (follows === undefined) {
      const contentHashes = mutationHashes(entry.data);
      return { ...common, ...this.#withoutDone({ record, contentHashes }), isAsked: false };
    }
    const owns = ownsOf(follows);
    const operations = record.operations.flatMap((operation) => partOf(operation, owns) ?? []);
    // A retry that finds its way to this shard is another cut of the same call, whose content cannot be compared.
    const contentHashes = operations.map(() => undefined);
    const part = this.#withoutDone({ record: { ...record, operations }, contentHashes });
    return { ...common, ...part, isAsked: mayBeRefusedForAll(record) };
  }

  /** Leaves out what shards that were merged into this one have done of the operations already. */
  #withoutDone({
    record,
    contentHashes,
  }: Pick<DecodedEntry, "record" | "contentHashes">): Pick<DecodedEntry, "record" | "contentHashes" | "about"> {
    const { outcomes } = this.#replica;
    if (!outcomes.mayHaveOpen) return { record, contentHashes, about: [] };
    const kept = record.operations.flatMap((operation, i): Rest[] => {
      const first = outcomes.applied(idMapKey(operation.operationId));
      if (first?.isOpen !== true) return [{ operation, hash: contentHashes[i], about: undefined }];
      const about: About = (id) => !isCovered(first.former ?? [], id);
      const rest = partOf(operation, about);
      return rest === undefined ? [] : [{ operation: rest, hash: undefined, about }];
    });
    return {
      record: { ...record, operations: kept.map(({ operation }) => operation) },
      contentHashes: kept.map(({ hash }) => hash),
      about: kept.map(({ about }) => about),
    };
  }

  async #applyChunk(chunk: readonly DecodedEntry[]): Promise<void> {
    const replica = this.#replica;
    const { clock } = replica.context;
    const startMs = metricsEnabled() ? clock.monotonicMs() : 0;
    try {
      const writeSet = new WriteSet(replica.store);
      for (const entry of chunk) {
        for (const operation of entry.record.operations) entry.points.push(writeSet.touch(idsOf(operation)));
      }
      await writeSet.readHeads();
      if (replica.stopped.aborted) throw abortReason(replica.stopped);
      const batch = replica.store.batch();
      const turns = new Turns(clock, replica.stopped);
      const change = await this.#evaluate(chunk, writeSet, batch, turns);
      // Back-pressure of the indexes, before the write: what is written becomes visible at once. They have the rows of the
      // batches before, up to their bound, to go on with meanwhile.
      await withAbort(replica.indexes.accepted(), replica.stopped);
      // Who hears that the end of the log is applied may let the log go.
      const sync = chunk.some(({ isSeal }) => isSeal);
      await replica.fairLock.write(() => this.#write(batch, change, turns, sync));
    } catch (error) {
      for (const { span } of chunk) span?.end(error);
      throw replica.stopped.aborted && replica.fault === undefined ? error : replica.fail(error);
    }
    for (const { span } of chunk) span?.end();
    if (startMs > 0) applyDuration.record((clock.monotonicMs() - startMs) / 1000 / chunk.length);
    replica.context.onApplied(replica.appliedSequence);
  }

  /** First the disk, then the memory. */
  async #write(batch: WriteBatch, change: Change, turns: Turns, sync: boolean): Promise<void> {
    const replica = this.#replica;
    const written = replica.store.write(batch, { sync });
    replica.writing = written;
    replica.writtenSequence = change.state.appliedSequence;
    replica.writeEpoch++;
    await written;
    if (replica.stopped.aborted) throw abortReason(replica.stopped);
    await this.#commit(change, turns);
    replica.writeEpoch++;
  }

  /** Runs the records in order and puts what they change into the batch. */
  async #evaluate(
    chunk: readonly DecodedEntry[],
    writeSet: WriteSet,
    batch: WriteBatch,
    turns: Turns,
  ): Promise<Change> {
    const replica = this.#replica;
    let { schema } = replica;
    let isTruncated = false;
    let { adoption } = replica;
    const targeted = new TargetedWrites(replica, writeSet, turns);
    const notes = new ChangeNotes(writeSet);
    // Somebody may have begun to watch since the batch was put together.
    const wants = chunk.length === 1 ? replica.changes.wants : undefined;
    const seen: SeenRecord[] = [];
    await this.#preload(chunk, writeSet);
    for (const { sequence, record, contentHashes, points, isAsked, about } of chunk) {
      const forgotten = replica.outcomes.advance(record.appendedAtMs);
      const done = new Map<string, Outcome & { sequence?: number }>();
      const nowMs = record.appendedAtMs;
      const rewritten = { bytes: 0 };
      notes.before(sequence, points, nowMs);
      for (const [i, operation] of record.operations.entries()) {
        const id = idMapKey(operation.operationId);
        const contentHash = contentHashes[i];
        const known = replica.outcomes.applied(id);
        const first = known?.isOpen === true ? (done.get(id) ?? known) : (known ?? done.get(id));
        if (first !== undefined && first.refused === undefined && first.isOpen !== true) {
          const isCutAnew = slotsAt(replica.lineage, first.sequence ?? sequence) !== undefined;
          const hashes = [first.contentHash, contentHash];
          const isSame = isCutAnew || hashes.includes(undefined) || first.contentHash === contentHash;
          if (!isSame) done.set(reuseKey(id, sequence), refusal(keyReused()));
          continue;
        }
        const mutation = mutationOf(operation);
        const touched = points[i] as TouchedPoint[];
        let outcome: Outcome;
        const refused = isAsked ? await this.#refusedForAll(sequence, operation.operationId) : undefined;
        if (refused !== undefined) {
          outcome = refused;
        } else if (mutation !== undefined && isTargeted(mutation)) {
          const place = { sequence, schema, nowMs, rewritten, about: about[i] };
          const result = await targeted.evaluate(mutation, ruleOf(operation), touched, place);
          outcome = result instanceof KithError ? this.#refused(sequence, result) : result;
        } else if (mutation?.$case === "adopt") {
          const place = { sequence, nowMs, schema, adoption, known: (each: string) => replica.outcomes.applied(each) };
          const adopted = await adopt(mutation.value, touched, place, replica, writeSet, turns);
          if (adopted !== undefined) ({ schema, adoption } = adopted);
          for (const each of adopted?.outcomes ?? []) done.set(...each);
          continue;
        } else if (mutation?.$case === "truncate" && about[i] !== undefined) {
          outcome = { affected: await clearWhere(about[i], nowMs, replica, writeSet, turns), failures: noFailures };
        } else if (mutation?.$case === "truncate") {
          const affected = await truncate(replica, writeSet, batch, schema, nowMs, isTruncated, turns);
          outcome = { affected, failures: noFailures };
          isTruncated = true;
        } else {
          outcome = this.#attempt(sequence, () => {
            const isNothing = mutation?.$case === "seal" || (mutation?.$case === "changeSchema" && first?.isOpen);
            // What the other shards had changed was adopted with them.
            if (isNothing) return { affected: 0, failures: noFailures };
            if (mutation?.$case !== "changeSchema") return evaluate(operation, touched, schema, sequence, nowMs);
            schema = changedSchema(schema, mutation.value);
            return { affected: 0, failures: noFailures };
          });
        }
        if (id.length !== idBytes) continue;
        if (first?.isOpen !== true) done.set(id, { ...outcome, contentHash });
        // What the others did stays known.
        else if (outcome.refused !== undefined) done.set(reuseKey(id, sequence), outcome);
        else done.set(id, { ...outcome, former: first.former });
      }
      if (done.size > 0) {
        const outcomes = Array.from(done, ([id, outcome]) => ({ id, outcome }));
        batch.putOutcomes(sequence, encodeOutcomes(replica.outcomes.time.logTimeMs, outcomes));
        forgotten.push(...replica.outcomes.remember(sequence, outcomes));
      }
      for (const old of forgotten) batch.deleteOutcomes(old);
      // What is adopted was changed in the logs of other shards.
      const isAdoption = record.operations.some(({ mutation }) => mutation?.$case === "adopt");
      const noted = isAdoption ? [] : await notes.after(chunk.length === 1, isTruncated, turns);
      let part = 0;
      for (const body of encodeChanges(noted)) {
        batch.putChanges(sequence, part++, body);
        if (turns.isDue()) await turns.pass();
      }
      if (wants !== undefined) {
        seen.push(await seenChanges(sequence, noted, wants, writeSet, replica.store, vectorFieldsOf(schema)));
      }
    }
    const isSealed = chunk.some(({ isSeal }) => isSeal);
    const left = { schema, isTruncated, adoption };
    const put = await this.#put(writeSet, batch, left, chunk[chunk.length - 1] as DecodedEntry, turns);
    const { incarnation } = replica.identity;
    if (isSealed) put.state.sealed = { at: put.state.appliedSequence, incarnation };
    const change = { ...put, changed: { count: notes.count, seen: wants && seen } };
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
      return this.#refused(sequence, error);
    }
  }

  /** Whether the operation was refused for what it would have done to all points of the shard that is followed. */
  async #refusedForAll(sequence: number, operationId: Uint8Array): Promise<Outcome | undefined> {
    const { context, stopped, identity } = this.#replica;
    assert(
      context.told !== undefined && identity.follows !== undefined,
      "a replica follows another shard's log, and cannot ask that shard's replicas",
    );
    const [told] = await context.told(identity.follows.shard, sequence, [operationId], stopped);
    if (!(told instanceof KithError)) return undefined;
    // It is remembered no more: only a copy of a later state has what it did.
    if (told.code === "FAILED_PRECONDITION") throw this.#replica.fail(forgottenFault(sequence, told));
    return refusal(told);
  }

  #refused(sequence: number, error: KithError): Outcome {
    this.#replica.context.onAlarm({
      kind: "operation_refused",
      message: `record ${sequence} holds an operation that no router should have let through: ${error.message}`,
    });
    return refusal(error);
  }

  /** Reads in one go what mutations of parts need of the points that they name: one read for each costs 60 µs. */
  async #preload(chunk: readonly DecodedEntry[], writeSet: WriteSet): Promise<void> {
    const points: TouchedPoint[] = [];
    let vectors = false;
    let sizeBytes = 0;
    for (const { record, points: touched } of chunk) {
      for (const [i, operation] of record.operations.entries()) {
        if (!readsParts(operation)) continue;
        vectors ||= readsVectors(operation);
        for (const point of touched[i] as TouchedPoint[]) {
          sizeBytes += (point.before?.payloadBytes ?? 0) + 1;
          if (sizeBytes > preloadedBytes) break;
          points.push(point);
        }
      }
    }
    const fields = vectorFieldsOf(this.#replica.schema);
    if (points.length > 0) await writeSet.load(new Set(points), { payload: true, vectors }, fields);
  }

  /** Puts the final state of every touched point into the batch. */
  async #put(
    writeSet: WriteSet,
    batch: WriteBatch,
    { schema, isTruncated, adoption }: Pick<Change, "schema" | "isTruncated" | "adoption">,
    last: DecodedEntry,
    turns: Turns,
  ): Promise<Omit<Change, "changed">> {
    const replica = this.#replica;
    const final = new FinalState(replica, batch, schema, isTruncated);
    for (const point of writeSet.points.values()) {
      final.put(point);
      if (turns.isDue()) await turns.pass();
    }
    const { rows, digest, fieldCounts } = final;
    // Changes are told of from the first record on that clients have written.
    const isAdopting = adoption !== undefined && !isWhole(replica.adoption);
    const state: StoreState = {
      appliedSequence: last.sequence,
      lastChecksum: last.checksum ?? crc32c(last.data),
      digest: formatDigest(digest),
      ...replica.outcomes.time,
      slotEnd: replica.slots.end,
      pointCount: (isTruncated ? 0 : replica.pointCount) + rows.insertedSlots.length - rows.tombstoneSlots.length,
      fieldCounts,
      changes: { from: isAdopting ? last.sequence : replica.changes.from, store: replica.identity.storeId },
      ...(adoption && { adoption }),
    };
    return { state, schema, digest, isTruncated, rows, adoption };
  }

  /**
   * Makes the written batch visible: in one step, so that no query sees a part of it. What is too large for a step without letting
   * others run comes in several; the sequence rises with the last. Queries may meet rows of it meanwhile, as they may meet
   * those of any batch that came after they began, and nothing else is begun upon such a state (`whole`).
   */
  async #commit(change: Change, turns: Turns): Promise<void> {
    const { rows, schema, state, digest, isTruncated, changed } = change;
    const replica = this.#replica;
    if (isTruncated) replica.empty();
    if (schema !== replica.schema) replica.changeSchema(schema);
    if (rows.size <= stepRows) this.#show(rows);
    else {
      const shown = deferred<void>();
      replica.whole = shown.promise;
      try {
        for (const piece of rows.pieces(pieceRows)) {
          this.#show(piece);
          if (turns.isDue(pieceRows)) await turns.pass();
        }
      } finally {
        replica.whole = undefined;
        shown.resolve();
      }
    }
    replica.masks.age();
    replica.digest = digest;
    replica.fieldCounts = state.fieldCounts;
    replica.appliedSequence = state.appliedSequence;
    if (state.appliedSequence % digestMarkEvery === 0) replica.markDigest();
    replica.lastChecksum = state.lastChecksum;
    if (state.sealed !== undefined) replica.sealedAt = state.sealed.at;
    replica.changedRows += rows.size;
    if (change.adoption !== replica.adoption) {
      replica.adoption = change.adoption;
      replica.changes.beginBehind(state.appliedSequence);
    }
    replica.changes.applied(state.appliedSequence, changed.count, changed.seen);
  }

  #show(rows: RowChanges): void {
    const { slots, expiries, payloads, indexes, masks } = this.#replica;
    const { insertedSlots, insertedPoints, tombstoneSlots, updatedSlots, updatedPoints } = rows;
    const { restampedSlots, restampedPoints } = rows;
    for (const slot of tombstoneSlots) {
      slots.tombstone(slot);
      expiries.delete(slot);
      payloads.delete(slot);
    }
    for (let i = 0; i < insertedSlots.length; i++) {
      const point = insertedPoints[i] as TouchedPoint;
      slots.insert(insertedSlots[i] as number, point.id, point.version, payloadBytesOf(point) > 0);
      expiries.set(insertedSlots[i] as number, expiryOf(point));
    }
    for (let i = 0; i < updatedSlots.length; i++) {
      const slot = updatedSlots[i] as number;
      const point = updatedPoints[i] as TouchedPoint;
      slots.update(slot, point.version, payloadBytesOf(point) > 0);
      expiries.set(slot, expiryOf(point));
      payloads.delete(slot);
    }
    for (let i = 0; i < restampedSlots.length; i++) {
      const point = restampedPoints[i] as TouchedPoint;
      slots.update(restampedSlots[i] as number, point.version, payloadBytesOf(point) > 0);
      expiries.set(restampedSlots[i] as number, expiryOf(point));
    }
    indexes.apply(rows);
    masks.apply(rows);
  }
}

/** An operation that says itself what its points become. */
function evaluate(
  { mutation }: ipb.Operation,
  points: readonly TouchedPoint[],
  schema: Schema,
  sequence: number,
  nowMs: number,
): Outcome {
  switch (mutation?.$case) {
    case "upsert": {
      const upsert = prepareUpsert(schema, mutation.value, sequence);
      return upsertPoints(upsert, mutation.value.mode, points, nowMs);
    }
    case "delete":
      checkIds(mutation.value.ids);
      return deletePoints(points, nowMs);
    default:
      throw new AssertionError("an operation of an unknown kind was let through");
  }
}
