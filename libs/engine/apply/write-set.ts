import { assert } from "../../base/index.js";
import { idMapKey, type IdKey } from "../../model/index.js";
import type { Head, partKind, PointStore, StoredField } from "../../storage/index.js";

/** The vectors that one upsert or update brings for one field. */
export interface Column {
  number: number;
  name: string;
  /** What its vectors are among the parts of a point. */
  kind: typeof partKind.vector | typeof partKind.multi;
  /** Of the hashes of its vectors. */
  seed: bigint;
  /** Bytes of one vector; of matrices those of a row. */
  rowBytes: number;
  /** Row-major little-endian f32. */
  matrix: Uint8Array;
  /** Of matrices: where each begins in `matrix`, and at last its end; in bytes. */
  offsets?: Uint32Array;
}

/** What a column brings for the point of this row. */
export function bytesAt({ matrix, rowBytes, offsets }: Column, row: number): Uint8Array {
  if (offsets === undefined) return matrix.subarray(row * rowBytes, (row + 1) * rowBytes);
  return matrix.subarray(offsets[row], offsets[row + 1]);
}

/** The sparse vectors that one upsert or update brings for one field. */
export interface SparseColumn {
  number: number;
  name: string;
  /** Of the hashes of its vectors. */
  seed: bigint;
  /** One for each point, as they are stored. */
  vectors: readonly Uint8Array[];
}

/** An upsert that was found to fit the schema. */
export interface PreparedUpsert {
  /** Sequence of its record. */
  version: number;
  /** In order of name, as the content hash wants them. */
  columns: Column[];
  /** The same of sparse fields. */
  sparse: readonly SparseColumn[];
  /** Empty, or one for each point. */
  payloads: readonly Uint8Array[];
  /** Of the hashes of the payloads. */
  payloadSeed: bigint;
  /** Empty, or one for each point: milliseconds since the Unix epoch, 0 for none. */
  expiresAtMs: readonly number[];
}

/** A part as a mutation wrote it. */
export interface WrittenPart {
  /** Sequence of the record. */
  version: number;
  bytes: Uint8Array;
  /** Of its hash. */
  seed: bigint;
}

/** What mutations of parts made of a point, over its upsert or over what is stored. */
export interface PointEdit {
  /** Empty bytes: no payload any more. */
  payload?: WrittenPart;
  /** By number of the field; undefined where the vector is gone. */
  vectors?: Map<number, WrittenPart | undefined>;
  /** Sequence of the record that changed the vectors last. */
  vectorsVersion?: number;
  /** In milliseconds since the Unix epoch. */
  expiry?: { atMs: number | undefined };
}

/** Parts of a point as they are stored, as far as they were read. */
export interface StoredContent {
  payload?: Uint8Array;
  /** By number of the field: all that the point has in the fields of the schema. */
  vectors?: ReadonlyMap<number, Uint8Array>;
}

/** A point that the records of one batch touch: how it was before, and what they make of it. */
export interface TouchedPoint {
  id: Uint8Array;
  before: Head | undefined;
  live: boolean;
  changed: boolean;
  version: number;
  /** Where the last upsert's content is; undefined while the point has what is stored. */
  upsert: PreparedUpsert | undefined;
  row: number;
  /** What was changed since the upsert, or of what is stored. */
  edit: PointEdit | undefined;
  stored: StoredContent | undefined;
  /** Sequence of the record that names it last, and how it was before that one: stored, and not expired. */
  notedAt: number;
  wasStored: boolean;
  existed: boolean;
}

const emptyBytes = new Uint8Array(0);

/** The payload as the records leave it; empty for none. Of a point of which it changed, or was read. */
export function payloadOf(point: TouchedPoint): Uint8Array {
  const { edit, upsert } = point;
  if (edit?.payload !== undefined) return edit.payload.bytes;
  if (upsert !== undefined) return upsert.payloads[point.row] ?? emptyBytes;
  return payloadBefore(point);
}

/** The payload as it is stored; empty for none. Of a point that is updated in its slot, or one whose payload was read. */
export function payloadBefore({ before, stored }: TouchedPoint): Uint8Array {
  if (before === undefined || before.payloadBytes === 0) return emptyBytes;
  assert(stored?.payload !== undefined, "the payload of a point is asked for that was not read");
  return stored.payload;
}

/** Bytes of the payload as the records leave it; needs no read. */
export function payloadBytesOf({ edit, upsert, row, before }: TouchedPoint): number {
  if (edit?.payload !== undefined) return edit.payload.bytes.length;
  if (upsert !== undefined) return upsert.payloads[row]?.length ?? 0;
  return before?.payloadBytes ?? 0;
}

/** The vector as the records leave it, as it is stored; undefined for none. Of a point that was inserted, or read. */
export function vectorOf({ edit, upsert, row, stored }: TouchedPoint, field: number): Uint8Array | undefined {
  const written = edit?.vectors?.get(field);
  if (written !== undefined) return written.bytes;
  if (edit?.vectors?.has(field) === true) return undefined;
  if (upsert === undefined) return stored?.vectors?.get(field);
  return upsertedVector(upsert, row, field);
}

function upsertedVector(upsert: PreparedUpsert, row: number, field: number): Uint8Array | undefined {
  const column = columnOf(upsert, field);
  if (column !== undefined) return bytesAt(column, row);
  return sparseColumnOf(upsert, field)?.vectors[row];
}

/** Bytes of the vector as the records leave it, of whatever kind, 0 for none; needs no read. */
export function vectorBytesOf({ edit, upsert, row, before }: TouchedPoint, field: StoredField): number {
  const { number } = field;
  if (edit?.vectors?.has(number) === true) return edit.vectors.get(number)?.bytes.length ?? 0;
  if (upsert !== undefined) return upsertedVector(upsert, row, number)?.length ?? 0;
  return before?.vectorBytes(field) ?? 0;
}

/** Whether the records leave the point with a vector in this field; needs no read. */
export function hasVector({ edit, upsert, before }: TouchedPoint, field: number): boolean {
  if (edit?.vectors?.has(field) === true) return edit.vectors.get(field) !== undefined;
  if (upsert !== undefined) {
    return columnOf(upsert, field) !== undefined || sparseColumnOf(upsert, field) !== undefined;
  }
  return before?.hasVector(field) === true;
}

/** Milliseconds since the Unix epoch; undefined where the records leave the point without expiry. */
export function expiryOf({ edit, upsert, row, before }: TouchedPoint): number | undefined {
  if (edit?.expiry !== undefined) return edit.expiry.atMs;
  if (upsert === undefined) return before?.expiresAtMs;
  return upsert.expiresAtMs[row] || undefined;
}

/** Whether the point is there for who writes at `nowMs`: one that has expired is not, though it is stored still. */
export function exists(point: TouchedPoint, nowMs: number): boolean {
  return point.live && !((expiryOf(point) ?? Infinity) <= nowMs);
}

export function columnOf(upsert: PreparedUpsert, field: number): Column | undefined {
  for (const column of upsert.columns) if (column.number === field) return column;
  return undefined;
}

export function sparseColumnOf(upsert: PreparedUpsert, field: number): SparseColumn | undefined {
  for (const column of upsert.sparse) if (column.number === field) return column;
  return undefined;
}

/** What to read of points before a mutation is evaluated. */
export interface Wanted {
  payload: boolean;
  vectors: boolean;
}

/** Points that are read at once. */
const loadedPoints = 256;
/** Bytes that are read at once. */
const loadedBytes = 8 * 1024 * 1024;

/**
 * The points that a batch of records touches. Records are evaluated one by one against it, so that the end is as if each
 * had been applied by itself: conditions see what earlier records of the batch did, and the last write of an id wins.
 */
export class WriteSet {
  readonly points = new Map<string, TouchedPoint>();
  readonly #store: PointStore;
  readonly #unread: TouchedPoint[] = [];

  constructor(store: PointStore) {
    this.#store = store;
  }

  /** Registers the ids of an operation. Their heads must be read by `readHeads` before it is evaluated. */
  touch(ids: readonly IdKey[]): TouchedPoint[] {
    const touched = new Array<TouchedPoint>(ids.length);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as Uint8Array;
      const key = idMapKey(id);
      let point = this.points.get(key);
      if (point === undefined) {
        point = {
          id,
          before: undefined,
          live: false,
          changed: false,
          version: 0,
          upsert: undefined,
          row: 0,
          edit: undefined,
          stored: undefined,
          notedAt: 0,
          wasStored: false,
          existed: false,
        };
        this.points.set(key, point);
        this.#unread.push(point);
      }
      touched[i] = point;
    }
    return touched;
  }

  async readHeads(): Promise<void> {
    const unread = this.#unread.splice(0);
    const heads = await this.#store.heads(unread.map(({ id }) => id));
    for (let i = 0; i < unread.length; i++) {
      const point = unread[i] as TouchedPoint;
      const head = heads[i];
      point.before = head;
      point.live = head !== undefined;
      point.version = head?.version ?? 0;
    }
  }

  /**
   * Reads what is stored of the points and what of it the records leave: then `payloadOf` and `vectorOf` know it. Bounded at a time,
   * not in all.
   */
  async load(points: Iterable<TouchedPoint>, wanted: Wanted, fields: readonly StoredField[]): Promise<void> {
    let slice: TouchedPoint[] = [];
    let sizeBytes = 0;
    for (const point of points) {
      const { before } = point;
      // What was written anew in this batch is not stored yet.
      if (before === undefined || point.upsert !== undefined || !lacks(point, wanted)) continue;
      slice.push(point);
      sizeBytes += wanted.payload ? before.payloadBytes : 0;
      if (wanted.vectors) for (const field of fields) sizeBytes += before.vectorBytes(field);
      if (slice.length < loadedPoints && sizeBytes < loadedBytes) continue;
      await this.#load(slice, wanted, fields);
      slice = [];
      sizeBytes = 0;
    }
    if (slice.length > 0) await this.#load(slice, wanted, fields);
  }

  async #load(points: readonly TouchedPoint[], wanted: Wanted, all: readonly StoredField[]): Promise<void> {
    const fields = wanted.vectors ? all : [];
    const read = await this.#store.read(
      points.map(({ id }) => id),
      { payload: wanted.payload, fields },
    );
    for (const [i, point] of points.entries()) {
      const record = read[i];
      assert(record !== undefined, "a point is gone that only the applier could remove");
      const stored = (point.stored ??= {});
      if (wanted.payload) stored.payload = record.payload;
      if (!wanted.vectors) continue;
      const vectors = new Map<number, Uint8Array>();
      for (const [at, vector] of record.vectors.entries()) {
        const number = fields[at]?.number;
        if (vector === undefined || number === undefined) continue;
        vectors.set(number, vector);
      }
      stored.vectors = vectors;
    }
  }
}

function lacks({ stored }: TouchedPoint, { payload, vectors }: Wanted): boolean {
  return (payload && stored?.payload === undefined) || (vectors && stored?.vectors === undefined);
}
