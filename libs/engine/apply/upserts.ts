import { KithError, limits } from "../../base/index.js";
import { checkMatrices, checkVectors, isIdKey, isSparseBytes } from "../../model/index.js";
import { partKind, partKindOf } from "../../storage/index.js";
import { bytesToFloats, type ipb, pb } from "../../wire/index.js";
import { partSeed } from "../../hash/index.js";
import { failureOf, noFailures, type Outcome } from "./outcome.js";
import type { Schema } from "../recover/schema.js";
import { type Column, exists, type PreparedUpsert, type SparseColumn, type TouchedPoint } from "./write-set.js";

/** Puts the upsert's content of this row in the place of all that the point held. */
export function putPoint(point: TouchedPoint, upsert: PreparedUpsert, row: number): void {
  point.live = true;
  point.changed = true;
  point.version = upsert.version;
  point.upsert = upsert;
  point.row = row;
  point.edit = undefined;
}

export function removePoint(point: TouchedPoint): void {
  point.live = false;
  point.changed = true;
  point.version = 0;
  point.upsert = undefined;
  point.edit = undefined;
}

/** `nowMs`: of the record's router. What has expired by then does not count as there. */
export function upsertPoints(
  upsert: PreparedUpsert,
  mode: pb.UpsertMode,
  points: readonly TouchedPoint[],
  nowMs: number,
): Outcome {
  const failures: number[] = [];
  for (let row = 0; row < points.length; row++) {
    const point = points[row] as TouchedPoint;
    if (mode === pb.UpsertMode.INSERT_ONLY && exists(point, nowMs)) {
      failures.push(failureOf(row, "POINT_EXISTS"));
      continue;
    }
    if (mode === pb.UpsertMode.UPDATE_ONLY && !exists(point, nowMs)) {
      failures.push(failureOf(row, "POINT_NOT_FOUND"));
      continue;
    }
    putPoint(point, upsert, row);
  }
  return {
    affected: points.length - failures.length,
    failures: failures.length === 0 ? noFailures : Uint32Array.from(failures),
  };
}

/** What has expired by `nowMs` is removed without being counted. */
export function deletePoints(points: readonly TouchedPoint[], nowMs: number): Outcome {
  let affected = 0;
  for (const point of points) {
    if (!point.live) continue;
    if (exists(point, nowMs)) affected++;
    removePoint(point);
  }
  return { affected, failures: noFailures };
}

/**
 * Checks an upsert against the schema, as the router did before it appended: what is wrong here got past a router, and
 * is refused as a whole, with the same error on every replica. Throws KithError.
 */
export function prepareUpsert(schema: Schema, upsert: ipb.UpsertPoints, sequence: number): PreparedUpsert {
  const { ids, payloads } = upsert;
  const count = ids.length;
  checkIds(ids);
  if (payloads.length !== 0 && payloads.length !== count) {
    throw new KithError("INVALID_ARGUMENT", `${count} points come with ${payloads.length} payloads`);
  }
  for (const payload of payloads) checkPayloadBytes(payload);
  const columns = prepareColumns(schema, upsert.vectors, count, sequence);
  const payloadSeed = partSeed(partKind.payload, "", sequence);
  return { version: sequence, columns, sparse: [], payloads, payloadSeed, expiresAtMs: [] };
}

export function checkPayloadBytes(payload: Uint8Array): void {
  if (payload.length <= limits.payloadBytes) return;
  throw new KithError(
    "PAYLOAD_TOO_LARGE",
    `a payload has ${payload.length} bytes; the limit is ${limits.payloadBytes}`,
  );
}

/** The columns in order of name. Throws KithError where they do not fit the schema or the number of points. */
export function prepareColumns(
  schema: Schema,
  vectors: readonly pb.VectorColumn[],
  count: number,
  sequence: number,
): Column[] {
  const names = new Set<string>();
  const columns = vectors.map(({ name, matrix, rows }): Column => {
    const field = schema.fields.find((each) => each.name === name);
    if (field === undefined) throw new KithError("UNKNOWN_VECTOR", `the collection has no vector field "${name}"`);
    if (names.has(name)) throw new KithError("INVALID_ARGUMENT", `the vector field "${name}" comes twice`);
    if (matrix.length % 4 !== 0) {
      throw new KithError("DIMENSION_MISMATCH", `${matrix.length} bytes of "${name}" are no whole number of f32`);
    }
    names.add(name);
    const kind = partKindOf(field);
    const rowBytes = field.dimension * 4;
    const column: Column = {
      ...{ number: field.number, name, kind, rowBytes, matrix },
      seed: partSeed(kind, name, sequence),
    };
    if (field.multivector === undefined) {
      if (rows.length > 0) throw new KithError("INVALID_ARGUMENT", `the vector field "${name}" holds no matrices`);
      checkVectors(field, bytesToFloats(matrix), count, (row) => `item ${row}`);
      return column;
    }
    if (rows.length !== count) {
      throw new KithError("INVALID_ARGUMENT", `${count} points come with ${rows.length} matrices of "${name}"`);
    }
    checkMatrices(field, bytesToFloats(matrix), rows, (row) => `item ${row}`);
    return { ...column, offsets: offsetsOf(rows, rowBytes) };
  });
  return columns.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function offsetsOf(rows: readonly number[], rowBytes: number): Uint32Array {
  const offsets = new Uint32Array(rows.length + 1);
  for (const [i, count] of rows.entries()) offsets[i + 1] = (offsets[i] as number) + count * rowBytes;
  return offsets;
}

/** The same of sparse fields. */
export function prepareSparse(
  schema: Schema,
  columns: readonly ipb.SparseColumn[],
  count: number,
  sequence: number,
): SparseColumn[] {
  const names = new Set<string>();
  const prepared = columns.map(({ name, vectors }): SparseColumn => {
    const field = schema.sparse.find((each) => each.name === name);
    if (field === undefined) throw new KithError("UNKNOWN_VECTOR", `the collection has no sparse field "${name}"`);
    if (names.has(name)) throw new KithError("INVALID_ARGUMENT", `the vector field "${name}" comes twice`);
    names.add(name);
    if (vectors.length !== count) {
      throw new KithError("INVALID_ARGUMENT", `${count} points come with ${vectors.length} vectors of "${name}"`);
    }
    for (const [row, vector] of vectors.entries()) {
      if (isSparseBytes(vector)) continue;
      throw new KithError("INVALID_ARGUMENT", `item ${row}: ${vector.length} bytes of "${name}" are no sparse vector`);
    }
    return { number: field.number, name, seed: partSeed(partKind.sparse, name, sequence), vectors };
  });
  return prepared.sort((a, b) => (a.name < b.name ? -1 : 1));
}

export function checkIds(ids: readonly Uint8Array[]): void {
  for (const id of ids) {
    if (!isIdKey(id)) {
      const hex = Buffer.from(id).toString("hex").slice(0, 80);
      throw new KithError("INVALID_ID", `${hex} is not the key form of an id`, { details: { id: hex } });
    }
  }
}
