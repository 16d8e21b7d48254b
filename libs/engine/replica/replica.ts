import { mkdir } from "node:fs/promises";
import { backoffMs, deferred, KithError, sleep, toKithError } from "../../base/index.js";
import {
  idMapKey,
  type OperationOutcome,
  type ReplicaState,
  type ReplicaStatus,
  type ShardId,
  type Snapshot,
  type SnapshotChunk,
  type SnapshotWanted,
} from "../../model/index.js";
import type { ReadAnswer, ReadHandlers, ReadKind, ReadRequest } from "../../shard-api/index.js";
import { directoryBytes, PointStore } from "../../storage/index.js";
import type { CallContext } from "../../call/index.js";
import { faultOf, type ReplicaFault, textOf, unavailable } from "./faults.js";
import { kindsOf } from "../index/kinds.js";
import { followLog } from "../apply/follower.js";
import { noteIdentity, readIncarnation } from "./identity.js";
import { endCopy, keepContent, removeContent } from "./layout.js";
import { Maintenance } from "../index/maintenance.js";
import { defaultTuning, type Peers, type ReplicaOptions, type ReplicaTuning } from "./options.js";
import { publicOutcome } from "../apply/outcomes.js";
import { Reader } from "../read/reader.js";
import { openReplica, type OpenStore, storedState } from "../recover/recovery.js";
import { copyPeer, isPastOf, type KnownPast } from "../recover/resync.js";
import { takeSnapshot } from "../recover/snapshot.js";
import { formatDigest } from "../apply/digest.js";
import type { OpenReplica } from "./open-replica.js";
import { SequenceWaiters } from "./waiters.js";

/** A rebuild is counted as having helped when the replica stays well for this long. */
const healthyMs = 10 * 60_000;
/** status() gives a figure for the disk that is at most about this old. */
const diskBytesAgeMs = 10_000;

const noStatus: ReplicaStatus = {
  state: "initializing",
  appliedSequence: 0,
  pointCount: 0,
  indexedVectorCount: 0,
  unindexedVectorCount: 0,
  memoryBytes: 0,
  diskBytes: 0,
  digest: formatDigest(0n),
  fault: "",
};

/** A open replica with what works on it. */
interface Running {
  opened: OpenReplica;
  reader: Reader;
  maintenance: Maintenance;
}

/**
 * One copy of one shard: follows the shard's log, keeps the points, answers queries. Its state after sequence N is a pure
 * function of records 1..N.
 *
 * On a fault it stops answering (state "stale", the reason in `status().fault`, an alarm), and then cures itself where
 * that is safe: it opens its directory again; or wipes it and replays the log, if the log still holds every record; or
 * takes a copy of another replica that follows the same log and has come further. It never wipes what the log no longer
 * has, and keeps aside what a copy of another past replaces.
 */
export class Replica {
  readonly #options: ReplicaOptions;
  readonly #tuning: ReplicaTuning;
  readonly #name: ShardId;
  readonly #openStore: OpenStore;
  readonly #waiters: SequenceWaiters;
  readonly #closing = new AbortController();
  readonly #firstAttempt = deferred<void>();
  #life: Promise<void> = Promise.resolve();
  #running: Running | undefined;
  #state: ReplicaState = "initializing";
  #fault = "";
  /** The sequence to reach before the replica is active; undefined until the log was asked. */
  #target: number | undefined;
  /** Somebody was told that the replica is not active, and counts on it to have this when it is. */
  #promised = 0;
  /** Active only because the log cannot be asked how far it goes. */
  #isProvisional = false;
  #incarnation = "";
  #lastApplied = 0;
  /** Of that record, where it is known. */
  #lastChecksum: number | undefined;
  /** Whether this process has opened the store, and so knows up to where it goes. */
  #hasOpened = false;
  /** What status() says while there is no open replica: where the last one ended. */
  #lastStatus: ReplicaStatus = noStatus;
  #diskBytes = 0;
  #diskBytesAtMs = -Infinity;
  #isMeasuring = false;
  #closed: Promise<void> | undefined;

  private constructor(options: ReplicaOptions, openStore: OpenStore) {
    this.#options = options;
    this.#tuning = { ...defaultTuning, ...options.tuning };
    this.#name = { collectionId: options.collection.id, shard: options.shard };
    this.#openStore = openStore;
    this.#waiters = new SequenceWaiters(options.clock, this.#tuning.waitersMax);
  }

  /**
   * Opens the replica's directory, brings its indexes up to date and follows the log from then on. Resolves also when
   * that fails, with a replica that is stale and tries to cure itself; rejects with FAILED_PRECONDITION where the
   * directory is another process's or another replica's.
   *
   * @param openStore a door for tests that break the disk
   */
  static async open(options: ReplicaOptions, openStore: OpenStore = (path) => PointStore.open(path)): Promise<Replica> {
    await mkdir(options.directory, { recursive: true });
    await endCopy(options.directory);
    const replica = new Replica(options, openStore);
    replica.#incarnation = await readIncarnation(options.directory);
    replica.#life = replica.#live();
    await replica.#firstAttempt.promise;
    return replica;
  }

  get appliedSequence(): number {
    return this.#running?.opened.appliedSequence ?? this.#lastApplied;
  }

  /**
   * Cheap; the disk's figure may be some seconds old. A replica that says here that it is not active will not be before
   * it has applied `minSequence`.
   */
  status(minSequence = 0): ReplicaStatus {
    if (this.#state !== "active") this.#promised = Math.max(this.#promised, minSequence);
    const opened = this.#running?.opened;
    if (opened === undefined || opened.stopped.aborted) {
      // Between the fault and the end of its open replica, the open replica still knows best.
      if (opened !== undefined) this.#rememberEnd(opened);
      return { ...this.#lastStatus, state: this.#state, diskBytes: this.#diskBytes, fault: this.#fault };
    }
    let vectors = 0;
    let unindexed = 0;
    let memoryBytes = opened.slots.memoryBytes + opened.payloads.calculatedSize;
    for (const stats of opened.indexes.stats()) {
      memoryBytes += stats.memoryBytes;
      if (!stats.holdsVectors) continue;
      vectors += stats.aliveCount;
      unindexed += stats.unindexedCount;
    }
    this.#measureDisk();
    return {
      state: this.#state,
      appliedSequence: opened.appliedSequence,
      pointCount: opened.pointCount,
      indexedVectorCount: vectors - unindexed,
      unindexedVectorCount: unindexed,
      memoryBytes,
      diskBytes: this.#diskBytes,
      digest: formatDigest(opened.digest),
      fault: this.#fault,
    };
  }

  /** One read of the kind: see ShardReads. */
  async read<K extends ReadKind>(kind: K, request: ReadRequest<K>, call: CallContext): Promise<ReadAnswer<K>> {
    const ready = this.#reading(request.minSequence);
    const isThere = request.minSequence <= ready.opened.appliedSequence;
    const running = isThere ? ready : await this.#at(request.minSequence, call);
    const reader: ReadHandlers = running.reader;
    return this.#guarded(running, () => reader[kind](request, call));
  }

  /** Resolves when the sequence is applied, with the outcomes of operations of its record. */
  async wait(sequence: number, operationIds: readonly Uint8Array[], call: CallContext): Promise<OperationOutcome[]> {
    const { opened } = await this.#at(sequence, call);
    return operationIds.map((id) => publicOutcome(opened.outcomes.get(idMapKey(id), sequence)));
  }

  /** Resolves when all vectors applied before the call are in the graph, with their number. */
  async waitIndexed(call: CallContext): Promise<number> {
    const running = await this.#at(0, call);
    return this.#guarded(running, async () => {
      const { indexes } = running.opened;
      let count = 0;
      for (const { holdsVectors, aliveCount } of indexes.stats()) if (holdsVectors) count += aliveCount;
      await indexes.flush(call.signal);
      return count;
    });
  }

  /**
   * All that the replica holds now, for another one to copy; applying and answering go on meanwhile. SHARD_UNAVAILABLE
   * where it is not active, or not what is wanted.
   */
  async snapshot(wanted: SnapshotWanted): Promise<Snapshot> {
    const running = this.#reading(0);
    const snapshot = await this.#guarded(running, () => takeSnapshot(running.opened, wanted));
    return { ...snapshot, chunks: this.#guardedChunks(running, snapshot.chunks) };
  }

  async *#guardedChunks(running: Running, chunks: AsyncIterable<SnapshotChunk>): AsyncGenerator<SnapshotChunk> {
    const iterator = chunks[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#guarded(running, () => iterator.next());
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }

  /** Writes checkpoints of the indexes, so that the next start needs not build them. */
  async checkpoint(): Promise<void> {
    const running = this.#answering();
    await this.#guarded(running, () => running.maintenance.checkpoint());
  }

  /** Builds the indexes anew without their dead rows; queries and writes go on. Happens by itself at 25 % dead rows. */
  async rebuildIndexes(): Promise<void> {
    const running = this.#answering();
    await this.#guarded(running, () => running.maintenance.rebuild());
  }

  /** Stops following the log, writes a checkpoint if enough has changed, and closes. Never rejects. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    this.#running?.opened.stop();
    this.#waiters.fail(new KithError("SHUTTING_DOWN", "the replica is closing", { retryAfterMs: 500 }));
    await this.#life;
  }

  /** The replica's whole life: open replicas, one after the other, until it is closed or nothing can be done. */
  async #live(): Promise<void> {
    for (let attempt = 0, rebuilds = 0; !this.#closing.signal.aborted; attempt++) {
      const startedAtMs = this.#options.clock.monotonicMs();
      let fault: ReplicaFault;
      try {
        await this.#runOnce();
        break;
      } catch (error) {
        if (this.#refusesToOpen(error)) return;
        fault = faultOf(error);
      }
      if (this.#closing.signal.aborted) break;
      if (this.#options.clock.monotonicMs() - startedAtMs > healthyMs) attempt = rebuilds = 0;
      this.#goStale(fault);
      this.#firstAttempt.resolve();
      const waitMs = this.#backoffMs(attempt);
      if (fault.cure === "none" || !(await this.#pause(waitMs))) break;
      if (fault.cure === "rebuild") {
        const reason =
          rebuilds >= this.#tuning.rebuildAttempts ? `${rebuilds} rebuilds did not help` : await this.#wipe();
        rebuilds++;
        if (reason === undefined) continue;
        this.#goStale(fault, `it is not rebuilt: ${reason}`);
      }
      if (fault.cure !== "reopen" && !(await this.#copy(fault))) break;
    }
    this.#firstAttempt.resolve();
  }

  /** A directory that is not ours is the caller's mistake: `open` rejects. Later it cannot happen. */
  #refusesToOpen(error: unknown): boolean {
    const wrong = toKithError(error);
    if (wrong.code !== "FAILED_PRECONDITION" || this.#state !== "initializing") return false;
    this.#fault = wrong.message;
    this.#firstAttempt.reject(wrong);
    return true;
  }

  /** Resolves when the replica is closed; rejects with the fault. */
  async #runOnce(): Promise<void> {
    const { log, clock, random, indexes, directory, collection, shard } = this.#options;
    this.#target = undefined;
    this.#isProvisional = false;
    const opened = await openReplica(
      {
        directory,
        clock,
        random,
        tuning: this.#tuning,
        kindsOf: (schema) => kindsOf(schema, indexes),
        onAlarm: (alarm) => this.#options.onAlarm(alarm),
        onApplied: (sequence) => this.#onApplied(sequence),
        onFault: (fault) => this.#goStale(fault),
      },
      collection,
      shard,
      this.#openStore,
    );
    this.#hasOpened = true;
    const maintenance = new Maintenance(opened);
    this.#running = { opened, reader: new Reader(opened), maintenance };
    if (this.#closing.signal.aborted) opened.stop();
    this.#fault = "";
    if (opened.identity.incarnation !== "") this.#incarnation = opened.identity.incarnation;
    this.#setState("catching_up");
    this.#firstAttempt.resolve();
    this.#onApplied(opened.appliedSequence);
    try {
      await followLog(opened, {
        log,
        name: this.#name,
        retryInitialMs: this.#tuning.retryInitialMs,
        retryMaxMs: this.#tuning.retryMaxMs,
        onTarget: (lastSequence) => this.#onTarget(opened, lastSequence),
        onUnreachable: (error) => this.#onUnreachable(opened, error),
        onWrongRead: (fault) => {
          const message = `the log is read again behind record ${opened.appliedSequence}: ${textOf(fault.cause ?? fault)}`;
          this.#options.onAlarm({ kind: "log_misread", message });
        },
      });
      if (opened.fault !== undefined) throw opened.fault;
    } finally {
      await this.#endOpen(this.#running);
    }
  }

  async #endOpen({ opened, maintenance }: Running): Promise<void> {
    this.#rememberEnd(opened);
    opened.stop();
    await maintenance.idle();
    if (opened.fault === undefined && opened.changedRows >= this.#tuning.checkpointRowsOnClose) {
      await maintenance.checkpoint().catch((error: unknown) => {
        this.#options.onAlarm({ kind: "maintenance_failed", message: `the last checkpoint failed: ${textOf(error)}` });
      });
    }
    this.#running = undefined;
    await opened.close();
  }

  #rememberEnd({ appliedSequence, lastChecksum, pointCount, digest }: OpenReplica): void {
    this.#lastApplied = appliedSequence;
    this.#lastChecksum = lastChecksum;
    this.#lastStatus = { ...noStatus, appliedSequence, pointCount, digest: formatDigest(digest) };
  }

  #onApplied(sequence: number): void {
    this.#lastApplied = sequence;
    if (this.#state === "catching_up" && this.#target !== undefined && sequence >= this.#target) this.#activate();
    this.#waiters.advance(sequence);
    this.#running?.maintenance.check();
  }

  #activate(): void {
    if (this.#lastApplied < this.#promised) return;
    this.#promised = 0;
    this.#setState("active");
    const opened = this.#running?.opened;
    if (opened === undefined || opened.identity.hasCaughtUp === true) return;
    // Before anything else is applied: an open replica that fails here ends.
    void noteIdentity(opened, { hasCaughtUp: true }).catch(() => undefined);
  }

  /** Without its log a replica that has caught up with it before goes on to answer from what it has applied. */
  #onUnreachable(opened: OpenReplica, error: unknown): void {
    this.#options.onAlarm({ kind: "log_unreachable", message: textOf(error) });
    if (this.#state !== "catching_up" || opened.identity.hasCaughtUp !== true || this.#target !== undefined) return;
    this.#isProvisional = true;
    this.#setState("active");
  }

  /** The log says up to where it goes. */
  #onTarget(opened: OpenReplica, lastSequence: number): void {
    this.#incarnation = opened.identity.incarnation;
    this.#target ??= lastSequence;
    if (this.#isProvisional && opened.appliedSequence < lastSequence) this.#setState("catching_up");
    this.#isProvisional = false;
    this.#onApplied(opened.appliedSequence);
  }

  #goStale(fault: ReplicaFault, addition = ""): void {
    const text = addition === "" ? fault.message : `${fault.message}; ${addition}`;
    if (this.#fault === text && this.#state === "stale") return;
    this.#fault = text;
    this.#setState("stale");
    this.#waiters.fail(unavailable("stale", text));
    this.#options.onAlarm({ kind: fault.kind, message: text });
  }

  /** What this replica has read of its log; undefined where that cannot be told, since its store cannot be read. */
  async #knownPast(): Promise<KnownPast | undefined> {
    const incarnation = this.#incarnation;
    if (this.#hasOpened) return { incarnation, lastApplied: this.#lastApplied, lastChecksum: this.#lastChecksum };
    const stored = await storedState(this.#options.directory, this.#openStore);
    return stored && { incarnation, lastApplied: stored.appliedSequence, lastChecksum: stored.lastChecksum };
  }

  /** Empties the directory if the log can give everything back; otherwise says why not. */
  async #wipe(): Promise<string | undefined> {
    const { log, directory } = this.#options;
    for (let attempt = 0; !this.#closing.signal.aborted; attempt++) {
      try {
        const state = await log.state(this.#name);
        if (state.incarnation !== this.#incarnation) return "the log is not known to be the one it was filled from";
        if (state.firstSequence !== 1) {
          return `the log begins at ${state.firstSequence} and cannot give everything back; build this replica anew from another one`;
        }
        const known = await this.#knownPast();
        if (known !== undefined && !(await isPastOf(known, state, (at) => log.checksum(this.#name, at)))) {
          return `the log ends at ${state.lastSequence} and is not the one of which ${known.lastApplied} records were applied`;
        }
        // What nobody can read may be more than the log has.
        if (known === undefined) await keepContent(directory);
        await removeContent(directory);
        this.#restart(0);
        return undefined;
      } catch (error) {
        if (toKithError(error).code === "NOT_FOUND") return "the log is gone";
        this.#options.onAlarm({ kind: "log_unreachable", message: textOf(error) });
        const waitMs = this.#backoffMs(attempt);
        if (!(await this.#pause(waitMs))) break;
      }
    }
    return "the replica is closing";
  }

  /**
   * Puts another replica's content in the place of this one's; tries until one gives it, or the log that this one has read is
   * back. False where nobody can be asked, or the replica was closed.
   */
  async #copy(fault: ReplicaFault): Promise<boolean> {
    const { peers } = this.#options;
    if (peers === undefined) return false;
    for (let attempt = 0; !this.#closing.signal.aborted; attempt++) {
      try {
        await this.#copyFrom(peers, fault);
        return true;
      } catch (error) {
        if (this.#closing.signal.aborted) break;
        const { code } = toKithError(error);
        if (code === "CORRUPT_DATA") this.#options.onAlarm({ kind: "copy_corrupt", message: textOf(error) });
        this.#goStale(fault, `no copy of another replica yet: ${textOf(error)}`);
        const waitMs = this.#backoffMs(attempt);
        if (!(await this.#pause(waitMs))) break;
      }
    }
    return false;
  }

  async #copyFrom(peers: Peers, fault: ReplicaFault): Promise<void> {
    const { log, random, directory } = this.#options;
    const copy = await copyPeer(peers, fault, await this.#knownPast(), {
      log,
      random,
      name: this.#name,
      directory,
      signal: this.#closing.signal,
      onAlarm: (alarm) => this.#options.onAlarm(alarm),
      onProgress: (text) => {
        this.#fault = `${fault.message}; ${text}`;
      },
    });
    if (copy === undefined) return;
    // What was promised of a log that is no more will never be there.
    if (fault.kind === "log_rewound") this.#promised = 0;
    this.#incarnation = copy.incarnation;
    this.#restart(copy.sequence);
  }

  /** The next open replica begins with other content. */
  #restart(sequence: number): void {
    this.#lastStatus = noStatus;
    this.#lastApplied = sequence;
    this.#lastChecksum = undefined;
  }

  #backoffMs(attempt: number): number {
    const { retryInitialMs, retryMaxMs } = this.#tuning;
    return backoffMs(attempt, { initialMs: retryInitialMs, maxMs: retryMaxMs }, this.#options.random);
  }

  /** False when the replica was closed meanwhile. */
  async #pause(ms: number): Promise<boolean> {
    return sleep(this.#options.clock, ms, this.#closing.signal).then(
      () => true,
      () => false,
    );
  }

  #setState(state: ReplicaState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onStateChange?.(state);
  }

  #answering(): Running {
    const running = this.#running;
    if (this.#closing.signal.aborted)
      throw new KithError("SHUTTING_DOWN", "the replica is closing", { retryAfterMs: 500 });
    if (running === undefined || running.opened.stopped.aborted) throw unavailable(this.#state, this.#fault);
    return running;
  }

  /**
   * What answers a read at `minSequence`. A read that asks for no sequence (0) is promised an active replica's state: one that still replays
   * its log may lack most of the points, and nothing in its answer would tell.
   */
  #reading(minSequence: number): Running {
    const running = this.#answering();
    if (minSequence === 0 && this.#state !== "active") {
      throw unavailable(
        this.#state,
        `it has applied ${running.opened.appliedSequence} records of its log and is not done`,
      );
    }
    return running;
  }

  /** What answers, once `sequence` is applied. */
  async #at(sequence: number, call: CallContext): Promise<Running> {
    const running = this.#answering();
    if (sequence <= running.opened.appliedSequence) return running;
    await this.#waiters.wait(sequence, call);
    return this.#answering();
  }

  async #guarded<T>({ opened }: Running, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const { code } = toKithError(error);
      if (code === "CORRUPT_DATA") opened.fail(error);
      else if (opened.stopped.aborted && !(["CANCELLED", "DEADLINE_EXCEEDED"] as string[]).includes(code)) {
        throw unavailable(this.#state, this.#fault);
      }
      throw error;
    }
  }

  #measureDisk(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#isMeasuring || nowMs - this.#diskBytesAtMs < diskBytesAgeMs) return;
    this.#isMeasuring = true;
    this.#diskBytesAtMs = nowMs;
    directoryBytes(this.#options.directory).then(
      (bytes) => {
        this.#diskBytes = bytes;
        this.#isMeasuring = false;
      },
      (error: unknown) => {
        this.#isMeasuring = false;
        this.#options.onAlarm({ kind: "disk_unreadable", message: textOf(error) });
      },
    );
  }
}
