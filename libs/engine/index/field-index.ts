import type { IndexOptions, IndexStats, VectorIndex } from "../../ann/index.js";
import { type KithError, toKithError } from "../../base/index.js";
import type { VectorField } from "../../model/index.js";

export function indexOptionsOf(field: VectorField): IndexOptions {
  const { dimension, metric, datatype, m, efConstruction } = field;
  return { dimension, metric, datatype, m, efConstruction };
}

/**
 * The index of one vector field: the generation that answers, and the one that is being built to take its place.
 * Additions and removals go to both. All fields share the replica's slots.
 */
export class FieldIndex {
  readonly number: number;
  readonly field: VectorField;
  index: VectorIndex;
  /** The next generation, while it is being built. */
  building: VectorIndex | undefined;
  /** Why the next generation cannot be used: an addition to it failed. */
  #buildError: KithError | undefined;
  /** Resolves when the rows of the last `add` fit under the index's bound again; never rejects. */
  #accepted: Promise<void> = Promise.resolve();
  /** Resolves when the rows of a recovery have entered the graph; undefined afterwards. */
  #recovering: Promise<void> | undefined;
  #headroomRows = 0;
  readonly #onError: (error: unknown) => void;

  constructor(number: number, field: VectorField, index: VectorIndex, onError: (error: unknown) => void) {
    this.number = number;
    this.field = field;
    this.index = index;
    this.#onError = onError;
  }

  /** Makes rows searchable at once. Wait for `accepted` before the next call. */
  add(slots: Uint32Array, vectors: Float32Array): void {
    this.#headroomRows -= slots.length;
    const accepted = this.#tryAdd(this.index, slots, vectors);
    if (this.building === undefined) {
      this.#accepted = accepted;
      return;
    }
    const building = this.#tryAdd(this.building, slots, vectors);
    this.#accepted = accepted.then(() => building);
  }

  /**
   * Back-pressure. While the rows of a recovery still enter the graph, additions go on within the headroom: a rebuilt
   * index of a million rows takes minutes to become a graph, and the replica should follow its log meanwhile.
   */
  accepted(): Promise<void> {
    return this.#recovering !== undefined && this.#headroomRows > 0 ? Promise.resolve() : this.#accepted;
  }

  /** Like `add`, for rows that are read back at start: all are searchable at once, nobody waits for the graph. */
  recover(slots: Uint32Array, vectors: Float32Array): void {
    const accepted = this.#tryAdd(this.index, slots, vectors);
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

  /** Resolves when all rows of the call's moment are in the graph that answers. */
  async flush(signal: AbortSignal | undefined): Promise<void> {
    for (;;) {
      const { index } = this;
      try {
        await index.flush(signal);
      } catch (error) {
        // A generation that was replaced is closed, and its rows are the next one's.
        if (index === this.index) throw error;
        continue;
      }
      if (index === this.index) return;
    }
  }

  /** From now on additions and removals go to this next generation too. */
  startBuild(building: VectorIndex): void {
    this.#buildError = undefined;
    this.building = building;
  }

  /** Throws where an addition to the next generation has failed. */
  checkBuild(): void {
    if (this.#buildError !== undefined) throw this.#buildError;
  }

  remove(slots: Uint32Array): void {
    this.index.remove(slots);
    this.building?.remove(slots);
  }

  get stats(): IndexStats {
    return this.index.stats();
  }

  async close(): Promise<void> {
    const { building } = this;
    this.building = undefined;
    await Promise.all([this.index.close(), building?.close()]);
  }

  async #tryAdd(index: VectorIndex, slots: Uint32Array, vectors: Float32Array): Promise<void> {
    try {
      await index.add(slots, vectors);
    } catch (error) {
      if (index === this.index) this.#onError(error);
      else if (index === this.building) this.#buildError ??= toKithError(error);
    }
  }
}

/** Rows that a query must scan although a graph exists. Small indexes have no graph and need none. */
export function unindexedRows(index: VectorIndex, stats: IndexStats): number {
  if (stats.graphRowCount === 0 && stats.rowCount < index.options.graphThreshold) return 0;
  return Math.min(stats.tailRowCount, stats.aliveCount);
}
