import { KithError } from "../../libs/base/index.js";
import type { RowRule } from "../../libs/call/index.js";
import {
  canonicalPartition,
  checkPartition,
  type Condition,
  type Filter,
  filterOf,
  type HasIdCondition,
  type IdKey,
  idInPartition,
  idKind,
  isEmptyFilter,
  partitionedId,
  partitionText,
  type Path,
} from "../../libs/model/index.js";
import type { RoutedCollection } from "./routing/routed-collection.js";
import type { RoutedShard } from "./routing/routed-shard.js";

/** What a read, or a write by a filter, asks which shards. */
export interface Scoped {
  shards: readonly RoutedShard[];
  filter: Filter | undefined;
}

/** The value of the partition key that a call names; undefined for none. INVALID_ARGUMENT where the collection has no such key. */
export function partitionIn(
  { record, partitionPath }: RoutedCollection,
  asked: string | undefined,
  at = "partition",
): string | undefined {
  if (asked === undefined || asked === "") return undefined;
  if (partitionPath === undefined) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `${at}: the collection "${record.name}" has no partition key; leave it out`,
      {
        details: { field: at, collection: record.name },
      },
    );
  }
  checkPartition(asked, at);
  return canonicalPartition(asked);
}

/** The key form under which a point is stored that is named by its id. PARTITION_KEY_MISSING where that does not say which point it is. */
export function storedId(collection: RoutedCollection, id: IdKey, partition: string | undefined, at: string): IdKey {
  const path = collection.partitionPath;
  if (path === undefined) return idInPartition(id);
  if (id[0] === idKind.partitioned) return id;
  if (partition === undefined) throw missing(at, path);
  return partitionedId(partition, id);
}

/**
 * Which shards can have points that pass the filter, and the filter as they are asked: by the partition that the call names, or by the values of the
 * partition key that the filter asks for (in its `must`, a match of a value or of any of several).
 */
export function scoped(
  collection: RoutedCollection,
  filter: Filter | undefined,
  partition: string | undefined,
): Scoped {
  const { partitionPath: path, shards } = collection;
  if (path === undefined) return { shards, filter };
  const values = partition === undefined ? filter && valuesIn(filter, path) : [partition];
  const named = filter && withStoredIds(filter, values, path);
  return {
    shards: values === undefined ? shards : shardsOf(collection, values),
    filter: partition === undefined ? named : within(named, partition),
  };
}

/** How many shards need not be asked, for whom it is explained; undefined where all are. */
export function skipped(collection: RoutedCollection, asked: readonly RoutedShard[]): number | undefined {
  return collection.shards.length - asked.length || undefined;
}

/** A rule that names ids would not find them in a collection with a partition key: PERMISSION_DENIED rather than more than was meant. */
export function checkRule(rule: RowRule | undefined, partitionKey: string | undefined, name: string): void {
  if (rule === undefined || partitionKey === undefined || !namesIds(rule.filter)) return;
  throw new KithError(
    "PERMISSION_DENIED",
    `the filter of the caller's role names points by id, which says nothing in "${name}": it has a partition key`,
    { details: { collection: name } },
  );
}

function missing(at: string, path: Path): KithError {
  return new KithError(
    "PARTITION_KEY_MISSING",
    `${at}: the collection has the partition key "${path.text}", and an id is that of a point within one value of it: set partition to that value`,
    { details: { field: at, partitionKey: path.text } },
  );
}

/** By their ids in order, each once. */
function shardsOf(collection: RoutedCollection, values: readonly string[]): RoutedShard[] {
  const found = new Set(values.map((value) => collection.shardOfPartition(value)));
  return collection.shards.filter((shard) => found.has(shard));
}

/** The fewest values of the partition key that points which pass can have; undefined where the filter does not tell. */
function valuesIn({ must }: Filter, path: Path): string[] | undefined {
  let fewest: string[] | undefined;
  for (const condition of must) {
    const values = condition.kind === "filter" ? valuesIn(condition.filter, path) : valuesOf(condition, path);
    if (values !== undefined && (fewest === undefined || values.length < fewest.length)) fewest = values;
  }
  return fewest;
}

function valuesOf(condition: Condition, path: Path): string[] | undefined {
  if (condition.kind === "partition") return [condition.partition];
  if (condition.kind !== "match" || condition.path.text !== path.text) return undefined;
  const { match } = condition;
  if (match.kind !== "value" && match.kind !== "any") return undefined;
  const values = match.kind === "value" ? [match.value] : match.values;
  // What no point can have as its value passes nothing.
  const texts = values.flatMap((value) => partitionText(value) ?? []).map(canonicalPartition);
  return [...new Set(texts)];
}

/** The filter, and only points with this value. */
function within(filter: Filter | undefined, partition: string): Filter {
  const ofKey: Condition = { kind: "partition", partition };
  if (filter === undefined || isEmptyFilter(filter)) return filterOf({ must: [ofKey] });
  return filterOf({ must: [ofKey, { kind: "filter", filter }] });
}

/** With ids as points are stored under them. */
function withStoredIds(filter: Filter, values: readonly string[] | undefined, path: Path): Filter {
  if (!namesIds(filter)) return filter;
  const each = (condition: Condition): Condition => {
    if (condition.kind === "hasId") return storedIds(condition, values, path);
    if (condition.kind !== "filter") return condition;
    return { ...condition, filter: withStoredIds(condition.filter, values, path) };
  };
  const { must, should, mustNot, minShould } = filter;
  return filterOf({
    must: must.map(each),
    should: should.map(each),
    mustNot: mustNot.map(each),
    ...(minShould && { minShould: { ...minShould, conditions: minShould.conditions.map(each) } }),
  });
}

function storedIds(condition: HasIdCondition, values: readonly string[] | undefined, path: Path): Condition {
  if (condition.ids.every((id) => id[0] === idKind.partitioned)) return condition;
  if (values === undefined) throw missing("filter.has_id", path);
  const should = values.map((value): Condition => {
    return { kind: "hasId", ids: condition.ids.map((id) => partitionedId(value, id)) };
  });
  return should.length === 1 && should[0] !== undefined
    ? should[0]
    : { kind: "filter", filter: filterOf({ should: should.length === 0 ? [nothing] : should }) };
}

const nothing: Condition = { kind: "hasId", ids: [] };

function namesIds({ must, should, mustNot, minShould }: Filter): boolean {
  return [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])].some((condition) => {
    if (condition.kind === "hasId") return true;
    return (condition.kind === "filter" || condition.kind === "nested") && namesIds(condition.filter);
  });
}
