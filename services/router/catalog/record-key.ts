import { type Clock, KithError } from "../../../libs/base/index.js";
import { type CollectionsView, type GivenName, namelessPrefix } from "../../../libs/cluster/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { Collection } from "../../../libs/model/index.js";
import { checkFree } from "./named.js";

/** How long a name is kept for a collection that is about to be made: its router may have died before it was. */
const claimMs = 10 * 60_000;

/**
 * The key of the record of a new collection: its name, but where that is the key of a collection that has another name by now. The name is kept
 * for the new one then. Throws as checkFree does.
 */
export async function keyOf(
  view: CollectionsView,
  clock: Clock,
  name: string,
  id: string,
  call: CallContext,
): Promise<string> {
  checkFree(view, name, call);
  if (view.get(name) === undefined) return name;
  await view.changeDirectory((directory) => {
    checkFree(view, name, call);
    const names = directory.names.filter((each) => isKept(view, clock, each));
    if (names.some((each) => each.name === name)) throw notFree(name);
    return { ...directory, names: [...names, { collectionId: id, name, sinceMs: clock.nowMs() }] };
  });
  return `${namelessPrefix}${id}`;
}

/**
 * Of a new record that is in the catalog. The name may have been given to another collection at the same moment, as a name or as an alias: that one
 * stays, and ALREADY_EXISTS is thrown.
 */
export async function checkOnlyOne(
  view: CollectionsView,
  clock: Clock,
  name: string,
  { id, name: key }: Collection,
): Promise<void> {
  const { aliases, names } = await view.readDirectory();
  const isOfOther = (each: GivenName): boolean => each.name === name && each.collectionId !== id;
  const isClaimed = names.some((each) => isOfOther(each) && isKept(view, clock, each));
  const isLost = key !== name && !names.some((each) => each.name === name && each.collectionId === id);
  if (!isClaimed && !isLost && !aliases.some(({ alias }) => alias === name)) return;
  await view.modify(key, (record) => (record.id === id ? { ...record, state: "deleting" } : undefined));
  throw notFree(name);
}

/** Whether the collection is there, or may be about to be made. */
function isKept(view: CollectionsView, clock: Clock, { collectionId, sinceMs }: GivenName): boolean {
  return view.naming.nameOf(collectionId) !== undefined || sinceMs > clock.nowMs() - claimMs;
}

function notFree(name: string): KithError {
  return new KithError(
    "ALREADY_EXISTS",
    `"${name}" was given to another collection, as its name or as an alias, while the collection was being made; choose another name`,
    { details: { collection: name } },
  );
}
