import { KithError } from "../../../libs/base/index.js";
import { type Hit, keepsOriginals, type VectorField } from "../../../libs/model/index.js";
import { compareHits, exactScore, orderOf } from "../../../libs/query/index.js";
import type { pb } from "../../../libs/wire/index.js";

const nothing: pb.Select = { payload: false, vectors: [], allVectors: false, include: [], exclude: [] };

/**
 * The request with the stored vectors of its field, from which exact scores are computed; the same where the field's index holds them as they
 * were given anyway.
 */
export function withOriginals(request: pb.QueryRequest, field: VectorField | undefined): pb.QueryRequest {
  if (!request.exactScores || field === undefined || isExact(field) || hasOriginals(request)) return request;
  const select = request.select ?? nothing;
  return { ...request, select: { ...select, vectors: [...select.vectors, request.using] } };
}

/** Whether the field's index scores by vectors as they were written. */
export function isExact(field: VectorField): boolean {
  return field.datatype === "f32" || keepsOriginals(field);
}

/** Whether the answer shows the vectors of the field. */
export function hasOriginals({ select, using }: pb.QueryRequest): boolean {
  return select !== undefined && (select.allVectors || select.vectors.includes(using));
}

/** INVALID_ARGUMENT: scores of several stages, or of other queries, are not distances of one vector. */
export function checkExactScores(request: pb.QueryRequest, isTree: boolean): void {
  if (isTree && (request.oversampling !== 0 || request.rescore !== undefined)) {
    const field = request.rescore === undefined ? "oversampling" : "rescore";
    const wrong = `${field} goes with a query by a vector or a point, with a filter or without; not with prefetches, other queries, an offset or explain`;
    throw new KithError("INVALID_ARGUMENT", wrong, { details: { field } });
  }
  if (!request.exactScores || !isTree) return;
  const message =
    "exact_scores goes with a query by a vector or a point, with a filter or without; not with prefetches, other queries, sparse vectors, an offset or explain";
  throw new KithError("INVALID_ARGUMENT", message, { details: { field: "exact_scores" } });
}

/** The hits of one shard with the scores of their stored vectors, best first. They keep the vectors only where these are `shown`. */
export function rescored(hits: readonly Hit[], field: VectorField, query: Float32Array, shown: boolean): Hit[] {
  const order = orderOf(field.metric);
  const exact = hits.map((hit) => {
    const vector = hit.vectors?.get(field.name);
    const score = vector === undefined ? hit.score : exactScore(field, query, vector);
    if (shown) return { ...hit, score };
    const { vectors, ...rest } = hit;
    vectors?.delete(field.name);
    return vectors === undefined || vectors.size === 0 ? { ...rest, score } : { ...rest, vectors, score };
  });
  return exact.sort((a, b) => compareHits(a, b, order));
}
