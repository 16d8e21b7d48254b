import { abortReason, backoffMs, toKithError, withAbort } from "../../base/index.js";
import { textOf } from "../replica/faults.js";
import { type FieldIndex, indexOptionsOf, unindexedRows } from "./field-index.js";
import { indexDirectory, type OpenReplica, storedField } from "../replica/open-replica.js";

/**
 * Background work of one open replica, one piece at a time: checkpoints of the indexes and new generations of them. Neither
 * stops the applying of records or the answering of queries.
 */
export class Maintenance {
  readonly #replica: OpenReplica;
  #work: Promise<unknown> = Promise.resolve();
  #isBusy = false;
  #failures = 0;
  #notBeforeMs = 0;

  constructor(replica: OpenReplica) {
    this.#replica = replica;
  }

  /** Called after every batch; starts what is due, in the background. */
  check(): void {
    if (this.#isBusy || this.#replica.stopped.aborted) return;
    if (this.#notBeforeMs > this.#replica.context.clock.monotonicMs()) return;
    if (this.#isRebuildDue()) void this.#background(() => this.#rebuild());
    else if (this.#isCheckpointDue()) void this.#background(() => this.#checkpoint());
  }

  /** Writes a checkpoint now, after the work at hand. Rejects where it cannot be written. */
  checkpoint(): Promise<void> {
    return this.#exclusive(() => this.#checkpoint());
  }

  /** Builds new generations of all indexes that hold dead rows now, whatever their share. */
  rebuild(): Promise<void> {
    return this.#exclusive(() => this.#rebuild());
  }

  /** Resolves when no background work runs. */
  async idle(): Promise<void> {
    await this.#work;
  }

  #isCheckpointDue(): boolean {
    const { checkpointRows, checkpointShare } = this.#replica.context.tuning;
    const { changedRows, pointCount } = this.#replica;
    return changedRows >= checkpointRows && changedRows >= checkpointShare * pointCount;
  }

  #isRebuildDue(): boolean {
    const { deadRows, deadShare } = this.#replica.context.tuning;
    return this.#replica.fields.some(({ stats }) => {
      const dead = stats.rowCount - stats.aliveCount;
      return dead >= deadRows && dead > deadShare * stats.rowCount;
    });
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
      // The caller deals with the failure; the next batch tries again, after the back-off.
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
      context.onAlarm({
        kind: "maintenance_failed",
        message: `a checkpoint or index build failed and is tried again: ${textOf(error)}`,
      });
    }
  }

  async #checkpoint(): Promise<void> {
    const replica = this.#replica;
    for (const { index } of replica.fields) {
      const stats = index.stats();
      // After a rebuild nearly nothing is in the graph yet; saved now, the next start would build it again.
      if (unindexedRows(index, stats) * 2 > stats.rowCount && !replica.stopped.aborted)
        await index.flush(replica.stopped);
    }
    // Before, so that little is missing on the disk should the power fail while the checkpoint is written.
    await replica.sync();
    // The indexes are taken in this step, and hold what is applied up to here.
    const sequence = replica.appliedSequence;
    const changedRows = replica.changedRows;
    await Promise.all(
      replica.fields.map(({ index, number, field }) =>
        index.save(indexDirectory(replica.context.directory, number), {
          sequence,
          extra: { storeId: replica.identity.storeId, field: field.name },
        }),
      ),
    );
    replica.changedRows -= changedRows;
    // And after, for what was applied during the first: a checkpoint that is ahead of the store is dropped by recovery.
    await replica.sync();
  }

  /**
   * Builds the next generation of every index that holds dead rows, swaps them in, and gives the dead slots out again:
   * those that were dead at the start are then in no index, and in no checkpoint either.
   */
  async #rebuild(): Promise<void> {
    const replica = this.#replica;
    const dead = replica.slots.deadSlots();
    for (const field of replica.fields) {
      const { rowCount, aliveCount } = field.stats;
      if (rowCount > aliveCount) await this.#rebuildField(field);
    }
    await this.#checkpoint();
    replica.slotEpoch++;
    replica.slots.release(dead);
  }

  async #rebuildField(field: FieldIndex): Promise<void> {
    const replica = this.#replica;
    const { slots } = replica;
    const building = replica.context.indexes.create(indexOptionsOf(field.field));
    const startedAt = replica.appliedSequence;
    field.startBuild(building);
    try {
      for await (const chunk of replica.store.scanVectors(storedField(field.number, field.field))) {
        if (replica.stopped.aborted) throw abortReason(replica.stopped);
        const { dimension } = field.field;
        const rows: number[] = [];
        for (let row = 0; row < chunk.slots.length; row++) {
          const slot = chunk.slots[row] as number;
          const version = chunk.versions[row] as number;
          // Younger ones came to both generations when they were applied; dead ones are what is to be left behind.
          if (version <= startedAt && slots.isAlive(slot) && slots.versionOf(slot) === version) rows.push(row);
        }
        const matrix = new Float32Array(rows.length * dimension);
        rows.forEach((row, i) =>
          matrix.set(chunk.matrix.subarray(row * dimension, (row + 1) * dimension), i * dimension),
        );
        const ids = Uint32Array.from(rows, (row) => chunk.slots[row] as number);
        if (rows.length > 0) await withAbort(building.add(ids, matrix), replica.stopped);
        field.checkBuild();
      }
      await building.flush(replica.stopped);
      field.checkBuild();
    } catch (error) {
      field.building = undefined;
      await building.close();
      throw error;
    }
    const old = field.index;
    field.index = building;
    field.building = undefined;
    // Searches that run on the old generation end first.
    await old.close();
  }
}
