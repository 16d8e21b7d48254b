import { KithError, limits } from "../base/index.js";
import {
  checkQueryVector,
  compareIds,
  fieldOf,
  type FieldsOfCollection,
  type Hit,
  type IdKey,
  type Select,
  type ShardQuery,
} from "../model/index.js";
import { limitOf } from "./limits.js";
import { mergeHits } from "./merge.js";
import { type Order, orderOf, reaches } from "./score.js";

/** A search for the nearest vectors, as it was asked. */
export interface NearestRequest {
  /** Name of the vector field. */
  using: string;
  vector: Float32Array;
  /** Of a matrix, as far as the request says; 0: nothing. */
  rows?: number | undefined;
  /** 0: the default. */
  limit: number;
  /** 0: the field's. */
  ef: number;
  /** See ShardQuery. */
  recallTarget?: number | undefined;
  exact: boolean;
  /** How many times the wanted results are scored by vectors as they were written, where the field keeps these; 0 or missing: what is usual. */
  oversampling?: number;
  /** Whether they are at all; missing: yes. */
  rescore?: boolean;
  select: Select;
  scoreThreshold: number | undefined;
  /** The point whose stored vector is the query: it is no result of its own. */
  exclude: IdKey | undefined;
}

/** What each shard is asked, and what becomes of the answers. */
export interface NearestPlan {
  kind: "nearest";
  shardQuery: Omit<ShardQuery, "minSequence">;
  order: Order;
  limit: number;
  threshold: number | undefined;
  exclude: IdKey | undefined;
}

const defaultLimit = 10;
/** Beyond it a scan costs less. */
const oversamplingMax = 1_000;
const queryWhere = (): string => "the query";

/** Checks the request against the collection; throws KithError. */
export function planNearest(collection: FieldsOfCollection, request: NearestRequest): NearestPlan {
  const field = fieldOf(collection, request.using);
  const limit = limitOf(request.limit, defaultLimit, limits.queryLimit, "limit");
  const ef = limitOf(request.ef, field.efSearch, limits.efMax, "ef");
  checkQueryVector(field, request.vector, queryWhere, request.rows);
  if (Number.isNaN(request.scoreThreshold)) {
    throw new KithError("INVALID_ARGUMENT", "score_threshold is NaN; give a number, or leave it out");
  }
  const { vector, exact, select, exclude, recallTarget, scoreThreshold: threshold } = request;
  const k = exclude === undefined ? limit : limit + 1;
  const width = recallTarget === undefined ? Math.max(k, ef) : request.ef;
  const scored = scoredOf(request, k);
  // Without spreads, as all that each query makes: they cost it some microseconds, and more in garbage.
  const shardQuery = { field: field.name, vector, k, ef: width, exact, scored, recallTarget, select };
  return {
    kind: "nearest",
    shardQuery,
    order: orderOf(field.metric),
    limit,
    threshold,
    exclude,
  };
}

/** See ShardQuery.scored. */
function scoredOf({ oversampling = 0, rescore = true }: NearestRequest, k: number): number | undefined {
  if (oversampling !== 0 && !(oversampling >= 1 && oversampling <= oversamplingMax)) {
    throw new KithError("LIMIT_OUT_OF_RANGE", `oversampling is ${oversampling}; it must be in 1..${oversamplingMax}`, {
      details: { field: "oversampling", path: "oversampling", value: oversampling, min: 1, max: oversamplingMax },
    });
  }
  if (!rescore) return 0;
  return oversampling === 0 ? undefined : Math.min(limits.shardResults, Math.ceil(k * oversampling));
}

/** The results of a plan from those of the shards. */
export function finishNearest(plan: NearestPlan, lists: readonly (readonly Hit[])[]): Hit[] {
  const { exclude, limit, order, threshold } = plan;
  let merged = mergeHits(lists, plan.shardQuery.k, order);
  if (exclude !== undefined) merged = merged.filter((hit) => compareIds(hit.id, exclude) !== 0).slice(0, limit);
  return threshold === undefined ? merged : merged.filter((hit) => reaches(order, hit.score, threshold));
}
