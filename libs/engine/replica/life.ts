import { deferred, type ErrorCode, KithError, sleep, toKithError } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import type { CopyProgress, ReplicaState, ShardId } from "../../model/index.js";
import { followedName, followLog } from "../apply/follower.js";
import { kindsOf } from "../index/kinds.js";
import { ExpiryRemoval } from "./expiry-removal.js";
import { Maintenance } from "../index/maintenance.js";
import { Reader } from "../read/reader.js";
import type { KnownPast } from "../recover/known-past.js";
import { openReplica, type OpenStore, storedState } from "../recover/recovery.js";
import { Cures } from "./cures.js";
import { faultOf, type ReplicaFault, textOf, unavailable } from "./faults.js";
import { noteIdentity, readIncarnation } from "./identity.js";
import { endCopy, hasContent } from "./layout.js";
import type { OpenReplica } from "./open-replica.js";
import { defaultTuning, type ReplicaOptions, type ReplicaTuning } from "./options.js";
import { SequenceWaiters } from "./waiters.js";

/** A rebuild is counted as having helped when the replica stays well for this long. */
const healthyMs = 10 * 60_000;
/** How long the log is asked up to where it goes, after this process stood still. */
const recheckMs = 5_000;

const flushEveryMs = 60_000;
/** Faults that end when the log is mended, or back. */
const logFaults: ReadonlySet<string> = new Set(["log_rewound", "log_removed", "log_gap"]);

/** An open replica with what works on it. */
export interface Running {
  opened: OpenReplica;
  reader: Reader;
  maintenance: Maintenance;
}

/** Where an open replica ended. */
export interface ReplicaEnd {
  appliedSequence: number;
  pointCount: number;
  digest: bigint;
  lastChecksum: number | undefined;
  newestAppendedAtMs: number;
}

const nothing: ReplicaEnd = {
  ...{ appliedSequence: 0, pointCount: 0, digest: 0n },
  ...{ lastChecksum: undefined, newestAppendedAtMs: 0 },
};

/**
 * The life of a replica: open replicas, one after the other. On a fault it is stale, and then cures itself where that is safe: it
 * opens its directory again; or wipes it and replays the log, if the log still holds every record; or takes a copy of another replica
 * that follows the same log and has come further. It never wipes what the log no longer has, and keeps aside what a copy
 * of another past replaces.
 */
export class ReplicaLife {
  readonly #options: ReplicaOptions;
  readonly #tuning: ReplicaTuning;
  readonly #name: ShardId;
  readonly #openStore: OpenStore;
  readonly #waiters: SequenceWaiters;
  readonly #cures: Cures;
  readonly #closing = new AbortController();
  readonly #firstAttempt = deferred<void>();
  #life: Promise<void> = Promise.resolve();
  #running: Running | undefined;
  #state: ReplicaState = "initializing";
  #fault = "";
  #faultCode: ErrorCode | undefined;
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
  #lastEnd = nothing;
  #copyProgress: CopyProgress | undefined;
  /** Whether the directory had no content at the start. */
  #isEmpty = false;

  constructor(options: ReplicaOptions, openStore: OpenStore) {
    this.#options = options;
    this.#tuning = { ...defaultTuning, ...options.tuning };
    this.#name = { collectionId: options.collection.id, shard: options.shard };
    this.#openStore = openStore;
    this.#waiters = new SequenceWaiters(options.clock, this.#tuning.waitersMax);
    const { clock, random, directory, log, peers, pace, store } = options;
    const { retryInitialMs, retryMaxMs } = this.#tuning;
    this.#cures = new Cures({
      ...{ clock, random, directory, log, peers, pace, store, retryInitialMs, retryMaxMs },
      name: this.#name,
      follows: () => options.follows?.(),
      beginsBehind: options.beginsBehind ?? 0,
      signal: this.#closing.signal,
      onAlarm: (alarm) => options.onAlarm(alarm),
      knownPast: () => this.#knownPast(),
    });
  }

  /** Resolves after the first attempt to open; rejects with FAILED_PRECONDITION where the directory is not this replica's. */
  async begin(): Promise<void> {
    const { directory } = this.#options;
    await endCopy(directory);
    this.#isEmpty = !(await hasContent(directory));
    this.#incarnation = await readIncarnation(directory);
    this.#life = this.#live();
    await this.#firstAttempt.promise;
  }

  get state(): ReplicaState {
    return this.#state;
  }

  /** Why it is stale, and what is done about it; "" while it is well. */
  get fault(): string {
    return this.#fault;
  }

  /** How far a copy of another replica is, while one is taken. */
  get copy(): CopyProgress | undefined {
    return this.#copyProgress;
  }

  /** The code of that fault, where it is known. */
  get faultCode(): ErrorCode | undefined {
    return this.#state === "stale" || this.#state === "initializing" ? this.#faultCode : undefined;
  }

  get appliedSequence(): number {
    return this.#running?.opened.appliedSequence ?? this.#lastApplied;
  }

  /** Of the log that it follows, or has followed; "" before the first contact. */
  get incarnation(): string {
    return this.#incarnation;
  }

  /** The open replica, while it works. */
  get opened(): OpenReplica | undefined {
    const opened = this.#running?.opened;
    return opened?.stopped.aborted === false ? opened : undefined;
  }

  /** Memory of answers that are kept, in bytes. */
  get answerBytes(): number {
    return this.#running?.reader.answers?.memoryBytes ?? 0;
  }

  /** Where the last open replica ended, while there is none. */
  get lastEnd(): ReplicaEnd {
    // Between the fault and the end of its open replica, the open replica still knows best.
    if (this.#running !== undefined) this.#rememberEnd(this.#running.opened);
    return this.#lastEnd;
  }

  /** Who is told now that the replica is not active can count on it to have applied `minSequence` when it is. */
  promise(minSequence: number): void {
    if (this.#state !== "active") this.#promised = Math.max(this.#promised, minSequence);
  }

  answering(): Running {
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
  reading(minSequence: number): Running {
    const running = this.answering();
    if (minSequence === 0 && this.#state !== "active") {
      throw unavailable(
        this.#state,
        `it has applied ${running.opened.appliedSequence} records of its log and is not done`,
      );
    }
    return running;
  }

  /** What answers, once `sequence` is applied. */
  async at(sequence: number, call: CallContext): Promise<Running> {
    const running = this.answering();
    if (sequence <= running.opened.appliedSequence) return running;
    if (isOver(running.opened)) throw sealed(this.#options.shard);
    await this.#waiters.wait(sequence, call);
    return this.answering();
  }

  /** Does work of an open replica: what fails because of damage, or of its end, is told as such. */
  async guarded<T>({ opened }: Running, work: () => Promise<T>): Promise<T> {
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

  /** Never rejects. */
  async end(): Promise<void> {
    this.#closing.abort();
    this.#running?.opened.stop();
    this.#waiters.fail(new KithError("SHUTTING_DOWN", "the replica is closing", { retryAfterMs: 500 }));
    await this.#life;
  }

  /** Open replicas, one after the other, until it is closed or nothing can be done. */
  async #live(): Promise<void> {
    await this.#start();
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
      if (fault.cure === "none" || !(await this.#cures.pause(attempt))) break;
      if (fault.cure === "rebuild") {
        const isSpent = rebuilds >= this.#tuning.rebuildAttempts;
        const reason = isSpent ? `${rebuilds} rebuilds did not help` : await this.#cures.wipe(this.#incarnation);
        rebuilds++;
        if (reason === undefined) {
          this.#restart(0);
          continue;
        }
        this.#goStale(fault, `it is not rebuilt: ${reason}`);
      }
      if (fault.cure !== "reopen" && !(await this.#copy(fault))) break;
    }
    this.#firstAttempt.resolve();
  }

  /** One that has nothing yet takes a copy first, where it is to. */
  async #start(): Promise<void> {
    const { startsAsCopy, peers } = this.#options;
    if (startsAsCopy !== true || peers === undefined || !this.#isEmpty) return;
    this.#firstAttempt.resolve();
    const copy = await this.#cures.start({
      onProgress: (text, progress) => this.#onCopied(text, progress),
      onFailure: (error) => {
        this.#fault = `no copy of another replica yet: ${textOf(error)}`;
        this.#faultCode = toKithError(error).code;
      },
    });
    this.#copyProgress = undefined;
    this.#fault = "";
    this.#faultCode = undefined;
    if (copy === undefined) return;
    this.#incarnation = copy.incarnation;
    this.#restart(copy.sequence);
  }

  #onCopied(text: string, progress: CopyProgress): void {
    this.#fault = text;
    this.#copyProgress = progress;
  }

  /** A directory that is not ours is the caller's mistake: `begin` rejects. Later it cannot happen. */
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
        closing: this.#closing.signal,
        flushEveryMs: this.#options.flushEveryMs ?? (() => flushEveryMs),
        kindsOf: (schema) => kindsOf(schema, indexes, clock, directory),
        indexes,
        onAlarm: (alarm) => this.#options.onAlarm(alarm),
        follows: this.#options.follows,
        beginsBehind: this.#options.beginsBehind,
        told: this.#options.told,
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
    const removal = new ExpiryRemoval(opened, { log, name: this.#name, epoch: collection.epoch });
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
      removal.close();
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

  #rememberEnd(opened: OpenReplica): void {
    const { appliedSequence, lastChecksum, pointCount, digest } = opened;
    const { newestAppendedAtMs } = opened.outcomes.time;
    this.#lastApplied = appliedSequence;
    this.#lastChecksum = lastChecksum;
    this.#lastEnd = { appliedSequence, pointCount, digest, lastChecksum, newestAppendedAtMs };
  }

  #onApplied(sequence: number): void {
    this.#lastApplied = sequence;
    if (this.#state === "catching_up" && this.#target !== undefined && sequence >= this.#target) this.#activate();
    this.#waiters.advance(sequence);
    const opened = this.#running?.opened;
    if (opened !== undefined && isOver(opened)) this.#waiters.fail(sealed(this.#options.shard));
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

  /**
   * This process stood still, and the log went on without it: the replica is not active before it has applied what the log holds now. Where
   * the log cannot be asked for some time, it answers from what it has.
   */
  async recheck(): Promise<void> {
    const { log, clock } = this.#options;
    const { opened } = this;
    if (opened === undefined || this.#state !== "active") return;
    this.#target = undefined;
    this.#setState("catching_up");
    const endMs = clock.monotonicMs() + recheckMs;
    for (;;) {
      try {
        const { lastSequence } = await log.state(followedName(opened, this.#name));
        if (this.opened === opened) this.#onTarget(opened, lastSequence);
        return;
      } catch (error) {
        if (this.opened !== opened) return;
        if (clock.monotonicMs() >= endMs) {
          this.#onUnreachable(opened, error);
          return;
        }
      }
      await sleep(clock, this.#tuning.retryInitialMs, opened.stopped).catch(() => undefined);
    }
  }

  #goStale(fault: ReplicaFault, addition = ""): void {
    const text = addition === "" ? fault.message : `${fault.message}; ${addition}`;
    if (this.#fault === text && this.#state === "stale") return;
    this.#fault = text;
    this.#faultCode = fault.code;
    this.#setState("stale");
    this.#waiters.fail(unavailable("stale", text));
    this.#options.onAlarm({ kind: fault.kind, message: text });
  }

  async #knownPast(): Promise<KnownPast | undefined> {
    const incarnation = this.#incarnation;
    if (this.#hasOpened) return { incarnation, lastApplied: this.#lastApplied, lastChecksum: this.#lastChecksum };
    const stored = await storedState(this.#options.directory, this.#openStore);
    return stored && { incarnation, lastApplied: stored.appliedSequence, lastChecksum: stored.lastChecksum };
  }

  /** Whether the directory can be opened again: with another replica's content, or because the log is back. */
  async #copy(fault: ReplicaFault): Promise<boolean> {
    const wanted = {
      minSequence: fault.copyMinSequence,
      unlessBack: ["log_rewound", "log_removed"].includes(fault.kind),
    };
    const copy = await this.#cures.copy(wanted, logFaults.has(fault.kind), {
      onProgress: (text, progress) => this.#onCopied(`${fault.message}; ${text}`, progress),
      onFailure: (error) => this.#goStale(fault, `no copy of another replica yet: ${textOf(error)}`),
    });
    this.#copyProgress = undefined;
    if (copy === undefined) return false;
    if (copy === "back") return true;
    // What was promised of a log that is no more will never be there.
    if (fault.kind === "log_rewound") this.#promised = 0;
    this.#incarnation = copy.incarnation;
    this.#restart(copy.sequence);
    return true;
  }

  /** The next open replica begins with other content. */
  #restart(sequence: number): void {
    this.#lastEnd = nothing;
    this.#lastApplied = sequence;
    this.#lastChecksum = undefined;
  }

  #setState(state: ReplicaState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onStateChange?.(state);
  }
}

/** Whether nothing more comes: the log of its shard is sealed, and all of it applied. */
function isOver({ identity, sealedAt }: OpenReplica): boolean {
  return sealedAt !== undefined && identity.follows === undefined;
}

function sealed(shard: number): KithError {
  return new KithError("STALE_EPOCH", `shard ${shard} has passed its hash slots on to other shards; try again`, {
    details: { shard },
    retryAfterMs: 50,
  });
}
