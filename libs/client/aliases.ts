import { KithError } from "../base/index.js";
import type { pb } from "../wire/index.js";
import { givenObject } from "./given.js";
import { onlyKeys } from "./only-keys.js";

export interface AliasInfo {
  alias: string;
  /** Name of the collection that it means. */
  collection: string;
}

/** One change of the aliases: exactly one of these. */
export type AliasAction =
  | { create: { alias: string; collection: string } }
  | { switch: { alias: string; collection: string } }
  | { rename: { alias: string; newAlias: string } }
  | { delete: { alias: string } };

const keysOf = {
  create: ["alias", "collection"],
  switch: ["alias", "collection"],
  rename: ["alias", "newAlias"],
  delete: ["alias"],
};

/** INVALID_ARGUMENT for an action that is none. */
export function aliasActionToWire(action: AliasAction, at: string): pb.AliasAction {
  const kinds = Object.keys(givenObject(action, at));
  const [kind] = kinds;
  if (kinds.length !== 1 || kind === undefined || !Object.hasOwn(keysOf, kind)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `${at} has ${kinds.length === 0 ? "nothing" : kinds.join(", ")}; it must be one of ${Object.keys(keysOf).join(", ")}`,
    );
  }
  if ("create" in action) return { action: { $case: "create", value: checked(action.create, "create", at) } };
  if ("switch" in action) return { action: { $case: "switch", value: checked(action.switch, "switch", at) } };
  if ("rename" in action) return { action: { $case: "rename", value: checked(action.rename, "rename", at) } };
  return { action: { $case: "delete", value: checked(action.delete, "delete", at) } };
}

function checked<T extends object>(value: T, kind: keyof typeof keysOf, at: string): T {
  onlyKeys(value, keysOf[kind], `${at}.${kind}`);
  for (const key of keysOf[kind]) {
    const text: unknown = value[key as keyof T];
    if (typeof text !== "string") throw new KithError("INVALID_ARGUMENT", `${at}.${kind}.${key} must be a string`);
  }
  return value;
}
