import type { PostingsIndex, PostingsResult } from "../../ann/index.js";
import { KithError, limits } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import type { SparseVector } from "../../model/index.js";
import type { ShardIndexCounts, ShardIndices, ShardSparse } from "../../shard-api/index.js";
import type { SparseGeneration } from "../index/sparse-generation.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { cancellationOf, type Hydrator } from "./hydrator.js";
import type { Similarities } from "./scores.js";

/** Rows of the same score are told apart by their ids, which the index does not know: so many more of them are looked at. */
const tiesMax = 32;

/** The build of the field's index that answers; UNKNOWN_VECTOR, SHARD_UNAVAILABLE while it is built. */
export function sparseGenerationOf(hydrator: Hydrator, field: string): SparseGeneration {
  const { kind, serving } = hydrator.sparseIndex(field);
  if (serving === undefined) throw hydrator.notBuilt(kind.label);
  return serving;
}

/** What the replica knows of indices; rejects as sparseGenerationOf throws. */
export function countIndices(
  replica: OpenReplica,
  hydrator: Hydrator,
  { field, indices }: ShardIndices,
): Promise<ShardIndexCounts> {
  return new Promise((resolve) => {
    const { postings } = sparseGenerationOf(hydrator, field);
    resolve({
      pointCount: postings.stats().aliveCount,
      counts: Array.from(postings.termCounts(Uint32Array.from(indices))),
      sequence: replica.appliedSequence,
    });
  });
}

/** LIMIT_OUT_OF_RANGE for a number of results that there is not. */
export function checkSparse({ k, vector }: ShardSparse): void {
  if (!Number.isInteger(k) || k < 1 || k > limits.shardResults) {
    throw new KithError("LIMIT_OUT_OF_RANGE", `k is ${k}; it must be a whole number in 1..${limits.shardResults}`, {
      details: { field: "k", value: k },
    });
  }
  if (vector.indices.length === vector.values.length) return;
  throw new KithError(
    "DIMENSION_MISMATCH",
    `the query has ${vector.indices.length} indices and ${vector.values.length} values`,
  );
}

/** The best rows in scope, more than `k` of them where some have the same score. */
export function searchSparse(
  { postings }: SparseGeneration,
  vector: SparseVector,
  k: number,
  scope: PostingsScope,
  call: CallContext,
): Promise<PostingsResult> {
  return searchPostings(postings, vector, Math.min(limits.shardResults, k + tiesMax), scope, call);
}

type PostingsScope = { filter?: Uint8Array; slots?: Uint32Array };

/** The best rows in scope by the product with a vector; those that have no index in common with it are none of them. */
export function searchPostings(
  postings: PostingsIndex,
  { indices, values }: SparseVector,
  k: number,
  scope: PostingsScope,
  call: CallContext,
): Promise<PostingsResult> {
  const signal = cancellationOf(call);
  const terms = Array.from(indices, (term, i) => ({ term, weight: values[i] as number, clause: 0 }));
  return postings.search({ clauses: ["should"], terms }, { ...scope, ...(signal && { signal }), k });
}

/** The products of these rows with each example; 0 where they have no index in common. */
export async function sparseSimilarities(
  postings: PostingsIndex,
  examples: readonly SparseVector[],
  slots: Uint32Array,
  call: CallContext,
): Promise<Similarities> {
  const similarities: Similarities = new Map();
  for (const slot of slots) similarities.set(slot, new Float64Array(examples.length));
  for (let from = 0; from < slots.length; from += limits.shardResults) {
    const listed = slots.slice(from, from + limits.shardResults);
    const results = await Promise.all(
      examples.map((example) => searchPostings(postings, example, listed.length, { slots: listed }, call)),
    );
    for (const [example, { slots: found, distances }] of results.entries()) {
      for (const [i, slot] of found.entries()) {
        const row = similarities.get(slot);
        if (row !== undefined) row[example] = -(distances[i] as number);
      }
    }
  }
  return similarities;
}
