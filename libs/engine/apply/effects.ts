import { KithError, limits } from "../../base/index.js";
import { parsePayload } from "../../filter/index.js";
import {
  isJsonObject,
  type ItemFailureCode,
  type JsonObject,
  mergeIntoPayload,
  parseJson,
  parsePath,
  printJson,
  removeFromPayload,
} from "../../model/index.js";
import { partKind } from "../../storage/index.js";
import { type ipb, pb } from "../../wire/index.js";
import { type Schema, vectorFieldsOf } from "../recover/schema.js";
import { partSeed } from "../../hash/index.js";
import type { TargetedMutation } from "./mutation.js";
import { checkPayloadBytes, prepareColumns, prepareSparse, putPoint, removePoint } from "./upserts.js";
import {
  bytesAt,
  hasVector,
  payloadBytesOf,
  payloadOf,
  type PointEdit,
  type PreparedUpsert,
  type TouchedPoint,
  vectorBytesOf,
  type Wanted,
  type WrittenPart,
} from "./write-set.js";

/** What a mutation does to each of its points. */
export interface Effect {
  /** What must have been read of a point. */
  wanted: Wanted;
  /** What becomes of points that do not exist: they are refused, written, or passed over. */
  missing: "refuse" | "write" | "pass";
  /** Most bytes that it brings to one point. */
  pointBytes: number;
  /** Refuses the item by whether its point exists, before conditions are looked at. */
  refuse?(exists: boolean): ItemFailureCode | undefined;
  /** What it would make of the point, or why it cannot. `row`: of the operation's columns. */
  plan(point: TouchedPoint, row: number, allows: PayloadTest): (() => void) | ItemFailureCode;
}

/** Whether the operation's caller may leave the point with this payload. */
export type PayloadTest = (payload: Uint8Array) => boolean;

const nothingRead: Wanted = { payload: false, vectors: false };
const payloadRead: Wanted = { payload: true, vectors: false };
const vectorsRead: Wanted = { payload: true, vectors: true };
const emptyBytes = new Uint8Array(0);
const encoder = new TextEncoder();

/** Throws KithError where the mutation does not fit the schema or itself: it is then refused as a whole, on every replica. */
export function effectOf(mutation: TargetedMutation, schema: Schema, sequence: number): Effect {
  switch (mutation.$case) {
    case "put":
      return putEffect(mutation.value, schema, sequence);
    case "remove":
      return { wanted: nothingRead, missing: "pass", pointBytes: 0, plan: (point) => () => removePoint(point) };
    case "setPayload": {
      const { payload, path } = mutation.value;
      const values = payloadObject(payload);
      const target = path === "" ? undefined : parsePath(path);
      return payloadEffect(sequence, payload.length + path.length, (before) => {
        mergeIntoPayload(before, target, values);
      });
    }
    case "deletePayload": {
      const paths = mutation.value.paths.map(parsePath);
      return payloadEffect(sequence, 0, (before) => {
        for (const path of paths) removeFromPayload(before, path);
      });
    }
    case "overwritePayload": {
      const { payload } = mutation.value;
      checkPayloadBytes(payload);
      return writtenPayload(sequence, payload);
    }
    case "clearPayload":
      return writtenPayload(sequence, emptyBytes);
    case "updateVectors":
      return updateVectorsEffect(mutation.value, schema, sequence);
    case "deleteVectors": {
      const numbers = mutation.value.fields.map((name) => fieldNamed(schema, name));
      return {
        wanted: vectorsRead,
        missing: "refuse",
        pointBytes: 0,
        plan: (point) => () => {
          const gone = numbers.filter((number) => hasVector(point, number));
          edit(
            point,
            sequence,
            gone.length === 0
              ? {}
              : vectorEdit(
                  point,
                  sequence,
                  gone.map((number) => [number, undefined]),
                ),
          );
        },
      };
    }
    case "setExpiry": {
      const atMs = mutation.value.expiresAtMs || undefined;
      const plan = (point: TouchedPoint) => (): void => edit(point, sequence, { expiry: { atMs } });
      return { wanted: nothingRead, missing: "refuse", pointBytes: 0, plan };
    }
  }
}

function edit(point: TouchedPoint, sequence: number, change: PointEdit): void {
  point.changed = true;
  point.version = sequence;
  point.edit = { ...point.edit, ...change };
}

function vectorEdit(
  point: TouchedPoint,
  sequence: number,
  written: Iterable<[number, WrittenPart | undefined]>,
): PointEdit {
  const vectors = new Map(point.edit?.vectors);
  for (const [number, part] of written) vectors.set(number, part);
  return { vectors, vectorsVersion: sequence };
}

function putEffect(put: ipb.PutPoints, schema: Schema, sequence: number): Effect {
  const { mode, target, vectors, sparse, payloads, expiresAtMs } = put;
  const count = target?.ids.length ?? 0;
  for (const [what, column] of Object.entries({ payloads, "times of expiry": expiresAtMs })) {
    if (column.length === 0 || column.length === count) continue;
    throw new KithError("INVALID_ARGUMENT", `${count} points come with ${column.length} ${what}`);
  }
  if ((target?.filter.length ?? 0) > 0) throw new KithError("INVALID_ARGUMENT", "points are put by their ids alone");
  for (const payload of payloads) checkPayloadBytes(payload);
  const upsert: PreparedUpsert = {
    version: sequence,
    columns: prepareColumns(schema, vectors, count, sequence),
    sparse: prepareSparse(schema, sparse, count, sequence),
    payloads,
    payloadSeed: partSeed(partKind.payload, "", sequence),
    expiresAtMs,
  };
  return {
    wanted: nothingRead,
    missing: "write",
    pointBytes: 0,
    refuse(exists) {
      if (mode === pb.UpsertMode.INSERT_ONLY && exists) return "POINT_EXISTS";
      return mode === pb.UpsertMode.UPDATE_ONLY && !exists ? "POINT_NOT_FOUND" : undefined;
    },
    plan: (point, row, allows) => {
      return allows(payloads[row] ?? emptyBytes) ? () => putPoint(point, upsert, row) : "PERMISSION_DENIED";
    },
  };
}

function payloadEffect(sequence: number, pointBytes: number, change: (payload: JsonObject) => void): Effect {
  const seed = partSeed(partKind.payload, "", sequence);
  return {
    wanted: payloadRead,
    missing: "refuse",
    pointBytes,
    plan(point, _row, allows) {
      let payload: JsonObject;
      try {
        payload = parsePayload(payloadOf(point));
      } catch (error) {
        // It got past a router: the bytes are those that were written, and their checksum is right.
        if (error instanceof KithError && error.code === "CORRUPT_DATA") return "INVALID_PAYLOAD";
        throw error;
      }
      change(payload);
      const isEmpty = Object.keys(payload).length === 0;
      const bytes = isEmpty ? emptyBytes : encoder.encode(printJson(payload));
      if (bytes.length > limits.payloadBytes) return "PAYLOAD_TOO_LARGE";
      if (!allows(bytes)) return "PERMISSION_DENIED";
      return () => edit(point, sequence, { payload: { version: sequence, bytes, seed } });
    },
  };
}

function writtenPayload(sequence: number, bytes: Uint8Array): Effect {
  const payload = { version: sequence, bytes, seed: partSeed(partKind.payload, "", sequence) };
  return {
    wanted: payloadRead,
    missing: "refuse",
    pointBytes: bytes.length,
    plan: (point, _row, allows) => (allows(bytes) ? () => edit(point, sequence, { payload }) : "PERMISSION_DENIED"),
  };
}

function updateVectorsEffect({ target, vectors, sparse }: ipb.UpdateVectors, schema: Schema, sequence: number): Effect {
  if ((target?.filter.length ?? 0) > 0) {
    throw new KithError("INVALID_ARGUMENT", "vectors are updated by the ids of their points alone");
  }
  const count = target?.ids.length ?? 0;
  const columns = prepareColumns(schema, vectors, count, sequence);
  const sparseColumns = prepareSparse(schema, sparse, count, sequence);
  const written = new Set([...columns, ...sparseColumns].map(({ number }) => number));
  return {
    wanted: vectorsRead,
    missing: "refuse",
    pointBytes: 0,
    plan(point, row) {
      let bytes = payloadBytesOf(point);
      for (const column of columns) bytes += bytesAt(column, row).length;
      for (const { vectors: rows } of sparseColumns) bytes += rows[row]?.length ?? 0;
      for (const field of vectorFieldsOf(schema)) if (!written.has(field.number)) bytes += vectorBytesOf(point, field);
      if (bytes > limits.pointBytes) return "BATCH_TOO_LARGE";
      return () => {
        const parts = columns.map((column): [number, WrittenPart] => {
          return [column.number, { version: sequence, bytes: bytesAt(column, row), seed: column.seed }];
        });
        for (const { number, seed, vectors: rows } of sparseColumns) {
          const bytes = rows[row];
          if (bytes !== undefined) parts.push([number, { version: sequence, bytes, seed }]);
        }
        edit(point, sequence, parts.length === 0 ? {} : vectorEdit(point, sequence, parts));
      };
    },
  };
}

function fieldNamed(schema: Schema, name: string): number {
  const field = vectorFieldsOf(schema).find((each) => each.name === name);
  if (field === undefined) throw new KithError("UNKNOWN_VECTOR", `the collection has no vector field "${name}"`);
  return field.number;
}

function payloadObject(bytes: Uint8Array): JsonObject {
  checkPayloadBytes(bytes);
  const value = parseJson(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  if (isJsonObject(value)) return value;
  throw new KithError("INVALID_PAYLOAD", "the keys to set are no JSON object");
}
