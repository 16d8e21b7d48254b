import { KithError, limits } from "../../../libs/base/index.js";
import type {
  Bm25Options,
  Collection,
  PayloadIndex,
  PayloadIndexRecord,
  SparseVector,
} from "../../../libs/model/index.js";
import type { ShardIndexCounts, ShardTermCounts, ShardTerms, ShardText } from "../../../libs/shard-api/index.js";
import { inverseDocumentFrequency, type ParsedText } from "../../../libs/text/index.js";

/** What the whole collection holds, at some moment: scores by it are the same however the points are sharded. */
export interface TextStatistics {
  pointCount: number;
  /** Tokens, by field. */
  lengths: readonly number[];
  /** Points that have each term. */
  counts: ReadonlyMap<string, number>;
  /** What each prefix or fuzzy word of the query stands for, by `expansionKey`. */
  expansions: ReadonlyMap<string, readonly string[]>;
}

/** Of a collection that was not written to since; of one that was, as far as is known. In milliseconds. */
const keptMs = 30_000;
const driftedMs = 250;
/** Terms whose counts are kept, of one index; and indexes. */
const keptTerms = 50_000;
const keptIndexes = 1_000;

/** The index that a query names; INVALID_ARGUMENT lists those that exist. */
export function bm25IndexOf(
  { name, payloadIndexes }: Pick<Collection, "name" | "payloadIndexes">,
  using: string,
): PayloadIndexRecord & { bm25: Bm25Options } {
  const all = payloadIndexes.filter((index) => index.bm25 !== undefined);
  const found = using === "" && all.length === 1 ? all[0] : all.find(({ path }) => path === using);
  if (found?.bm25 !== undefined) return { ...found, bm25: found.bm25 };
  const known = all.map(({ path }) => `"${path}"`).join(", ");
  const wrong =
    using === "" && all.length > 1
      ? `has ${all.length} BM25 indexes; say by using which one is meant: ${known}`
      : `has no BM25 index${using === "" ? "" : ` "${using}"`}; ${all.length === 0 ? "create one" : `it has ${known}`}`;
  throw new KithError("INVALID_ARGUMENT", `the collection "${name}" ${wrong}`, {
    details: { collection: name, using },
  });
}

type Expansion = ShardTerms["expansions"][number];

function expansionKey({ kind, text, distance }: Expansion): string {
  return `${kind} ${distance} ${text}`;
}

/** What must be known of a query's terms. */
export function wantedOf({ clauses }: ParsedText): Pick<ShardTerms, "terms" | "expansions"> {
  const terms = new Set<string>();
  const expansions = new Map<string, Expansion>();
  for (const { terms: each } of clauses) {
    for (const { kind, text, distance } of each) {
      if (kind === "term") terms.add(text);
      else expansions.set(expansionKey({ kind, text, distance }), { kind, text, distance });
    }
  }
  return { terms: [...terms], expansions: [...expansions.values()] };
}

/** The collection's statistics from those of its shards. */
export function sumOf(
  { terms, expansions }: Pick<ShardTerms, "terms" | "expansions">,
  answers: readonly ShardTermCounts[],
): TextStatistics {
  const counts = new Map(terms.map((term, i) => [term, answers.reduce((sum, each) => sum + (each.counts[i] ?? 0), 0)]));
  const expanded = expansions.map((expansion, i): [string, string[]] => {
    const found = new Map<string, number>();
    for (const answer of answers) {
      for (const [term, count] of answer.expansions[i] ?? []) found.set(term, (found.get(term) ?? 0) + count);
    }
    for (const [term, count] of found) counts.set(term, Math.max(count, counts.get(term) ?? 0));
    return [expansionKey(expansion), [...found.keys()].sort()];
  });
  const fields = answers[0]?.lengths.length ?? 0;
  return {
    pointCount: answers.reduce((sum, { pointCount }) => sum + pointCount, 0),
    lengths: Array.from({ length: fields }, (_, f) => answers.reduce((sum, each) => sum + (each.lengths[f] ?? 0), 0)),
    counts,
    expansions: new Map(expanded),
  };
}

/** The same of the indices of a sparse field, which stand for terms as decimal text. */
export function sumOfIndices(indices: readonly number[], answers: readonly ShardIndexCounts[]): TextStatistics {
  return {
    pointCount: answers.reduce((sum, { pointCount }) => sum + pointCount, 0),
    lengths: [],
    counts: new Map(
      indices.map((index, i) => [String(index), answers.reduce((sum, { counts }) => sum + (counts[i] ?? 0), 0)]),
    ),
    expansions: new Map(),
  };
}

/** A sparse vector with its entries weighed by how rare their indices are; without those that no point has. */
export function weighIndices(
  { indices, values }: SparseVector,
  { pointCount, counts }: Pick<TextStatistics, "pointCount" | "counts">,
): SparseVector {
  const kept = indices.filter((index) => (counts.get(String(index)) ?? 0) > 0);
  const byIndex = new Map(Array.from(indices, (index, i) => [index, values[i] as number]));
  const weights = Float32Array.from(kept, (index) => {
    return (byIndex.get(index) ?? 0) * inverseDocumentFrequency(pointCount, counts.get(String(index)) ?? 0);
  });
  return { indices: kept, values: weights };
}

/** What shards are asked: terms with their weights. LIMIT_OUT_OF_RANGE where prefixes stand for too many. */
export function weigh(
  { clauses, phrases }: ParsedText,
  { pointCount, lengths, counts, expansions }: TextStatistics,
): Pick<ShardText, "clauses" | "terms" | "phrases" | "averages"> {
  const terms: { text: string; weight: number; clause: number }[] = [];
  for (const [clause, { terms: each }] of clauses.entries()) {
    const weights = new Map<string, number>();
    for (const { kind, text, distance, boost } of each) {
      const found = kind === "term" ? [text] : (expansions.get(expansionKey({ kind, text, distance })) ?? []);
      for (const term of found) {
        // Further away is less: a word as it was written counts more than one with a typing error.
        const share = kind === "fuzzy" && term !== text ? 0.5 : 1;
        const weight = Math.fround(boost * share * inverseDocumentFrequency(pointCount, counts.get(term) ?? 0));
        weights.set(term, Math.max(weight, weights.get(term) ?? 0));
      }
    }
    for (const [text, weight] of weights) terms.push({ text, weight, clause });
  }
  if (terms.length > limits.queryTermsMax) {
    throw new KithError(
      "LIMIT_OUT_OF_RANGE",
      `the text of the query stands for ${terms.length} terms; the limit is ${limits.queryTermsMax}: write longer prefixes`,
      { details: { limit: limits.queryTermsMax } },
    );
  }
  return {
    clauses: clauses.map(({ kind }) => kind),
    terms,
    phrases,
    averages: lengths.map((length) => (pointCount === 0 ? 0 : length / pointCount)),
  };
}

/** What is known of one index: all of it of one state of the shards. */
class KeptStatistics {
  #statistics: Omit<TextStatistics, "counts" | "expansions"> = { pointCount: 0, lengths: [] };
  #counts = new Map<string, number>();
  #sequences: ReadonlyMap<number, number> = new Map();
  #atMs = Number.NEGATIVE_INFINITY;
  #hasDrifted = false;

  /** Undefined where a term is not known, or a shard is asked for more than was read of it. */
  find(
    terms: readonly string[],
    nowMs: number,
    isBehind: (shard: number, sequence: number) => boolean,
  ): TextStatistics | undefined {
    if (nowMs - this.#atMs > (this.#hasDrifted ? driftedMs : keptMs)) return undefined;
    for (const [shard, sequence] of this.#sequences) if (isBehind(shard, sequence)) return undefined;
    if (!terms.every((term) => this.#counts.has(term))) return undefined;
    return { ...this.#statistics, counts: this.#counts, expansions: new Map() };
  }

  keep({ pointCount, lengths, counts }: TextStatistics, sequences: ReadonlyMap<number, number>, nowMs: number): void {
    const isSame = [...sequences].every(([shard, sequence]) => this.#sequences.get(shard) === sequence);
    if (!isSame || sequences.size !== this.#sequences.size || this.#counts.size > keptTerms) this.#counts = new Map();
    for (const [term, count] of counts) this.#counts.set(term, count);
    this.#statistics = { pointCount, lengths };
    this.#sequences = sequences;
    this.#atMs = nowMs;
    this.#hasDrifted = false;
  }

  /** A shard has answered as of this state. */
  seen(shard: number, sequence: number): void {
    if (sequence !== this.#sequences.get(shard)) this.#hasDrifted = true;
  }
}

/** Statistics that a router has gathered, by collection and index. */
export class TextStatisticsCache {
  readonly #kept = new Map<string, KeptStatistics>();

  of(collectionId: string, { path, bm25 }: PayloadIndex): KeptStatistics {
    return this.#of(`${collectionId} ${path} ${JSON.stringify(bm25)}`);
  }

  /** Of a sparse field. A field that was dropped and made again is another one, at another version of the schema. */
  ofSparse({ id, schemaVersion }: Pick<Collection, "id" | "schemaVersion">, field: string): KeptStatistics {
    return this.#of(`${id} sparse ${field} ${schemaVersion}`);
  }

  #of(key: string): KeptStatistics {
    let kept = this.#kept.get(key);
    if (kept === undefined) {
      if (this.#kept.size >= keptIndexes) this.#kept.clear();
      this.#kept.set(key, (kept = new KeptStatistics()));
    }
    return kept;
  }
}
