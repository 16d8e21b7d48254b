/** Writes: options, operations and results. */
import type { KithError } from "../../base/index.js";
import type { FilterInput, Id, JsonObject } from "./values.js";
import type { Token, WriteCallOptions } from "./calls.js";
import type { PartitionValue, PointInput, VectorsInput } from "./points.js";

/** `"upsert"` (default) inserts or replaces; `"insert"` refuses ids that exist, `"update"` ids that do not, per item. */
export type WriteMode = "upsert" | "insert" | "update";

export interface UpsertOptions extends WriteCallOptions {
  mode?: WriteMode;
  /** Written only where the point as it is matches: CONDITION_FAILED of the item otherwise, also where there is no point. */
  onlyIf?: FilterInput;
}

/** The points that a write is about: by id, or all that pass a filter. */
export type WriteTarget = Id | readonly Id[] | { filter: FilterInput };

/** When a write takes effect on a point; decided where it stands in the log. */
export interface WriteConditions {
  /** Points that do not match are left alone; with ids, each is a CONDITION_FAILED in `errors`. */
  onlyIf?: FilterInput;
  /** Only with ids: one for each, or a number for a single one. VERSION_MISMATCH for a point that has another version. */
  expectedVersion?: number | readonly number[];
  /** In a collection with a partition key: its value in the points that are written. Needed with ids. */
  partition?: PartitionValue;
}

export interface TargetOptions extends WriteCallOptions, WriteConditions {}

export interface SetPayloadOptions extends TargetOptions {
  /** Path of the object whose keys are set, such as "address" or "offers[]". Default: the payload itself. */
  path?: string;
}

/** One write of a batch; `op` is the name of the method that does it alone. */
export type WriteOperation<P = JsonObject> =
  | { op: "upsert"; points: PointInput<P> | readonly PointInput<P>[]; mode?: WriteMode; onlyIf?: FilterInput }
  | ({ op: "updateVectors"; points: VectorsInput | readonly VectorsInput[] } & WriteConditions)
  | ({ target: WriteTarget } & WriteConditions &
      (
        | { op: "delete" | "clearPayload" }
        | { op: "setPayload"; payload: JsonObject; path?: string }
        | { op: "overwritePayload"; payload: P }
        | { op: "deletePayload"; paths: string | readonly string[] }
        | { op: "deleteVectors"; vectors: string | readonly string[] }
        | { op: "setExpiry"; expiresAt: Date | number | null }
      ));

export interface WriteResult {
  /** Points on which the write took effect; with ack "log": 0. */
  affected: number;
  /** Items that could not be written; always empty with ack "log", and for writes by filter. */
  errors: ItemError[];
  token: Token;
}

/** One answer of a batch of writes: a result, or the error of that write alone. */
export type WriteBatchItem = { ok: true; result: Omit<WriteResult, "token"> } | { ok: false; error: KithError };

export interface WriteBatchResult {
  /** One per operation, in order. */
  results: WriteBatchItem[];
  token: Token;
}

/** One item of a write that a condition refused; the others were written. */
export interface ItemError {
  /** Position in what was passed in. */
  index: number;
  /** Stable code, such as POINT_EXISTS. */
  code: string;
  message: string;
}

export interface UpsertResult {
  /** Points written; with ack "log": points accepted. */
  upserted: number;
  /** Always empty with ack "log". */
  errors: ItemError[];
  token: Token;
}

export interface DeleteResult {
  /** Points that existed and are gone; with ack "log": 0. */
  deleted: number;
  /** Items that a condition refused; always empty with ack "log", and for deletions by filter. */
  errors: ItemError[];
  token: Token;
}
