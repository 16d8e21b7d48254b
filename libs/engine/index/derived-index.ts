import type { IdKey } from "../../model/index.js";
import type { Head, PointStore } from "../../storage/index.js";
import type { RowChanges } from "./changes.js";

/**
 * What a kind of derived index is made of. An index is derived from the store and never the only place of anything: it is
 * dropped on any doubt and filled again. Its life (recovery, batches, back-pressure, checkpoints, generations, end) is the
 * same for all kinds, and written once: IndexLife, IndexSet, Maintenance, and IndexRecovery in recover/. A kind says which points it covers, how their
 * rows are read, and what a generation does with them; CONTRIBUTING.md shows how to add one.
 */

/** Rows of one kind, in columns aligned with `slots`. All indexes of a replica share its slots. */
export interface Rows {
  readonly slots: Uint32Array;
}

/** Rows as a walk through the store finds them, with the version of each: see IndexKind.versionOf. */
export interface WalkedRows<R extends Rows> {
  rows: R;
  versions: Float64Array;
}

/** What changes in slots whose points keep their vectors: a row may come, go, or become another one. */
export interface UpdatedRows<R extends Rows> {
  /** All slots whose rows are not what they were; those that had no row may be among them. */
  slots: Uint32Array;
  /** The rows of those that have one now. */
  rows: R | undefined;
}

/** One definition of an index, such as "the dense vectors of field 3". Has no state of its own. */
export interface IndexKind<R extends Rows = Rows, G extends Generation<R> = Generation<R>> {
  /** Of all indexes of the kind: part of the name of the checkpoint's folder, [a-z]+. */
  readonly name: string;
  /** Tells indexes of the kind apart, [a-z0-9]+: part of that name too, and never used again within a store. */
  readonly key: string;
  /** What people call the index: `vector field "title"`. */
  readonly label: string;
  /** Whether the rows are vectors, as replicas count them in their status. */
  readonly holdsVectors: boolean;
  /** Whether an opening of the replica goes on without it where it has no checkpoint: it is filled in the background then. Missing: it does not. */
  readonly canWait?: boolean;

  /**
   * Sequence of the record that made the index's row of the point what it is; 0 where the index has no row for the point. Called once
   * for each point at start. For rows of vectors it is the slot's version; where the payload takes part, the later one of the
   * slot's and the payload's.
   */
  versionOf(head: Head): number;

  /** The rows that a batch brings; undefined where it brings none. */
  inserted(changes: RowChanges): R | undefined;
  /** Slots that a batch empties; undefined where there are none. Those that the index has no row for may be among them. */
  tombstones(changes: RowChanges): Uint32Array | undefined;
  /**
   * What a batch changes in slots whose points live on; undefined where it changes nothing that the index could have rows of. Must
   * name every slot whose version it raises (versionOf), also where the row stays as it is: a build that goes on beside leaves
   * out what is younger than its beginning.
   */
  updated(changes: RowChanges): UpdatedRows<R> | undefined;

  /**
   * All rows in the store as of the first call of `next`, beside which the store may be written. What it yields is only good
   * until the next: the memory may be used again.
   */
  walk(store: PointStore): AsyncIterable<WalkedRows<R>>;
  /** The rows of these points, of which the index has one each; `slots` are theirs. CORRUPT_DATA where the store has lost one. As `walk` yields. */
  pick(store: PointStore, ids: readonly IdKey[], slots: readonly number[]): AsyncIterable<R>;
  /** The rows at these positions, which ascend; may use the memory of `rows`. */
  select(rows: R, positions: readonly number[]): R;

  /** A new generation without rows. */
  create(): G;
  /** What `save` wrote; undefined where there is nothing. Rejects where it is damaged, or was written with other options. */
  load(directory: string): Promise<Checkpoint<G> | undefined>;
}

/** One build of an index. Rows are found by searches from the return of `add` to that of `remove`. */
export interface Generation<R extends Rows = Rows> {
  /**
   * The rows are found as soon as this returns, and what is kept of them is copied by then. The promise is the back-pressure: it
   * resolves when more may come, and rejects where the rows could not be added.
   */
  add(rows: R): Promise<void>;
  /** Slots without a row are passed over. A slot may be added again afterwards. */
  remove(slots: Uint32Array): void;
  stats(): GenerationStats;
  /** Resolves when all rows of the call's moment are found at the index's own speed, not by a scan. */
  flush(signal?: AbortSignal): Promise<void>;
  /** Writes the state of the call's moment, atomically under a kill, beside further changes. Made if the directory is missing. */
  save(directory: string, stamp: CheckpointStamp): Promise<void>;
  /** Frees the memory; searches and saves under way end first, what waits for `add` or `flush` is rejected. May be called again. */
  close(): Promise<void>;
}

export interface GenerationStats {
  /** Rows alive and dead. A kind that forgets a row when it is removed has no dead ones, and never needs another generation. */
  rowCount: number;
  aliveCount: number;
  /** Rows alive that searches must still scan. */
  unindexedCount: number;
  memoryBytes: number;
}

/** Which store a checkpoint was taken of, and after which record. */
export interface CheckpointStamp {
  storeId: string;
  sequence: number;
}

export interface Checkpoint<G> {
  generation: G;
  /** As it was given to `save`; the store's id as text, whatever the files say. */
  stamp: CheckpointStamp;
}
