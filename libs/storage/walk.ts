import { type StoredField } from "./bounds.js";
import { type Entry, scan } from "./database.js";
import { type Head, partKind } from "./head.js";
import { HeadCursor } from "./head-cursor.js";
import { headRange, type KeyRange, payloadRange, sparseRange, vectorRange } from "./keys.js";
import { checkVersion, vectorOf } from "./parts.js";
import { decodePayload, decodeSparse, decodeVector } from "./values.js";
import { StoreView } from "./view.js";

/** Consecutive vectors of one field in order of id, with the slots of their points, and since which version they have them. */
export interface VectorChunk {
  slots: Uint32Array;
  versions: Float64Array;
  /** Row-major, aligned with `slots`. Only until the next chunk: the memory is used again. */
  matrix: Float32Array;
  /** Of a field of matrices: the rows of each, which lie one behind the other. */
  rowCounts?: Uint32Array;
}

/** Consecutive sparse vectors of one field in order of id, as `VectorChunk`. */
export interface SparseChunk {
  slots: Uint32Array;
  versions: Float64Array;
  /** As they are stored: see sparseToBytes of libs/model. */
  vectors: Uint8Array[];
}

/** Consecutive payloads in order of id, with the slots of their points, and since which version each is this slot's. */
export interface PayloadChunk {
  slots: Uint32Array;
  versions: Float64Array;
  payloads: Uint8Array[];
}

/** Payloads of one chunk of a walk: about a millisecond where they are parsed, at 6 us each. */
const chunkPayloads = 128;
/** Sparse vectors of one chunk of a walk. */
const chunkSparse = 256;

/** Walks through parts of all points as of one moment, each with the head of its point. CORRUPT_DATA where one does not fit its head. Close it. */
export class StoreWalk extends StoreView {
  /** All vectors of a field in order of id with their slots. */
  async *vectors(field: StoredField): AsyncGenerator<VectorChunk> {
    if (field.multivector !== undefined) {
      yield* this.#matrices(field);
      return;
    }
    const heads = new HeadCursor(this.#scan(headRange), partKind.vector, field.number);
    let rows = new Float32Array(0);
    try {
      for await (const entries of this.#scan(vectorRange(field.number))) {
        const slots = new Uint32Array(entries.length);
        const versions = new Float64Array(entries.length);
        const length = entries.length * field.dimension;
        if (rows.length < length) rows = new Float32Array(length);
        const matrix = rows.subarray(0, length);
        for (const [row, [key, value]] of entries.entries()) {
          const head = heads.find(key) ?? (await heads.findFurther(key));
          const { version, value: vector } = decodeVector(key, value, field.dimension);
          checkVersion(key, version, head.versionOf(partKind.vector, field.number));
          slots[row] = head.slot;
          versions[row] = head.slotVersion;
          matrix.set(vector, row * field.dimension);
        }
        yield { slots, versions, matrix };
      }
      await heads.expectNone();
    } finally {
      await heads.close();
    }
  }

  /** All sparse vectors of a field in order of id with their slots; some hundreds at a time. */
  async *sparse(field: number): AsyncGenerator<SparseChunk> {
    const heads = new HeadCursor(this.#scan(headRange), partKind.sparse, field);
    try {
      for await (const entries of this.#scan(sparseRange(field))) {
        for (let from = 0; from < entries.length; from += chunkSparse) {
          const part = entries.slice(from, from + chunkSparse);
          const slots = new Uint32Array(part.length);
          const versions = new Float64Array(part.length);
          const vectors: Uint8Array[] = [];
          for (const [row, [key, value]] of part.entries()) {
            const head = heads.find(key) ?? (await heads.findFurther(key));
            const { version, value: vector } = decodeSparse(key, value);
            checkVersion(key, version, head.versionOf(partKind.sparse, field));
            slots[row] = head.slot;
            versions[row] = head.slotVersion;
            vectors.push(vector);
          }
          yield { slots, versions, vectors };
        }
      }
      await heads.expectNone();
    } finally {
      await heads.close();
    }
  }

  async *#matrices(field: StoredField): AsyncGenerator<VectorChunk> {
    const heads = new HeadCursor(this.#scan(headRange), partKind.multi, field.number);
    let chunk = new MatrixChunk(field.dimension);
    try {
      for await (const entries of this.#scan(vectorRange(field.number, partKind.multi))) {
        for (const [key, value] of entries) {
          const head = heads.find(key) ?? (await heads.findFurther(key));
          const { version, value: matrix } = vectorOf(field, key, value);
          checkVersion(key, version, head.versionOf(partKind.multi, field.number));
          chunk.add(head, matrix);
          if (!chunk.isFull) continue;
          yield chunk.done();
          chunk = new MatrixChunk(field.dimension);
        }
      }
      if (!chunk.isEmpty) yield chunk.done();
      await heads.expectNone();
    } finally {
      await heads.close();
    }
  }

  /** All payloads in order of id with their slots; some hundreds at a time. */
  async *payloads(): AsyncGenerator<PayloadChunk> {
    const heads = new HeadCursor(this.#scan(headRange), partKind.payload, 0);
    try {
      for await (const entries of this.#scan(payloadRange)) {
        for (let from = 0; from < entries.length; from += chunkPayloads) {
          const part = entries.slice(from, from + chunkPayloads);
          const slots = new Uint32Array(part.length);
          const versions = new Float64Array(part.length);
          const payloads: Uint8Array[] = [];
          for (const [row, [key, value]] of part.entries()) {
            const head = heads.find(key) ?? (await heads.findFurther(key));
            const { version, value: payload } = decodePayload(key, value);
            checkVersion(key, version, head.versionOf(partKind.payload, 0));
            slots[row] = head.slot;
            versions[row] = Math.max(version, head.slotVersion);
            payloads.push(payload);
          }
          yield { slots, versions, payloads };
        }
      }
      await heads.expectNone();
    } finally {
      await heads.close();
    }
  }

  #scan(range: KeyRange): AsyncGenerator<Entry[]> {
    return scan(this.database, this.directory, range, this.snapshot);
  }
}

/** Bytes of the matrices of one chunk of a walk. */
const chunkMatrixBytes = 4 * 1024 * 1024;

/** Matrices that a walk collects. */
class MatrixChunk {
  readonly #dimension: number;
  readonly #slots: number[] = [];
  readonly #versions: number[] = [];
  readonly #matrices: Float32Array[] = [];
  #length = 0;

  constructor(dimension: number) {
    this.#dimension = dimension;
  }

  get isEmpty(): boolean {
    return this.#slots.length === 0;
  }

  get isFull(): boolean {
    return this.#length * 4 >= chunkMatrixBytes;
  }

  add(head: Head, matrix: Float32Array): void {
    this.#slots.push(head.slot);
    this.#versions.push(head.slotVersion);
    this.#matrices.push(matrix);
    this.#length += matrix.length;
  }

  done(): VectorChunk {
    const matrix = new Float32Array(this.#length);
    let at = 0;
    for (const each of this.#matrices) {
      matrix.set(each, at);
      at += each.length;
    }
    return {
      slots: Uint32Array.from(this.#slots),
      versions: Float64Array.from(this.#versions),
      matrix,
      rowCounts: Uint32Array.from(this.#matrices, ({ length }) => length / this.#dimension),
    };
  }
}
