import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { parse } from "yaml";
import { getOwn, KithError, setOwn } from "../base/index.js";

/** The settings of a YAML file. */
export function readConfigFile(path: string): object {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new KithError(
      "INVALID_CONFIG",
      `the configuration file ${path} cannot be read: ${(cause as Error).message}`,
      { cause },
    );
  }
  try {
    const yaml = createRequire(import.meta.url)("yaml") as { parse: typeof parse };
    const value: unknown = yaml.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch (cause) {
    throw new KithError("INVALID_CONFIG", `${path} is not YAML: ${(cause as Error).message}`, { cause });
  }
  throw new KithError("INVALID_CONFIG", `${path} must hold settings by name`);
}

/** Values of `over` win, folder by folder; undefined values do not count; another `kind` replaces the whole. */
export function merge(base: object, over: object): object {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue;
    if (!isPlain(value)) {
      setOwn(result, key, value);
      continue;
    }
    const before = getOwn(result, key);
    const kinds = isPlain(before) ? [before["kind"], value["kind"]] : [];
    const kindChanged = kinds[0] !== kinds[1] && !kinds.includes(undefined);
    const merged = merge(isPlain(before) && !kindChanged ? before : {}, value);
    // Nothing but undefined values is nothing.
    if (Object.keys(merged).length > 0 || Object.keys(value).length === 0) setOwn(result, key, merged);
  }
  return result;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
