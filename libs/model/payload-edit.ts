import { setOwn } from "../base/index.js";
import { isJsonObject, type JsonObject, type JsonValue } from "./json.js";
import type { Path, PathStep } from "./path.js";

/**
 * Sets the keys of `values` in a payload, each as a whole, or in the object that a path leads to; a null removes its key. What is in
 * the way gives way: a step into an object makes one, in the place of any other value; a step into an array makes an empty one.
 * Elements that an array does not have are not made. The semantics are Qdrant's.
 */
export function mergeIntoPayload(payload: JsonObject, path: Path | undefined, values: JsonObject): void {
  merged(payload, path?.steps ?? [], 0, values);
}

/** Recursive over the steps of the path, of which there are few. */
function merged(value: JsonValue | undefined, steps: readonly PathStep[], at: number, values: JsonObject): JsonValue {
  const step = steps[at];
  if (step === undefined || step.kind === "key") {
    const object = isJsonObject(value) ? value : {};
    if (step === undefined) mergeKeys(object, values);
    else setOwn(object, step.key, merged(ownOf(object, step.key), steps, at + 1, values));
    return object;
  }
  const array = Array.isArray(value) ? value : [];
  if (step.kind === "each") {
    for (const [i, each] of array.entries()) array[i] = merged(each, steps, at + 1, values);
  } else if (step.index < array.length) {
    array[step.index] = merged(array[step.index], steps, at + 1, values);
  }
  return array;
}

function mergeKeys(object: JsonObject, values: JsonObject): void {
  for (const [key, value] of Object.entries(values)) {
    if (value === null) delete object[key];
    else setOwn(object, key, value);
  }
}

function ownOf(object: JsonObject, key: string): JsonValue | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/**
 * Removes what a path leads to in a payload: a key, or all elements of an array (`a[]`). A single element stays, since the others would
 * move to its place. A path that leads nowhere removes nothing.
 */
export function removeFromPayload(payload: JsonObject, path: Path): void {
  remove(payload, path.steps, 0);
}

function remove(value: JsonValue, steps: readonly PathStep[], at: number): void {
  const step = steps[at];
  const isLast = at === steps.length - 1;
  if (step === undefined) return;
  if (step.kind === "key") {
    if (!isJsonObject(value) || !Object.hasOwn(value, step.key)) return;
    if (isLast) delete value[step.key];
    else remove(value[step.key] as JsonValue, steps, at + 1);
  } else if (Array.isArray(value)) {
    if (step.kind === "each") {
      if (isLast) value.length = 0;
      else for (const each of value) remove(each, steps, at + 1);
    } else if (!isLast && step.index < value.length) remove(value[step.index] as JsonValue, steps, at + 1);
  }
}
