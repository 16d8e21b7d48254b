import { KithError, limits } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue } from "../../../libs/model/index.js";
import { fromFailure } from "../../../libs/rpc/common/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, consistencyOf, describe, type Operation, tell } from "./api.js";
import { filterOf } from "./filter.js";
import { type Printing, printingOf, printRecord, printScored } from "./printing.js";
import {
  exampleOf,
  limitDefault,
  lookupOf,
  pairsOf,
  paramsOf,
  checkScored,
  prefetchesOf,
  scoredFor,
  queryOf,
  recommendOf,
  rescoringOf,
} from "./query.js";
import { rankedName } from "./ranked-texts.js";
import { atOnceOf, pageOf } from "./reads.js";
import { selectOf, vectorsWanted } from "./selection.js";
import { partitionsOf, scopeOf, type ShardKeys, shardKeysFor } from "./shard-keys.js";
import {
  atLeast,
  below,
  countOf,
  listOf,
  member,
  numberOf,
  objectOf,
  optional,
  type Reply,
  required,
  textOf,
} from "./values.js";
import { vectorOf } from "./vectors.js";

/** A query has always one; messages have not. */
const noSelect = pb.Select.create({});

/** The request of a query but for how it scores, which the deprecated calls say in other words. */
function requestOf(ask: Ask, object: JsonObject, at: string, keys: ShardKeys): pb.QueryRequest {
  const { ef, exact } = paramsOf(member(object, "params"), below(at, "params"));
  const scoreThreshold = optional(object, "score_threshold", at, numberOf);
  return {
    ...pb.QueryRequest.create({ collection: collectionOf(ask), ef, exact }),
    ...scopeOf(partitionsOf(object, at, keys), filterOf(member(object, "filter"), below(at, "filter"))),
    select: selectOf(member(object, "with_payload"), vectorsWanted(object), false),
    limit: optional(object, "limit", at, atLeast(1)) ?? optional(object, "top", at, atLeast(1)) ?? limitDefault,
    offset: optional(object, "offset", at, countOf) ?? 0,
    ...(scoreThreshold !== undefined && { scoreThreshold }),
    consistency: consistencyOf(ask),
    lookup: lookupOf(object, at),
    using: optional(object, "using", at, usingOf) ?? "",
  };
}

/** Older calls name a field as text, or as an object with its name. */
function usingOf(value: JsonValue | undefined, at: string): string {
  return isJsonObject(value) ? required(value, "name", at, textOf) : textOf(value, at);
}

/** What a request asks for, by the call that it is of. */
type Form = (ask: Ask, value: JsonValue | undefined, at: string, keys: ShardKeys) => pb.QueryRequest;

const queryForm: Form = (ask, value, at, keys) => {
  const object = objectOf(value, at);
  const request = requestOf(ask, object, at, keys);
  const query = member(object, "query");
  request.query = query === undefined ? undefined : queryOf(query, below(at, "query"));
  request.prefetch = scoredFor(request.query, prefetchesOf(object, at));
  checkScored(request, at);
  if (request.query?.query?.$case === "text") request.using = rankedName(request.using);
  // Of random points there are none to leave out.
  if (request.query?.query?.$case === "sample") request.offset = 0;
  return rescoring(simplified(request), object, at);
};

const searchForm: Form = (ask, value, at, keys) => {
  const object = objectOf(value, at);
  const request = requestOf(ask, object, at, keys);
  const vector = member(object, "vector");
  const where = below(at, "vector");
  if (isJsonObject(vector) && Object.hasOwn(vector, "name")) {
    request.using = required(vector, "name", where, textOf);
    return rescoring(askedBy(request, required(vector, "vector", where, vectorOf)), object, at);
  }
  return rescoring(askedBy(request, vectorOf(vector, where)), object, at);
};

/** With what `params` say of quantization, for searches by one vector: others are scored as is usual. */
function rescoring(request: pb.QueryRequest, object: JsonObject, at: string): pb.QueryRequest {
  const said = rescoringOf(member(object, "params"), below(at, "params"));
  const isPlain = request.vector.length > 0 && request.prefetch.length === 0 && request.offset === 0;
  return said === undefined || !isPlain ? request : { ...request, ...said };
}

/** A sparse vector is asked for as a query. */
function askedBy(request: pb.QueryRequest, vector: pb.Vector): pb.QueryRequest {
  const { values, indices, rows } = vector;
  if (indices.length === 0) return { ...request, vector: values, ...(rows !== undefined && { vectorRows: rows }) };
  const example: pb.Example = { example: { $case: "vector", value: vector } };
  return { ...request, query: { query: { $case: "nearest", value: { example, mmr: undefined } } } };
}

const recommendForm: Form = (ask, value, at, keys) => {
  const object = objectOf(value, at);
  const request = requestOf(ask, object, at, keys);
  request.query = { query: { $case: "recommend", value: recommendOf(object, at) } };
  return request;
};

const discoverForm: Form = (ask, value, at, keys) => {
  const object = objectOf(value, at);
  const request = requestOf(ask, object, at, keys);
  const context = optional(object, "context", at, pairsOf) ?? [];
  const target = optional(object, "target", at, exampleOf);
  request.query =
    target === undefined
      ? { query: { $case: "context", value: { context } } }
      : { query: { $case: "discover", value: { target, context } } };
  return request;
};

/** The nearest points to one vector or point are asked for without a tree of stages, which costs less. */
function simplified(request: pb.QueryRequest): pb.QueryRequest {
  const { query, prefetch } = request;
  if (query?.query?.$case !== "nearest" || prefetch.length > 0) return request;
  const { example, mmr } = query.query.value;
  if (mmr !== undefined || example?.example?.$case !== "vector") return request;
  const { value: vector } = example.example;
  // Without a vector it would be a scroll.
  if (vector.indices.length > 0 || vector.values.length === 0) return request;
  return askedBy({ ...request, query: undefined }, vector);
}

/** Without a query, points come in order of their ids. */
async function scrolled(ask: Ask, request: pb.QueryRequest): Promise<pb.ScoredPoint[]> {
  const { limit, offset, filter, partition } = request;
  const select = request.select ?? pb.Select.create({});
  const page = await pageOf(ask, {
    ...{ select, filter, partition, orderBy: undefined, from: undefined, limit: limit + offset },
    atOnce: atOnceOf(await describe(ask), limit),
  });
  return page.points.slice(offset).map(({ id, vectors, payload, version }) => ({
    ...pb.ScoredPoint.create({ version, score: unscored }),
    id,
    vectors,
    payload,
  }));
}

const isScroll = ({ query, vector, point }: pb.QueryRequest): boolean =>
  query === undefined && vector.length === 0 && point === undefined;

async function run(ask: Ask, request: pb.QueryRequest): Promise<Reply[]> {
  const printing = await printingOf(ask, request.select ?? noSelect);
  if (isScroll(request)) return (await scrolled(ask, request)).map((point) => printScored(point, printing));
  const { points } = await tell(ask, pb.PointsService.query, request);
  ask.gathering.add(points);
  return printAll(points, request, printing);
}

/** The score of points that have none: those in an order of ids or of the payload, and random ones. */
const unscored = 1;

function printAll(points: readonly pb.ScoredPoint[], { query }: pb.QueryRequest, printing: Printing): Reply[] {
  const isUnscored = query?.query?.$case === "orderBy" || query?.query?.$case === "sample";
  return points.map((point) => printScored(isUnscored ? { ...point, score: unscored } : point, printing));
}

async function runBatch(ask: Ask, form: Form): Promise<Reply[][]> {
  const searches = required(ask.body, "searches", "", listOf);
  const keys = await shardKeysFor(ask, ...searches);
  const requests = searches.map((each, i) => form(ask, each, `searches[${i}]`, keys));
  const results: Reply[][] = [];
  const asked: { request: pb.QueryRequest; at: number }[] = [];
  for (const [at, request] of requests.entries()) {
    if (isScroll(request)) results[at] = await run(ask, request);
    else asked.push({ request, at });
  }
  for (let from = 0; from < asked.length; from += limits.queryBatch) {
    const part = asked.slice(from, from + limits.queryBatch);
    const printings = await Promise.all(part.map(({ request }) => printingOf(ask, request.select ?? noSelect)));
    const answer = await tell(ask, pb.PointsService.queryBatch, { queries: part.map(({ request }) => request) });
    for (const [i, { outcome }] of answer.results.entries()) {
      const { request, at } = part[i] as (typeof part)[number];
      // All of a batch succeed, or none.
      if (outcome?.$case !== "response") throw failureOf(outcome?.value, at);
      ask.gathering.add(outcome.value.points);
      results[at] = printAll(outcome.value.points, request, printings[i] as Printing);
    }
  }
  return results;
}

function failureOf(failure: pb.Failure | undefined, at: number): KithError {
  if (failure === undefined) return new KithError("INTERNAL", `searches[${at}] was not answered`);
  const error = fromFailure(failure);
  const { code, details, retryAfterMs } = error;
  return new KithError(code, `searches[${at}]: ${error.message}`, {
    details,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

async function runOne(ask: Ask, form: Form): Promise<Reply[]> {
  return run(ask, form(ask, ask.body, "", await shardKeysFor(ask, ask.body)));
}

export const query: Operation = async (ask) => ({ points: await runOne(ask, queryForm) });
export const queryBatch: Operation = async (ask) =>
  (await runBatch(ask, queryForm)).map((points): Reply => ({ points }));

const single =
  (form: Form): Operation =>
  (ask) =>
    runOne(ask, form);
const batch =
  (form: Form): Operation =>
  (ask) =>
    runBatch(ask, form);

export const search = single(searchForm);
export const searchBatch = batch(searchForm);
export const recommend = single(recommendForm);
export const recommendBatch = batch(recommendForm);
export const discover = single(discoverForm);
export const discoverBatch = batch(discoverForm);

const groupDefaults = { limit: 3, groupSize: 3 };

const groups =
  (form: Form): Operation =>
  async (ask) => {
    const { body } = ask;
    const request = form(ask, body, "", await shardKeysFor(ask, body));
    const limit = optional(body, "limit", "", atLeast(1)) ?? groupDefaults.limit;
    if (isScroll(request)) throw new KithError("INVALID_ARGUMENT", "query: groups need a query, such as a vector");
    const lookup = optional(body, "with_lookup", "", withLookupOf);
    const printing = await printingOf(ask, request.select ?? noSelect);
    const looking = lookup && (await printingOf(ask, lookup.select ?? noSelect, lookup.collection));
    const answer = await tell(ask, pb.PointsService.queryGroups, {
      query: { ...request, limit: 0, offset: 0 },
      groupBy: required(body, "group_by", "", textOf),
      limit,
      groupSize: optional(body, "group_size", "", atLeast(1)) ?? groupDefaults.groupSize,
      withLookup: lookup,
    });
    return {
      groups: answer.groups.map(({ value, points, lookup: found }) => ({
        id: value?.value ?? null,
        hits: printAll(points, request, printing),
        lookup: found === undefined || looking === undefined ? undefined : printRecord(found, looking),
      })),
    };
  };

function withLookupOf(value: JsonValue | undefined, at: string): pb.GroupLookup {
  if (typeof value === "string") return { collection: value, select: selectOf(true, false, true) };
  const object = objectOf(value, at);
  const vectors = vectorsWanted(object);
  const select = selectOf(member(object, "with_payload"), vectors, true);
  return { collection: required(object, "collection", at, textOf), select };
}

export const queryGroups = groups(queryForm);
export const searchGroups = groups(searchForm);
export const recommendGroups = groups(recommendForm);
