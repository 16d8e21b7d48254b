import { KithError, limits } from "../base/index.js";
import {
  type Condition,
  filterOf,
  type Hit,
  idMapKey,
  isJsonObject,
  type JsonValue,
  parseJson,
  type Path,
  type QueryStage,
  type QueryTree,
  valuesAtPath,
} from "../model/index.js";
import { type Group, groupHits, type GroupValue } from "./groups.js";
import { both, hydrate, type QuerySource, runQuery } from "./run.js";

/** What points are grouped by, and how much of it is wanted. */
export interface Grouping {
  path: Path;
  /** Groups wanted. */
  limit: number;
  /** Points wanted of each. */
  size: number;
}

/** How many more points are read at first than the groups could hold. */
const overfetch = 2;
/** How much wider each further look for groups is. */
const widening = 4;
/** Looks among the points outside of the groups that were found, where these fill all that one query can give. */
const roundsMax = 8;

interface Grouped {
  hit: Hit;
  values: readonly GroupValue[];
}

const utf8 = new TextDecoder();

/**
 * The best groups of a query that was checked: found among ever more results, and then filled up with a query for each that is not
 * full. Where results depend on one another (prefetches, diversity, chance), all that the query can give is grouped at once; groups of points whose prefetches
 * are scored by vectors again are filled up still, with those that the prefetches find of each.
 */
export async function runGroups(source: QuerySource, tree: QueryTree, grouping: Grouping): Promise<Group<Hit>[]> {
  const { path, limit, size } = grouping;
  const inner: QueryTree = { ...tree, offset: 0, select: { payload: true, vectors: [] } };
  const group = (hits: readonly Hit[]): Group<Grouped>[] =>
    source.work("group", () => {
      const grouped = hits.map((hit): Grouped => ({ hit, values: groupValues(hit.payload, path) }));
      return groupHits(grouped, ({ values }) => values, limit, size, rankOf(tree));
    });
  let groups: Group<Grouped>[];
  if (isWhole(tree)) {
    const prefetch = tree.prefetch.map((stage) => widened(stage, size));
    const wide = { ...inner, prefetch };
    groups = group(await runQuery(source, { ...wide, limit: limits.queryLimit }));
    if (isRescored(tree)) groups = await fill(source, wide, grouping, groups, group);
  } else {
    const found = await findGroups(source, inner, grouping, group);
    groups = found.complete ? found.groups : await fill(source, inner, grouping, found.groups, group);
  }
  return finish(source, tree, groups);
}

/** Whether results depend on which others there are, so that a part of them is no part of more of them. */
function isWhole({ prefetch, query }: QueryTree): boolean {
  return prefetch.length > 0 || query?.kind === "sample" || (query?.kind === "nearest" && query.mmr !== undefined);
}

/** Whether prefetches only say which points are scored, and not how: then those of one group get the scores that they have among all. */
function isRescored({ prefetch, query }: QueryTree): boolean {
  if (prefetch.length === 0 || query === undefined) return false;
  return query.kind === "nearest"
    ? query.mmr === undefined
    : ["recommend", "discover", "context", "feedback"].includes(query.kind);
}

/** What makes two hits equally good. */
function rankOf({ query }: QueryTree): (hit: Hit, place: number) => number {
  const byPlace =
    query === undefined || query.kind === "sample" || (query.kind === "nearest" && query.mmr !== undefined);
  if (byPlace) return (_, place) => place;
  return query.kind === "orderBy" ? ({ order }, place) => order ?? place : ({ score }) => score;
}

function widened(stage: QueryStage, size: number): QueryStage {
  const limit = Math.min(limits.queryLimit, (stage.limit === 0 ? 10 : stage.limit) * size);
  return { ...stage, limit, prefetch: stage.prefetch.map((each) => widened(each, size)) };
}

/** Complete where all results of the query were seen. */
async function findGroups(
  source: QuerySource,
  tree: QueryTree,
  { path, limit, size }: Grouping,
  group: (hits: readonly Hit[]) => Group<Grouped>[],
): Promise<{ groups: Group<Grouped>[]; complete: boolean }> {
  let hits: Hit[] = [];
  for (let count = Math.min(limits.queryLimit, Math.max(100, overfetch * limit * size)); ; ) {
    hits = await runQuery(source, { ...tree, limit: count });
    const groups = group(hits);
    const complete = hits.length < count;
    if (complete || groups.length >= limit) return { groups, complete };
    if (count === limits.queryLimit) break;
    count = Math.min(limits.queryLimit, count * widening);
  }
  // A few groups fill all that a query gives: the others are among the points outside of these.
  for (let round = 0; round < roundsMax; round++) {
    const known = new Set(hits.flatMap(({ payload }) => groupValues(payload, path)));
    const outside = filterOf({ mustNot: [...known].map((value) => valueCondition(path, value)) });
    const more = await runQuery(source, {
      ...tree,
      filter: both(tree.filter, outside),
      limit: Math.min(limits.queryLimit, overfetch * limit * size),
    });
    hits = [...hits, ...more];
    const groups = group(hits);
    if (more.length === 0 || groups.length >= limit || known.size > limits.filterConditions / 2) {
      return { groups, complete: false };
    }
  }
  return { groups: group(hits), complete: false };
}

/** Groups that are not full get all their points by a query of their own. */
async function fill(
  source: QuerySource,
  tree: QueryTree,
  { path, size }: Grouping,
  groups: readonly Group<Grouped>[],
  group: (hits: readonly Hit[]) => Group<Grouped>[],
): Promise<Group<Grouped>[]> {
  return Promise.all(
    groups.map(async (found) => {
      if (found.hits.length >= size) return found;
      const filter = both(tree.filter, filterOf({ must: [valueCondition(path, found.value)] }));
      const hits = await runQuery(source, { ...tree, filter, limit: size });
      return group(hits).find(({ value }) => value === found.value) ?? found;
    }),
  );
}

/** With what was asked of each point; one that was deleted meanwhile is in no group. */
async function finish(
  source: QuerySource,
  { select }: QueryTree,
  groups: readonly Group<Grouped>[],
): Promise<Group<Hit>[]> {
  const hits = new Map(groups.flatMap((group) => group.hits.map(({ hit }) => [idMapKey(hit.id), hit] as const)));
  const noPayload = new Uint8Array(0);
  const whole =
    select.vectors.length === 0
      ? [...hits.values()].map((hit) => (select.payload ? hit : { ...hit, payload: noPayload }))
      : await hydrate(source, [...hits.values()], select);
  const byKey = new Map(whole.map((hit) => [idMapKey(hit.id), hit]));
  return groups.map(({ value, hits: inside }) => ({
    value,
    hits: inside.flatMap(({ hit }) => byKey.get(idMapKey(hit.id)) ?? []),
  }));
}

function valueCondition(path: Path, value: GroupValue): Condition {
  return { kind: "match", path, match: { kind: "value", value } };
}

/**
 * The groups that a point belongs to: its texts and whole numbers at the path, of arrays their elements, each once. None where a
 * value is something else.
 */
export function groupValues(payload: Uint8Array, path: Path): GroupValue[] {
  if (payload.length === 0) return [];
  const content = parseJson(utf8.decode(payload));
  if (!isJsonObject(content)) throw new KithError("CORRUPT_DATA", "a payload is no JSON object");
  const values = valuesAtPath(content, path).flatMap((value): JsonValue[] => (Array.isArray(value) ? value : [value]));
  const allowed = values.filter(
    (value): value is GroupValue =>
      typeof value === "string" || typeof value === "bigint" || (typeof value === "number" && Number.isInteger(value)),
  );
  return allowed.length === values.length ? [...new Set(allowed)] : [];
}
