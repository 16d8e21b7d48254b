import { variableOf } from "./environment.js";
import { loadZod, settingsSchema } from "./schema.js";

/** Every setting with its environment variable, default and meaning, for docs/configuration.md. */
export function describeSettings(): { setting: string; variable: string; default: string; meaning: string }[] {
  const json = loadZod().toJSONSchema(settingsSchema(), { io: "input", unrepresentable: "any" }) as JsonSchema;
  return flatten(json, []).map(({ path, node }) => ({
    setting: path.join("."),
    variable: variableOf(path.join(".")),
    default: node.default === undefined ? "" : JSON.stringify(node.default),
    meaning: node.description ?? "",
  }));
}

interface JsonSchema {
  properties?: Record<string, JsonSchema>;
  /** Objects that differ in their `kind`. */
  oneOf?: JsonSchema[];
  default?: unknown;
  description?: string;
}

function flatten(node: JsonSchema, path: string[]): { path: string[]; node: JsonSchema }[] {
  return Object.entries(node.properties ?? {}).flatMap(([key, child]) => {
    const below = [...path, key];
    if (child.oneOf?.[0]?.properties === undefined)
      return child.properties ? flatten(child, below) : [{ path: below, node: child }];
    const kind = { ...child, default: (child.default as { kind: string }).kind };
    const variants = child.oneOf.flatMap((variant) => flatten(variant, below));
    return [{ path: [...below, "kind"], node: kind }, ...variants.filter((each) => each.path.at(-1) !== "kind")];
  });
}
