import { KithError, toKithError } from "../../../libs/base/index.js";
import type { CallContext, RowRule } from "../../../libs/call/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import {
  checkStrict,
  checkStrictExact,
  type Collection,
  fieldOf,
  type Filter,
  type Hit,
  formatId,
  idInPartition,
  type IdKey,
  type ShardQuery,
  type VectorField,
} from "../../../libs/model/index.js";
import { checkStrictFilter, finishNearest, type NearestPlan, planNearest } from "../../../libs/query/index.js";
import type { ReadRequest, ShardSearch } from "../../../libs/shard-api/index.js";
import { filterFromWire, type pb, type ShardSequence } from "../../../libs/wire/index.js";
import { narrowed, seeing, seen } from "../access.js";
import { keyOf } from "../ids.js";
import { partitionIn, type Scoped, scoped, storedId } from "../partitions.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import { askShard } from "./ask-shard.js";
import { isExact, rescored } from "./exact-scores.js";
import { shapedHits } from "./points.js";
import { defaultResults, recallTargetOf } from "./query-request.js";
import type { Answered, Working } from "./query-runner.js";
import { type MinSequences, selectionOf } from "./read-options.js";

/** The vector of a stored point, and the state of its shard that it was read from. */
interface StoredVector {
  vector: Float32Array;
  shard: number;
  sequence: number;
}

/** What has been read already: neither the hits nor the token may be of a state before it. */
function alsoAfter(minSequences: MinSequences, stored: StoredVector): MinSequences {
  return (shard) => (shard === stored.shard ? Math.max(minSequences(shard), stored.sequence) : minSequences(shard));
}

/** What the token of the answer says of each shard. */
function sequencesOf(results: readonly ShardHits[], stored: StoredVector | undefined): readonly ShardSequence[] {
  if (stored === undefined) return results;
  return results.map(({ shard, sequence }) => ({
    shard,
    sequence: shard === stored.shard ? Math.max(sequence, stored.sequence) : sequence,
  }));
}

interface ShardHits extends ShardSequence {
  hits: Hit[];
  missing: RoutedShard | undefined;
}

/** The common query: one search of each shard. */
export async function nearest(
  { collection, rule, minSequences, call }: Working,
  request: pb.QueryRequest,
  showsVectors: boolean,
): Promise<Answered> {
  const field = fieldOf(collection.record, request.using);
  const { strictMode } = collection.record;
  if (strictMode !== undefined) {
    checkStrict(strictMode, "maxLimit", request.limit === 0 ? defaultResults : request.limit, "limit");
    checkStrict(strictMode, "maxEf", request.ef, "ef");
    checkStrictExact(strictMode, request.exact, "exact");
  }
  const filter = request.filter && filterFromWire(request.filter);
  if (filter !== undefined) {
    validateFilter(filter);
    checkStrictFilter(collection.record, filter, "filter");
  }
  const partition = partitionIn(collection, request.partition);
  const exclude = excludedBy(request, collection, partition);
  const stored = exclude && (await vectorOf(collection, field, exclude, rule, minSequences, call));
  const { using, limit, ef, exact, oversampling, rescore = true, scoreThreshold } = request;
  const vector = stored?.vector ?? request.vector;
  const { select, payload } = selectionOf(collection.record, request.select);
  const rows = stored === undefined ? request.vectorRows : undefined;
  const recallTarget = recallTargetOf(collection.record, request);
  const width = widestOf(collection.record, recallTarget, ef);
  const shown = seeing(select, rule);
  const plan = planNearest(collection.record, {
    using,
    vector,
    rows,
    limit,
    ef: width,
    recallTarget,
    exact,
    oversampling,
    rescore,
    select: shown,
    scoreThreshold,
    exclude,
  });
  const notBefore = stored === undefined ? minSequences : alsoAfter(minSequences, stored);
  const scope = scoped(collection, narrowed(filter, rule), partition);
  const results = await scatter(scope, plan, notBefore, request.allowPartial, call);
  const rescores = request.exactScores && !isExact(field);
  const lists: (readonly Hit[])[] = [];
  let missing: readonly RoutedShard[] = [];
  for (const result of results) {
    const visible = rule === undefined ? result.hits : [...seen(result.hits, select, rule)];
    lists.push(rescores ? rescored(visible, field, vector, showsVectors) : visible);
    if (result.missing !== undefined) missing = [...missing, result.missing];
  }
  return {
    hits: shapedHits(finishNearest(plan, lists), payload),
    payloadAsStruct: payload.asStruct,
    matrices: payload.matrices,
    missing,
    sequences: sequencesOf(results, stored),
  };
}

async function vectorOf(
  collection: RoutedCollection,
  field: VectorField,
  id: IdKey,
  rule: RowRule | undefined,
  minSequences: MinSequences,
  call: CallContext,
): Promise<StoredVector> {
  const shard = collection.shardOf(id);
  const select = { payload: false, vectors: [field.name] };
  const { points, sequence } = await shard.ask(call, (api, context) =>
    api.read(
      "get",
      shard.id,
      { ids: [id], select: seeing(select, rule), minSequence: minSequences(shard.id.shard) },
      context,
    ),
  );
  const [point] = seen(points, select, rule);
  const vector = point?.vectors?.get(field.name);
  if (vector === undefined) {
    const shown = formatId(idInPartition(id));
    throw new KithError(
      "POINT_NOT_FOUND",
      point === undefined
        ? `there is no point with this id to query by: ${shown}`
        : `the point has no vector "${field.name}" to query by: ${shown}`,
    );
  }
  return { vector, shard: shard.id.shard, sequence };
}

/** The widest beam that may be taken for a recall. */
function widestOf({ strictMode }: Collection, recallTarget: number | undefined, ef: number): number {
  return recallTarget !== undefined && ef === 0 ? (strictMode?.maxEf ?? 0) : ef;
}

/** The point whose stored vector is the query, if the request names one. */
function excludedBy(
  request: pb.QueryRequest,
  collection: RoutedCollection,
  partition: string | undefined,
): IdKey | undefined {
  if (request.point === undefined) return undefined;
  if (request.vector.length > 0) {
    throw new KithError("INVALID_ARGUMENT", "the query has both a vector and a point; give one of them");
  }
  return storedId(
    collection,
    keyOf(request.point, () => "point"),
    partition,
    "point",
  );
}

function scatter(
  { shards, filter }: Scoped,
  plan: NearestPlan,
  minSequences: MinSequences,
  allowPartial: boolean,
  call: CallContext,
): Promise<ShardHits[]> {
  const asked: Promise<ShardHits>[] = [];
  for (const shard of shards) {
    const minSequence = minSequences(shard.id.shard);
    const one =
      filter === undefined
        ? askHits(shard, "query", queryOf(plan.shardQuery, minSequence), call)
        : askHits(shard, "search", searchOf(plan.shardQuery, filter, minSequence), call);
    asked.push(allowPartial ? one.catch((error) => missing(shard, error)) : one);
  }
  return Promise.all(asked);
}

/** Not `{ ...query, minSequence }`: the V8 of Node 20 gives every object with a new key behind a spread a hidden class of its own. */
function queryOf(query: NearestPlan["shardQuery"], minSequence: number): ShardQuery {
  const { field, vector, k, ef, exact, scored, recallTarget, select } = query;
  return { field, vector, k, ef, exact, scored, recallTarget, select, minSequence };
}

function searchOf(query: NearestPlan["shardQuery"], filter: Filter, minSequence: number): ShardSearch {
  const { field, vector, k, ef, exact, scored, recallTarget, select } = query;
  const scorer = { kind: "nearest", vector } as const;
  return {
    field,
    scorer,
    k,
    ef,
    exact,
    scored,
    recallTarget,
    select,
    minSequence,
    filter,
    ids: undefined,
    exclude: [],
  };
}

async function askHits<K extends "query" | "search">(
  shard: RoutedShard,
  kind: K,
  request: ReadRequest<K>,
  call: CallContext,
): Promise<ShardHits> {
  const { hits, sequence } = await askShard(shard, kind, request, { call, step: undefined, hedged: true });
  return { shard: shard.id.shard, sequence, hits, missing: undefined };
}

/** With allow_partial a shard that cannot answer is named instead of failing the query; a wrong query still fails. */
function missing(shard: RoutedShard, error: unknown): ShardHits {
  const { code } = toKithError(error);
  if (code !== "SHARD_UNAVAILABLE" && code !== "SHUTTING_DOWN" && code !== "CORRUPT_DATA") throw error;
  return { shard: shard.id.shard, sequence: 0, hits: [], missing: shard };
}
