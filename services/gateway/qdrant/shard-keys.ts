import { KithError } from "../../../libs/base/index.js";
import { isJsonObject, jsonMembers, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, describe, type Operation, tell } from "./api.js";
import { keptSettings, settingsLabels } from "./settings.js";
import { below, countOf, member, optional, type Reply, required, wrong } from "./values.js";

/*
 * Shard keys are values of a partition key, which is a field of the payload: points that are written under a shard key get it in this field, which
 * answers leave out again. Which keys there are is kept with the other settings of the collection.
 */

/** The partition key of collections that were made with `sharding_method: custom`. */
export const shardKeyField = "_shard_key";

type ShardKey = string | number;

export interface ShardKeys {
  /** Path of the partition key; undefined where the collection has none. */
  readonly path: string | undefined;
  /** Whether points have their key in a field that answers leave out. */
  readonly isHidden: boolean;
  /** Keys by the text of their partition. */
  readonly known: ReadonlyMap<string, ShardKey>;
}

/** Of collections that are not asked for them. */
export const noShardKeys: ShardKeys = { path: undefined, isHidden: false, known: new Map() };

export function shardKeysIn({ partitionKey, labels }: pb.Collection): ShardKeys {
  if (partitionKey === undefined || partitionKey === "") return noShardKeys;
  const isHidden = partitionKey === shardKeyField;
  const kept = isHidden ? keptSettings(labels)["shard_keys"] : undefined;
  const known = new Map<string, ShardKey>();
  if (Array.isArray(kept)) {
    for (const key of kept) if (typeof key === "string" || typeof key === "number") known.set(String(key), key);
  }
  return { path: partitionKey, isHidden, known };
}

/** Those of the collection, where one of the objects names a key. */
export async function shardKeysFor(ask: Ask, ...objects: readonly (JsonValue | undefined)[]): Promise<ShardKeys> {
  const isNamed = objects.some((each) => isJsonObject(each) && member(each, "shard_key") !== undefined);
  return isNamed ? shardKeysIn(await describe(ask)) : noShardKeys;
}

export function keyOf(value: JsonValue | undefined, at: string): ShardKey {
  if (typeof value === "string" && value !== "") return value;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw wrong(at, "expected a shard key: a text, or a whole number from 0 on");
}

/** The partitions that the `shard_key` of a request names: one key, several, or one with another for where there is none. Undefined for none. */
export function partitionsOf(object: JsonObject, at: string, keys: ShardKeys): string[] | undefined {
  const given = member(object, "shard_key");
  if (given === undefined) return undefined;
  const place = below(at, "shard_key");
  if (keys.path === undefined) throw wrong(place, "the collection has no shard keys; leave it out");
  const check = (key: ShardKey): string => {
    const text = String(key);
    if (!keys.isHidden || keys.known.has(text)) return text;
    throw new KithError("NOT_FOUND", `${place}: Shard key ${JSON.stringify(key)} not found; create it first`);
  };
  if (Array.isArray(given)) return given.map((each, i) => check(keyOf(each, `${place}[${i}]`)));
  if (!isJsonObject(given)) return [check(keyOf(given, place))];
  const target = required(given, "target", place, keyOf);
  const isThere = !keys.isHidden || keys.known.has(String(target));
  return [check(isThere ? target : required(given, "fallback", place, keyOf))];
}

/** What a read of these partitions asks. */
export interface Scope {
  readonly partition?: string;
  readonly filter: pb.Filter | undefined;
}

export function scopeOf(partitions: readonly string[] | undefined, filter: pb.Filter | undefined): Scope {
  const [only] = partitions ?? [];
  if (partitions === undefined || only === undefined) return { filter };
  if (partitions.length === 1) return { partition: only, filter };
  const should = partitions.map((value): pb.Condition => ({ condition: { $case: "partition", value } }));
  const any: pb.Condition = { condition: { $case: "filter", value: pb.Filter.create({ should }) } };
  const own: pb.Condition[] = filter === undefined ? [] : [{ condition: { $case: "filter", value: filter } }];
  return { filter: pb.Filter.create({ must: [any, ...own] }) };
}

/** A payload without the field of the key, and the key. */
export function withoutKey(payload: string, keys: ShardKeys): { payload: string; key: Reply | undefined } {
  let key: Reply | undefined;
  const members: string[] = [];
  for (const { key: name, keyText, valueText } of jsonMembers(payload)) {
    if (name === shardKeyField) key = keys.known.get(String(JSON.parse(valueText))) ?? undefined;
    else members.push(`${keyText}:${valueText}`);
  }
  return { payload: `{${members.join(",")}}`, key };
}

export const shardKeys: Operation = async (ask) => {
  const { known } = shardKeysIn(await describe(ask));
  return { shard_keys: [...known.values()].map((key) => ({ key })) };
};

async function keep(ask: Ask, { name, labels }: pb.Collection, keys: readonly ShardKey[]): Promise<void> {
  const changed = settingsLabels({ ...keptSettings(labels), shard_keys: [...keys] }, labels);
  await tell(ask, pb.CollectionsService.update, { name, efSearch: {}, labels: changed, strictMode: undefined });
}

async function changed(ask: Ask): Promise<{ collection: pb.Collection; keys: ShardKeys }> {
  const collection = await describe(ask);
  const keys = shardKeysIn(collection);
  if (keys.isHidden) return { collection, keys };
  throw new KithError(
    "FAILED_PRECONDITION",
    `"${collection.name}" was not created with sharding_method: custom, without which there are no shard keys`,
  );
}

/** Where its points are is decided by the cluster; how many shards and replicas they have, by the collection. */
export async function makeShardKey(ask: Ask, body: JsonObject, at: string): Promise<Reply> {
  const { collection, keys } = await changed(ask);
  const key = required(body, "shard_key", at, keyOf);
  optional(body, "shards_number", at, countOf);
  optional(body, "replication_factor", at, countOf);
  if (keys.known.has(String(key))) {
    throw new KithError("FAILED_PRECONDITION", `Sharding key ${JSON.stringify(key)} already exists`);
  }
  await keep(ask, collection, [...keys.known.values(), key]);
  return true;
}

/** Its points are deleted, then the key. */
export async function dropShardKey(ask: Ask, body: JsonObject, at: string): Promise<Reply> {
  const { collection, keys } = await changed(ask);
  const key = required(body, "shard_key", at, keyOf);
  const partition = String(key);
  if (!keys.known.has(partition)) throw new KithError("NOT_FOUND", `Shard key ${JSON.stringify(key)} not found`);
  const request = pb.DeletePointsRequest.create({ collection: collection.name });
  const options = { ack: pb.Ack.ALL, idempotencyKey: "" };
  await tell(ask, pb.PointsService.delete, { ...request, options, partition, filter: pb.Filter.create({}) });
  await keep(
    ask,
    collection,
    [...keys.known.values()].filter((each) => String(each) !== partition),
  );
  return true;
}

export const createShardKey: Operation = (ask) => makeShardKey(ask, ask.body, "");
export const deleteShardKey: Operation = (ask) => dropShardKey(ask, ask.body, "");
