import type { PostingsQuery, PostingsResult } from "../../ann/index.js";
import { KithError, limits } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import { parsePayload, runSteps } from "../../filter/index.js";
import type { ShardTermCounts, ShardTerms, ShardText } from "../../shard-api/index.js";
import { FieldTexts, passesPhrases } from "../../text/index.js";
import type { TextGeneration } from "../index/text-generation.js";
import type { TextLife } from "../index/text-kind.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { cancellationOf } from "./hydrator.js";

/** Terms that one prefix or fuzzy word stands for, of one shard. */
const expansionsMax = 64;
/** Rows of the same score are told apart by their ids, which the index does not know: so many more of them are looked at. */
const tiesMax = 32;
/** How many more rows are looked at than are wanted, where phrases are looked for in what they hold. */
const phraseFactor = 4;
/** Payloads that are read at once. */
const readRows = 256;

/**
 * A build of the index by BM25, the one that answers where none is named. INVALID_ARGUMENT where the collection has none of the name,
 * FAILED_PRECONDITION where it has no such build any more, COLLECTION_NOT_READY while it is built.
 */
export function textIndexOf(
  replica: OpenReplica,
  path: string,
  generation: number | undefined,
): { index: TextLife; serving: TextGeneration } {
  const builds = replica.indexes.text.find((each) => each.path === path);
  const { version: schemaVersion } = replica.schema;
  if (builds === undefined) {
    throw new KithError("INVALID_ARGUMENT", `there is no BM25 index "${path}"`, {
      details: { index: path, schemaVersion },
    });
  }
  const { answering, other } = builds;
  const isMeant = (index: TextLife | undefined): boolean => index?.kind.generation === generation;
  const index = generation === undefined || isMeant(answering) ? answering : isMeant(other) ? other : undefined;
  if (index === undefined) {
    throw new KithError("FAILED_PRECONDITION", `the BM25 index "${path}" has no generation ${generation}; ask again`, {
      details: { index: path, schemaVersion },
    });
  }
  const { serving } = index;
  if (serving !== undefined) return { index, serving };
  throw new KithError("COLLECTION_NOT_READY", `the BM25 index "${path}" is being built; ask again later`, {
    details: { index: path },
    retryAfterMs: 500,
  });
}

/** What the replica knows of terms. */
export async function countTerms(
  replica: OpenReplica,
  { index: path, generation, terms, expansions }: ShardTerms,
  call: CallContext,
): Promise<ShardTermCounts> {
  const { serving } = textIndexOf(replica, path, generation);
  const signal = cancellationOf(call);
  const { dictionary, postings } = serving;
  const { clock } = replica.context;
  const matching: string[][] = [];
  for (const { kind, text, distance } of expansions) {
    matching.push(await runSteps(dictionary.matching(kind, text, distance), { clock, ...(signal && { signal }) }));
  }
  const countsOf = (all: readonly string[]): number[] => {
    const numbers = all.map((term) => dictionary.find(term));
    const counted = postings.termCounts(Uint32Array.from(numbers.filter((number) => number !== undefined)));
    let at = 0;
    return numbers.map((number) => (number === undefined ? 0 : (counted[at++] ?? 0)));
  };
  const { aliveCount, lengths } = postings.stats();
  return {
    pointCount: aliveCount,
    lengths,
    counts: countsOf(terms),
    expansions: matching.map((found) => {
      const counts = countsOf(found);
      return found
        .map((term, i): [string, number] => [term, counts[i] ?? 0])
        .filter(([, count]) => count > 0)
        .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
        .slice(0, expansionsMax);
    }),
    sequence: replica.appliedSequence,
  };
}

/** The query with the numbers of its terms; those that no point has are left out. */
function postingsQueryOf(serving: TextGeneration, { clauses, terms, averages }: ShardText): PostingsQuery {
  return {
    clauses,
    averages,
    terms: terms.flatMap(({ text, weight, clause }) => {
      const term = serving.dictionary.find(text);
      return term === undefined ? [] : [{ term, weight, clause }];
    }),
  };
}

/** The best rows in scope, more than `k` of them where some have the same score. */
export async function searchTexts(
  replica: OpenReplica,
  { index, serving }: { index: TextLife; serving: TextGeneration },
  request: ShardText,
  k: number,
  scope: { filter?: Uint8Array; slots?: Uint32Array },
  call: CallContext,
): Promise<PostingsResult> {
  const signal = cancellationOf(call);
  const query = postingsQueryOf(serving, request);
  const options = { ...scope, ...(signal && { signal }) };
  const { phrases } = request;
  let wanted = Math.min(limits.shardResults, phrases.length === 0 ? k + tiesMax : phraseFactor * k + tiesMax);
  for (;;) {
    const found = await serving.postings.search(query, { ...options, k: wanted });
    if (phrases.length === 0) return found;
    const passing = await withPhrases(replica, index, serving, found, phrases, call);
    const isAll = found.slots.length < wanted || wanted === limits.shardResults;
    if (isAll || passing.slots.length >= k + tiesMax) return passing;
    wanted = Math.min(limits.shardResults, wanted * phraseFactor);
  }
}

/** The index knows no places of tokens: phrases are looked for in the texts of the rows that have all of their tokens. */
async function withPhrases(
  { store, slots }: OpenReplica,
  { kind }: TextLife,
  { analyzer }: TextGeneration,
  found: PostingsResult,
  phrases: ShardText["phrases"],
  call: CallContext,
): Promise<PostingsResult> {
  const texts = new FieldTexts(kind.options);
  const signal = cancellationOf(call);
  const kept: number[] = [];
  for (let from = 0; from < found.slots.length; from += readRows) {
    const part = found.slots.subarray(from, from + readRows);
    const alive = [...part].map((slot) => (slots.isAlive(slot) ? slots.idOf(slot) : undefined));
    const ids = alive.filter((id) => id !== undefined);
    const payloads = await store.payloads(ids, signal);
    let at = 0;
    for (const [i, id] of alive.entries()) {
      if (id === undefined) {
        // Removed since: whoever collects the rows finds out.
        kept.push(from + i);
        continue;
      }
      const payload = payloads[at++];
      if (payload !== undefined && passesPhrases(texts.of(parsePayload(payload.value)), phrases, analyzer)) {
        kept.push(from + i);
      }
    }
  }
  return {
    ...found,
    slots: Uint32Array.from(kept, (i) => found.slots[i] as number),
    distances: Float32Array.from(kept, (i) => found.distances[i] as number),
  };
}
