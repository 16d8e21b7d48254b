import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, type Operation, tell } from "./api.js";
import { listOf, member, objectOf, type Reply, required, textOf, wrong } from "./values.js";

const service = pb.CollectionsService;

/** In one step, or none: an alias that there is goes to its new collection, is replaced by one that is renamed to it, and one that there is not is not missed. */
export const changeAliases: Operation = async (ask) => {
  const known = new Set((await tell(ask, service.listAliases, { collection: "" })).aliases.map(({ alias }) => alias));
  const actions: pb.AliasAction["action"][] = [];
  for (const [i, value] of required(ask.body, "actions", "", listOf).entries()) {
    const at = `actions[${i}]`;
    const action = objectOf(value, at);
    const text = (object: typeof action, key: string): string => required(object, key, at, textOf);
    if (member(action, "create_alias") !== undefined) {
      const create = required(action, "create_alias", at, objectOf);
      const alias = text(create, "alias_name");
      const target = { alias, collection: text(create, "collection_name") };
      actions.push({ $case: known.has(alias) ? "switch" : "create", value: target });
      known.add(alias);
    } else if (member(action, "delete_alias") !== undefined) {
      const alias = text(required(action, "delete_alias", at, objectOf), "alias_name");
      if (known.delete(alias)) actions.push({ $case: "delete", value: { alias } });
    } else if (member(action, "rename_alias") !== undefined) {
      const rename = required(action, "rename_alias", at, objectOf);
      const names = { alias: text(rename, "old_alias_name"), newAlias: text(rename, "new_alias_name") };
      if (names.alias === names.newAlias && known.has(names.alias)) continue;
      if (known.has(names.newAlias)) actions.push({ $case: "delete", value: { alias: names.newAlias } });
      actions.push({ $case: "rename", value: names });
      known.delete(names.alias);
      known.add(names.newAlias);
    } else throw wrong(at, "expected one of create_alias, delete_alias, rename_alias");
  }
  if (actions.length > 0) await tell(ask, service.updateAliases, { actions: actions.map((action) => ({ action })) });
  return true;
};

async function list(ask: Ask, collection: string): Promise<Reply> {
  const { aliases } = await tell(ask, service.listAliases, { collection });
  return { aliases: aliases.map((each) => ({ alias_name: each.alias, collection_name: each.collection })) };
}

export const listAliases: Operation = (ask) => list(ask, "");

export const collectionAliases: Operation = async (ask) => list(ask, (await describe(ask)).name || collectionOf(ask));
