import { KithError } from "../../../libs/base/index.js";
import { isWellFormed } from "../../../libs/model/index.js";

export interface Routed<T> {
  readonly value: T;
  /** What stands in the path for each of its named parts. */
  readonly path: Readonly<Record<string, string>>;
}

interface Branch<T> {
  readonly fixed: Map<string, Branch<T>>;
  named: { name: string; branch: Branch<T> } | undefined;
  /** By verb. */
  readonly values: Map<string, { value: T; names: string[] }>;
}

/** Finds what answers a path: fixed parts before named ones. */
export class Router<T> {
  readonly #root = branch<T>();

  add(verb: string, path: string, value: T): void {
    let at = this.#root;
    const names: string[] = [];
    for (const part of path.split("/").slice(1)) {
      if (part.startsWith(":")) {
        names.push(part.slice(1));
        at.named ??= { name: part.slice(1), branch: branch() };
        at = at.named.branch;
      } else {
        const next = at.fixed.get(part) ?? branch<T>();
        at.fixed.set(part, next);
        at = next;
      }
    }
    at.values.set(verb, { value, names });
  }

  /** Undefined where nothing answers. INVALID_ARGUMENT for a path that is no text. */
  find(verb: string, path: string): Routed<T> | undefined {
    const parts = path.replace(/\/+$/, "").split("/").slice(1);
    const found = walk(this.#root, parts, 0, verb, []);
    if (found === undefined) return undefined;
    const { value, names, values } = found;
    return { value, path: Object.fromEntries(names.map((name, i) => [name, decoded(values[i] ?? "")])) };
  }
}

function branch<T>(): Branch<T> {
  return { fixed: new Map(), named: undefined, values: new Map() };
}

function walk<T>(
  at: Branch<T>,
  parts: readonly string[],
  depth: number,
  verb: string,
  values: readonly string[],
): { value: T; names: string[]; values: readonly string[] } | undefined {
  if (depth === parts.length) {
    const found = at.values.get(verb);
    return found && { ...found, values };
  }
  const part = parts[depth] as string;
  const next = at.fixed.get(part);
  const fixed = next && walk(next, parts, depth + 1, verb, values);
  if (fixed !== undefined || at.named === undefined || part === "") return fixed;
  return walk(at.named.branch, parts, depth + 1, verb, [...values, part]);
}

function decoded(part: string): string {
  try {
    const text = decodeURIComponent(part);
    if (isWellFormed(text)) return text;
  } catch {
    // Told below.
  }
  throw new KithError(
    "INVALID_ARGUMENT",
    `${JSON.stringify(part.slice(0, 80))}, in the path, is no percent-encoded UTF-8`,
  );
}
