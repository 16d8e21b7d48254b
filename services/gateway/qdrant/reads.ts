import { KithError, limits } from "../../../libs/base/index.js";
import type { JsonObject, JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, consistencyOf, describe, type Operation, tell } from "./api.js";
import { filterOf } from "./filter.js";
import { compareIds, idOf, idOfText, idsOf, printId, uuidOf } from "./ids.js";
import { printingOf, printRecord } from "./printing.js";
import { orderOf } from "./query.js";
import { selectOf, vectorsWanted } from "./selection.js";
import { partitionsOf, type Scope, scopeOf, shardKeysFor, shardKeysIn } from "./shard-keys.js";
import { below, atLeast, flagOf, member, optional, type Reply, required, shortest, textOf } from "./values.js";

const scrollDefault = 10;

export const getPoint: Operation = async (ask) => {
  const id = idOfText(ask.path["id"] ?? "");
  const [point] = await get(ask, [id], selectOf(true, true, true));
  if (point !== undefined) return point;
  throw new KithError("POINT_NOT_FOUND", `there is no point ${printId(id)} in "${collectionOf(ask)}"`);
};

export const getPoints: Operation = async (ask) => {
  const { body } = ask;
  const select = selectOf(member(body, "with_payload"), vectorsWanted(body), true);
  return get(ask, required(body, "ids", "", idsOf), select);
};

async function get(ask: Ask, ids: pb.PointId[], select: pb.Select): Promise<Reply[]> {
  const keys = shardKeysIn(await describe(ask));
  const printing = await printingOf(ask, select);
  const named = partitionsOf(ask.body, "", keys);
  const wanted = [...new Map(ids.map((id) => [textOfId(id), id])).values()];
  // Without a key, points of all keys may have the id.
  const partitions = named ?? (keys.isHidden ? [...keys.known.keys()] : [undefined]);
  const found: pb.Point[] = [];
  for (const partition of partitions) found.push(...(await getIn(ask, wanted, select, partition)));
  if (partitions.length > 1) {
    const places = new Map(wanted.map((id, place) => [textOfId(id), place]));
    const placeOf = ({ id }: pb.Point): number => (id && places.get(textOfId(id))) ?? 0;
    found.sort((a, b) => placeOf(a) - placeOf(b));
  }
  return found.map((point) => printRecord(point, printing));
}

async function getIn(
  ask: Ask,
  ids: pb.PointId[],
  select: pb.Select,
  partition: string | undefined,
): Promise<pb.Point[]> {
  const points: pb.Point[] = [];
  for (let at = 0; at < ids.length; at += limits.batchPoints) {
    const request = { collection: collectionOf(ask), select, consistency: consistencyOf(ask), partition };
    const some = await tell(ask, pb.PointsService.get, { ...request, ids: ids.slice(at, at + limits.batchPoints) });
    ask.gathering.add(some.points);
    points.push(...some.points);
  }
  return points;
}

function textOfId({ id }: pb.PointId): string {
  return `${id?.$case} ${id?.value}`;
}

export const scroll: Operation = async (ask) => {
  const { body } = ask;
  const collection = await describe(ask);
  const keys = shardKeysIn(collection);
  const select = selectOf(member(body, "with_payload"), vectorsWanted(body), true);
  const limit = optional(body, "limit", "", atLeast(1)) ?? scrollDefault;
  const orderBy = optional(body, "order_by", "", orderOf);
  const from = optional(body, "offset", "", idOf);
  if (orderBy !== undefined && from !== undefined) {
    throw new KithError("INVALID_ARGUMENT", "offset cannot be given with order_by: begin with its start_from");
  }
  const printing = await printingOf(ask, select);
  const filter = filterOf(member(body, "filter"), "filter");
  const wanted: Page = { select, filter, orderBy, from, limit, atOnce: atOnceOf(collection, limit) };
  const named = partitionsOf(body, "", keys);
  const isOrdered = orderBy !== undefined;
  const merged = !isOrdered && keys.isHidden ? (named ?? [...keys.known.keys()]) : undefined;
  const { points, orders, next } =
    merged === undefined
      ? await pageOf(ask, { ...wanted, ...scopeOf(named, filter) })
      : await mergedPage(ask, wanted, merged);
  return {
    points: points.map((point, i) => printRecord(point, printing, orders[i])),
    next_page_offset: next === undefined ? null : printId(next),
  };
};

interface Page {
  select: pb.Select;
  filter: pb.Filter | undefined;
  partition?: string | undefined;
  orderBy: pb.OrderBy | undefined;
  from: pb.PointId | undefined;
  limit: number;
  /** How many points are asked for at once; more than it are put together. */
  atOnce?: number;
}

/** One point more than the caller wants is asked for, which is not what strict mode is to refuse. */
export function atOnceOf({ strictMode }: pb.Collection, limit: number): number {
  const most = strictMode?.maxLimit ?? 0;
  return most >= limit ? most : limits.scrollLimit;
}

interface PageOfPoints {
  points: pb.Point[];
  orders: number[];
  next: pb.PointId | undefined;
}

/** As many points as are wanted, and the id of the next one. Pages of large points are put together. */
export async function pageOf(
  ask: Ask,
  { select, filter, partition, orderBy, from, limit, atOnce = limits.scrollLimit }: Page,
): Promise<PageOfPoints> {
  const points: pb.Point[] = [];
  const orders: number[] = [];
  // One more tells where the next page begins.
  const wanted = limit + (orderBy === undefined ? 1 : 0);
  const request = pb.ScrollRequest.create({ collection: collectionOf(ask) });
  Object.assign(request, { select, filter, partition, orderBy, from, consistency: consistencyOf(ask) });
  do {
    request.limit = Math.min(wanted - points.length, limits.scrollLimit, atOnce);
    const page = await tell(ask, pb.PointsService.scroll, { ...request });
    ask.gathering.add(page.points);
    points.push(...page.points);
    orders.push(...page.orders);
    request.cursor = page.nextCursor;
    request.from = undefined;
  } while (request.cursor.length > 0 && points.length < wanted);
  const next = points.length > limit ? points.pop()?.id : undefined;
  return { points, orders, next };
}

/** A page over several partitions, in order of ids. */
async function mergedPage(ask: Ask, page: Page, partitions: readonly string[]): Promise<PageOfPoints> {
  const found: pb.Point[] = [];
  for (const partition of partitions) {
    const { points } = await pageOf(ask, { ...page, partition, limit: page.limit + 1 });
    found.push(...points);
  }
  found.sort((a, b) => compareIds(a.id, b.id));
  return { points: found.slice(0, page.limit), orders: [], next: found[page.limit]?.id };
}

export const count: Operation = async (ask) => {
  const { body } = ask;
  const answer = await tell(ask, pb.PointsService.count, {
    collection: collectionOf(ask),
    consistency: consistencyOf(ask),
    ...(await readScope(ask)),
    approximate: !(optional(body, "exact", "", flagOf) ?? true),
    explain: false,
  });
  return { count: answer.count };
};

async function readScope(ask: Ask): Promise<Scope> {
  const keys = await shardKeysFor(ask, ask.body);
  return scopeOf(partitionsOf(ask.body, "", keys), filterOf(member(ask.body, "filter"), "filter"));
}

const facetDefault = 10;

export const facet: Operation = async (ask) => {
  const { body } = ask;
  const key = required(body, "key", "", textOf);
  const { hits } = await tell(ask, pb.PointsService.facet, {
    collection: collectionOf(ask),
    key,
    ...(await readScope(ask)),
    limit: optional(body, "limit", "", atLeast(1)) ?? facetDefault,
    consistency: consistencyOf(ask),
    approximate: !(optional(body, "exact", "", flagOf) ?? false),
    explain: false,
  });
  // An index of UUIDs has one spelling of them.
  const { payloadIndexes } = await describe(ask);
  const isUuid = payloadIndexes.some(({ path, kind }) => path === key && kind === pb.PayloadIndexKind.UUID);
  const print = (value: string | number | boolean | undefined): Reply =>
    (isUuid && typeof value === "string" ? uuidOf(value) : value) ?? value ?? null;
  return { hits: hits.map(({ value, count: points }) => ({ value: print(value?.value), count: points })) };
};

const matrixDefaults = { sample: 10, limit: 3 };

async function matrix(ask: Ask): Promise<pb.SearchMatrixResponse> {
  const { body } = ask;
  return tell(ask, pb.PointsService.searchMatrix, {
    collection: collectionOf(ask),
    using: optional(body, "using", "", textOf) ?? "",
    ...(await readScope(ask)),
    sample: optional(body, "sample", "", atLeast(2)) ?? matrixDefaults.sample,
    limit: optional(body, "limit", "", atLeast(1)) ?? matrixDefaults.limit,
    consistency: consistencyOf(ask),
  });
}

export const matrixPairs: Operation = async (ask) => {
  const { ids, rows, columns, scores } = await matrix(ask);
  const idAt = (at: number | undefined): Reply => printId(ids[at ?? 0]);
  return { pairs: rows.map((row, i) => ({ a: idAt(row), b: idAt(columns[i]), score: shortest(scores[i] ?? 0) })) };
};

export const matrixOffsets: Operation = async (ask) => {
  const { ids, rows, columns, scores } = await matrix(ask);
  return { offsets_row: rows, offsets_col: columns, scores: scores.map(shortest), ids: ids.map(printId) };
};

/** Points by id, or those that pass a filter. */
export type Target = { readonly ids: pb.PointId[] } | { readonly filter: pb.Filter };

/** Reads the members of an object that selects points: ids under `points`, or a `filter`. */
export function targetOf(object: JsonObject, at: string): Target {
  const ids = optional(object, "points", at, idsOf);
  if (ids !== undefined) return { ids };
  const given = member(object, "filter");
  if (given === undefined) throw new KithError("INVALID_ARGUMENT", `${below(at, "points")}: give points or a filter`);
  return { filter: wholeFilter(given, below(at, "filter")) };
}

/** A filter that is there, also where it has no conditions: it lets all points pass. */
function wholeFilter(value: JsonValue, at: string): pb.Filter {
  return filterOf(value, at) ?? pb.Filter.create({});
}
