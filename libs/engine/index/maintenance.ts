import { backoffMs, type Timer, toKithError } from "../../base/index.js";
import { generationRecallK } from "../../model/index.js";
import { measureRecall } from "../recall/recall.js";
import { textOf } from "../replica/faults.js";
import type { OpenReplica } from "../replica/open-replica.js";
import type { DenseGenerations } from "./index-set.js";

/** The period of flushes is a setting of the cluster: one that becomes shorter holds within this time. Milliseconds. */
const periodLookMs = 5_000;

/** Points that the recall of a generation is measured with: 2,000 places, which tell it to about 0.01. */
const recallSamples = 200;

/**
 * Background work of one open replica, one piece at a time: checkpoints of the indexes, new generations of them, and the
 * first generations of those that were added. None of it stops the applying of records or the answering of queries.
 */
export class Maintenance {
  readonly #replica: OpenReplica;
  #work: Promise<unknown> = Promise.resolve();
  #isBusy = false;
  #failures = 0;
  #notBeforeMs = 0;
  /** Ends the back-off. */
  #retry: Timer | undefined;
  #flush: Timer | undefined;
  readonly #forgetKeys: () => void;

  constructor(replica: OpenReplica) {
    this.#replica = replica;
    this.#forgetKeys = replica.store.onKeysChanged(() => this.check());
    this.#flushLater();
  }

  /** Called after every batch; starts what is due, in the background. */
  check(): void {
    if (this.#isBusy || this.#replica.stopped.aborted) return;
    if (this.#notBeforeMs > this.#replica.context.clock.monotonicMs()) return;
    if (this.#replica.isReleaseDue) void this.#background(() => this.#release());
    else if (this.#replica.indexes.isBuildDue) void this.#background(() => this.#build());
    else if (this.#unmeasured() !== undefined) void this.#background(() => this.#measure());
    else if (this.#isRebuildDue()) void this.#background(() => this.#rebuild());
    else if (this.#isCheckpointDue()) void this.#background(() => this.#checkpoint());
    else if (this.#replica.store.encryption?.isRewriting === true) void this.#background(() => this.#rewrite());
  }

  /** Writes a checkpoint now, after the work at hand. Rejects where it cannot be written. */
  checkpoint(): Promise<void> {
    return this.#exclusive(() => this.#checkpoint());
  }

  /** Builds new generations of all indexes that hold dead rows now, whatever their share. */
  rebuild(): Promise<void> {
    return this.#exclusive(() => this.#rebuild());
  }

  /** Resolves when no background work runs; where the open replica has ended, none will again. */
  async idle(): Promise<void> {
    await this.#work;
    if (!this.#replica.stopped.aborted) return;
    this.#forgetKeys();
    this.#retry?.close();
    this.#flush?.close();
  }

  /**
   * Makes durable what was applied, from time to time: up to there the log can be trimmed. `share` of the period is waited for: not all replicas of
   * a node write at once.
   */
  #flushLater(
    sinceMs = this.#replica.context.clock.monotonicMs(),
    share = 0.5 + 0.5 * this.#replica.context.random.float(),
  ): void {
    const replica = this.#replica;
    const { clock, flushEveryMs } = replica.context;
    const waitMs = Math.min(sinceMs + share * flushEveryMs() - clock.monotonicMs(), periodLookMs);
    this.#flush = clock
      .setTimer(
        () => {
          if (replica.stopped.aborted) return;
          if (clock.monotonicMs() < sinceMs + share * flushEveryMs()) {
            this.#flushLater(sinceMs, share);
            return;
          }
          if (replica.appliedSequence > replica.durableSequence) void this.#flushNow();
          this.#flushLater();
        },
        // Less than the clock can tell apart would be waited for without end where time stands between events.
        Math.max(1, waitMs),
      )
      .unref();
  }

  /** A build of minutes does not hold it up: what is not flushed keeps the log from being trimmed. */
  async #flushNow(): Promise<void> {
    if (!this.#isBusy) {
      await this.#background(() => this.#replica.sync());
      return;
    }
    // It ends the open replica where it fails.
    await this.#replica.sync().catch(() => undefined);
  }

  #isCheckpointDue(): boolean {
    const { checkpointRows, checkpointShare } = this.#replica.context.tuning;
    const { changedRows, pointCount } = this.#replica;
    return changedRows >= checkpointRows && changedRows >= checkpointShare * pointCount;
  }

  #isRebuildDue(): boolean {
    const { deadRows, deadShare } = this.#replica.context.tuning;
    return this.#replica.indexes.isRebuildDue(deadRows, deadShare);
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#work.then(async () => {
      this.#isBusy = true;
      try {
        return await work();
      } finally {
        this.#isBusy = false;
      }
    });
    this.#work = result.then(
      // What became due meanwhile would otherwise wait for the next batch, which may be long in coming.
      () => this.check(),
      // The caller deals with the failure.
      (error: unknown) => error,
    );
    return result;
  }

  async #background(work: () => Promise<void>): Promise<void> {
    const { context } = this.#replica;
    const { clock, random, tuning } = context;
    try {
      // Set here as well: `exclusive` begins a tick later.
      this.#isBusy = true;
      await this.#exclusive(work);
      this.#failures = 0;
    } catch (error) {
      if (this.#replica.stopped.aborted) return;
      if (toKithError(error).code === "CORRUPT_DATA") {
        this.#replica.fail(error);
        return;
      }
      const pause = { initialMs: tuning.retryInitialMs, maxMs: tuning.retryMaxMs };
      const waitMs = backoffMs(this.#failures++, pause, random);
      this.#notBeforeMs = clock.monotonicMs() + waitMs;
      // The next batch may be long in coming.
      this.#retry?.close();
      this.#retry = clock
        .setTimer(() => {
          this.#notBeforeMs = 0;
          this.check();
        }, waitMs)
        .unref();
      context.onAlarm({
        kind: "maintenance_failed",
        message: `a checkpoint or index build failed and is tried again: ${textOf(error)}`,
      });
    }
  }

  /** Fills indexes that were added, and writes their first checkpoint with those of the others. */
  async #build(): Promise<void> {
    const replica = this.#replica;
    await replica.indexes.build(replica);
    await this.#checkpoint();
  }

  /** A generation that is to answer one day, is whole, and whose recall is not known. */
  #unmeasured(): DenseGenerations | undefined {
    const { indexes, recalls } = this.#replica;
    return indexes
      .generations()
      .find(
        ({ field, answering, other }) =>
          field.other?.state === "building" &&
          answering.serving !== undefined &&
          other?.serving !== undefined &&
          !recalls.has(other.kind.key),
      );
  }

  /** Compares a generation with the one that answers. */
  async #measure(): Promise<void> {
    const due = this.#unmeasured();
    const replica = this.#replica;
    const [old, next] = [due?.answering.serving, due?.other?.serving];
    if (due?.other === undefined || old === undefined || next === undefined) return;
    const { field, other } = due;
    const generations = [
      { generation: next, datatype: other.kind.field.datatype },
      { generation: old, datatype: field.datatype },
    ];
    const options = {
      ...{ store: replica.store, slots: replica.slots, signal: replica.stopped },
      ...{ clock: replica.context.clock, random: replica.context.random },
      ...{ field: other.kind.stored, metric: field.metric, ef: field.efSearch },
      ...{ k: generationRecallK, samples: recallSamples },
    };
    try {
      const { recalls, samples } = await measureRecall(generations, options);
      const [recall = 1, baseline = 1] = recalls;
      replica.recalls.set(other.kind.key, { recall, baseline, samples });
    } catch (error) {
      // One that is dropped meanwhile is closed under the searches.
      if (this.#unmeasured()?.other === other) throw error;
    }
  }

  async #checkpoint(): Promise<void> {
    const replica = this.#replica;
    await replica.indexes.settle(replica.stopped);
    // Before, so that little is missing on the disk should the power fail while the checkpoint is written.
    await replica.sync();
    while (replica.whole !== undefined) await replica.whole;
    // The indexes are taken in this step, and hold what is applied up to here.
    const changedRows = replica.changedRows;
    await replica.indexes.save({ storeId: replica.identity.storeId, sequence: replica.appliedSequence });
    replica.changedRows -= changedRows;
    // And after, for what was applied during the first: a checkpoint that is ahead of the store is dropped by recovery.
    await replica.sync();
  }

  /** Encrypts with a new data key what is encrypted with one that the master key in use does not wrap, or not at all: points and checkpoints. */
  async #rewrite(): Promise<void> {
    const replica = this.#replica;
    // Of the checkpoints none is left that was written before, also where the process ends in between: the store goes last.
    await this.#checkpoint();
    await replica.store.rewrite(replica.stopped);
  }

  /** After all points were deleted at once: a checkpoint without them, so that their slots can be given out again, and their place on the disk. */
  async #release(): Promise<void> {
    const replica = this.#replica;
    replica.isReleaseDue = false;
    try {
      await this.#rebuild();
      await replica.store.compact();
    } catch (error) {
      replica.isReleaseDue = true;
      throw error;
    }
  }

  /**
   * Builds the next generation of every index that holds dead rows, and gives the dead slots out again: those that were dead at
   * the start are then in no index, and in no checkpoint either.
   */
  async #rebuild(): Promise<void> {
    const replica = this.#replica;
    while (replica.whole !== undefined) await replica.whole;
    const dead = replica.slots.deadSlots();
    await replica.indexes.rebuild(replica);
    await this.#checkpoint();
    replica.slotEpoch++;
    replica.slots.release(dead);
  }
}
