/** Points, as they are written and read. */
import type { Id, JsonObject, MatrixInput, SparseInput, SparseVector, VectorInput } from "./values.js";
import type { CallOptions, ReadConsistency } from "./calls.js";

/** What a write takes: `vector` for the unnamed vector of a collection, `vectors` by name otherwise. */
export interface PointInput<P = JsonObject> {
  id: Id;
  vector?: VectorInput | MatrixInput;
  vectors?: Readonly<Record<string, VectorInput | MatrixInput>>;
  /** Matrices by name, "" for the unnamed one, as reads give them: so what was read can be written again. */
  matrices?: Readonly<Record<string, MatrixInput>>;
  /** Sparse vectors by name. */
  sparse?: Readonly<Record<string, SparseInput>>;
  /** An object, or its JSON text in UTF-8, which is stored as it is. */
  payload?: P | Uint8Array;
  /** From when on the point is not found any more: a Date, or milliseconds since the Unix epoch. Default: never. */
  expiresAt?: Date | number | undefined;
  /** Written only where the point has this version: VERSION_MISMATCH of the item otherwise. */
  expectedVersion?: number | undefined;
}

/** Vectors of some fields of one point. */
export interface VectorsInput {
  id: Id;
  vector?: VectorInput | MatrixInput;
  vectors?: Readonly<Record<string, VectorInput | MatrixInput>>;
  /** Sparse vectors by name. */
  sparse?: Readonly<Record<string, SparseInput>>;
}

/** A point as the server gives it out. */
export interface Point<P = JsonObject> {
  id: Id;
  /** Log sequence of the last write of this point in its shard. */
  version: number;
  payload?: P;
  /** The unnamed vector, where it was asked for. */
  vector?: Float32Array;
  /** Named vectors, where they were asked for. */
  vectors?: Record<string, Float32Array>;
  /** Of fields of matrices: their rows, by name ("" is the unnamed one), where they were asked for. */
  matrices?: Record<string, Float32Array[]>;
  /** Sparse vectors by name, where they were asked for. */
  sparse?: Record<string, SparseVector>;
  /** When it expires; of points that do, and that are read by id or scrolled. */
  expiresAt?: Date;
}

export interface ScoredPoint<P = JsonObject> extends Point<P> {
  /** Cosine similarity or dot product (higher is nearer), or euclidean distance (lower is nearer). */
  score: number;
  /** Where the point stands in an order by payload: a number, or microseconds since the epoch. */
  order?: number;
  /** With `highlight`: parts of its texts with marks, by path of the field; of fields where something was found. */
  highlights?: Record<string, string[]>;
}

/** A value of the partition key of a collection. */
export type PartitionValue = string | number | bigint;

export interface SelectOptions {
  /** Return payloads (default: true), or of each only what lies at some paths ("a.b", "a[].b"), or everything else. */
  withPayload?: boolean | { include: readonly string[] } | { exclude: readonly string[] };
  /** Return all vectors (true) or the named ones, dense and sparse; "" is the unnamed one. Default: none. */
  withVectors?: boolean | readonly string[];
}

export interface ReadOptions extends CallOptions, SelectOptions {
  /** In a collection with a partition key: only points with this value of it, which are in one shard. Needed with ids. */
  partition?: PartitionValue;
  consistency?: ReadConsistency;
}
