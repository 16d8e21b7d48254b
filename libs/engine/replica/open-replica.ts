import { LRUCache } from "lru-cache";
import type { Runtime } from "../../base/index.js";
import type { FollowedShard, GenerationRecall } from "../../model/index.js";
import type { PointStore } from "../../storage/index.js";
import { faultOf, type ReplicaFault, textOf } from "./faults.js";
import type { IndexKind } from "../index/derived-index.js";
import type { IndexSet } from "../index/index-set.js";
import type { Alarm, AskFollowed, IndexFactory, ReplicaTuning } from "./options.js";
import { ChangeFeed } from "../apply/change-feed.js";
import type { OutcomeWindow } from "../apply/outcomes.js";
import type { Lineage } from "../recover/lineage.js";
import { type Adoption, type Schema, type StoreIdentity, vectorFieldsOf } from "../recover/schema.js";
import type { SlotTable } from "../index/slots.js";
import { FairLock } from "../read/fair-lock.js";
import { Expiries } from "../read/expiries.js";
import { type Measured } from "../recall/measure.js";
import { RecallKeeper } from "../recall/keeper.js";
import { type GenerationPair, ShadowReads } from "../recall/shadow-reads.js";
import { IndexUsage } from "../read/index-usage.js";
import { Masks } from "../read/masks.js";

const digestMarksMax = 4;

/** What an open replica is given by its replica. */
export interface ReplicaContext extends Runtime {
  directory: string;
  tuning: ReplicaTuning;
  /** Aborted when the replica is closed: ends a migration under way. */
  closing: AbortSignal;
  /** How often what was applied is flushed, at least. Milliseconds. */
  flushEveryMs: () => number;
  /** The indexes that the schema asks for. */
  kindsOf(schema: Schema): readonly IndexKind[];
  /** Where indexes come from that are made for a read; missing where nothing is read. */
  readonly indexes?: IndexFactory | undefined;
  onAlarm(alarm: Alarm): void;
  /** What a replica that has none yet follows in place of a log of its own. */
  readonly follows?: (() => FollowedShard | undefined) | undefined;
  /** The sequence behind which its log begins; missing: 0. */
  readonly beginsBehind?: number | undefined;
  /** Of the shard that is followed. FAILED_PRECONDITION as an outcome where nobody knows it any more. */
  readonly told?: AskFollowed | undefined;
  /** Called after each batch of records has become visible. */
  onApplied(sequence: number): void;
  /** Called once, when the open replica cannot go on. */
  onFault(fault: ReplicaFault): void;
}

/** The parts that recovery puts together. */
export interface OpenReplicaParts {
  store: PointStore;
  identity: StoreIdentity;
  schema: Schema;
  slots: SlotTable;
  /** When points expire, by slot: of those that do. */
  expiries: ReadonlyMap<number, number>;
  indexes: IndexSet;
  outcomes: OutcomeWindow;
  appliedSequence: number;
  lastChecksum: number | undefined;
  digest: bigint;
  fieldCounts: number[];
  /** The changes of all records behind this one are in the store. */
  changesFrom: number;
  sealedAt: number | undefined;
  lineage: Lineage;
  adoption: Adoption | undefined;
}

/**
 * One opening of a replica's directory: the store, and in memory what is derived from it. Ends with a fault or a close;
 * the replica then opens a new one. What is here changes only in one step per batch of records (`commit` in apply.ts),
 * so that whoever reads between two awaits sees one state.
 */
export class OpenReplica {
  readonly context: ReplicaContext;
  readonly store: PointStore;
  readonly slots: SlotTable;
  readonly outcomes: OutcomeWindow;
  readonly indexes: IndexSet;
  /** Which points have expired. */
  readonly expiries: Expiries;
  /** What records changed. */
  readonly changes: ChangeFeed;
  /** By slot. */
  readonly payloads: LRUCache<number, Uint8Array>;
  readonly #stop = new AbortController();
  readonly #inFolder = new Set<Promise<unknown>>();
  /** Between the applier and queries that need it to stand still. */
  readonly fairLock = new FairLock(this.#stop.signal);
  schema: Schema;
  /** Which slots pass the filters that are asked for. */
  readonly masks = new Masks(this);
  identity: StoreIdentity;
  /** What filters and facets ask of payload indexes. */
  readonly usage: IndexUsage;
  /** As it is in memory: what queries find. */
  appliedSequence: number;
  /** CRC-32C of the record `appliedSequence`, where it is known. */
  lastChecksum: number | undefined;
  /** Flushed to the disk: what a loss of power leaves. 0 until the first flush of this opening. */
  durableSequence = 0;
  /** The sequence with which the log that it follows ends for good, once that is applied. */
  sealedAt: number | undefined;
  /** What it has of the shards that its own came from. */
  readonly lineage: Lineage;
  /** What it has of the shards that are merged into its own; undefined where none are. */
  adoption: Adoption | undefined;
  /** As it may be on disk: up to where a read of the store may have seen records. */
  writtenSequence: number;
  digest: bigint;
  fieldCounts: number[];
  /** Digests of earlier sequences, oldest first. */
  readonly digestMarks: { sequence: number; digest: bigint }[] = [];
  /** Odd while a batch is being written: what the disk holds may be newer than what is here. */
  writeEpoch = 0;
  /** The write at hand, or the last one. */
  writing: Promise<void> = Promise.resolve();
  /** Resolves when what is in memory is the state at `appliedSequence` again; undefined while it is. */
  whole: Promise<void> | undefined;
  /** Counts releases of dead slots: a slot found before a release may belong to another point after it. */
  slotEpoch = 0;
  /** Rows inserted or dead since the last checkpoint. */
  changedRows = 0;
  /** Of generations that are to answer one day, by key of the index: what was measured once they were whole. */
  readonly recalls = new Map<string, GenerationRecall>();
  /** Holds the recall of searches that ask for one. */
  readonly recall: RecallKeeper;
  /** Compares both generations of an index on searches of clients. */
  readonly shadows: ShadowReads;
  /** The choice among datatypes that is being measured, or the last one. Never rejects. */
  trying: Promise<void> = Promise.resolve();
  /** All points were deleted at once: slots and space on the disk are to be given back. */
  isReleaseDue = false;
  fault: ReplicaFault | undefined;
  /** What the store holds of dropped fields is being removed. Never rejects. */
  #clearing: Promise<void> = Promise.resolve();

  constructor(context: ReplicaContext, parts: OpenReplicaParts) {
    this.context = context;
    this.store = parts.store;
    this.identity = parts.identity;
    this.schema = parts.schema;
    this.slots = parts.slots;
    this.expiries = new Expiries(context.clock, parts.slots);
    for (const [slot, atMs] of parts.expiries) this.expiries.set(slot, atMs);
    this.indexes = parts.indexes;
    this.usage = new IndexUsage(context.clock, parts.schema.payloadIndexes);
    this.outcomes = parts.outcomes;
    this.appliedSequence = this.writtenSequence = parts.appliedSequence;
    this.lastChecksum = parts.lastChecksum;
    this.sealedAt = parts.sealedAt;
    this.lineage = parts.lineage;
    this.adoption = parts.adoption;
    this.digest = parts.digest;
    this.fieldCounts = parts.fieldCounts;
    this.changes = new ChangeFeed(context.clock, parts.store, parts.changesFrom, context.tuning.changesKept);
    this.recall = new RecallKeeper({
      clock: context.clock,
      indexOf: (field) => this.#measured(field),
      maskOf: async (filter, signal) => (await this.masks.of(filter, signal)).bytes,
      onError: (error) =>
        context.onAlarm({ kind: "recall_unmeasured", message: `a recall could not be measured: ${textOf(error)}` }),
      onUnheld: (message) => context.onAlarm({ kind: "recall_not_held", message }),
      signal: this.#stop.signal,
    });
    this.shadows = new ShadowReads({
      ...{ clock: context.clock, store: parts.store, slots: parts.slots, signal: this.#stop.signal },
      pairOf: (field) => this.#pairOf(field),
      maskOf: async (filter, signal) => (await this.masks.of(filter, signal)).bytes,
      onError: (error) =>
        context.onAlarm({ kind: "recall_unmeasured", message: `generations could not be compared: ${textOf(error)}` }),
    });
    this.payloads = new LRUCache({
      maxSize: Math.max(1, context.tuning.payloadCacheBytes),
      // An entry costs about 100 bytes besides the payload.
      sizeCalculation: (payload) => payload.length + 100,
    });
  }

  /** The index of the field, to be searched beside clients. */
  #measured(field: string): (Measured & { rowCount: number }) | undefined {
    const serving = this.indexes.vectors(field)?.serving;
    if (serving === undefined) return undefined;
    return { search: (query, options) => serving.search(query, options), rowCount: serving.stats().aliveCount };
  }

  /** Both generations of the field's index, where there are two that are whole. */
  #pairOf(name: string): GenerationPair | undefined {
    const builds = this.indexes.generationsOf(name);
    if (builds?.other === undefined) return undefined;
    const [answering, other] = [builds.answering, builds.other].map(({ serving, kind }) => {
      return serving && { generation: serving, number: kind.generation, datatype: kind.field.datatype };
    });
    if (answering === undefined || other === undefined) return undefined;
    return { stored: builds.answering.kind.stored, metric: builds.field.metric, answering, other };
  }

  /** Remembers the digest at the sequence that is applied. */
  markDigest(): void {
    this.digestMarks.push({ sequence: this.appliedSequence, digest: this.digest });
    if (this.digestMarks.length > digestMarksMax) this.digestMarks.shift();
  }

  /** Aborted when the open replica ends. */
  get stopped(): AbortSignal {
    return this.#stop.signal;
  }

  get pointCount(): number {
    return this.slots.aliveCount;
  }

  /** Takes the end of all points, which is written already: in one step, and without a look at each. */
  empty(): void {
    this.masks.empty(this.slots.alive);
    this.indexes.empty(this.slots.tombstoneAll());
    this.expiries.clear();
    this.payloads.clear();
    this.isReleaseDue = true;
  }

  /** Takes a schema that is written already: indexes come and go. What the store holds of dropped fields goes in the background. */
  changeSchema(schema: Schema): void {
    const before = this.context.kindsOf(this.schema);
    const wanted = this.context.kindsOf(schema);
    const isIn = (kinds: readonly IndexKind[], { name, key }: IndexKind): boolean =>
      kinds.some((kind) => kind.name === name && kind.key === key);
    for (const kind of wanted) if (!isIn(before, kind)) this.indexes.add(kind);
    this.indexes.changeSchema(schema);
    // Never rejects.
    for (const kind of before) if (!isIn(wanted, kind)) void this.indexes.drop(kind.name, kind.key);
    const left = vectorFieldsOf(schema);
    const dropped = vectorFieldsOf(this.schema).filter(({ number }) => !left.some((field) => field.number === number));
    this.schema = schema;
    this.usage.changeIndexes(schema.payloadIndexes);
    this.masks.changeSchema();
    for (const { number } of dropped) this.#clearing = this.#clearField(this.#clearing, number);
  }

  /** After what is being cleared already. What is left when the replica ends goes when it is opened again. */
  async #clearField(before: Promise<void>, number: number): Promise<void> {
    await before;
    try {
      await this.store.clearVectors(number, this.stopped);
    } catch (error) {
      if (!this.stopped.aborted) this.fail(error);
    }
  }

  /** Stops the open replica: nothing is applied or answered any more. */
  fail(error: unknown): ReplicaFault {
    if (this.fault === undefined) {
      this.fault = faultOf(error);
      if (!this.#stop.signal.aborted) {
        this.#stop.abort();
        this.context.onFault(this.fault);
      }
    }
    return this.fault;
  }

  /** Makes everything applied so far durable. */
  async sync(): Promise<void> {
    const sequence = this.appliedSequence;
    try {
      await this.store.sync(Buffer.from(String(sequence)));
    } catch (error) {
      throw this.fail(error);
    }
    this.durableSequence = Math.max(this.durableSequence, sequence);
  }

  /** Ends background work without waiting for it; `close` waits. */
  stop(): void {
    this.#stop.abort();
  }

  /** Does what makes files in the replica's folder; its end waits for that. */
  async inFolder<T>(work: () => Promise<T>): Promise<T> {
    const done = work();
    this.#inFolder.add(done);
    try {
      return await done;
    } finally {
      this.#inFolder.delete(done);
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#clearing;
    // Whoever closes a replica may delete its folder: nothing may be written there afterwards.
    await Promise.allSettled(this.#inFolder);
    const closings = await Promise.allSettled([this.indexes.close(), this.store.close()]);
    for (const closing of closings) {
      if (closing.status === "rejected") {
        this.context.onAlarm({ kind: "close_failed", message: textOf(closing.reason) });
      }
    }
  }
}
