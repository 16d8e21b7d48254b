import { type Clock, makeFolder, sleep } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import {
  type GenerationStatus,
  idMapKey,
  type OperationOutcome,
  type PayloadIndexStatus,
  type ReplicaState,
  type ReplicaStatus,
  type SnapshotWanted,
  type TakenSnapshot,
} from "../../model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest } from "../../shard-api/index.js";
import { PointStore } from "../../storage/index.js";
import { digestFormat, formatDigest } from "../../hash/index.js";
import type { IndexUsage } from "../read/index-usage.js";
import { publicOutcome } from "../apply/outcome.js";
import type { PayloadLife } from "../index/payload-kind.js";
import type { TextLife } from "../index/text-kind.js";
import type { OpenStore } from "../recover/recovery.js";
import { isWhole } from "../apply/adopt.js";
import type { OpenReplica } from "./open-replica.js";
import { ReplicaContent } from "../recover/content.js";
import type { Handover, HandoverPart } from "../recover/handover.js";
import { slotsAt } from "../recover/lineage.js";
import { type ReplicaFiles, takeReplicaFiles, takeSnapshot } from "../recover/snapshot.js";
import { findDisagreement } from "../recover/verify.js";
import { counterOf } from "../../telemetry/index.js";
import { DiskUsage } from "./disk-usage.js";
import { ReplicaFault, textOf, unavailable } from "./faults.js";
import { ReplicaLife, type Running } from "./life.js";
import type { ReplicaOptions } from "./options.js";
import { afterWaiting } from "../read/explain.js";
import { ReadRate } from "./read-rate.js";

/** How long a reader waits at most where nothing comes. */
const handoverPauseMs = 50;

const quarantined = counterOf("kith.replica.quarantined");

function textIndexStatus({ kind, serving }: TextLife, usage: IndexUsage): PayloadIndexStatus {
  const use = usage.of(kind.definition.path);
  const stats = serving?.stats();
  return {
    path: kind.definition.path,
    isReady: serving !== undefined,
    pointCount: stats?.aliveCount ?? 0,
    valuePointCount: stats?.aliveCount ?? 0,
    memoryBytes: stats?.memoryBytes ?? 0,
    useCount: use.count,
    countedSinceMs: use.sinceMs,
  };
}

function payloadIndexStatus({ kind, serving }: PayloadLife, usage: IndexUsage): PayloadIndexStatus {
  const use = usage.of(kind.definition.path);
  return {
    path: kind.definition.path,
    isReady: serving !== undefined,
    pointCount: serving?.field.slotCount ?? 0,
    valuePointCount: serving?.field.index.slotCount ?? 0,
    memoryBytes: serving?.field.memoryBytes ?? 0,
    useCount: use.count,
    countedSinceMs: use.sinceMs,
  };
}

/** A generation is ready while so few of its rows are to be scanned: this share, or so many. */
const unindexedShare = 0.02;
const unindexedRows = 8_192;

function generationStatuses(replica: OpenReplica): GenerationStatus[] {
  return [...denseStatuses(replica), ...textStatuses(replica)];
}

/** Of indexes by BM25 that have another generation. */
function textStatuses({ indexes }: OpenReplica): GenerationStatus[] {
  return indexes.text.flatMap(({ path, answering, other }) =>
    (other === undefined ? [] : [answering, other]).map(({ kind, serving }) => {
      const { aliveCount = 0, memoryBytes = 0 } = serving?.stats() ?? {};
      const sizes = { rowCount: aliveCount, unindexedCount: 0, memoryBytes };
      return { field: path, isText: true, number: kind.generation, isReady: serving !== undefined, ...sizes };
    }),
  );
}

function denseStatuses({ indexes, recalls, shadows }: OpenReplica): GenerationStatus[] {
  return indexes.generations().flatMap(({ field, answering, other }) =>
    [answering, other].flatMap((index) => {
      if (index === undefined) return [];
      const { aliveCount, unindexedCount, memoryBytes } = index.stats();
      const isWhole = index.serving !== undefined;
      const isIndexed = unindexedCount <= Math.max(unindexedRows, unindexedShare * aliveCount);
      const recall = recalls.get(index.kind.key);
      const sizes = { rowCount: aliveCount, unindexedCount, memoryBytes };
      const { generation: number } = index.kind;
      const shadow = shadows.status(field.name, number);
      const measured = { ...(recall && { recall }), ...(shadow && { shadow }) };
      return [{ field: field.name, number, isReady: isWhole && isIndexed, ...sizes, ...measured }];
    }),
  );
}

/**
 * One copy of one shard: follows the shard's log, keeps the points, answers queries. Its state after sequence N is a pure
 * function of records 1..N. On a fault it stops answering (state "stale", the reason in `status().fault`, an alarm), and
 * cures itself where that is safe: see ReplicaLife.
 */
export class Replica {
  readonly #life: ReplicaLife;
  readonly #disk: DiskUsage;
  readonly #reads: ReadRate;
  readonly #clock: Clock;
  #closed: Promise<void> | undefined;

  private constructor(options: ReplicaOptions, openStore: OpenStore) {
    this.#life = new ReplicaLife(options, openStore);
    this.#reads = new ReadRate(options.clock);
    this.#clock = options.clock;
    this.#disk = new DiskUsage(options.directory, options.clock, (error) =>
      options.onAlarm({ kind: "disk_unreadable", message: textOf(error) }),
    );
  }

  /**
   * Opens the replica's directory, brings its indexes up to date and follows the log from then on. Resolves also when
   * that fails, with a replica that is stale and tries to cure itself; rejects with FAILED_PRECONDITION where the
   * directory is another process's or another replica's.
   *
   * @param openStore a door for tests that break the disk
   */
  static async open(
    options: ReplicaOptions,
    openStore: OpenStore = (path) => PointStore.open(path, options.store),
  ): Promise<Replica> {
    await makeFolder(options.directory);
    const replica = new Replica(options, openStore);
    await replica.#life.begin();
    return replica;
  }

  get state(): ReplicaState {
    return this.#life.state;
  }

  get appliedSequence(): number {
    return this.#life.appliedSequence;
  }

  /**
   * Cheap; the disk's figure may be some seconds old. A replica that says here that it is not active will not be before
   * it has applied `minSequence`.
   */
  status(minSequence = 0): ReplicaStatus {
    const life = this.#life;
    life.promise(minSequence);
    const { opened, state, fault, faultCode, copy } = life;
    let vectors = 0;
    let unindexed = 0;
    let memoryBytes = 0;
    if (opened !== undefined) {
      memoryBytes =
        opened.slots.memoryBytes + opened.payloads.calculatedSize + opened.masks.memoryBytes + life.answerBytes;
      for (const stats of opened.indexes.stats()) {
        memoryBytes += stats.memoryBytes;
        if (!stats.holdsVectors || stats.isBeside) continue;
        vectors += stats.aliveCount;
        unindexed += stats.unindexedCount;
      }
      this.#disk.refresh();
    }
    const { appliedSequence, pointCount, digest, lastChecksum } = opened ?? life.lastEnd;
    return {
      state,
      appliedSequence,
      pointCount,
      indexedVectorCount: vectors - unindexed,
      unindexedVectorCount: unindexed,
      memoryBytes,
      diskBytes: this.#disk.sizeBytes,
      digest: formatDigest(digest),
      digestFormat,
      fault,
      ...(faultCode && { faultCode }),
      durableSequence: opened?.durableSequence ?? 0,
      incarnation: opened?.identity.incarnation ?? life.incarnation,
      ...(lastChecksum !== undefined && { lastChecksum }),
      digestMarks: (opened?.digestMarks ?? []).map(({ sequence, digest: mark }) => ({
        sequence,
        digest: formatDigest(mark),
      })),
      newestAppendedAtMs: opened?.outcomes.time.newestAppendedAtMs ?? life.lastEnd.newestAppendedAtMs,
      schemaVersion: opened?.schema.version ?? 0,
      payloadIndexes:
        opened === undefined
          ? []
          : [
              ...opened.indexes.payload.map((index) => payloadIndexStatus(index, opened.usage)),
              ...opened.indexes.text.map(({ answering }) => textIndexStatus(answering, opened.usage)),
            ],
      unindexedFields: opened?.usage.unindexed() ?? [],
      generations: opened === undefined ? [] : generationStatuses(opened),
      recalls: opened?.recall.status() ?? [],
      readsPerSecond: this.#reads.perSecond(),
      adoptedSequence: opened?.adoption?.wholeAt ?? 0,
      ...(copy && { copy }),
      ...(opened?.store.encryption && { encryption: opened.store.encryption }),
    };
  }

  /** Memory of its LevelDB, in bytes; 0 while it is not open. */
  get storeMemoryBytes(): number {
    return this.#life.opened?.store.memoryBytes ?? 0;
  }

  /** One read of the kind: see ShardReads. */
  async read<K extends ReadKind>(kind: K, request: ReadRequest<K>, call: CallContext): Promise<ReadAnswer<K>> {
    const life = this.#life;
    this.#reads.count++;
    const ready = life.reading(request.minSequence);
    const isThere = request.minSequence <= ready.opened.appliedSequence;
    if (isThere) {
      checkWhole(ready.opened);
      return life.guarded(ready, () => ready.reader.read(kind, request, call));
    }
    const startMs = this.#clock.monotonicMs();
    const running = await life.at(request.minSequence, call);
    checkWhole(running.opened);
    const waitedUs = (this.#clock.monotonicMs() - startMs) * 1000;
    const answer = await life.guarded(running, () => running.reader.read(kind, request, call));
    if (!("explain" in answer) || answer.explain === undefined) return answer;
    return { ...answer, explain: afterWaiting(answer.explain, waitedUs) };
  }

  /** Resolves when the sequence is applied, with the outcomes of operations of its record. */
  async wait(sequence: number, operationIds: readonly Uint8Array[], call: CallContext): Promise<OperationOutcome[]> {
    const { opened } = await this.#life.at(sequence, call);
    return operationIds.map((id) => {
      const outcome = opened.outcomes.get(idMapKey(id), sequence);
      return publicOutcome(outcome, outcome && slotsAt(opened.lineage, outcome.sequence));
    });
  }

  /** Resolves when all vectors applied before the call are in the graph, with their number. */
  async waitIndexed(call: CallContext): Promise<number> {
    const running = await this.#life.at(0, call);
    return this.#life.guarded(running, async () => {
      const { indexes } = running.opened;
      let count = 0;
      for (const { holdsVectors, isBeside, aliveCount } of indexes.stats()) {
        if (holdsVectors && !isBeside) count += aliveCount;
      }
      await indexes.flush(call.signal);
      return count;
    });
  }

  /**
   * All that the replica holds now, for another one to copy; applying and answering go on meanwhile. SHARD_UNAVAILABLE
   * where it is not active, or not what is wanted.
   */
  async snapshot(wanted: SnapshotWanted): Promise<TakenSnapshot> {
    const running = this.#life.reading(0);
    const checkpoint = (): Promise<void> => running.maintenance.checkpoint();
    const snapshot = await this.#life.guarded(running, () => takeSnapshot(running.opened, wanted, checkpoint));
    const { chunks, blocks } = snapshot;
    return {
      ...snapshot,
      chunks: (after) => this.#guardedParts(running, chunks(after)),
      ...(blocks && { blocks: (from) => this.#guardedParts(running, blocks(from)) }),
    };
  }

  /**
   * The files that the replica has now, to be backed up; applying and answering go on meanwhile. SHARD_UNAVAILABLE where it is not active,
   * FAILED_PRECONDITION where it is encrypted.
   */
  async files(): Promise<ReplicaFiles> {
    const running = this.#life.reading(0);
    const checkpoint = (): Promise<void> => running.maintenance.checkpoint();
    const given = await this.#life.guarded(running, () => takeReplicaFiles(running.opened, checkpoint));
    return { ...given, blocks: (from) => this.#guardedParts(running, given.blocks(from)) };
  }

  /** All that the replica holds now, to be backed up; applying and answering go on meanwhile. SHARD_UNAVAILABLE where it is not active. */
  async content(): Promise<ReplicaContent> {
    const running = this.#life.reading(0);
    return this.#life.guarded(running, () => ReplicaContent.take(running.opened));
  }

  /**
   * The next part of all that the replica holds, for the shard that its own is merged into; undefined where nothing has come for a moment. SHARD_UNAVAILABLE
   * where it is not active.
   */
  async handover(reader: Handover, signal: AbortSignal): Promise<HandoverPart | undefined> {
    const running = this.#life.reading(0);
    return this.#life.guarded(running, async () => {
      const { opened } = running;
      const part = await reader.next(opened);
      if (part !== undefined) return part;
      const over = new AbortController();
      const pause = sleep(this.#clock, handoverPauseMs, AbortSignal.any([over.signal, opened.stopped, signal]));
      const ended = pause.catch(() => undefined);
      await Promise.race([opened.changes.next(), ended]);
      over.abort();
      await ended;
      return undefined;
    });
  }

  /** Reads all that it holds: what disagrees with its digest; undefined where nothing does. `pace` waits after so many bytes. */
  async verify(pace: (sizeBytes: number) => Promise<void>): Promise<string | undefined> {
    const running = this.#life.reading(0);
    return this.#life.guarded(running, async () => {
      const content = await ReplicaContent.take(running.opened);
      try {
        return await findDisagreement(content, pace);
      } finally {
        await content.close();
      }
    });
  }

  /** Stops answering: what it holds is not what its log says. It takes a copy of another replica, or replays its log where there is none. */
  quarantine(why: string, hasOthers: boolean): void {
    quarantined.add(1);
    this.#life.opened?.fail(new ReplicaFault("diverged", hasOthers ? "copy" : "rebuild", `it is quarantined: ${why}`));
  }

  async *#guardedParts<T>(running: Running, parts: AsyncIterable<T>): AsyncGenerator<T> {
    const iterator = parts[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#life.guarded(running, () => iterator.next());
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }

  /** To be called when this process stood still: the replica is not active before it has caught up with its log again. Never rejects. */
  recheck(): Promise<void> {
    return this.#life.recheck();
  }

  /** Writes checkpoints of the indexes, so that the next start need not build them. */
  async checkpoint(): Promise<void> {
    const running = this.#life.answering();
    await this.#life.guarded(running, () => running.maintenance.checkpoint());
  }

  /** Builds the indexes again without their dead rows; queries and writes go on. Happens by itself at 25 % dead rows. */
  async rebuildIndexes(): Promise<void> {
    const running = this.#life.answering();
    await this.#life.guarded(running, () => running.maintenance.rebuild());
  }

  /** Stops following the log, writes a checkpoint if enough has changed, and closes. Never rejects. */
  close(): Promise<void> {
    this.#closed ??= this.#life.end();
    return this.#closed;
  }
}

/** Where a part of the shards that were merged is missing, nothing in an answer would tell: SHARD_UNAVAILABLE. */
function checkWhole({ adoption }: OpenReplica): void {
  if (adoption === undefined || isWhole(adoption)) return;
  throw unavailable("active", "it has not read all of the shards yet that were merged into it");
}
