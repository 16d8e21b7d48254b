import { KithError, limits } from "../base/index.js";

/** Names of collections: one name as it is written, or with "*" at its end all that begin so. */
export const everyCollection = "*";

const shape = /^[A-Za-z0-9][A-Za-z0-9_-]*\*?$|^\*$/;

/** INVALID_ARGUMENT for a pattern that no collection's name could match. `at`: what the error calls it. */
export function checkPattern(pattern: string, at: string): void {
  if (pattern.length <= limits.nameLength && shape.test(pattern)) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${at} ${JSON.stringify(pattern.slice(0, limits.nameLength))} is no pattern of collections: give a name, the beginning of names with "*" behind it, or "*" for all`,
    { details: { field: at } },
  );
}

/** Whether a collection of this name is meant. Names are compared as they are: case counts, and they are ASCII. */
export function covers(patterns: readonly string[], collection: string): boolean {
  for (const pattern of patterns) {
    if (pattern === collection) return true;
    if (pattern.endsWith("*") && collection.startsWith(pattern.slice(0, -1))) return true;
  }
  return false;
}
