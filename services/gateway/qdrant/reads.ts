import { KithError, limits } from "../../../libs/base/index.js";
import type { JsonObject, JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, consistencyOf, describe, type Operation, tell } from "./api.js";
import { filterOf } from "./filter.js";
import { idOf, idOfText, idsOf, printId, uuidOf } from "./ids.js";
import { printingOf, printRecord } from "./printing.js";
import { orderOf, refuseShardKey } from "./query.js";
import { selectOf } from "./selection.js";
import { below, countOf, flagOf, member, optional, type Reply, required, textOf } from "./values.js";

const scrollDefault = 10;

export const getPoint: Operation = async (ask) => {
  const id = idOfText(ask.path["id"] ?? "");
  const [point] = await get(ask, [id], selectOf(true, true, true));
  if (point !== undefined) return point;
  throw new KithError("POINT_NOT_FOUND", `there is no point ${printId(id)} in "${collectionOf(ask)}"`);
};

export const getPoints: Operation = async (ask) => {
  const { body } = ask;
  refuseShardKey(body, "");
  const select = selectOf(member(body, "with_payload"), member(body, "with_vector"), true);
  return get(ask, required(body, "ids", "", idsOf), select);
};

async function get(ask: Ask, ids: pb.PointId[], select: pb.Select): Promise<Reply[]> {
  const printing = await printingOf(ask, select);
  const points: Reply[] = [];
  const wanted = [...new Map(ids.map((id) => [`${id.id?.$case} ${id.id?.value}`, id])).values()];
  for (let at = 0; at < wanted.length || at === 0; at += limits.batchPoints) {
    const request = { collection: collectionOf(ask), select, consistency: consistencyOf(ask) };
    const part = wanted.slice(at, at + limits.batchPoints);
    if (part.length === 0) {
      // Whether there is such a collection is told all the same.
      await tell(ask, pb.CollectionsService.get, { name: collectionOf(ask) });
      return [];
    }
    const answer = await tell(ask, pb.PointsService.get, { ...request, ids: part });
    points.push(...answer.points.map((point) => printRecord(point, printing)));
  }
  return points;
}

export const scroll: Operation = async (ask) => {
  const { body } = ask;
  refuseShardKey(body, "");
  const select = selectOf(member(body, "with_payload"), member(body, "with_vector"), true);
  const limit = optional(body, "limit", "", countOf) ?? scrollDefault;
  if (limit === 0) throw new KithError("LIMIT_OUT_OF_RANGE", "limit is 0; it must be at least 1");
  const orderBy = optional(body, "order_by", "", orderOf);
  const from = optional(body, "offset", "", idOf);
  const wanted: Page = { select, filter: filterOf(member(body, "filter"), "filter"), orderBy, from, limit };
  if (orderBy !== undefined && from !== undefined) {
    throw new KithError("INVALID_ARGUMENT", "offset cannot be given with order_by: begin with its start_from");
  }
  const printing = await printingOf(ask, select);
  const { points, orders, next } = await pageOf(ask, wanted);
  return {
    points: points.map((point, i) => printRecord(point, printing, orders[i])),
    next_page_offset: next === undefined ? null : printId(next),
  };
};

interface Page {
  select: pb.Select;
  filter: pb.Filter | undefined;
  orderBy: pb.OrderBy | undefined;
  from: pb.PointId | undefined;
  limit: number;
}

/** As many points as are wanted, and the id of the next one. Pages of large points are put together. */
export async function pageOf(
  ask: Ask,
  { select, filter, orderBy, from, limit }: Page,
): Promise<{ points: pb.Point[]; orders: number[]; next: pb.PointId | undefined }> {
  const points: pb.Point[] = [];
  const orders: number[] = [];
  // One more tells where the next page begins.
  const wanted = limit + (orderBy === undefined ? 1 : 0);
  const request = pb.ScrollRequest.create({ collection: collectionOf(ask) });
  Object.assign(request, { select, filter, orderBy, from, consistency: consistencyOf(ask) });
  do {
    request.limit = Math.min(wanted - points.length, limits.scrollLimit);
    const page = await tell(ask, pb.PointsService.scroll, { ...request });
    points.push(...page.points);
    orders.push(...page.orders);
    request.cursor = page.nextCursor;
    request.from = undefined;
  } while (request.cursor.length > 0 && points.length < wanted);
  const next = points.length > limit ? points.pop()?.id : undefined;
  return { points, orders, next };
}

export const count: Operation = async (ask) => {
  const { body } = ask;
  refuseShardKey(body, "");
  const answer = await tell(ask, pb.PointsService.count, {
    collection: collectionOf(ask),
    consistency: consistencyOf(ask),
    filter: filterOf(member(body, "filter"), "filter"),
    approximate: !(optional(body, "exact", "", flagOf) ?? true),
    explain: false,
  });
  return { count: answer.count };
};

const facetDefault = 10;

export const facet: Operation = async (ask) => {
  const { body } = ask;
  refuseShardKey(body, "");
  const key = required(body, "key", "", textOf);
  const { hits } = await tell(ask, pb.PointsService.facet, {
    collection: collectionOf(ask),
    key,
    filter: filterOf(member(body, "filter"), "filter"),
    limit: optional(body, "limit", "", countOf) ?? facetDefault,
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
  refuseShardKey(body, "");
  return tell(ask, pb.PointsService.searchMatrix, {
    collection: collectionOf(ask),
    using: optional(body, "using", "", textOf) ?? "",
    filter: filterOf(member(body, "filter"), "filter"),
    sample: optional(body, "sample", "", countOf) ?? matrixDefaults.sample,
    limit: optional(body, "limit", "", countOf) ?? matrixDefaults.limit,
    consistency: consistencyOf(ask),
  });
}

export const matrixPairs: Operation = async (ask) => {
  const { ids, rows, columns, scores } = await matrix(ask);
  const idAt = (at: number | undefined): Reply => printId(ids[at ?? 0]);
  return { pairs: rows.map((row, i) => ({ a: idAt(row), b: idAt(columns[i]), score: scores[i] ?? 0 })) };
};

export const matrixOffsets: Operation = async (ask) => {
  const { ids, rows, columns, scores } = await matrix(ask);
  return { offsets_row: rows, offsets_col: columns, scores, ids: ids.map(printId) };
};

/** Reads the members of an object that selects points: ids under `points`, or a `filter`. */
export function targetOf(object: JsonObject, at: string): pb.WriteTarget {
  refuseShardKey(object, at);
  const target: pb.WriteTarget = { points: undefined, expectedVersions: [], onlyIf: undefined };
  const ids = optional(object, "points", at, idsOf);
  const given = member(object, "filter");
  if (ids !== undefined) {
    target.points = { $case: "ids", value: { ids } };
    return target;
  }
  if (given === undefined) throw new KithError("INVALID_ARGUMENT", `${below(at, "points")}: give points or a filter`);
  target.points = { $case: "filter", value: wholeFilter(given, below(at, "filter")) };
  return target;
}

/** A filter that is there, also where it has no conditions: it lets all points pass. */
function wholeFilter(value: JsonValue, at: string): pb.Filter {
  return filterOf(value, at) ?? pb.Filter.create({});
}
