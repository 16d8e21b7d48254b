import { abortReason, assert, deferred, KithError, toKithError, withAbort } from "../../base/index.js";
import { type PointStore, removeDirectory } from "../../storage/index.js";
import type { RowChanges } from "./changes.js";
import type { CheckpointStamp, Generation, IndexKind, Rows } from "./derived-index.js";
import type { SlotTable } from "./slots.js";

/** What generations are built from: an open replica. */
export interface IndexSource {
  readonly store: PointStore;
  readonly slots: SlotTable;
  readonly appliedSequence: number;
  /** Resolves when what is in memory is the state at `appliedSequence` again; undefined while it is. */
  readonly whole: Promise<void> | undefined;
  /** Aborted when the open replica ends. */
  readonly stopped: AbortSignal;
}

/** What an index tells of itself. */
export interface IndexStats {
  kind: string;
  label: string;
  holdsVectors: boolean;
  rowCount: number;
  aliveCount: number;
  deadCount: number;
  /** Rows alive that searches must still scan. */
  unindexedCount: number;
  /** Of all generations. */
  memoryBytes: number;
}

/**
 * The life of one derived index of an open replica, whatever its kind: the generation that answers, and the one that is being
 * built to take its place. What batches change goes to both. An index that was just added has none that answers, until its
 * first one is built.
 */
export class IndexLife<R extends Rows = Rows, G extends Generation<R> = Generation<R>> {
  readonly kind: IndexKind<R, G>;
  /** Of the checkpoint. */
  readonly directory: string;
  #serving: G | undefined;
  /** How often another generation has taken the place of the one that served. */
  promotions = 0;
  /** The next generation, while it is being built. */
  #building: G | undefined;
  /** Why the next generation cannot be used: an addition to it failed. */
  #buildError: KithError | undefined;
  /** Resolves when the rows of the last `add` fit under the generation's bound again; never rejects. */
  #accepted: Promise<void> = Promise.resolve();
  /** Resolves when the rows of a recovery are indexed; undefined afterwards. */
  #recovering: Promise<void> | undefined;
  #headroomRows = 0;
  /** Slots that were updated since the build at hand began: what its walk finds of them may be older. */
  readonly #updatedSlots = new Set<number>();
  readonly #firstBuilt = deferred<void>();
  /** Aborted when the index is closed or dropped. */
  readonly #end = new AbortController();
  #isDropped = false;
  /** Generations that were emptied have ended. Never rejects. */
  #emptied: Promise<unknown> = Promise.resolve();
  readonly #onError: (error: unknown) => void;

  /** @param onError told when the generation that answers cannot go on: then the open replica cannot either */
  constructor(kind: IndexKind<R, G>, directory: string, serving: G | undefined, onError: (error: unknown) => void) {
    this.kind = kind;
    this.directory = directory;
    this.#serving = serving;
    this.#onError = onError;
  }

  /** The generation that answers; undefined before the first one is built. */
  get serving(): G | undefined {
    return this.#serving;
  }

  /** Makes what a batch changes visible at once. Wait for `accepted` before the next call. */
  apply(changes: RowChanges): void {
    if (this.#serving === undefined && this.#building === undefined) return;
    // Additions first: a search that begins in between may find both rows of a point, which a query notices by the
    // younger one, but does not miss both.
    const rows = this.kind.inserted(changes);
    if (rows !== undefined) this.#add(rows);
    const dead = this.kind.tombstones(changes);
    if (dead !== undefined) this.#remove(dead);
    const updated = this.kind.updated(changes);
    if (updated === undefined) return;
    this.#remove(updated.slots);
    if (updated.rows !== undefined) {
      const inserted = this.#accepted;
      this.#add(updated.rows);
      const last = this.#accepted;
      if (rows !== undefined) this.#accepted = inserted.then(() => last);
    }
    if (this.#building !== undefined) for (const slot of updated.slots) this.#updatedSlots.add(slot);
  }

  /**
   * From now on without the rows of these slots, which are all that there are: a generation without any takes the place of the one that answers, whose memory
   * goes when the searches that run on it have ended.
   */
  empty(slots: Uint32Array): void {
    this.#building?.remove(slots);
    const old = this.#serving;
    if (old === undefined) return;
    this.#serving = this.kind.create();
    const closed = old.close().catch((error: unknown) => this.#onError(error));
    this.#emptied = Promise.all([this.#emptied, closed]);
  }

  #remove(slots: Uint32Array): void {
    this.#serving?.remove(slots);
    this.#building?.remove(slots);
  }

  #add(rows: R): void {
    this.#headroomRows -= rows.slots.length;
    const accepted = this.#serving && this.#tryAdd(this.#serving, rows);
    const building = this.#building && this.#tryAdd(this.#building, rows);
    // The build takes as many rows from the store as it has room for. Where nobody is answered by it yet, writes do not wait behind those.
    if (accepted === undefined || building === undefined) this.#accepted = accepted ?? Promise.resolve();
    else this.#accepted = accepted.then(() => building);
  }

  /**
   * Back-pressure. While the rows of a recovery are still being indexed, additions go on within the headroom: a rebuilt
   * index of a million rows takes minutes to become a graph, and the replica should follow its log meanwhile.
   */
  accepted(): Promise<void> {
    return this.#recovering !== undefined && this.#headroomRows > 0 ? Promise.resolve() : this.#accepted;
  }

  /** Like an addition, for rows that are read back at start: all are found at once, nobody waits for the graph. */
  recover(rows: R): void {
    const serving = this.#serving;
    assert(serving !== undefined, `the index of the ${this.kind.label} has no generation to recover`);
    const accepted = this.#tryAdd(serving, rows);
    const before = this.#recovering;
    this.#recovering = before === undefined ? accepted : before.then(() => accepted);
  }

  /** Ends the recovery: from now on `headroomRows` may be added before additions wait. */
  recovered(headroomRows: number): void {
    const all = this.#recovering;
    if (all === undefined) return;
    this.#headroomRows = headroomRows;
    this.#accepted = all;
    void all.then(() => {
      this.#recovering = undefined;
    });
  }

  /** Drops what was recovered, with the checkpoint that it came from: all rows are recovered from the store afterwards. */
  async recoverAgain(): Promise<void> {
    const old = this.#serving;
    this.#serving = this.kind.create();
    await old?.close();
    await removeDirectory(this.directory);
  }

  /** Resolves when all rows of the call's moment are indexed in the generation that answers, or the index was dropped. */
  async flush(signal: AbortSignal | undefined): Promise<void> {
    if (this.#serving === undefined) await withAbort(this.#firstBuilt.promise, signal);
    while (!this.#isDropped) {
      const serving = this.#serving;
      if (serving === undefined) throw this.#closedError();
      try {
        await serving.flush(signal);
        if (serving === this.#serving) return;
      } catch (error) {
        // A generation that was replaced is closed, and its rows are the next one's.
        if (serving === this.#serving && !this.#isDropped) throw error;
      }
    }
  }

  stats(): IndexStats {
    const { name, label, holdsVectors } = this.kind;
    const stats = this.#serving?.stats() ?? { rowCount: 0, aliveCount: 0, unindexedCount: 0, memoryBytes: 0 };
    const { rowCount, aliveCount, unindexedCount } = stats;
    const memoryBytes = stats.memoryBytes + (this.#building?.stats().memoryBytes ?? 0);
    const deadCount = rowCount - aliveCount;
    return { kind: name, label, holdsVectors, rowCount, aliveCount, deadCount, unindexedCount, memoryBytes };
  }

  /** Writes a checkpoint of what is applied up to the call. Nothing is written before the first generation is built. */
  async save(stamp: CheckpointStamp): Promise<void> {
    await this.#serving?.save(this.directory, stamp);
  }

  /**
   * Builds the next generation from the store, without the rows that are dead, and lets it answer; queries and batches go on. One
   * build at a time, and no slot may be released meanwhile. Rejects where that fails: the generation before goes on to answer.
   */
  async build(source: IndexSource): Promise<void> {
    while (source.whole !== undefined) await source.whole;
    const next = this.kind.create();
    this.#buildError = undefined;
    this.#building = next;
    this.#updatedSlots.clear();
    try {
      const signal = AbortSignal.any([source.stopped, this.#end.signal]);
      await this.#fill(next, source, signal);
      await next.flush(signal);
      this.#checkBuild(signal);
    } catch (error) {
      this.#building = undefined;
      await next.close();
      if (this.#end.signal.aborted) return;
      throw error;
    }
    const old = this.#serving;
    this.#serving = next;
    this.promotions++;
    this.#building = undefined;
    this.#firstBuilt.resolve();
    // Searches that run on the old generation end first.
    await old?.close();
  }

  async #fill(next: G, { store, slots, appliedSequence: startedAt }: IndexSource, signal: AbortSignal): Promise<void> {
    for await (const { rows, versions } of this.kind.walk(store)) {
      const kept: number[] = [];
      for (let row = 0; row < versions.length; row++) {
        const slot = rows.slots[row] as number;
        const version = versions[row] as number;
        // Younger ones come to both generations when they are applied; dead ones are what is to be left behind. One that is
        // alive and was not updated is the same still: no dead slot is given out again before the build is over.
        if (version <= startedAt && slots.isAlive(slot) && !this.#updatedSlots.has(slot)) kept.push(row);
      }
      const added = kept.length === versions.length ? rows : this.kind.select(rows, kept);
      if (kept.length > 0) await withAbort(next.add(added), signal);
      this.#checkBuild(signal);
    }
  }

  /** Throws where an addition to the next generation has failed, or the index or the open replica has ended. */
  #checkBuild(signal: AbortSignal): void {
    if (this.#buildError !== undefined) throw this.#buildError;
    if (signal.aborted) throw abortReason(signal);
  }

  #closedError(): KithError {
    return new KithError("SHUTTING_DOWN", `the index of the ${this.kind.label} is closed`, { retryAfterMs: 500 });
  }

  async close(): Promise<void> {
    this.#end.abort(this.#closedError());
    // Who waits for the first generation then finds that there is none.
    this.#firstBuilt.resolve();
    const building = this.#building;
    this.#building = undefined;
    await Promise.all([this.#serving?.close(), building?.close(), this.#emptied]);
  }

  /** Ends the index for good: its files go too. */
  async drop(): Promise<void> {
    this.#isDropped = true;
    await this.close();
    await removeDirectory(this.directory);
  }

  async #tryAdd(generation: G, rows: R): Promise<void> {
    try {
      await generation.add(rows);
    } catch (error) {
      if (this.#end.signal.aborted) return;
      if (generation === this.#serving) this.#onError(error);
      else if (generation === this.#building) this.#buildError ??= toKithError(error);
    }
  }
}
