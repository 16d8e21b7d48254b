import type { IndexOptions, SearchOptions, SearchResult, VectorIndex } from "../../ann/index.js";
import { assert, KithError } from "../../base/index.js";
import { type IdKey, keepsOriginals, type VectorField } from "../../model/index.js";
import type { CodesExplain } from "../../shard-api/index.js";
import type { Head, PointStore, StoredField } from "../../storage/index.js";
import {
  type Column,
  columnOf,
  hasVector,
  type PreparedUpsert,
  type TouchedPoint,
  vectorOf,
} from "../apply/write-set.js";
import type { IndexFactory } from "../replica/options.js";
import type { RowChanges } from "./changes.js";
import type {
  Checkpoint,
  CheckpointStamp,
  Generation,
  GenerationStats,
  IndexKind,
  Rows,
  UpdatedRows,
  WalkedRows,
} from "./derived-index.js";
import type { IndexLife } from "./index-life.js";

/** Row-major vectors, aligned with the slots. */
export interface DenseRows extends Rows {
  readonly matrix: Float32Array;
}

/** The index of one dense vector field of an open replica. */
export type DenseIndex = IndexLife<DenseRows, DenseGeneration> & { readonly kind: DenseKind };

export function isDense(index: IndexLife): index is DenseIndex {
  return index.kind instanceof DenseKind;
}

/** The name of the kind, in the folders of checkpoints. */
export const denseName = "dense";

/** Vectors that are read back at once, where single points are picked. */
const pickedRows = 2_048;

/** The key of one build of the index of the field with this number. */
export function denseKey(number: number, generation: number): string {
  return generation === 0 ? String(number) : `${number}g${generation}`;
}

/** The graph over the vectors of one field: the generation that answers. `field` has the build that is meant. */
export class DenseKind implements IndexKind<DenseRows, DenseGeneration> {
  readonly name = denseName;
  readonly key: string;
  readonly label: string;
  readonly holdsVectors = true;
  readonly field: VectorField;
  readonly stored: StoredField;
  readonly generation: number;
  readonly canWait: boolean;
  readonly #factory: IndexFactory;
  readonly #directory: string;

  /**
   * @param directory of the replica: where vectors are kept in a file
   * @param canWait whether another generation answers while this one is filled
   */
  constructor(
    number: number,
    field: VectorField,
    generation: number,
    factory: IndexFactory,
    directory: string,
    canWait: boolean,
  ) {
    this.key = denseKey(number, generation);
    this.label = `vector field "${field.name}"${generation === 0 ? "" : ` (generation ${generation})`}`;
    this.field = field;
    this.generation = generation;
    this.canWait = canWait;
    this.stored = { number, dimension: field.dimension };
    this.#factory = factory;
    this.#directory = directory;
  }

  versionOf(head: Head): number {
    return this.#covers(head) ? head.slotVersion : 0;
  }

  /** Points of one upsert that follow each other, as in most batches all do, are copied at once. */
  inserted({ insertedSlots, insertedPoints }: RowChanges): DenseRows | undefined {
    const { dimension } = this.stored;
    const rowBytes = dimension * 4;
    const slots = new Uint32Array(insertedSlots.length);
    const bytes = new Uint8Array(insertedSlots.length * rowBytes);
    let upsert: PreparedUpsert | undefined;
    let column: Column | undefined;
    let count = 0;
    for (let i = 0; i < insertedPoints.length; ) {
      const first = insertedPoints[i] as TouchedPoint;
      if (first.upsert === undefined || first.edit?.vectors !== undefined) {
        const vector = vectorOf(first, this.stored.number);
        if (vector !== undefined) {
          bytes.set(vector, count * rowBytes);
          slots[count++] = insertedSlots[i] as number;
        } else assert(!hasVector(first, this.stored.number), "a vector is to be indexed that was not read");
        i++;
        continue;
      }
      if (first.upsert !== upsert) {
        upsert = first.upsert;
        column = columnOf(upsert, this.stored.number);
      }
      const begin = i++;
      while (i < insertedPoints.length && follows(insertedPoints[i] as TouchedPoint, first, i - begin)) i++;
      if (column === undefined) continue;
      bytes.set(column.matrix.subarray(first.row * rowBytes, (first.row + i - begin) * rowBytes), count * rowBytes);
      for (let at = begin; at < i; at++) slots[count++] = insertedSlots[at] as number;
    }
    if (count === 0) return undefined;
    return { slots: slots.subarray(0, count), matrix: new Float32Array(bytes.buffer, 0, count * dimension) };
  }

  tombstones({ tombstoneSlots, tombstonePoints }: RowChanges): Uint32Array | undefined {
    const slots = new Uint32Array(tombstoneSlots.length);
    let count = 0;
    for (let i = 0; i < tombstoneSlots.length; i++) {
      const { before } = tombstonePoints[i] as TouchedPoint;
      if (before !== undefined && this.#covers(before)) slots[count++] = tombstoneSlots[i] as number;
    }
    return count === 0 ? undefined : slots.subarray(0, count);
  }

  /** A change of vectors gives the point another slot. */
  updated(): UpdatedRows<DenseRows> | undefined {
    return undefined;
  }

  async *walk(store: PointStore): AsyncGenerator<WalkedRows<DenseRows>> {
    for await (const chunk of store.scanVectors(this.stored)) yield { rows: chunk, versions: chunk.versions };
  }

  /** The memory is used again: the promise of `add` lasts until the graph has caught up, and would hold it. */
  async *pick(store: PointStore, ids: readonly IdKey[], slots: readonly number[]): AsyncGenerator<DenseRows> {
    const { dimension } = this.stored;
    const memory = new Float32Array(Math.min(pickedRows, ids.length) * dimension);
    for (let from = 0; from < ids.length; from += pickedRows) {
      const vectors = await store.vectors(this.stored, ids.slice(from, from + pickedRows));
      for (const [i, vector] of vectors.entries()) {
        if (vector === undefined) {
          throw new KithError("CORRUPT_DATA", `a point has lost its vector of "${this.field.name}"`);
        }
        memory.set(vector.value, i * dimension);
      }
      const matrix = memory.subarray(0, vectors.length * dimension);
      yield { slots: Uint32Array.from(slots.slice(from, from + vectors.length)), matrix };
    }
  }

  select({ slots, matrix }: DenseRows, positions: readonly number[]): DenseRows {
    const { dimension } = this.stored;
    for (const [i, position] of positions.entries()) {
      slots[i] = slots[position] as number;
      matrix.copyWithin(i * dimension, position * dimension, (position + 1) * dimension);
    }
    return { slots: slots.subarray(0, positions.length), matrix: matrix.subarray(0, positions.length * dimension) };
  }

  create(): DenseGeneration {
    return new DenseGeneration(this.#factory.create(this.#options), this.field.name);
  }

  async load(directory: string): Promise<Checkpoint<DenseGeneration> | undefined> {
    const loaded = await this.#factory.load(directory, this.#options);
    if (loaded === undefined) return undefined;
    const { index, sequence, extra } = loaded;
    const generation = new DenseGeneration(index, this.field.name);
    return { generation, stamp: { storeId: String(extra["storeId"]), sequence } };
  }

  get #options(): IndexOptions {
    const { dimension, metric, datatype, m, efConstruction } = this.field;
    const given = keepsOriginals(this.field) && { givenFolder: this.#directory };
    return { dimension, metric, datatype, m, efConstruction, ...given };
  }

  #covers(head: Head): boolean {
    return head.hasVector(this.stored.number);
  }
}

/** Whether the point's row is `distance` behind that of `first`, in the same upsert, and its vectors still are the upsert's. */
function follows(point: TouchedPoint, first: TouchedPoint, distance: number): boolean {
  return point.upsert === first.upsert && point.row === first.row + distance && point.edit?.vectors === undefined;
}

/** A graph of libs/ann over the vectors of one field, with the tail that is not in it yet. */
export class DenseGeneration implements Generation<DenseRows> {
  readonly #index: VectorIndex;
  readonly #fieldName: string;

  constructor(index: VectorIndex, fieldName: string) {
    this.#index = index;
    this.#fieldName = fieldName;
  }

  search(query: Float32Array, options: SearchOptions): Promise<SearchResult> {
    return this.#index.search(query, options);
  }

  add({ slots, matrix }: DenseRows): Promise<void> {
    return this.#index.add(slots, matrix);
  }

  remove(slots: Uint32Array): void {
    this.#index.remove(slots);
  }

  stats(): GenerationStats {
    const stats = this.#index.stats();
    const { rowCount, aliveCount, graphRowCount, tailRowCount } = stats;
    // Small indexes have no graph and need none.
    const isScanned = graphRowCount === 0 && rowCount < this.#index.options.graphThreshold;
    return {
      rowCount,
      aliveCount,
      unindexedCount: isScanned ? 0 : Math.min(tailRowCount, aliveCount),
      memoryBytes: stats.arenaBytes + stats.graphBytes + stats.otherBytes,
    };
  }

  /** Where the vectors are as they were written; "LevelDB": in the store alone. */
  originals(): CodesExplain["originals"] {
    if (this.#index.options.datatype === "f32") return "memory";
    const { givenIn } = this.#index.stats();
    if (givenIn === undefined) return "LevelDB";
    return givenIn === "file" ? "mapped file" : "memory";
  }

  flush(signal?: AbortSignal): Promise<void> {
    return this.#index.flush(signal);
  }

  async save(directory: string, { storeId, sequence }: CheckpointStamp): Promise<void> {
    await this.#index.save(directory, { sequence, extra: { storeId, field: this.#fieldName } });
  }

  close(): Promise<void> {
    return this.#index.close();
  }
}
