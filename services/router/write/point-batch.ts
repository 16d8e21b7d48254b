import { KithError, limits } from "../../../libs/base/index.js";
import {
  checkFieldName,
  checkPayload,
  checkWrittenMatrix,
  checkWrittenVectors,
  type Collection,
  fieldOf,
  type IdKey,
  idFromNum,
  idMapKey,
  isSparse,
  type VectorField,
} from "../../../libs/model/index.js";
import { bytesToFloats, type ipb, jsonOfStruct, type pb } from "../../../libs/wire/index.js";
import { keyOf } from "../ids.js";
import { refuseIndices, type SparseBatchColumn, sparseColumns, sparseColumnsOf } from "./sparse-columns.js";

/** Vectors of one field. */
interface BatchColumn {
  field: VectorField;
  /** Row-major, aligned with the ids. */
  matrix: Float32Array;
  /** Of a field of matrices: where the rows of each point begin in `matrix`, in numbers, and at last where they end. */
  offsets?: Uint32Array;
}

/** Where the vectors of a point are in a column. */
function rangeOf({ field, offsets }: BatchColumn, row: number): [number, number] {
  const { dimension } = field;
  if (offsets === undefined) return [row * dimension, (row + 1) * dimension];
  return [offsets[row] as number, offsets[row + 1] as number];
}

function offsetsOf(lengths: readonly number[]): Uint32Array {
  const offsets = new Uint32Array(lengths.length + 1);
  for (const [i, length] of lengths.entries()) offsets[i + 1] = (offsets[i] as number) + length;
  return offsets;
}

/** Points to write, in columns; all of them have the same vector fields. */
export interface PointBatch {
  ids: IdKey[];
  columns: BatchColumn[];
  sparse: SparseBatchColumn[];
  /** One per id, or none at all. */
  payloads: Uint8Array[];
  /** Position of each row in the client's request. */
  positions: number[];
}

export function checkBatchSize(count: number, what: string): void {
  if (count === 0) throw new KithError("INVALID_ARGUMENT", `the request has no ${what}; give at least one`);
  if (count > limits.batchPoints) {
    throw new KithError(
      "BATCH_TOO_LARGE",
      `the request has ${count} ${what}; at most ${limits.batchPoints} are allowed: split it, or use UpsertStream`,
      { details: { count, limit: limits.batchPoints } },
    );
  }
}

/** Refuses an id that stands twice: which of the two should win would be a guess. */
export function checkDistinct(ids: readonly IdKey[], where: (row: number) => string): void {
  const seen = new Map<string, number>();
  ids.forEach((id, row) => {
    const key = idMapKey(id);
    const before = seen.get(key);
    if (before !== undefined) {
      throw new KithError(
        "DUPLICATE_ID",
        `${where(row)} has the same id as ${where(before)}; give each id once in a batch`,
        {
          details: { first: before, second: row },
        },
      );
    }
    seen.set(key, row);
  });
}

const noPayload = new Uint8Array(0);
const pointAt = (row: number): string => `points[${row}]`;
const rowAt = (row: number): string => `row ${row}`;

/** The key form under which a point is stored, by what its payload says. */
export type StoredAs = (id: IdKey, payload: () => Uint8Array, where: () => string) => IdKey;

/**
 * Checks an UpsertRequest and turns its points into columns, one batch for each set of vector fields.
 *
 * @param storedAs where the collection has a partition key
 * @param isPayloadOnly whether points may have no vectors
 */
export function batchesOfPoints(
  collection: Collection,
  points: readonly pb.Point[],
  storedAs: StoredAs | undefined,
  isPayloadOnly = false,
): PointBatch[] {
  checkBatchSize(points.length, "points");
  const groups = new Map<string, number[]>();
  points.forEach((point, row) => {
    const names = Object.keys(point.vectors).sort();
    if (names.length === 0 && !isPayloadOnly) {
      throw new KithError("INVALID_ARGUMENT", `${pointAt(row)} has no vector; give one of ${fieldNames(collection)}`);
    }
    // With their number: no name at all is not the name of the unnamed field, "".
    const key = `${names.length} ${names.join("\0")}`;
    const rows = groups.get(key);
    if (rows) rows.push(row);
    else groups.set(key, [row]);
  });
  const ids = points.map((point, row) => {
    const at = (): string => pointAt(row);
    const id = keyOf(point.id, at);
    return storedAs === undefined ? id : storedAs(id, () => checkedPayload(givenPayload(point, at), at), at);
  });
  checkDistinct(ids, pointAt);
  return [...groups.values()].map((rows) => {
    const names = Object.keys((points[rows[0] as number] as pb.Point).vectors).sort();
    for (const name of names) checkFieldName(collection, name);
    const columns = names
      .filter((name) => !isSparse(collection, name))
      .map((name) => {
        const field = fieldOf(collection, name);
        if (field.multivector !== undefined) return columnOfMatrices(field, rows, points);
        const matrix = new Float32Array(rows.length * field.dimension);
        rows.forEach((row, i) => {
          const vector = (points[row] as pb.Point).vectors[name] as pb.Vector;
          refuseIndices(vector, name, () => pointAt(row));
          if ((vector.rows ?? 0) > 1) throw noMatrices(field, pointAt(row), vector.rows ?? 0);
          checkWrittenVectors(field, vector.values, 1, () => pointAt(row));
          matrix.set(vector.values, i * field.dimension);
        });
        return { field, matrix };
      });
    const sparse = sparseColumns(
      collection,
      names,
      rows.map((row) => points[row] as pb.Point),
      (i) => pointAt(rows[i] as number),
    );
    const payloads = rows.map((row) => givenPayload(points[row] as pb.Point, () => pointAt(row)));
    payloads.forEach((payload, i) => checkPayload(payload, () => pointAt(rows[i] as number)));
    const empty = payloads.every((payload) => payload.length === 0);
    const batchIds = rows.map((row) => ids[row] as IdKey);
    return { ids: batchIds, columns, sparse, payloads: empty ? [] : payloads, positions: rows };
  });
}

function columnOfMatrices(field: VectorField, rows: readonly number[], points: readonly pb.Point[]): BatchColumn {
  const matrices = rows.map((row) => {
    const vector = (points[row] as pb.Point).vectors[field.name] as pb.Vector;
    refuseIndices(vector, field.name, () => pointAt(row));
    const { values, rows: said = 0 } = vector;
    checkWrittenMatrix(field, values, said, () => pointAt(row));
    return values;
  });
  const offsets = offsetsOf(matrices.map(({ length }) => length));
  const matrix = new Float32Array(offsets[matrices.length] as number);
  for (const [i, values] of matrices.entries()) matrix.set(values, offsets[i]);
  return { field, matrix, offsets };
}

function noMatrices(field: VectorField, where: string, rows: number): KithError {
  return new KithError(
    "DIMENSION_MISMATCH",
    `${where}: a matrix of ${rows} rows was given for the vector field "${field.name}", which holds single vectors`,
    { details: { field: field.name, rows } },
  );
}

/** A payload that was checked. */
function checkedPayload(payload: Uint8Array, where: () => string): Uint8Array {
  checkPayload(payload, where);
  return payload;
}

/** The payload as JSON, given as such or as a Struct; empty for none. INVALID_PAYLOAD where both are given. */
export function givenPayload(
  { payload, payloadStruct }: Pick<pb.Point, "payload" | "payloadStruct">,
  where: () => string,
): Uint8Array {
  if (payloadStruct === undefined) return payload;
  if (payload.length === 0) return jsonOfStruct(payloadStruct, where());
  throw new KithError("INVALID_PAYLOAD", `${where()} has a payload and a payload_struct; give one of them`);
}

/** Checks an UpsertColumnsRequest. */
export function batchOfColumns(
  collection: Collection,
  request: pb.UpsertColumnsRequest,
  storedAs: StoredAs | undefined,
): PointBatch {
  const given = idsOfColumns(request);
  if (storedAs === undefined) checkDistinct(given, rowAt);
  if (request.vectors.length + request.sparseVectors.length === 0) {
    throw new KithError("INVALID_ARGUMENT", `the request has no vectors; give one of ${fieldNames(collection)}`);
  }
  const names = new Set<string>();
  const columns = request.vectors.map((column) => {
    const field = fieldOf(collection, column.name);
    if (names.has(column.name))
      throw new KithError("INVALID_ARGUMENT", `the vector field "${column.name}" stands twice in the request`);
    names.add(column.name);
    if (column.matrix.length % 4 !== 0) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `the matrix of "${column.name}" has ${column.matrix.length} bytes, which is not a multiple of 4 (f32)`,
      );
    }
    const matrix = bytesToFloats(column.matrix);
    if (field.multivector !== undefined) return matricesOfColumn(field, matrix, column.rows, given.length);
    if (column.rows.length > 0) throw noMatrices(field, "the request", column.rows[0] as number);
    checkWrittenVectors(field, matrix, given.length, rowAt);
    return { field, matrix };
  });
  const sparse = sparseColumnsOf(collection, request.sparseVectors, given.length, rowAt);
  const { payloads } = request;
  if (payloads.length !== 0 && payloads.length !== given.length) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `the request has ${payloads.length} payloads for ${given.length} ids; give one for each id (empty for none), or none at all`,
    );
  }
  payloads.forEach((payload, row) => checkPayload(payload, () => rowAt(row)));
  const ids =
    storedAs === undefined
      ? given
      : given.map((id, row) =>
          storedAs(
            id,
            () => payloads[row] ?? noPayload,
            () => rowAt(row),
          ),
        );
  if (storedAs !== undefined) checkDistinct(ids, rowAt);
  return { ids, columns, sparse, payloads, positions: ids.map((_, row) => row) };
}

function matricesOfColumn(
  field: VectorField,
  matrix: Float32Array,
  said: readonly number[],
  count: number,
): BatchColumn {
  // Without a word on it, each has one row.
  const rowCounts = said.length === 0 ? new Array<number>(count).fill(1) : said;
  if (rowCounts.length !== count) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `the column of "${field.name}" says the rows of ${rowCounts.length} matrices for ${count} ids; give one number for each`,
      { details: { field: field.name, expected: count, got: rowCounts.length } },
    );
  }
  const offsets = offsetsOf(rowCounts.map((rows) => rows * field.dimension));
  if (offsets[count] !== matrix.length) {
    throw new KithError(
      "DIMENSION_MISMATCH",
      `the matrices of "${field.name}" have ${matrix.length} numbers; their rows of ${field.dimension} dimensions would be ${offsets[count]}`,
      { details: { field: field.name, expected: offsets[count] as number, got: matrix.length } },
    );
  }
  for (const [row, rows] of rowCounts.entries()) {
    checkWrittenMatrix(field, matrix.subarray(offsets[row], offsets[row + 1]), rows, () => rowAt(row));
  }
  return { field, matrix, offsets };
}

/** The keys of the rows; the size is checked before they are made. */
function idsOfColumns(request: pb.UpsertColumnsRequest): IdKey[] {
  const column = request.idColumn;
  if (column === undefined) throw new KithError("INVALID_ID", "the request has no ids; set nums or ids");
  if (column.$case === "ids") {
    checkBatchSize(column.value.ids.length, "points");
    return column.value.ids.map((id, row) => keyOf(id, () => rowAt(row)));
  }
  const bytes = column.value;
  if (bytes.length % 8 !== 0) {
    throw new KithError(
      "INVALID_ID",
      `nums has ${bytes.length} bytes, which is not a multiple of 8 (little-endian u64)`,
    );
  }
  const count = bytes.length / 8;
  checkBatchSize(count, "points");
  // The key form is one kind byte and the number big-endian: the bytes are only turned round, without a bigint each.
  const keys = new Uint8Array(count * 9);
  const kind = idFromNum(0)[0] as number;
  return Array.from({ length: count }, (_, row) => {
    const at = row * 9;
    keys[at] = kind;
    for (let i = 0; i < 8; i++) keys[at + 1 + i] = bytes[row * 8 + 7 - i] as number;
    return keys.subarray(at, at + 9);
  });
}

function fieldNames(collection: Collection): string {
  return [...collection.fields, ...(collection.sparseFields ?? [])].map((field) => `"${field.name}"`).join(", ");
}

/**
 * Consecutive points of one call, small enough for a record: those of one shard are one operation, which has its id from the segment. So a retry has
 * the same ids, whatever the shards are by then.
 */
export interface Segment {
  ids: IdKey[];
  /** Of the points in the client's request. */
  positions: number[];
}

/** One operation of a batch: the rows of one shard in one segment. */
export interface BatchPart {
  /** Id of the shard. */
  shard: number;
  segment: Segment;
  /** Rows of the batch, in order. */
  rows: number[];
  sizeBytes: number;
  upsert: ipb.UpsertPoints;
  /** Beside the vectors of the upsert. */
  sparse: ipb.SparseColumn[];
}

/** Splits a batch into segments of about one record at most, and these by shard id. Deterministic: a retry splits alike. */
export function splitBatch(batch: PointBatch, shardOf: (id: IdKey) => number, mode: pb.UpsertMode): BatchPart[] {
  const isFixed = batch.columns.every(({ offsets }) => offsets === undefined);
  const bytesOf = (row: number): number =>
    batch.columns.reduce((sum, column) => {
      const [from, to] = rangeOf(column, row);
      return sum + (to - from) * 4;
    }, 16);
  const rowBytes = bytesOf(0);
  type Rows = Omit<BatchPart, "upsert" | "sparse">;
  const open = new Map<number, Rows>();
  const parts: Rows[] = [];
  let segment: Segment = { ids: [], positions: [] };
  let segmentBytes = 0;
  batch.ids.forEach((id, row) => {
    const shard = shardOf(id);
    let bytes = (isFixed ? rowBytes : bytesOf(row)) + id.length + (batch.payloads[row]?.length ?? 0);
    for (const { vectors } of batch.sparse) bytes += vectors[row]?.length ?? 0;
    if (bytes > limits.pointBytes) {
      throw new KithError(
        "BATCH_TOO_LARGE",
        `row ${row}: the point has ${bytes} bytes; at most ${limits.pointBytes} fit into one log record`,
        {
          details: { row, sizeBytes: bytes, limitBytes: limits.pointBytes },
        },
      );
    }
    if (segmentBytes > 0 && segmentBytes + bytes > limits.recordBytes) {
      segment = { ids: [], positions: [] };
      segmentBytes = 0;
      open.clear();
    }
    let part = open.get(shard);
    if (part === undefined) {
      part = { shard, segment, rows: [], sizeBytes: 0 };
      open.set(shard, part);
      parts.push(part);
    }
    segment.ids.push(id);
    segment.positions.push(batch.positions[row] as number);
    segmentBytes += bytes;
    part.rows.push(row);
    part.sizeBytes += bytes;
  });
  return parts.map((part) => ({
    ...part,
    upsert: gather(batch, part.rows, mode),
    sparse: batch.sparse.map(({ field, vectors }) => ({
      name: field.name,
      vectors: part.rows.map((row) => vectors[row] as Uint8Array),
    })),
  }));
}

function gather(batch: PointBatch, rows: number[], mode: pb.UpsertMode): ipb.UpsertPoints {
  const whole = rows.length === batch.ids.length;
  return {
    mode,
    ids: whole ? batch.ids : rows.map((row) => batch.ids[row] as IdKey),
    vectors: batch.columns.map((column) => {
      const { field, matrix, offsets } = column;
      const bytes = Buffer.from(matrix.buffer, matrix.byteOffset, matrix.byteLength);
      if (offsets !== undefined) {
        const ranges = rows.map((row) => rangeOf(column, row));
        return {
          name: field.name,
          matrix: whole ? bytes : Buffer.concat(ranges.map(([from, to]) => bytes.subarray(from * 4, to * 4))),
          rows: ranges.map(([from, to]) => (to - from) / field.dimension),
        };
      }
      if (whole) return { name: field.name, matrix: bytes, rows: [] };
      const width = field.dimension * 4;
      const picked = Buffer.allocUnsafe(rows.length * width);
      rows.forEach((row, i) => bytes.copy(picked, i * width, row * width, (row + 1) * width));
      return { name: field.name, matrix: picked, rows: [] };
    }),
    payloads: batch.payloads.length === 0 ? [] : rows.map((row) => batch.payloads[row] as Uint8Array),
  };
}
