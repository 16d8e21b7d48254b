import { KithError } from "../../../libs/base/index.js";
import { parsePayload } from "../../../libs/filter/index.js";
import {
  canonicalPartition,
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parsePath,
  partitionedId,
  partitionOfPayload,
  partitionText,
  type Path,
} from "../../../libs/model/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { StoredAs } from "./point-batch.js";

/*
 * What writes may do in a collection with a partition key: each point has a value of it, and keeps it.
 */

/** Points are stored by the value that their payloads have; undefined where the collection has no partition key. */
export function storedByPayload({ partitionPath: path }: RoutedCollection): StoredAs | undefined {
  if (path === undefined) return undefined;
  return (id, payload, where) => partitionedId(partitionOfPayload(parsePayload(payload()), path, where()), id);
}

/**
 * Refuses to set keys of the object at a path where that would change the partition key: PARTITION_KEY_FIXED. The value that the points have already
 * may be set, where the write names it.
 */
export function checkSet(
  { partitionPath: key }: RoutedCollection,
  payload: Uint8Array,
  at: string,
  partition: string | undefined,
): void {
  if (key === undefined) return;
  const path = at === "" ? [] : parsePath(at).steps;
  const { steps } = key;
  const shared = Math.min(path.length, steps.length);
  for (let i = 0; i < shared; i++) {
    const step = path[i];
    const own = steps[i];
    if (step?.kind !== "key" || own?.kind !== "key" || step.key !== own.key) return;
  }
  // The object lies below the value, which is none.
  if (path.length >= steps.length) throw fixed(key, "would be an object");
  let value: JsonValue = parsePayload(payload);
  for (const [i, step] of steps.slice(path.length).entries()) {
    if (step.kind !== "key" || !isJsonObject(value)) throw fixed(key, "would be gone");
    if (!Object.hasOwn(value, step.key)) {
      // Keys that are not given stay, but only those of the object that is set.
      if (i === 0) return;
      throw fixed(key, "would be gone");
    }
    value = value[step.key] as JsonValue;
  }
  checkSame(key, value, partition);
}

/** Refuses a payload in the place of another one that has not the value of the partition key that the write names. */
export function checkOverwrite(
  { partitionPath: key }: RoutedCollection,
  payload: Uint8Array,
  partition: string | undefined,
  at: string,
): void {
  if (key === undefined) return;
  const parsed: JsonObject = parsePayload(payload);
  checkSame(key, partitionOfPayload(parsed, key, at), partition);
}

/** Refuses to remove what the partition key is, or lies in. */
export function checkRemoved({ partitionPath: key }: RoutedCollection, paths: readonly string[] | "all"): void {
  if (key === undefined) return;
  if (paths === "all") throw fixed(key, "would be gone");
  for (const text of paths) {
    const { steps } = parsePath(text);
    const isAbove = steps.every((step, i) => {
      const own = key.steps[i];
      return step.kind === "key" && own?.kind === "key" && step.key === own.key;
    });
    if (isAbove) throw fixed(key, "would be gone");
  }
}

function checkSame(key: Path, value: JsonValue, partition: string | undefined): void {
  const text = partitionText(value);
  if (partition === undefined || text === undefined || canonicalPartition(text) !== partition) {
    throw fixed(key, "would be another one, or the write does not name it as partition");
  }
}

function fixed(key: Path, how: string): KithError {
  return new KithError(
    "PARTITION_KEY_FIXED",
    `"${key.text}" is the partition key of the collection, and its value ${how}; points keep theirs: delete them, and write them again with another value`,
    { details: { partitionKey: key.text } },
  );
}
