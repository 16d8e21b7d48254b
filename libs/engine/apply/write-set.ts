import { KithError, limits } from "../../base/index.js";
import { checkVectors, idMapKey, isIdKey } from "../../model/index.js";
import { type Head, partKind } from "../../storage/index.js";
import { bytesToFloats, type ipb, pb } from "../../wire/index.js";
import { partSeed } from "./digest.js";
import { failureOf, noFailures, type Outcome } from "./outcome.js";
import type { Schema } from "../recover/schema.js";

/** The vectors that one upsert brings for one field. */
export interface Column {
  number: number;
  name: string;
  /** Of the hashes of its vectors. */
  seed: bigint;
  /** Bytes of one vector. */
  rowBytes: number;
  /** Row-major little-endian f32. */
  matrix: Uint8Array;
}

/** An upsert that was found to fit the schema. */
export interface PreparedUpsert {
  /** In order of name, as the content hash wants them. */
  columns: Column[];
  /** Empty, or one for each point. */
  payloads: readonly Uint8Array[];
  /** Of the hashes of the payloads. */
  payloadSeed: bigint;
}

/** A point that the records of one batch touch: how it was before, and what they make of it. */
export interface TouchedPoint {
  id: Uint8Array;
  before: Head | undefined;
  live: boolean;
  changed: boolean;
  version: number;
  /** Where the last upsert's content is; undefined while the point is as before. */
  upsert: PreparedUpsert | undefined;
  row: number;
}

const emptyBytes = new Uint8Array(0);

export function payloadOf(point: TouchedPoint): Uint8Array {
  return point.upsert?.payloads[point.row] ?? emptyBytes;
}

/**
 * The points that a batch of records touches. Records are evaluated one by one against it, so that the end is as if each
 * had been applied by itself: conditions see what earlier records of the batch did, and the last write of an id wins.
 */
export class WriteSet {
  readonly points = new Map<string, TouchedPoint>();
  readonly #unread: TouchedPoint[] = [];

  /** Registers the ids of an operation. Their heads must be `fill`ed in before it is evaluated. */
  touch(ids: readonly Uint8Array[]): TouchedPoint[] {
    const touched = new Array<TouchedPoint>(ids.length);
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as Uint8Array;
      const key = idMapKey(id);
      let point = this.points.get(key);
      if (point === undefined) {
        point = { id, before: undefined, live: false, changed: false, version: 0, upsert: undefined, row: 0 };
        this.points.set(key, point);
        this.#unread.push(point);
      }
      touched[i] = point;
    }
    return touched;
  }

  get unreadIds(): Uint8Array[] {
    return this.#unread.map((point) => point.id);
  }

  fill(heads: readonly (Head | undefined)[]): void {
    for (let i = 0; i < heads.length; i++) {
      const point = this.#unread[i] as TouchedPoint;
      const head = heads[i];
      point.before = head;
      point.live = head !== undefined;
    }
    this.#unread.length = 0;
  }
}

export function upsertPoints(
  upsert: PreparedUpsert,
  mode: pb.UpsertMode,
  points: readonly TouchedPoint[],
  sequence: number,
): Outcome {
  const failures: number[] = [];
  for (let row = 0; row < points.length; row++) {
    const point = points[row] as TouchedPoint;
    if (mode === pb.UpsertMode.INSERT_ONLY && point.live) {
      failures.push(failureOf(row, "POINT_EXISTS"));
      continue;
    }
    if (mode === pb.UpsertMode.UPDATE_ONLY && !point.live) {
      failures.push(failureOf(row, "POINT_NOT_FOUND"));
      continue;
    }
    point.live = true;
    point.changed = true;
    point.version = sequence;
    point.upsert = upsert;
    point.row = row;
  }
  return {
    affected: points.length - failures.length,
    failures: failures.length === 0 ? noFailures : Uint32Array.from(failures),
  };
}

export function deletePoints(points: readonly TouchedPoint[]): Outcome {
  let affected = 0;
  for (const point of points) {
    if (!point.live) continue;
    point.live = false;
    point.changed = true;
    point.upsert = undefined;
    affected++;
  }
  return { affected, failures: noFailures };
}

/**
 * Checks an upsert against the schema, as the router did before it appended: what is wrong here got past a router, and
 * is refused as a whole, with the same error on every replica. Throws KithError.
 */
export function prepareUpsert(schema: Schema, upsert: ipb.UpsertPoints, sequence: number): PreparedUpsert {
  const count = upsert.ids.length;
  checkIds(upsert.ids);
  if (upsert.payloads.length !== 0 && upsert.payloads.length !== count) {
    throw new KithError("INVALID_ARGUMENT", `${count} points come with ${upsert.payloads.length} payloads`);
  }
  for (const payload of upsert.payloads) {
    if (payload.length > limits.payloadBytes) {
      throw new KithError(
        "PAYLOAD_TOO_LARGE",
        `a payload has ${payload.length} bytes; the limit is ${limits.payloadBytes}`,
      );
    }
  }
  const names = new Set<string>();
  const columns = upsert.vectors.map(({ name, matrix }): Column => {
    const field = schema.fields.find((each) => each.name === name);
    if (field === undefined) throw new KithError("UNKNOWN_VECTOR", `the collection has no vector field "${name}"`);
    if (names.has(name)) throw new KithError("INVALID_ARGUMENT", `the vector field "${name}" comes twice`);
    if (matrix.length % 4 !== 0) {
      throw new KithError("DIMENSION_MISMATCH", `${matrix.length} bytes of "${name}" are no whole number of f32`);
    }
    checkVectors(field, bytesToFloats(matrix), count, (row) => `item ${row}`);
    names.add(name);
    const seed = partSeed(partKind.vector, name, sequence);
    return { number: field.number, name, seed, rowBytes: field.dimension * 4, matrix };
  });
  columns.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { columns, payloads: upsert.payloads, payloadSeed: partSeed(partKind.payload, "", sequence) };
}

export function checkIds(ids: readonly Uint8Array[]): void {
  for (const id of ids) {
    if (!isIdKey(id)) {
      const hex = Buffer.from(id).toString("hex").slice(0, 80);
      throw new KithError("INVALID_ID", `${hex} is not the key form of an id`, { details: { id: hex } });
    }
  }
}
