import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, type Operation, tell } from "./api.js";
import { eachOf, listOf, member, objectOf, type Reply, required, textOf, wrong } from "./values.js";

const service = pb.CollectionsService;

/** In one step, or none: an alias that there is goes to its new collection, and one that there is not is not missed. */
export const changeAliases: Operation = async (ask) => {
  const known = new Set((await tell(ask, service.listAliases, { collection: "" })).aliases.map(({ alias }) => alias));
  const actions = eachOf(
    required(ask.body, "actions", "", listOf),
    "actions",
    (value, at): pb.AliasAction["action"] => {
      const action = objectOf(value, at);
      const text = (object: typeof action, key: string): string => required(object, key, at, textOf);
      if (member(action, "create_alias") !== undefined) {
        const create = required(action, "create_alias", at, objectOf);
        const alias = text(create, "alias_name");
        const target = { alias, collection: text(create, "collection_name") };
        const $case = known.has(alias) ? "switch" : "create";
        known.add(alias);
        return { $case, value: target };
      }
      if (member(action, "delete_alias") !== undefined) {
        const alias = text(required(action, "delete_alias", at, objectOf), "alias_name");
        return known.delete(alias) ? { $case: "delete", value: { alias } } : undefined;
      }
      if (member(action, "rename_alias") !== undefined) {
        const rename = required(action, "rename_alias", at, objectOf);
        const names = { alias: text(rename, "old_alias_name"), newAlias: text(rename, "new_alias_name") };
        known.delete(names.alias);
        known.add(names.newAlias);
        return { $case: "rename", value: names };
      }
      throw wrong(at, "expected one of create_alias, delete_alias, rename_alias");
    },
  ).filter((action) => action !== undefined);
  if (actions.length > 0) await tell(ask, service.updateAliases, { actions: actions.map((action) => ({ action })) });
  return true;
};

async function list(ask: Ask, collection: string): Promise<Reply> {
  const { aliases } = await tell(ask, service.listAliases, { collection });
  return { aliases: aliases.map((each) => ({ alias_name: each.alias, collection_name: each.collection })) };
}

export const listAliases: Operation = (ask) => list(ask, "");

export const collectionAliases: Operation = async (ask) => list(ask, (await describe(ask)).name || collectionOf(ask));
