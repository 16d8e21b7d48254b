import { type GenericSchema, getDescription } from "valibot";
import { variableOf } from "./environment.js";
import { settingsSchema } from "./schema.js";

/** Every setting with its environment variable, default and meaning, for docs/configuration.md. */
export function describeSettings(): { setting: string; variable: string; default: string; meaning: string }[] {
  return flatten(settingsSchema, []).map(({ path, value, meaning }) => ({
    setting: path.join("."),
    variable: variableOf(path.join(".")),
    default: value === undefined ? "" : JSON.stringify(value),
    meaning,
  }));
}

/** What schemas of objects, of objects that differ in their `kind`, and of values that may be missing have. */
interface Parts {
  entries?: Record<string, GenericSchema>;
  options?: GenericSchema[];
  wrapped?: GenericSchema;
  default?: unknown;
}

interface Setting {
  path: string[];
  value: unknown;
  meaning: string;
}

function flatten(schema: GenericSchema, path: string[]): Setting[] {
  return Object.entries((schema as Parts).entries ?? {}).flatMap(([key, entry]) => {
    const below = [...path, key];
    const { wrapped: child = entry, default: value } = entry as Parts;
    const { entries, options = [] } = child as Parts;
    if (entries !== undefined) return flatten(child, below);
    const setting: Setting = { path: below, value, meaning: getDescription(child) ?? "" };
    const variants = options.filter((option) => (option as Parts).entries !== undefined);
    if (variants.length === 0) return [setting];
    const kind = { ...setting, path: [...below, "kind"], value: (value as { kind: string }).kind };
    return [kind, ...variants.flatMap((each) => flatten(each, below)).filter((each) => each.path.at(-1) !== "kind")];
  });
}
