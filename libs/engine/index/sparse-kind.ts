import type { FileKeys } from "../../ann/index.js";
import { assert, KithError } from "../../base/index.js";
import type { IdKey, SparseField } from "../../model/index.js";
import type { Head, PointStore } from "../../storage/index.js";
import { hasVector, type TouchedPoint, vectorOf } from "../apply/write-set.js";
import type { RowChanges } from "./changes.js";
import type { Checkpoint, IndexKind, UpdatedRows, WalkedRows } from "./derived-index.js";
import type { IndexLife } from "./index-life.js";
import { SparseGeneration, type SparseRows } from "./sparse-generation.js";

/** The index of one sparse field of an open replica. */
export type SparseIndex = IndexLife<SparseRows, SparseGeneration> & { readonly kind: SparseKind };

export function isSparseIndex(index: IndexLife): index is SparseIndex {
  return index.kind instanceof SparseKind;
}

/** Vectors that are read back at once, where single points are picked. */
const pickedRows = 512;

/** The inverted index over the sparse vectors of one field. */
export class SparseKind implements IndexKind<SparseRows, SparseGeneration> {
  readonly name = "sparse";
  readonly key: string;
  readonly label: string;
  readonly holdsVectors = true;
  readonly field: SparseField;
  readonly #number: number;
  readonly #keys: FileKeys | undefined;

  constructor(number: number, field: SparseField, keys?: FileKeys) {
    this.#keys = keys;
    this.key = String(number);
    this.label = `sparse vector field "${field.name}"`;
    this.field = field;
    this.#number = number;
  }

  versionOf(head: Head): number {
    return head.hasVector(this.#number) ? head.slotVersion : 0;
  }

  inserted({ insertedSlots, insertedPoints }: RowChanges): SparseRows | undefined {
    const slots: number[] = [];
    const vectors: Uint8Array[] = [];
    for (const [i, point] of insertedPoints.entries()) {
      const vector = vectorOf(point, this.#number);
      if (vector === undefined) {
        assert(!hasVector(point, this.#number), "a sparse vector is to be indexed that was not read");
        continue;
      }
      slots.push(insertedSlots[i] as number);
      vectors.push(vector);
    }
    return slots.length === 0 ? undefined : { slots: Uint32Array.from(slots), vectors };
  }

  tombstones({ tombstoneSlots, tombstonePoints }: RowChanges): Uint32Array | undefined {
    const slots = tombstoneSlots.filter((_, i) => {
      return (tombstonePoints[i] as TouchedPoint).before?.hasVector(this.#number) === true;
    });
    return slots.length === 0 ? undefined : Uint32Array.from(slots);
  }

  /** A change of vectors gives the point another slot. */
  updated(): UpdatedRows<SparseRows> | undefined {
    return undefined;
  }

  async *walk(store: PointStore): AsyncGenerator<WalkedRows<SparseRows>> {
    for await (const { slots, versions, vectors } of store.scanSparse(this.#number)) {
      yield { rows: { slots, vectors }, versions };
    }
  }

  async *pick(store: PointStore, ids: readonly IdKey[], slots: readonly number[]): AsyncGenerator<SparseRows> {
    for (let from = 0; from < ids.length; from += pickedRows) {
      const read = await store.sparseVectors(this.#number, ids.slice(from, from + pickedRows));
      const vectors = read.map((vector) => {
        if (vector !== undefined) return vector.value;
        throw new KithError("CORRUPT_DATA", `a point has lost its vector of "${this.field.name}"`);
      });
      yield { slots: Uint32Array.from(slots.slice(from, from + vectors.length)), vectors };
    }
  }

  select({ slots, vectors }: SparseRows, positions: readonly number[]): SparseRows {
    return {
      slots: Uint32Array.from(positions, (position) => slots[position] as number),
      vectors: positions.map((position) => vectors[position] as Uint8Array),
    };
  }

  create(): SparseGeneration {
    return new SparseGeneration(this.#keys);
  }

  load(directory: string): Promise<Checkpoint<SparseGeneration> | undefined> {
    return SparseGeneration.load(directory, this.#keys);
  }
}
