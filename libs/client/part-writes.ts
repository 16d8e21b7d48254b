import { KithError, setOwn } from "../base/index.js";
import type { pb } from "../wire/index.js";
import { checkPoint, expectedToWire, expiryToWire, payloadBytes, pointToWire } from "./columns.js";
import { givenList, givenObject, shownValue } from "./given.js";
import { idToWire } from "./ids.js";
import { filterOf } from "./filter.js";
import { pointVectorsKeys } from "./option-keys.js";
import { vectorToWire } from "./vectors.js";
import { partitionOf } from "./partition.js";
import type { PartitionValue, PointInput, VectorsInput } from "./types/points.js";
import type { TargetOptions, WriteOperation, WriteTarget } from "./types/writes.js";
import type { FilterInput, Id } from "./types/values.js";
import { sparseToWire } from "./sparse.js";
import { wellFormed } from "./well-formed.js";
import { modeToWire } from "./write.js";

/** Refuses what a caller has mistyped: an option that is not known would have no effect. */
export function checkKeys(options: object | undefined, known: readonly string[], what: string): void {
  for (const key of Object.keys(options ?? {})) {
    if (known.includes(key)) continue;
    throw new KithError("INVALID_ARGUMENT", `unknown key "${key}" in ${what}; known here: ${known.join(", ")}`, {
      details: { field: key },
    });
  }
}

/** Options of every write. */
export const writeKeys: readonly string[] = ["signal", "deadlineMs", "ack", "idempotencyKey"];
const conditionKeys = ["onlyIf", "expectedVersion", "partition"];

/** Checks the options of a write about a target, beside those of its own. */
export function checkTargetOptions(options: TargetOptions | undefined, own: readonly string[] = []): void {
  checkKeys(options, [...writeKeys, ...conditionKeys, ...own], "the options");
}

function isFilterTarget(target: unknown): target is { filter: FilterInput } {
  return typeof target === "object" && target !== null && !Array.isArray(target) && "filter" in target;
}

interface Conditions {
  onlyIf?: FilterInput | undefined;
  expectedVersion?: number | readonly number[] | undefined;
  partition?: PartitionValue | undefined;
}

/** One expected version for one id, or one for each. */
function versionsToWire(expected: Conditions["expectedVersion"]): number[] {
  if (expected === undefined) return [];
  return (typeof expected === "number" ? [expected] : expected).map(expectedToWire);
}

export function targetToWire(target: WriteTarget, conditions: Conditions | undefined): pb.WriteTarget {
  const onlyIf = filterOf(conditions?.onlyIf);
  const expectedVersions = versionsToWire(conditions?.expectedVersion);
  const partition = partitionOf(conditions);
  if (isFilterTarget(target)) {
    checkKeys(target, ["filter"], "the target");
    const filter = meantFilter(target.filter);
    return { points: { $case: "filter", value: filter }, expectedVersions, onlyIf, ...partition };
  }
  const ids = idsOf(target).map(idToWire);
  return { points: { $case: "ids", value: { ids } }, expectedVersions, onlyIf, ...partition };
}

/** INVALID_ARGUMENT for a filter that is not there, or an empty text: a variable that was never set would mean all points. */
function meantFilter(filter: FilterInput | undefined | null): pb.Filter {
  const isBlank = typeof filter === "string" && filter.trim() === "";
  const wire = isBlank || filter === null ? undefined : filterOf(filter);
  if (wire !== undefined) return wire;
  throw new KithError(
    "INVALID_ARGUMENT",
    `the target's filter is ${isBlank ? "an empty text" : filter === null ? "null" : "undefined"}; {} is the filter that all points pass`,
    { details: { field: "filter" } },
  );
}

function idsOf(target: Id | readonly Id[]): readonly Id[] {
  if (typeof target !== "object") return [target];
  if (Array.isArray(target)) return target as readonly Id[];
  throw new KithError("INVALID_ARGUMENT", "the target is no id, no array of ids and no { filter }", {
    details: { field: "target" },
  });
}

export function deleteToWire(target: WriteTarget, conditions: Conditions | undefined): pb.DeletePointsRequest {
  const { points, ...others } = targetToWire(target, conditions);
  return {
    ...others,
    collection: "",
    ids: points?.$case === "ids" ? points.value.ids : [],
    filter: points?.$case === "filter" ? points.value : undefined,
    options: undefined,
  };
}

/** Columns of an upsert that only some need. */
export function extrasOf(
  points: readonly PointInput<unknown>[],
  onlyIf: FilterInput | undefined,
): Pick<pb.UpsertRequest, "expectedVersions" | "expiresAtMs" | "onlyIf"> {
  const has = (key: "expectedVersion" | "expiresAt"): boolean => points.some((point) => point[key] !== undefined);
  return {
    expectedVersions: has("expectedVersion") ? points.map((point) => expectedToWire(point.expectedVersion)) : [],
    expiresAtMs: has("expiresAt") ? points.map((point) => expiryToWire(point.expiresAt)) : [],
    onlyIf: filterOf(onlyIf),
  };
}

function vectorsToWire(point: VectorsInput): pb.PointVectors {
  checkPoint(point, pointVectorsKeys);
  const { id, vector, vectors, sparse } = point;
  const named: Record<string, pb.Vector> = {};
  if (vector !== undefined) named[""] = vectorToWire(vector, "");
  for (const [name, each] of Object.entries(vectors ?? {})) setOwn(named, name, vectorToWire(each, name));
  for (const [name, each] of Object.entries(sparse ?? {})) setOwn(named, name, sparseToWire(each, name));
  return { id: idToWire(id), vectors: named };
}

export function updateVectorsToWire(
  points: readonly VectorsInput[],
  conditions: Conditions | undefined,
): pb.UpdateVectorsRequest {
  const onlyIf = filterOf(conditions?.onlyIf);
  const expectedVersions = versionsToWire(conditions?.expectedVersion);
  const wire = points.map(vectorsToWire);
  return { collection: "", points: wire, expectedVersions, onlyIf, options: undefined, ...partitionOf(conditions) };
}

const operationKeys: Record<WriteOperation["op"], readonly string[]> = {
  upsert: ["points", "mode", "onlyIf"],
  delete: ["target", ...conditionKeys],
  setPayload: ["target", "payload", "path", ...conditionKeys],
  overwritePayload: ["target", "payload", ...conditionKeys],
  deletePayload: ["target", "paths", ...conditionKeys],
  clearPayload: ["target", ...conditionKeys],
  updateVectors: ["points", ...conditionKeys],
  deleteVectors: ["target", "vectors", ...conditionKeys],
  setExpiry: ["target", "expiresAt", ...conditionKeys],
};

export function operationToWire(operation: WriteOperation<unknown>, index: number): pb.WriteOperation {
  givenObject(operation, `operations[${index}]`);
  const known = Object.hasOwn(operationKeys, operation.op) ? operationKeys[operation.op] : undefined;
  if (known === undefined) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `operations[${index}].op is ${shownValue(operation.op)}; use one of ${Object.keys(operationKeys).join(", ")}`,
      { details: { index, field: "op" } },
    );
  }
  checkKeys(operation, ["op", ...known], `operations[${index}]`);
  return { operation: wireOf(operation) };
}

function wireOf(operation: WriteOperation<unknown>): NonNullable<pb.WriteOperation["operation"]> {
  const base = { collection: "", options: undefined };
  switch (operation.op) {
    case "upsert": {
      const points = listOf(operation.points);
      const mode = modeToWire(operation.mode);
      const value = { ...base, points: points.map(pointToWire), mode, ...extrasOf(points, operation.onlyIf) };
      return { $case: "upsert", value };
    }
    case "delete":
      return { $case: "delete", value: deleteToWire(operation.target, operation) };
    case "setPayload": {
      const { path = "" } = operation;
      const target = targetToWire(operation.target, operation);
      return {
        $case: "setPayload",
        value: { ...base, target, payload: payloadBytes(operation.payload), path: wellFormed(path, "path") },
      };
    }
    case "overwritePayload": {
      const target = targetToWire(operation.target, operation);
      return { $case: "overwritePayload", value: { ...base, target, payload: payloadBytes(operation.payload) } };
    }
    case "deletePayload": {
      const target = targetToWire(operation.target, operation);
      return { $case: "deletePayload", value: { ...base, target, paths: namesOf(operation.paths, "paths") } };
    }
    case "clearPayload":
      return { $case: "clearPayload", value: { ...base, target: targetToWire(operation.target, operation) } };
    case "updateVectors":
      return { $case: "updateVectors", value: updateVectorsToWire(listOf(operation.points), operation) };
    case "deleteVectors": {
      const target = targetToWire(operation.target, operation);
      return { $case: "deleteVectors", value: { ...base, target, vectors: namesOf(operation.vectors, "vectors") } };
    }
    case "setExpiry": {
      const target = targetToWire(operation.target, operation);
      return { $case: "setExpiry", value: { ...base, target, expiresAtMs: expiryToWire(operation.expiresAt) } };
    }
  }
}

export function namesOf(names: string | readonly string[], at: string): string[] {
  return (typeof names === "string" ? [names] : givenList(names, at)).map((name) => wellFormed(name, at));
}

export function listOf<T extends object>(one: T | readonly T[]): readonly T[] {
  return Array.isArray(one) ? (one as readonly T[]) : [one as T];
}
