import { assert, KithError, toKithError } from "../../base/index.js";
import type { IdKey } from "../../model/index.js";
import { type Head, type PointStore, removeDirectory } from "../../storage/index.js";
import type { Generation, IndexKind, Rows } from "../index/derived-index.js";
import { IndexLife } from "../index/index-life.js";
import { textOf } from "../replica/faults.js";
import { indexDirectory } from "../replica/layout.js";
import type { Alarm } from "../replica/options.js";

/**
 * Up to this share, points are read back one by one rather than by a walk through all of them. A start of 1,000,000 points on
 * two shards that lacked 16 %: 1.0 s (6.6 µs each) instead of 9.3 s (9.3 µs for every vector, with the writers at work
 * beside). A checkpoint lacks 20 % before the next one is due, and what came while that was written.
 */
const pickedShare = 0.3;
const pickedRowsMin = 2_048;

export interface IndexRecoveryOptions {
  /** Of the replica. */
  directory: string;
  storeId: string;
  appliedSequence: number;
  pointCount: number;
  /** One more than the highest slot ever given out. */
  slotEnd: number;
  onAlarm(alarm: Alarm): void;
  /** Told when an index cannot go on. */
  onError(error: unknown): void;
}

/**
 * Brings one index from its checkpoint to the state of the store: rows that are not what they were are removed, those that are
 * younger are added. There is no journal to replay, and a checkpoint that does not fit, for whatever reason, is dropped and the index
 * filled from the store.
 */
export class IndexRecovery<R extends Rows = Rows, G extends Generation<R> = Generation<R>> {
  readonly life: IndexLife<R, G>;
  readonly #options: IndexRecoveryOptions;
  /** Of the checkpoint; undefined where there is none. */
  readonly #sequence: number | undefined;
  readonly #pickedMax: number;
  /** Points that the index must have a row of. */
  #coveredCount = 0;
  #missingCount = 0;
  /** Bit s is set where the checkpoint's row of slot s is right. */
  readonly #right: Uint8Array;
  /** Those that the checkpoint lacks: kept up to a bound, beyond which all rows are walked through anyway. */
  readonly #missingIds: IdKey[] = [];
  readonly #missingSlots: number[] = [];

  private constructor(options: IndexRecoveryOptions, life: IndexLife<R, G>, sequence: number | undefined) {
    this.life = life;
    this.#options = options;
    this.#sequence = sequence;
    this.#right = new Uint8Array(sequence === undefined ? 0 : Math.ceil(options.slotEnd / 8));
    this.#pickedMax = sequence === undefined ? 0 : Math.max(pickedRowsMin, options.pointCount * pickedShare);
  }

  /** Begins with the checkpoint, where there is one that fits the store. Then `meet` all points, and `finish`. */
  static async begin<R extends Rows, G extends Generation<R>>(
    kind: IndexKind<R, G>,
    options: IndexRecoveryOptions,
  ): Promise<IndexRecovery<R, G>> {
    const directory = indexDirectory(options.directory, kind);
    const found = await loadCheckpoint(kind, directory, options);
    const generation = found?.generation ?? (kind.canWait === true ? undefined : kind.create());
    const life = new IndexLife(kind, directory, generation, (error) => options.onError(error));
    return new IndexRecovery(options, life, found?.stamp.sequence);
  }

  /** Called with each point of the store. */
  meet(id: IdKey, head: Head): void {
    if (this.life.serving === undefined) return;
    const version = this.life.kind.versionOf(head);
    if (version === 0) return;
    this.#coveredCount++;
    if (this.#sequence !== undefined && version <= this.#sequence) {
      this.#right[head.slot >>> 3] = (this.#right[head.slot >>> 3] ?? 0) | (1 << (head.slot & 7));
      return;
    }
    if (this.#missingCount++ >= this.#pickedMax) return;
    this.#missingIds.push(id);
    this.#missingSlots.push(head.slot);
  }

  /** Every row is found when this resolves. Gives how many rows the next checkpoint has more than this one. */
  async finish(store: PointStore): Promise<number> {
    const { life } = this;
    const { label } = life.kind;
    if (life.serving === undefined) return 0;
    if (this.#sequence === undefined) await this.#fill(store, -1);
    else {
      life.serving?.remove(this.#wrongSlots());
      if (this.#missingCount === this.#missingIds.length) await this.#pick(store);
      else await this.#fill(store, this.#sequence);
      const { aliveCount } = life.stats();
      if (aliveCount !== this.#coveredCount) {
        this.#options.onAlarm({
          kind: "checkpoint_dropped",
          message: `the index checkpoint of the ${label} led to ${aliveCount} rows instead of ${this.#coveredCount}; the index is built from the store`,
        });
        await life.recoverAgain();
        await this.#fill(store, -1);
      }
    }
    assert(life.stats().aliveCount === this.#coveredCount, `the index of the ${label} misses rows of the store`);
    return this.#missingCount;
  }

  /** Slots whose rows, if the checkpoint has them, are of points that are gone or were written since. */
  #wrongSlots(): Uint32Array {
    const { slotEnd } = this.#options;
    const wrong = new Uint32Array(slotEnd);
    let count = 0;
    for (let slot = 0; slot < slotEnd; slot++) {
      if ((((this.#right[slot >>> 3] ?? 0) >> (slot & 7)) & 1) === 0) wrong[count++] = slot;
    }
    return wrong.subarray(0, count);
  }

  async #pick(store: PointStore): Promise<void> {
    for await (const rows of this.life.kind.pick(store, this.#missingIds, this.#missingSlots)) this.life.recover(rows);
  }

  /** Adds every row that is younger than `sequence`. */
  async #fill(store: PointStore, sequence: number): Promise<void> {
    const { kind } = this.life;
    for await (const { rows, versions } of kind.walk(store)) {
      const younger: number[] = [];
      for (let row = 0; row < versions.length; row++) if ((versions[row] as number) > sequence) younger.push(row);
      if (younger.length === versions.length) this.life.recover(rows);
      else if (younger.length > 0) this.life.recover(kind.select(rows, younger));
    }
  }
}

/**
 * The checkpoint, where it can be used. What is damaged is deleted; what could not be read for another reason is left alone, and the
 * index is built from the store. Without memory or file handles to read it there is none to build the index either: that is thrown.
 */
async function loadCheckpoint<R extends Rows, G extends Generation<R>>(
  kind: IndexKind<R, G>,
  directory: string,
  options: IndexRecoveryOptions,
): ReturnType<IndexKind<R, G>["load"]> {
  const { storeId, appliedSequence } = options;
  try {
    const found = await kind.load(directory);
    if (found === undefined) return undefined;
    const { generation, stamp } = found;
    if (stamp.storeId === storeId && stamp.sequence <= appliedSequence) return found;
    await generation.close();
    throw new KithError(
      "CORRUPT_DATA",
      `it is of sequence ${stamp.sequence} of store ${stamp.storeId}; the store is at ${appliedSequence} of ${storeId}`,
    );
  } catch (error) {
    const { code } = toKithError(error);
    if (code === "RESOURCE_EXHAUSTED") throw error;
    options.onAlarm({
      kind: "checkpoint_dropped",
      message: `the index checkpoint in ${directory} is not used, the index is built from the store: ${textOf(error)}`,
    });
    if (code === "CORRUPT_DATA") await removeDirectory(directory);
    return undefined;
  }
}
