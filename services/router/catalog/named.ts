import { KithError, limits } from "../../../libs/base/index.js";
import type { CollectionsView, NamedCollection } from "../../../libs/cluster/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { checkCollectionName } from "../../../libs/model/index.js";
import { checkAllowed, isVisible, notFound } from "../access.js";

/**
 * The collection that a name or an alias means; COLLECTION_NOT_FOUND where there is none, it is being deleted, or is none of the caller's;
 * PERMISSION_DENIED.
 */
export function namedCollection(view: CollectionsView, name: string, call: CallContext): NamedCollection {
  checkCollectionName(name);
  const named = view.naming.find(name);
  if (named === undefined || named.record.state === "deleting") throw notFound(name);
  checkAllowed(call, named.record.name, name);
  return named;
}

/** As `namedCollection`, for what an alias must not be enough for: INVALID_ARGUMENT where the name is one. */
export function ownName(view: CollectionsView, name: string, call: CallContext, at = ""): NamedCollection {
  checkCollectionName(name);
  const names = view.naming;
  const named = names.findByName(name);
  if (named !== undefined && named.record.state !== "deleting") {
    checkAllowed(call, name, name, at);
    return named;
  }
  const target = names.findByAlias(name);
  if (target === undefined) throw notFound(name, undefined, at);
  checkAllowed(call, target.record.name, name, at);
  const collection = target.record.name;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${at}"${name}" is an alias of the collection "${collection}"; name the collection itself`,
    {
      details: { alias: name, collection },
    },
  );
}

/** COLLECTION_EXISTS, COLLECTION_NOT_READY or ALREADY_EXISTS where something has the name; `at`: where it stands in the request. */
export function checkFree(view: CollectionsView, name: string, call: CallContext, at = "", cause?: unknown): void {
  const names = view.naming;
  const collection = names.findByName(name);
  if (collection !== undefined) throw taken(name, collection.record.state === "deleting", at, cause);
  const target = names.findByAlias(name);
  if (target === undefined) return;
  if (!isVisible(call, target.record.name)) {
    throw new KithError("ALREADY_EXISTS", `${at}"${name}" is an alias; choose another name`, {
      details: { alias: name },
      cause,
    });
  }
  throw new KithError(
    "ALREADY_EXISTS",
    `${at}"${name}" is an alias of the collection "${target.record.name}"; choose another name, or delete the alias first`,
    { details: { alias: name, collection: target.record.name }, cause },
  );
}

export function taken(name: string, isBeingDeleted: boolean, at = "", cause?: unknown): KithError {
  const details = { collection: name };
  if (!isBeingDeleted) {
    return new KithError("COLLECTION_EXISTS", `${at}a collection "${name}" exists already`, { details, cause });
  }
  const message = `${at}the collection "${name}" is being deleted; try again in a moment`;
  return new KithError("COLLECTION_NOT_READY", message, { details, cause, retryAfterMs: 200 });
}

/** RESOURCE_EXHAUSTED where the cluster may not have so many more logs, one for each shard. */
export function checkLogRoom(view: CollectionsView, more: number): void {
  const count = view.values().reduce((sum, { shards }) => sum + shards.length, 0);
  if (count + more <= limits.logsMax) return;
  throw new KithError(
    "RESOURCE_EXHAUSTED",
    `the cluster has ${count} shards, and ${more} more would be above the ${limits.logsMax} whose logs it may have; use fewer shards, or delete collections`,
    { details: { shards: count, more, limit: limits.logsMax } },
  );
}

/** RESOURCE_EXHAUSTED where the cluster may not have one more collection, with so many shards. */
export function checkCollectionRoom(view: CollectionsView, shards: number): void {
  if (view.size < limits.collectionsMax) return checkLogRoom(view, shards);
  throw new KithError(
    "RESOURCE_EXHAUSTED",
    `there are ${limits.collectionsMax} collections already; delete one first`,
    {
      details: { limit: limits.collectionsMax },
    },
  );
}
