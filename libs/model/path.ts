import { KithError, limits } from "../base/index.js";
import { isJsonObject, type JsonObject, type JsonValue } from "./json.js";

/** One step of a path: into an object, to one element of an array (from 0), or to each of its elements. */
export type PathStep =
  | { readonly kind: "key"; readonly key: string }
  | { readonly kind: "index"; readonly index: number }
  | { readonly kind: "each" };

/**
 * Where values lie in a payload:
 *
 *     path    = key { "." key | "[" number "]" | "[]" }
 *     key     = one or more letters, digits, "_", "-" | string
 *     string  = '"' any characters, with \" and \\ for those two '"'
 *
 * The first step is a key. Qdrant's paths, and the two escapes: there no key with a quote or a backslash can be named.
 */
export interface Path {
  readonly steps: readonly PathStep[];
  /** The shortest way to write it: equal paths have equal texts. */
  readonly text: string;
}

/** What is wrong with the text of a path, and where: characters before the place. */
export interface PathProblem {
  readonly problem: string;
  readonly at: number;
}

const plainKey = /[\p{Alphabetic}\p{N}_-]+/uy;
const onlyPlainKey = /^[\p{Alphabetic}\p{N}_-]+$/u;
const quotedKey = /"((?:[^"\\]|\\["\\])*)"/y;
const arrayStep = /\[(\d*)\]/y;
const indexMax = 0xffff_ffff;

/** The path behind a text, or what is wrong with it. */
export function readPath(text: string): Path | PathProblem {
  if (text.length > limits.pathLength) {
    return { problem: `a path has at most ${limits.pathLength} characters, this one ${text.length}`, at: 0 };
  }
  const steps: PathStep[] = [];
  let at = 0;
  for (;;) {
    const key = readPathKey(text, at);
    if (key === undefined)
      return { problem: "expected a key: letters, digits, _ and -, or anything in double quotes", at };
    steps.push({ kind: "key", key: key.key });
    at = key.end;
    for (;;) {
      arrayStep.lastIndex = at;
      const match = arrayStep.exec(text);
      if (match === null) break;
      const index = Number(match[1]);
      if (index > indexMax) return { problem: `an index is at most ${indexMax}`, at: at + 1 };
      steps.push(match[1] === "" ? { kind: "each" } : { kind: "index", index });
      at = arrayStep.lastIndex;
    }
    if (steps.length > limits.pathSteps) return { problem: `a path has at most ${limits.pathSteps} steps`, at };
    if (at === text.length) return pathOf(steps);
    if (text[at] !== ".") return { problem: 'expected ".", "[]", "[0]" or the end', at };
    at++;
  }
}

/** The key of a path that begins at a place of a text, and where it ends; undefined where none does. */
export function readPathKey(text: string, at: number): { key: string; end: number } | undefined {
  plainKey.lastIndex = at;
  const plain = plainKey.exec(text);
  if (plain !== null) return { key: plain[0], end: plainKey.lastIndex };
  quotedKey.lastIndex = at;
  const quoted = quotedKey.exec(text);
  if (quoted === null) return undefined;
  return { key: (quoted[1] as string).replaceAll(/\\(.)/gs, "$1"), end: quotedKey.lastIndex };
}

/** The path behind a text; INVALID_ARGUMENT, with the place, where it is none. */
export function parsePath(text: string): Path {
  const path = readPath(text);
  if ("steps" in path) return path;
  throw new KithError(
    "INVALID_ARGUMENT",
    `the path ${JSON.stringify(text.slice(0, limits.pathLength))} is not valid: ${path.problem}, at character ${path.at + 1}`,
    { details: { path: text.slice(0, limits.pathLength), character: path.at + 1 } },
  );
}

export function pathOf(steps: readonly PathStep[]): Path {
  let text = "";
  for (const step of steps) {
    if (step.kind === "each") text += "[]";
    else if (step.kind === "index") text += `[${step.index}]`;
    else text += `${text === "" ? "" : "."}${printPathKey(step.key)}`;
  }
  return { steps, text };
}

export function printPathKey(key: string): string {
  return onlyPlainKey.test(key) ? key : `"${key.replaceAll(/["\\]/g, "\\$&")}"`;
}

/**
 * Whether the test holds for one of the values that a path leads to in a payload, in their order. Arrays are values like others
 * here: only `[]` and `[0]` go into them. A missing key leads nowhere, a null value to null.
 */
export function someAtPath(payload: JsonObject, path: Path, test: (value: JsonValue) => boolean): boolean {
  return someFrom(payload, path.steps, 0, test);
}

/** Recursive over `each` alone, as deep as a path has steps. */
function someFrom(
  from: JsonValue,
  steps: readonly PathStep[],
  first: number,
  test: (value: JsonValue) => boolean,
): boolean {
  let value = from;
  for (let i = first; i < steps.length; i++) {
    const step = steps[i] as PathStep;
    if (step.kind === "key") {
      if (!isJsonObject(value) || !Object.hasOwn(value, step.key)) return false;
      value = value[step.key] as JsonValue;
    } else {
      if (!Array.isArray(value)) return false;
      if (step.kind === "each") return value.some((each) => someFrom(each, steps, i + 1, test));
      if (step.index >= value.length) return false;
      value = value[step.index] as JsonValue;
    }
  }
  return test(value);
}

/** All values that a path leads to in a payload; see `someAtPath`. */
export function valuesAtPath(payload: JsonObject, path: Path): JsonValue[] {
  const values: JsonValue[] = [];
  someAtPath(payload, path, (value) => {
    values.push(value);
    return false;
  });
  return values;
}
