import { abortReason, type Clock, KithError } from "../../../libs/base/index.js";
import type { CallContext, RowRule } from "../../../libs/call/index.js";
import { compileFilter, datetimeMicros, parsePayload, zonedDatetimeMicros } from "../../../libs/filter/index.js";
import {
  compareIds,
  fieldOf,
  type Filter,
  formatId,
  type Hit,
  type IdKey,
  idInPartition,
  idMapKey,
  isJsonObject,
  JsonFloat,
  type JsonValue,
  type Lookup,
  type OrderBy,
  parsePath,
  type PayloadIndexRecord,
  type Select,
  sparseFieldOf,
  type SparseScorer,
  type SparseVector,
  type StoredPoint,
  valuesAtPath,
} from "../../../libs/model/index.js";
import {
  examplesOf,
  type FormulaInputs,
  mapScorer,
  mergeHits,
  mergeOrdered,
  orderOfScorer,
  type QuerySource,
  reaches,
  type Scope,
  type SparseSearch,
  type TextSearch,
  type VectorSearch,
} from "../../../libs/query/index.js";
import { analyzerOf, parseText, type ParsedText } from "../../../libs/text/index.js";
import type { ReadAnswer, ReadKind, ReadRequest } from "../../../libs/shard-api/index.js";
import { narrowed, ruleOf, seeing, seen } from "../access.js";
import { type Scoped, scoped, skipped, storedId } from "../partitions.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import { sizeOf } from "./answer-budget.js";
import { askShard } from "./ask-shard.js";
import {
  bm25IndexOf,
  sumOf,
  sumOfIndices,
  type TextStatistics,
  type TextStatisticsCache,
  wantedOf,
  weigh,
  weighIndices,
} from "./text-statistics.js";
import type { ExplainStep } from "./explain.js";
import type { MinSequences } from "./read-options.js";

export interface CollectionSourceOptions {
  collection: RoutedCollection;
  minSequences: MinSequences;
  call: CallContext;
  /** The value of the partition key that only points are read of; undefined: of any. */
  partition?: string | undefined;
  /** Whether shards that cannot answer are named instead of failing the query. */
  allowPartial: boolean;
  /** Another collection by its name; COLLECTION_NOT_FOUND. */
  resolve: (name: string) => RoutedCollection;
  /** What tells how the answer came about, where that is asked for. */
  step?: ExplainStep | undefined;
  /** The recall that searches of dense vectors are to have which name no beam width. */
  recallTarget?: number | undefined;
  clock: Clock;
  /** What is known of terms. */
  texts: TextStatisticsCache;
}

/** Longest stretch of work between two turns of the event loop, in milliseconds. */
const stretchMs = 2;

/** What the sources of all stages of one query have in common. */
interface Shared {
  /** The highest state that was read of each shard. */
  sequences: Map<number, number>;
  missing: Set<RoutedShard>;
}

/** A collection as queries read it, as far as the caller may see it: each read asks one replica of every shard, and merges. */
export class CollectionSource implements QuerySource {
  readonly #options: CollectionSourceOptions;
  readonly #shared: Shared;
  /** What is there for the caller: every read is narrowed to it here, whatever asks. */
  readonly #rule: RowRule | undefined;

  constructor(options: CollectionSourceOptions, shared: Shared = { sequences: new Map(), missing: new Set() }) {
    this.#options = options;
    this.#shared = shared;
    this.#rule = ruleOf(options.call, options.collection.record);
  }

  /** Shards that did not answer. */
  get missing(): ReadonlySet<RoutedShard> {
    return this.#shared.missing;
  }

  get collection(): RoutedCollection["record"] {
    return this.#options.collection.record;
  }

  /** What was read, by shard id: neither later reads of this query nor those with its token go back behind it. */
  sequences(): { shard: number; sequence: number }[] {
    return Array.from(this.#shared.sequences, ([shard, sequence]) => ({ shard, sequence }));
  }

  /** To be spread into what a shard is asked. */
  get #explains(): { explain?: true } {
    return this.#options.step === undefined ? {} : { explain: true };
  }

  enter(name: string, kind: string): QuerySource {
    const step = this.#options.step?.begin(name).fact("kind", kind);
    return step === undefined ? this : new CollectionSource({ ...this.#options, step }, this.#shared);
  }

  leave(): void {
    this.#options.step?.end();
  }

  work<T>(name: string, work: () => T): T {
    const step = this.#options.step?.begin(name);
    const result = work();
    step?.end();
    return result;
  }

  async workInSteps<T>(name: string, steps: Generator<void, T>): Promise<T> {
    const { clock, call } = this.#options;
    const cancellation = call.cancellation ?? call.signal;
    const step = this.#options.step?.begin(name);
    for (let startMs = clock.monotonicMs(); ; ) {
      const { done, value } = steps.next();
      if (done === true) {
        step?.end();
        return value;
      }
      if (clock.monotonicMs() - startMs < stretchMs) continue;
      await new Promise<void>((resolve) => clock.soon(resolve));
      if (cancellation?.aborted === true) throw abortReason(cancellation);
      startMs = clock.monotonicMs();
    }
  }

  async search({ field, scorer, limit, threshold, ef, exact, select, ...scope }: VectorSearch): Promise<Hit[]> {
    const order = orderOfScorer(scorer, field);
    const { shards, filter } = this.#scoped(scope.filter);
    const answers = await this.#askAll("search", shards, (minSequence) => ({
      ...scope,
      filter,
      ...this.#explains,
      minSequence,
      field: field.name,
      scorer,
      k: limit,
      ...this.#depth(ef, exact),
      exact,
      select: seeing(select, this.#rule),
    }));
    const lists = answers.map(({ hits }) => [...seen(hits, select, this.#rule)]);
    const merged = this.work("merge", () => mergeHits(lists, limit, order));
    return threshold === undefined ? merged : merged.filter(({ score }) => reaches(order, score, threshold));
  }

  #depth(ef: number, exact: boolean): { ef: number; recallTarget?: number } {
    const { collection, recallTarget } = this.#options;
    if (recallTarget === undefined || exact || ef > 0) return { ef };
    return { ef: collection.record.strictMode?.maxEf ?? 0, recallTarget };
  }

  async text({ using, text, limit, threshold, select, ...scope }: TextSearch): Promise<Hit[]> {
    const { collection } = this.#options;
    const index = bm25IndexOf(collection.record, using);
    const analyzer = analyzerOf(text.analyzer ?? index.bm25.analyzer);
    const parsed = this.work("analyze", () => parseText(text.text, analyzer, text.plain));
    if (parsed.clauses.length === 0) return [];
    const statistics = await this.#statistics(index, parsed);
    const weighed = weigh(parsed, statistics);
    const { shards, filter } = this.#scoped(scope.filter);
    const answers = await this.#askAll("text", shards, (minSequence) => ({
      ...scope,
      filter,
      ...this.#explains,
      ...weighed,
      minSequence,
      index: index.path,
      generation: index.generation ?? 0,
      k: limit,
      select: seeing(select, this.#rule),
    }));
    const kept = this.#options.texts.of(collection.record.id, index);
    for (const [shard, sequence] of this.#shared.sequences) kept.seen(shard, sequence);
    const lists = answers.map(({ hits }) => [...seen(hits, select, this.#rule)]);
    const merged = this.work("merge", () => mergeHits(lists, limit, "higher"));
    return threshold === undefined ? merged : merged.filter(({ score }) => reaches("higher", score, threshold));
  }

  async sparse({ field, scorer: given, limit, threshold, exact, select, ...scope }: SparseSearch): Promise<Hit[]> {
    const { collection, texts } = this.#options;
    const isWeighed = field.modifier === "idf";
    const scorer = isWeighed ? await this.#weighed(field.name, given) : given;
    if (scorer.kind === "nearest" && scorer.vector.indices.length === 0) return [];
    const scoring = scorer.kind === "nearest" ? { vector: scorer.vector } : { vector: noEntries, scorer, exact };
    const { shards, filter } = this.#scoped(scope.filter);
    const answers = await this.#askAll("sparse", shards, (minSequence) => ({
      ...scope,
      filter,
      ...this.#explains,
      minSequence,
      field: field.name,
      ...scoring,
      k: limit,
      select: seeing(select, this.#rule),
    }));
    if (isWeighed) {
      const kept = texts.ofSparse(collection.record, field.name);
      for (const [shard, sequence] of this.#shared.sequences) kept.seen(shard, sequence);
    }
    const lists = answers.map(({ hits }) => [...seen(hits, select, this.#rule)]);
    const merged = this.work("merge", () => mergeHits(lists, limit, "higher"));
    return threshold === undefined ? merged : merged.filter(({ score }) => reaches("higher", score, threshold));
  }

  /** The scorer with the entries of its vectors weighed by how rare their indices are. */
  async #weighed(field: string, scorer: SparseScorer): Promise<SparseScorer> {
    const indices = [...new Set(examplesOf(scorer).flatMap((example) => [...example.indices]))];
    const statistics = await this.#indexStatistics(field, indices);
    return mapScorer(scorer, (vector) => weighIndices(vector, statistics));
  }

  /** What all shards know of the indices of a sparse query, as far as that is not known still. */
  async #indexStatistics(field: string, asked: readonly number[]): Promise<TextStatistics> {
    const { collection, clock, texts } = this.#options;
    const kept = texts.ofSparse(collection.record, field);
    const known = kept.find(asked.map(String), clock.monotonicMs(), (shard, at) => this.#isBehind(shard, at));
    if (known !== undefined) return known;
    const answers = await this.#askAll("indices", collection.shards, (minSequence) => ({
      field,
      indices: asked,
      minSequence,
    }));
    const statistics = sumOfIndices(asked, answers);
    this.#keep(kept, statistics, answers);
    return statistics;
  }

  /** Whether more of the shard is asked for than was read of it. */
  #isBehind(shard: number, sequence: number): boolean {
    return sequence < Math.max(this.#options.minSequences(shard), this.#shared.sequences.get(shard) ?? 0);
  }

  /** What a part of the shards knows is not what the collection holds. */
  #keep(
    kept: ReturnType<TextStatisticsCache["of"]>,
    statistics: TextStatistics,
    answers: readonly { sequence: number }[],
  ): void {
    const { collection, clock } = this.#options;
    if (answers.length !== collection.shards.length) return;
    const sequences = new Map(collection.shards.map((shard, i) => [shard.id.shard, answers[i]?.sequence ?? 0]));
    kept.keep(statistics, sequences, clock.monotonicMs());
  }

  /** What all shards know of the terms of a query, as far as that is not known still. */
  async #statistics(index: PayloadIndexRecord, parsed: ParsedText): Promise<TextStatistics> {
    const { collection, clock, texts } = this.#options;
    const wanted = wantedOf(parsed);
    const { terms, expansions } = wanted;
    const kept = texts.of(collection.record.id, index);
    const isBehind = (shard: number, at: number): boolean => this.#isBehind(shard, at);
    const known = expansions.length === 0 ? kept.find(terms, clock.monotonicMs(), isBehind) : undefined;
    if (known !== undefined) return known;
    const answers = await this.#askAll("terms", collection.shards, (minSequence) => ({
      ...wanted,
      index: index.path,
      generation: index.generation ?? 0,
      minSequence,
    }));
    const statistics = sumOf(wanted, answers);
    if (expansions.length === 0) this.#keep(kept, statistics, answers);
    return statistics;
  }

  async ordered(scope: Scope, orderBy: OrderBy, limit: number, select: Select): Promise<Hit[]> {
    const { shards, filter } = this.#scoped(scope.filter);
    const answers = await this.#askAll("order", shards, (minSequence) => ({
      ...scope,
      filter,
      ...this.#explains,
      minSequence,
      orderBy,
      limit,
      select: seeing(select, this.#rule),
    }));
    return this.work("merge", () => {
      const lists = answers.map(({ hits }) =>
        seen(hits, select, this.#rule).map((hit) => ({ id: hit.id, value: hit.order ?? 0, hit })),
      );
      return mergeOrdered(lists, orderBy.direction, limit).map(({ hit }) => hit);
    });
  }

  async page({ filter: wanted, ids }: Scope, limit: number, select: Select): Promise<Hit[]> {
    if (ids !== undefined) throw new KithError("INTERNAL", "an order by id of the results of prefetches was planned");
    const { shards, filter } = this.#scoped(wanted);
    const answers = await this.#askAll("scroll", shards, (minSequence) => ({
      after: undefined,
      limit,
      select: seeing(select, this.#rule),
      filter,
      minSequence,
      ...this.#explains,
    }));
    return answers
      .flatMap(({ points }) => seen(points, select, this.#rule))
      .sort((a, b) => compareIds(a.id, b.id))
      .slice(0, limit)
      .map((point) => ({ ...point, score: 0 }));
  }

  async sample(scope: Scope, limit: number, select: Select): Promise<Hit[]> {
    const { shards, filter } = this.#scoped(scope.filter);
    const answers = await this.#askAll("sample", shards, (minSequence) => ({
      ...scope,
      filter,
      ...this.#explains,
      minSequence,
      limit,
      select: seeing(select, this.#rule),
    }));
    const hits = answers.flatMap((answer) => seen(answer.hits, select, this.#rule));
    const { random } = this.#options.collection.shards[0]?.runtime ?? {};
    if (random === undefined) return hits.slice(0, limit);
    // Shards of equal size give equally many; a shuffle mixes them.
    for (let i = hits.length - 1; i > 0; i--) {
      const other = Math.floor(random.float() * (i + 1));
      [hits[i], hits[other]] = [hits[other] as Hit, hits[i] as Hit];
    }
    return hits.slice(0, limit);
  }

  async fetch(ids: readonly IdKey[], select: Select): Promise<Map<string, StoredPoint>> {
    const points = await this.#get(this.#options.collection, ids, select);
    return new Map(points.map((point) => [idMapKey(point.id), point]));
  }

  async examples(asked: readonly IdKey[], using: string, lookup: Lookup | undefined): Promise<Float32Array[]> {
    const { from, name } = this.#looked(using, lookup);
    // Under the cosine metric a stored vector is a direction: in an average of several each counts alike.
    const isCosine = fieldOf(from.record, name).metric === "cosine";
    const vectors = await this.#vectorsOf(from, asked, name, (point) => point.vectors?.get(name));
    return isCosine ? vectors.map(unit) : vectors;
  }

  sparseExamples(asked: readonly IdKey[], using: string, lookup: Lookup | undefined): Promise<SparseVector[]> {
    const { from, name } = this.#looked(using, lookup);
    sparseFieldOf(from.record, name);
    return this.#vectorsOf(from, asked, name, (point) => point.sparse?.get(name));
  }

  /** Where the vectors of examples come from. */
  #looked(using: string, lookup: Lookup | undefined): { from: RoutedCollection; name: string } {
    const { collection, resolve } = this.#options;
    return { from: lookup === undefined ? collection : resolve(lookup.collection), name: lookup?.using ?? using };
  }

  async #vectorsOf<T>(
    from: RoutedCollection,
    asked: readonly IdKey[],
    name: string,
    vectorOf: (point: StoredPoint) => T | undefined,
  ): Promise<T[]> {
    const ids = asked.map((id) => storedId(from, id, this.#options.partition, "the id of an example"));
    const points = await this.#get(from, ids, { payload: false, vectors: [name] });
    const byKey = new Map(points.map((point) => [idMapKey(point.id), point]));
    return ids.map((id, i) => {
      const point = byKey.get(idMapKey(id));
      const vector = point && vectorOf(point);
      if (vector !== undefined) return vector;
      const shown = formatId(asked[i] as IdKey);
      throw new KithError(
        "POINT_NOT_FOUND",
        point === undefined
          ? `there is no point with this id in "${from.record.name}" to query by: ${shown}`
          : `the point has no vector "${name}" to query by: ${shown}`,
        { details: { id: shown, collection: from.record.name } },
      );
    });
  }

  formulaInputs({ id, payload, vectors, sparse }: StoredPoint): Omit<FormulaInputs, "score"> {
    const content = parsePayload(payload);
    const hasVector = (name: string): boolean => vectors?.has(name) === true || sparse?.has(name) === true;
    const point = { id: idInPartition(id), payload: content, hasVector };
    return {
      values: (path) => valuesAtPath(content, parsePath(path)).map(plainNumber),
      passes: (filter) => compileFilter(filter)(point),
      seconds: storedSecondsOf,
    };
  }

  /** What there is for the caller of what passes, and where. */
  #scoped(filter: Filter | undefined): Scoped {
    const { collection, partition } = this.#options;
    return scoped(collection, narrowed(filter, this.#rule), partition);
  }

  /** Those that exist for the caller, in any order. */
  async #get(collection: RoutedCollection, ids: readonly IdKey[], select: Select): Promise<StoredPoint[]> {
    const byShard = new Map<RoutedShard, IdKey[]>();
    for (const id of ids) {
      const shard = collection.shardOf(id);
      const group = byShard.get(shard);
      if (group === undefined) byShard.set(shard, [id]);
      else group.push(id);
    }
    const isOwn = collection === this.#options.collection;
    const rule = isOwn ? this.#rule : ruleOf(this.#options.call, collection.record);
    const step = this.#options.step?.begin("fetch").fact("points", ids.length).fact("shards", byShard.size);
    const answers = await Promise.all(
      Array.from(byShard, async ([shard, group]) => {
        const minSequence = isOwn ? this.#minSequenceOf(shard) : 0;
        const answer = await shard.ask(this.#options.call, (api, call) =>
          api.read("get", shard.id, { ids: group, select: seeing(select, rule), minSequence }, call),
        );
        if (isOwn) this.#note(shard, answer.sequence);
        return seen(answer.points, select, rule);
      }),
    );
    const points = answers.flat();
    step?.fact("bytes", sizeOf(points)).end();
    return points;
  }

  /** The answers of these shards; with allow_partial, of those that can answer. */
  async #askAll<K extends ReadKind>(
    kind: K,
    shards: readonly RoutedShard[],
    requestOf: (minSequence: number) => ReadRequest<K>,
  ): Promise<ReadAnswer<K>[]> {
    const { collection, call, allowPartial, step } = this.#options;
    const reading = step?.begin(kind).fact("shards_skipped", skipped(collection, shards));
    const answers = await Promise.all(
      shards.map(async (shard) => {
        const request = requestOf(this.#minSequenceOf(shard));
        try {
          const answer = await askShard(shard, kind, request, { call, step: reading, hedged: true });
          this.#note(shard, answer.sequence);
          return answer;
        } catch (error) {
          if (!allowPartial || !isUnavailable(error)) throw error;
          this.#shared.missing.add(shard);
          return undefined;
        }
      }),
    );
    reading?.end();
    return answers.filter((answer) => answer !== undefined);
  }

  #minSequenceOf(shard: RoutedShard): number {
    const { shard: id } = shard.id;
    return Math.max(this.#options.minSequences(id), this.#shared.sequences.get(id) ?? 0);
  }

  #note(shard: RoutedShard, sequence: number): void {
    const { shard: id } = shard.id;
    this.#shared.sequences.set(id, Math.max(sequence, this.#shared.sequences.get(id) ?? 0));
  }
}

const noEntries: SparseVector = { indices: new Uint32Array(0), values: new Float32Array(0) };

/** Seconds since the epoch of an RFC 3339 datetime with a zone. */
export function secondsOf(text: string): number | undefined {
  const micros = zonedDatetimeMicros(text);
  return micros === undefined || micros === "no zone" ? undefined : Number(micros) / 1e6;
}

/** The same of what stands in payloads: without a zone it is in UTC, as filters take it. */
function storedSecondsOf(text: string): number | undefined {
  const micros = datetimeMicros(text);
  return micros === undefined ? undefined : Number(micros) / 1e6;
}

/** The vector of the same direction and of length 1; stored ones of cosine fields are not zero. */
function unit(vector: Float32Array): Float32Array {
  let squares = 0;
  for (const x of vector) squares += x * x;
  const length = Math.sqrt(squares);
  return vector.map((x) => x / length);
}

/** Numbers as numbers, however they were written; also those of a geo point. */
function plainNumber(value: JsonValue): unknown {
  if (value instanceof JsonFloat) return value.value;
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainNumber(inner)]));
}

/** A shard that cannot answer is named where partial answers are allowed; a wrong query fails all the same. */
function isUnavailable(error: unknown): boolean {
  return error instanceof KithError && ["SHARD_UNAVAILABLE", "SHUTTING_DOWN", "CORRUPT_DATA"].includes(error.code);
}
