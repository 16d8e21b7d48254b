import type { FileKeys } from "../../ann/index.js";
import { assert, KithError } from "../../base/index.js";
import type { IdKey, VectorField } from "../../model/index.js";
import type { Head, PointStore, StoredField, VectorChunk } from "../../storage/index.js";
import { hasVector, type TouchedPoint, vectorOf } from "../apply/write-set.js";
import type { RowChanges } from "./changes.js";
import type { Checkpoint, IndexKind, UpdatedRows, WalkedRows } from "./derived-index.js";
import type { IndexLife } from "./index-life.js";
import { MultiGeneration, type MultiRows } from "./multi-generation.js";

/** The index of one field of matrices of an open replica. */
export type MultiIndex = IndexLife<MultiRows, MultiGeneration> & { readonly kind: MultiKind };

export function isMulti(index: IndexLife): index is MultiIndex {
  return index.kind instanceof MultiKind;
}

/** Matrices that are read back at once, where single points are picked. */
const pickedRows = 64;

/** The matrices of one field, for late interaction. */
export class MultiKind implements IndexKind<MultiRows, MultiGeneration> {
  readonly name = "multi";
  readonly key: string;
  readonly label: string;
  readonly holdsVectors = true;
  readonly generation = 0;
  readonly field: VectorField;
  readonly #stored: StoredField;
  readonly #keys: FileKeys | undefined;

  constructor(number: number, field: VectorField, keys?: FileKeys) {
    this.#keys = keys;
    this.key = String(number);
    this.label = `vector field "${field.name}"`;
    this.field = field;
    this.#stored = { number, dimension: field.dimension, multivector: field.multivector };
  }

  versionOf(head: Head): number {
    return this.#covers(head) ? head.slotVersion : 0;
  }

  inserted({ insertedSlots, insertedPoints }: RowChanges): MultiRows | undefined {
    const slots: number[] = [];
    const matrices: Uint8Array[] = [];
    for (const [i, point] of insertedPoints.entries()) {
      const matrix = vectorOf(point, this.#stored.number);
      assert(
        matrix !== undefined || !hasVector(point, this.#stored.number),
        "a matrix is to be indexed that was not read",
      );
      if (matrix === undefined) continue;
      slots.push(insertedSlots[i] as number);
      matrices.push(matrix);
    }
    return slots.length === 0 ? undefined : this.#rows(slots, matrices);
  }

  tombstones({ tombstoneSlots, tombstonePoints }: RowChanges): Uint32Array | undefined {
    const slots = tombstoneSlots.filter((_, i) => {
      const { before } = tombstonePoints[i] as TouchedPoint;
      return before !== undefined && this.#covers(before);
    });
    return slots.length === 0 ? undefined : Uint32Array.from(slots);
  }

  /** A change of vectors gives the point another slot. */
  updated(): UpdatedRows<MultiRows> | undefined {
    return undefined;
  }

  async *walk(store: PointStore): AsyncGenerator<WalkedRows<MultiRows>> {
    for await (const chunk of store.scanVectors(this.#stored)) {
      yield { rows: { ...chunk, rowCounts: rowCountsOf(chunk) }, versions: chunk.versions };
    }
  }

  async *pick(store: PointStore, ids: readonly IdKey[], slots: readonly number[]): AsyncGenerator<MultiRows> {
    for (let from = 0; from < ids.length; from += pickedRows) {
      const vectors = await store.vectors(this.#stored, ids.slice(from, from + pickedRows));
      const matrices = vectors.map((vector) => {
        if (vector !== undefined) return bytesOf(vector.value);
        throw new KithError("CORRUPT_DATA", `a point has lost its matrix of "${this.field.name}"`);
      });
      yield this.#rows(slots.slice(from, from + pickedRows), matrices);
    }
  }

  select({ slots, rowCounts, matrix }: MultiRows, positions: readonly number[]): MultiRows {
    const { dimension } = this.#stored;
    const begins: number[] = [];
    let at = 0;
    for (const count of rowCounts) {
      begins.push(at);
      at += count * dimension;
    }
    const matrices = positions.map((position) => {
      const begin = begins[position] as number;
      return bytesOf(matrix.subarray(begin, begin + (rowCounts[position] as number) * dimension));
    });
    return this.#rows(
      positions.map((position) => slots[position] as number),
      matrices,
    );
  }

  create(): MultiGeneration {
    return new MultiGeneration(this.field, { keys: this.#keys });
  }

  load(directory: string): Promise<Checkpoint<MultiGeneration> | undefined> {
    return MultiGeneration.load(directory, this.field, { keys: this.#keys });
  }

  #rows(slots: readonly number[], matrices: readonly Uint8Array[]): MultiRows {
    const rowBytes = this.#stored.dimension * 4;
    const bytes = new Uint8Array(matrices.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const matrix of matrices) {
      bytes.set(matrix, at);
      at += matrix.length;
    }
    return {
      slots: Uint32Array.from(slots),
      rowCounts: Uint32Array.from(matrices, ({ length }) => length / rowBytes),
      matrix: new Float32Array(bytes.buffer),
    };
  }

  #covers(head: Head): boolean {
    return head.hasVector(this.#stored.number);
  }
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function rowCountsOf({ rowCounts }: VectorChunk): Uint32Array {
  assert(rowCounts !== undefined, "a walk over matrices tells nothing of their rows");
  return rowCounts;
}
