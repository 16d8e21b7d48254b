import { KithError } from "../base/index.js";

/** INVALID_ARGUMENT where an object has another key, or is none. */
export function onlyKeys(value: object, keys: readonly string[], at: string, taken: readonly string[] = []): void {
  if (typeof value !== "object" || value === null) throw wrong(at, "is no object");
  for (const key of Object.keys(value)) {
    if (!keys.includes(key))
      throw wrong(`${at}.${key}`, `is unknown; known here are ${[...taken, ...keys].join(", ")}`);
  }
}

function wrong(path: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${path} ${what}`, { details: { path } });
}
