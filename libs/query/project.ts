import { KithError } from "../base/index.js";
import {
  isJsonObject,
  type JsonObject,
  type JsonValue,
  parseJson,
  parsePath,
  type PathStep,
  printJson,
} from "../model/index.js";

/** What lies below a step of a path: more steps, or everything. */
type Branch = true | Branches;
interface Branches {
  keys: Map<string, Branch>;
  /** Of the elements of an array. */
  each: Branch | undefined;
}

/** Which parts of payloads come back. */
export interface Projection {
  kind: "include" | "exclude";
  branches: Branches;
}

const utf8 = new TextDecoder();
const noBytes = new Uint8Array(0);

/**
 * The parts that are named by paths; undefined for whole payloads. In arrays only `[]` selects: `a[0]` names nothing.
 * INVALID_ARGUMENT for a path that is none, and where parts are both included and excluded.
 */
export function projectionOf(include: readonly string[], exclude: readonly string[]): Projection | undefined {
  if (include.length > 0 && exclude.length > 0) {
    throw new KithError("INVALID_ARGUMENT", "select has both include and exclude; give one of them", {
      details: { path: "select" },
    });
  }
  if (include.length > 0) return { kind: "include", branches: branchesOf(include, "select.include") };
  return exclude.length === 0 ? undefined : { kind: "exclude", branches: branchesOf(exclude, "select.exclude") };
}

function branchesOf(paths: readonly string[], where: string): Branches {
  const root: Branches = { keys: new Map(), each: undefined };
  for (const [i, text] of paths.entries()) {
    try {
      add(root, parsePath(text).steps);
    } catch (error) {
      if (!(error instanceof KithError)) throw error;
      throw new KithError(error.code, `${where}[${i}]: ${error.message}`, {
        details: { ...error.details, path: `${where}[${i}]` },
      });
    }
  }
  return root;
}

function add(root: Branches, steps: readonly PathStep[]): void {
  let at = root;
  for (const [i, step] of steps.entries()) {
    const isLast = i === steps.length - 1;
    if (step.kind === "index") return;
    const known = step.kind === "key" ? at.keys.get(step.key) : at.each;
    // A shorter path takes everything below it.
    if (known === true) return;
    const next: Branch = isLast ? true : (known ?? { keys: new Map(), each: undefined });
    if (step.kind === "key") at.keys.set(step.key, next);
    else at.each = next;
    if (next !== true) at = next;
  }
}

/** The part of a payload, as JSON text in UTF-8. Numbers keep their digits. */
export function project(payload: Uint8Array, { kind, branches }: Projection): Uint8Array {
  if (payload.length === 0) return noBytes;
  const content = parseJson(utf8.decode(payload));
  return Buffer.from(printJson(kind === "include" ? included(content, branches) : excluded(content, branches)));
}

function included(value: JsonValue, branches: Branches): JsonValue {
  if (Array.isArray(value)) {
    const { each } = branches;
    if (each === undefined) return [];
    return each === true ? value : value.map((element) => included(element, each));
  }
  if (!isJsonObject(value)) return value;
  return objectOf(value, (key, inner) => {
    const branch = branches.keys.get(key);
    return branch === undefined || branch === true ? branch && inner : included(inner, branch);
  });
}

function excluded(value: JsonValue, branches: Branches): JsonValue {
  if (Array.isArray(value)) {
    const { each } = branches;
    if (each === undefined) return value;
    return each === true ? [] : value.map((element) => excluded(element, each));
  }
  if (!isJsonObject(value)) return value;
  return objectOf(value, (key, inner) => {
    const branch = branches.keys.get(key);
    if (branch === true) return undefined;
    return branch === undefined ? inner : excluded(inner, branch);
  });
}

/** A copy with what is given for each key; a key for which that is undefined is left out. `__proto__` is a key like others. */
function objectOf(value: JsonObject, of: (key: string, inner: JsonValue) => JsonValue | undefined): JsonObject {
  const entries: [string, JsonValue][] = [];
  for (const [key, inner] of Object.entries(value)) {
    const kept = of(key, inner);
    if (kept !== undefined) entries.push([key, kept]);
  }
  return Object.fromEntries<JsonValue>(entries);
}
