import type { PostingsResult } from "../../ann/index.js";
import { KithError, limits } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import type { ShardIndexCounts, ShardIndices, ShardSparse } from "../../shard-api/index.js";
import type { SparseGeneration } from "../index/sparse-generation.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { cancellationOf, type Hydrator } from "./hydrator.js";

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
  { indices, values }: ShardSparse["vector"],
  k: number,
  scope: { filter?: Uint8Array; slots?: Uint32Array },
  call: CallContext,
): Promise<PostingsResult> {
  const signal = cancellationOf(call);
  const terms = Array.from(indices, (term, i) => ({ term, weight: values[i] as number, clause: 0 }));
  const wanted = Math.min(limits.shardResults, k + tiesMax);
  return postings.search({ clauses: ["should"], terms }, { ...scope, ...(signal && { signal }), k: wanted });
}
