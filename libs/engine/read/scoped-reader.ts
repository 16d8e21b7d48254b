import type { SearchResult } from "../../ann/index.js";
import { abortReason, assert, type Cancellation, KithError, limits } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import {
  type FacetCount,
  listTenant,
  parsePayload,
  runSteps,
  type Steps,
  StoredFilterPoint,
  type Words,
} from "../../filter/index.js";
import {
  bytesPerNumber,
  type Filter,
  filterOf,
  type Hit,
  type IdKey,
  idMapKey,
  type JsonObject,
  type Metric,
  parsePath,
  type Path,
  type PayloadIndexKind,
  type Scorer,
  type Select,
  type ShardPage,
  type SparseScorer,
  valuesAtPath,
} from "../../model/index.js";
import { examplesOf, mergeOrdered, similarityOf } from "../../query/index.js";
import type {
  ReadAnswer,
  ReadExplain,
  ShardCountOf,
  ShardFacet,
  ShardFacets,
  ShardHits,
  ShardOrder,
  ShardSample,
  ShardScope,
  ShardScroll,
  ShardSearch,
  ShardSparse,
  ShardText,
} from "../../shard-api/index.js";
import { contentBytes } from "../../storage/index.js";
import { startSpan } from "../../telemetry/index.js";
import type { VectorLife } from "../index/index-set.js";
import type { SparseGeneration } from "../index/sparse-generation.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { ReadNotes } from "./explain.js";
import { bytesOf, cancellationOf, checkLength, type FoundRows, type Hydrator, storedPoint } from "./hydrator.js";
import { readTurns } from "../apply/turns.js";
import { asksForVectors } from "./conditions.js";
import { facetValues, isBehind, orderValues } from "./payload-values.js";
import { type OrderIndex, orderedSlots, orderIndexOf, type PlacedSlot } from "./ordered-slots.js";
import type { SlotMask } from "./mask.js";
import { sampleOf, slotsIn } from "./sampled-slots.js";
import { type ScoredScope, scoreRows, type Similarities } from "./scores.js";
import { checkSparse, searchPostings, searchSparse, sparseGenerationOf, sparseSimilarities } from "./sparse.js";
import { vectorsOf } from "./mask-points.js";
import { searchTexts, textIndexOf } from "./texts.js";

/** A read whose points were overwritten while it ran is run again; the last time while the applier stands still. */
const attemptsMax = 3;
/** Rows of one native call that compares a list of slots. */
const listedRowsMax = 10_000;
/** How many more points are looked at near each example than results are wanted. */
const overfetch = 4;
/** Points that are read at once. */
const chunkPoints = 256;
/** Points of an order that are kept beyond twice as many as are wanted, before the last ones are dropped. */
const keptForOrder = 1_000;

/** Points that are read for an estimate. */
const sampledPoints = 4_000;

/** Kinds of payload index that count what stands in payloads. */
const facetKinds: readonly PayloadIndexKind[] = ["keyword", "integer", "bool", "uuid"];

type Searchable = NonNullable<VectorLife["serving"]>;

interface FacetIndex {
  readonly facet: (mask?: Words) => Steps<FacetCount[]>;
}

/** The slots that a read is about. */
interface Scope {
  mask: SlotMask | undefined;
  /** Only these, where given. */
  slots: Uint32Array | undefined;
  /** Whether these were listed because they pass the filter. */
  isListed: boolean;
  /** Keys of ids that are no results. */
  exclude: ReadonlySet<string>;
}

/** Answers reads of those points that pass a filter, or that are named. */
export class ScopedReader {
  readonly #replica: OpenReplica;
  readonly #hydrator: Hydrator;

  constructor(replica: OpenReplica, hydrator: Hydrator) {
    this.#replica = replica;
    this.#hydrator = hydrator;
  }

  async count({ filter, approximate, explain }: ShardCountOf, call: CallContext): Promise<ReadAnswer<"count">> {
    const { masks, expiries, context } = this.#replica;
    const notes = this.#notes(explain);
    const told = (count: number, plan: ReadExplain["plan"]): ReadAnswer<"count"> =>
      explained({ count, sequence: this.#replica.appliedSequence }, notes, plan);
    if (filter === undefined) return told(this.#replica.pointCount - expiries.over.size, "count");
    const listed = this.#tenantRows(filter);
    if (listed !== undefined) return told(listed.length, "tenant");
    if (approximate === true && expiries.over.size === 0) {
      notes?.enter("estimate");
      return told(await masks.estimate(filter, context.random, cancellationOf(call)), "sampled points");
    }
    const mask = await this.#maskOf(filter, cancellationOf(call), notes);
    const { count } = expiries.visible(mask) ?? mask;
    return told(count, "mask");
  }

  /** Reads on until there are enough points that pass, or none is left. */
  async scroll(
    { after, limit, select, explain }: ShardScroll,
    filter: Filter,
    call: CallContext,
  ): Promise<ReadAnswer<"scroll">> {
    const { store, masks, schema, expiries, usage, writtenSequence } = this.#replica;
    usage.filtered(filter, schema.payloadIndexes);
    const test = masks.testOf(filter);
    const needsHeads = asksForVectors(filter);
    const { parts, fields } = this.#hydrator.parts({ ...select, payload: true });
    const signal = cancellationOf(call);
    const points: ShardPage["points"] = [];
    const notes = this.#notes(explain);
    let sizeBytes = 0;
    notes?.enter("read");
    const turns = readTurns(this.#replica.context.clock, this.#replica.stopped);
    for (let from = after; ; ) {
      const page = await store.scroll(from, chunkPoints, parts, signal);
      notes?.read(page.points.length, bytesOf(page.points, parts));
      turns.begin();
      for (const record of page.points) {
        if (turns.isDue()) {
          await turns.pass();
          if (signal?.aborted) throw abortReason(signal);
        }
        const vectors = needsHeads ? vectorsOf(schema, record.head) : noVectors;
        if (expiries.isPast(record.head.expiresAtMs)) continue;
        if (!test(new StoredFilterPoint(record.id, record.payload, vectors))) continue;
        const point = storedPoint(record, fields);
        points.push(select.payload ? point : { ...point, payload: noBytes });
        sizeBytes += contentBytes(record.head, { ...parts, payload: select.payload });
        if (points.length === limit || sizeBytes >= limits.scrollBytes)
          return explained({ points, end: false, sequence: writtenSequence }, notes, "points");
      }
      from = page.points.at(-1)?.id;
      if (page.end || from === undefined)
        return explained({ points, end: true, sequence: writtenSequence }, notes, "points");
    }
  }

  async search(request: ShardSearch, call: CallContext): Promise<ShardHits> {
    const index = this.#hydrator.index(request.field);
    const { k, scorer } = request;
    if (!Number.isInteger(k) || k < 1 || k > limits.shardResults) {
      throw new KithError("LIMIT_OUT_OF_RANGE", `k is ${k}; it must be a whole number in 1..${limits.shardResults}`, {
        details: { field: "k", value: k },
      });
    }
    for (const example of examplesOf(scorer)) checkLength(index.kind.field, example, "an example");
    const notes = this.#notes(request.explain);
    const answer = await this.#repeated(call, notes, (each) => this.#searchOnce(index, request, each, notes));
    return explained(answer, notes, scorer.kind === "nearest" ? "search" : "scores");
  }

  async text(request: ShardText, call: CallContext): Promise<ShardHits> {
    const found = textIndexOf(this.#replica, request.index, request.generation);
    this.#replica.usage.used(request.index);
    const notes = this.#notes(request.explain);
    const answer = await this.#repeated(call, notes, async (each) => {
      const scope = await this.#scope(request, each, notes);
      if (scope.slots?.length === 0 || scope.mask?.count === 0)
        return { hits: [], sequence: this.#replica.appliedSequence };
      const { appliedSequence: sequence, slotEpoch } = this.#replica;
      const k = Math.min(limits.shardResults, request.k + scope.exclude.size);
      const { slots, mask } = scope;
      const within = slots !== undefined ? { slots } : mask !== undefined ? { filter: mask.bytes } : {};
      notes?.enter("text");
      const rows = await searchTexts(this.#replica, found, request, k, within, each);
      notes?.postings(request.index, k, rows);
      notes?.enter("collect");
      // A point whose text changes meanwhile keeps its slot: it was chosen by what it held.
      return this.#best(rows, request, scope, each, notes, { sequence, slotEpoch, isChosen: true });
    });
    return explained(answer, notes, "search");
  }

  async sparse(request: ShardSparse, call: CallContext): Promise<ShardHits> {
    checkSparse(request);
    const { scorer } = request;
    const notes = this.#notes(request.explain);
    // Rows without an index in common with an example have a score, too; those without a vector have none.
    const about = scorer === undefined ? request : { ...request, filter: havingVector(request.filter, request.field) };
    const answer = await this.#repeated(call, notes, async (each) => {
      const serving = sparseGenerationOf(this.#hydrator, request.field);
      const scope = await this.#scope(about, each, notes);
      const { slots, mask } = scope;
      if (slots?.length === 0 || mask?.count === 0) return { hits: [], sequence: this.#replica.appliedSequence };
      const { appliedSequence: sequence, slotEpoch } = this.#replica;
      const k = Math.min(limits.shardResults, request.k + scope.exclude.size);
      notes?.enter(scorer === undefined ? "sparse" : "scores");
      const span = startSpan(each.trace, "index.search");
      let rows: FoundRows | undefined;
      try {
        if (scorer === undefined) {
          const within = slots !== undefined ? { slots } : mask !== undefined ? { filter: mask.bytes } : {};
          const found = await searchSparse(serving, request.vector, k, within, each);
          notes?.postings(request.field, k, found);
          span.set("plan", "postings");
          span.set("computed", found.scoredRows);
          rows = found;
        } else rows = await this.#scoredSparse(serving, scorer, k, request.exact === true, scope, slotEpoch, each);
      } catch (error) {
        span.end(error);
        throw error;
      }
      span.end();
      if (rows === undefined) return undefined;
      notes?.enter("collect");
      return this.#best(rows, request, scope, each, notes, { sequence, slotEpoch, isChosen: isChosen(scope) });
    });
    return explained(answer, notes, scorer === undefined ? "search" : "scores");
  }

  /** Undefined where rows were removed meanwhile, which then were compared without their vectors. */
  async #scoredSparse(
    { postings }: SparseGeneration,
    scorer: SparseScorer,
    k: number,
    exact: boolean,
    scope: Scope,
    slotEpoch: number,
    call: CallContext,
  ): Promise<FoundRows | undefined> {
    const { slots, mask } = scope;
    const within = slots !== undefined ? { slots } : mask !== undefined ? { filter: mask.bytes } : {};
    const near = Math.min(limits.shardResults, overfetch * k);
    const { compared, ...rows } = await scoreRows(scorer, this.#scoredScope(scope, k, exact, call), {
      near: async (example) => (await searchPostings(postings, example, near, within, call)).slots,
      compare: (examples, candidates) => sparseSimilarities(postings, examples, candidates, call),
    });
    const { slots: table } = this.#replica;
    if (slotEpoch !== this.#replica.slotEpoch || compared.some((slot) => !table.isAlive(slot))) return undefined;
    return rows;
  }

  /** The best of rows by postings, of which there are more than are wanted: those of the same score are told apart by their ids. */
  async #best(
    rows: FoundRows,
    { k, select }: Pick<ShardText, "k" | "select">,
    { exclude }: Scope,
    call: CallContext,
    notes: ReadNotes | undefined,
    asOf: { sequence: number; slotEpoch: number; isChosen: boolean },
  ): Promise<ShardHits | undefined> {
    const isStored = select.payload || select.vectors.length > 0;
    const { sequence, slotEpoch } = asOf;
    const collected = this.#hydrator.collect("dot", rows, sequence, slotEpoch, isStored, asOf.isChosen);
    if (collected === undefined) return undefined;
    const kept = collected.hits
      .map((hit, i) => ({ hit, slot: collected.slots[i] as number }))
      .filter(({ hit }) => !exclude.has(idMapKey(hit.id)))
      .slice(0, k);
    const best = { hits: kept.map(({ hit }) => hit), slots: kept.map(({ slot: at }) => at) };
    if (isStored && best.hits.length > 0) {
      notes?.enter("read");
      if (!(await this.#hydrator.hydrate(best, select, call, notes))) return undefined;
      notes?.enter("collect");
    }
    return { hits: best.hits, sequence: this.#replica.appliedSequence };
  }

  async order(request: ShardOrder, call: CallContext): Promise<ShardHits> {
    const path = parsePath(request.orderBy.key);
    const notes = this.#notes(request.explain);
    const ordered = await this.#repeated(call, notes, async (each) => {
      const index = request.ids === undefined ? orderIndexOf(this.#replica.indexes.payloadIndexes(), path) : undefined;
      const plan = index === undefined ? "points" : "order index";
      const best =
        index === undefined
          ? await this.#orderByPayloads(request, path, each, notes)
          : await this.#orderByIndex(request, index, each, notes);
      if (best === undefined) return undefined;
      const { slots: table, appliedSequence: sequence } = this.#replica;
      // Nothing has changed since the index was read; for hundreds of points what follows costs more than that.
      if (index !== undefined && !request.select.payload && request.select.vectors.length === 0) {
        const hits = best.map(({ id, slot, value }): Hit => {
          return { id, score: 0, version: table.versionOf(slot), payload: noBytes, order: value };
        });
        return { hits, sequence, plan } as const;
      }
      const rows = { slots: Uint32Array.from(best, ({ slot }) => slot), distances: best.map(() => 0) };
      const answer = await this.#answer("dot", rows, request.select, each, notes);
      if (answer === undefined) return undefined;
      // Equal scores come in order of id; here the order is that of the values, and a point may stand at several.
      const byId = new Map(answer.hits.map((hit) => [idMapKey(hit.id), hit]));
      const hits = best.flatMap(({ id, value }): Hit[] => {
        const hit = byId.get(idMapKey(id));
        return hit === undefined ? [] : [{ ...hit, order: value }];
      });
      return { ...answer, hits, plan } as const;
    });
    const { plan, ...answer } = ordered;
    if (plan === "order index") this.#replica.usage.used(path.text);
    return explained(answer, notes, plan);
  }

  async #orderByPayloads(
    request: ShardOrder,
    path: Path,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<PlacedSlot[]> {
    const { after, limit } = request;
    const { direction, startFrom } = request.orderBy;
    let found: PlacedSlot[] = [];
    await this.#eachPayload(request, call, notes, (slot, id, payload) => {
      const values = new Set(valuesAtPath(payload, path).flatMap(orderValues));
      for (const value of values) {
        if (startFrom !== undefined && (direction === "ascending" ? value < startFrom : value > startFrom)) continue;
        if (after === undefined || isBehind({ id, value }, after, direction)) found.push({ id, slot, value });
      }
      // A sort of all at the end would hold the event loop for as long as it takes.
      if (found.length >= 2 * limit + keptForOrder) found = mergeOrdered([found], direction, limit);
    });
    return mergeOrdered([found], direction, limit);
  }

  /** Undefined where a batch has changed the index meanwhile. */
  async #orderByIndex(
    request: ShardOrder,
    index: OrderIndex,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<PlacedSlot[] | undefined> {
    const { orderBy, after, limit } = request;
    const { mask, exclude } = await this.#scope(request, call, notes, false);
    const steps = orderedSlots(index, this.#replica.slots, { orderBy, after, limit, mask: mask?.words, exclude });
    notes?.enter("order index");
    const places = await this.#undisturbed(steps, call);
    notes?.enter("collect");
    return places;
  }

  /** Runs steps over indexes and slots; undefined where a batch has changed these meanwhile. */
  async #undisturbed<T>(steps: Steps<T>, call: CallContext): Promise<T | undefined> {
    const replica = this.#replica;
    const signal = cancellationOf(call);
    const { writeEpoch } = replica;
    // A large batch is becoming visible, in several steps.
    if (replica.whole !== undefined) return undefined;
    const result = await runSteps(steps, { clock: replica.context.clock, ...(signal && { signal }) });
    return writeEpoch === replica.writeEpoch && replica.whole === undefined ? result : undefined;
  }

  async sample(request: ShardSample, call: CallContext): Promise<ShardHits> {
    const { random } = this.#replica.context;
    const notes = this.#notes(request.explain);
    const drawn = await this.#repeated(call, notes, async (each) => {
      const scope = await this.#scope(request, each, notes);
      const { appliedSequence: sequence, slotEpoch } = this.#replica;
      const slots = await this.#slotsOf(scope, each);
      // The first `limit` places of a shuffle (Fisher, Yates).
      const count = Math.min(request.limit, slots.length);
      for (let i = 0; i < count; i++) {
        const other = i + Math.floor(random.float() * (slots.length - i));
        [slots[i], slots[other]] = [slots[other] as number, slots[i] as number];
      }
      const rows = { slots: slots.subarray(0, count), distances: new Float32Array(count).fill(-1) };
      return this.#answer("dot", rows, request.select, each, notes, sequence, slotEpoch, isChosen(scope));
    });
    return explained(drawn, notes, "mask");
  }

  async facet(request: ShardFacet, call: CallContext): Promise<ShardFacets> {
    const path = parsePath(request.key);
    const counts = new Map<string | number | bigint | boolean, number>();
    const notes = this.#notes(request.explain);
    const index = this.#facetIndex(request, path);
    if (index !== undefined) {
      this.#replica.usage.used(path.text);
      const answer = await this.#repeated(call, notes, (each) => this.#facetOnce(index, request, each, notes));
      return explained(answer, notes, "facet index");
    }
    const count = (_slot: number, _id: IdKey, payload: JsonObject): void => {
      const values = new Set(valuesAtPath(payload, path).flatMap(facetValues));
      for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    };
    const scale = await this.#eachPayload(request, call, notes, count, request.approximate === true);
    const answer: ShardFacets = {
      counts: Array.from(counts, ([value, found]) => ({ value, count: Math.round(found * scale) })),
      sequence: this.#replica.appliedSequence,
    };
    return explained(answer, notes, scale === 1 ? "points" : "sampled points");
  }

  /** The index that counts what the payloads would say; undefined where there is none. */
  #facetIndex({ ids, exclude }: ShardFacet, path: Path): FacetIndex | undefined {
    if (ids !== undefined || exclude.length > 0) return undefined;
    for (const { index } of this.#replica.indexes.payloadIndexes().of(path)) {
      if (!index.holdsAll || !facetKinds.includes(index.kind)) continue;
      const facet = index.facet?.bind(index);
      if (facet !== undefined) return { facet };
    }
    return undefined;
  }

  /** Undefined where a batch has changed the index meanwhile. */
  async #facetOnce(
    { facet }: FacetIndex,
    request: ShardFacet,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<ShardFacets | undefined> {
    const { mask } = await this.#scope(request, call, notes, false);
    const { appliedSequence: sequence } = this.#replica;
    notes?.enter("facet index");
    const counts = await this.#undisturbed(facet(mask?.words), call);
    notes?.enter("collect");
    return counts && { counts, sequence };
  }

  /** Runs a read until nothing was overwritten under it. */
  async #repeated<T>(
    call: CallContext,
    notes: ReadNotes | undefined,
    attempt: (call: CallContext) => Promise<T | undefined>,
  ): Promise<T> {
    for (let n = 1; n < attemptsMax; n++) {
      const result = await attempt(call);
      if (result !== undefined) return result;
      notes?.retry();
      await this.#replica.writing;
    }
    const result = await this.#replica.fairLock.read(() => attempt(call), cancellationOf(call));
    assert(result !== undefined, "points were overwritten while the applier stood still");
    return result;
  }

  /** Where the read is to be explained. */
  #notes(explain: boolean | undefined): ReadNotes | undefined {
    const { context, pointCount } = this.#replica;
    return explain === true ? new ReadNotes(context.clock, pointCount) : undefined;
  }

  async #searchOnce(
    index: VectorLife,
    request: ShardSearch,
    call: CallContext,
    notes: ReadNotes | undefined,
  ): Promise<ShardHits | undefined> {
    const { serving } = index;
    if (serving === undefined) throw this.#hydrator.notBuilt(index.kind.label);
    const { metric, efSearch } = index.kind.field;
    const { scorer, exact, scored, select } = request;
    const scope = await this.#scope(request, call, notes);
    if (scope.slots?.length === 0 || scope.mask?.count === 0)
      return { hits: [], sequence: this.#replica.appliedSequence };
    const { appliedSequence: sequence, slotEpoch } = this.#replica;
    // Points that are left out take places of their own.
    const k = Math.min(limits.shardResults, request.k + scope.exclude.size);
    const ef = Math.max(k, this.#widthOf(request, scope, efSearch));
    const span = startSpan(call.trace, "index.search");
    notes?.enter(scorer.kind === "nearest" ? "search" : "scores");
    let rows: FoundRows;
    try {
      if (scorer.kind === "nearest") {
        const result = await find(
          serving,
          scorer.vector,
          k,
          ef,
          exact,
          scope,
          cancellationOf(call),
          notes !== undefined,
          scored,
        );
        notes?.search(request.field, k, ef, exact, result, rowBytesOf(index));
        span.set("plan", result.plan);
        span.set("ef", ef);
        span.set("computed", result.computed);
        rows = result;
        const { field, filter } = request;
        if (!exact && scope.slots === undefined && this.#replica.indexes.generationsOf(field)?.other !== undefined) {
          this.#replica.shadows.answered({ field, query: scorer.vector, k: request.k, ef, scored, filter });
        }
      } else {
        rows = await this.#scored(serving, metric, scorer, k, ef, exact, scope, call);
      }
      if (scope.mask !== undefined) span.set("mask.count", scope.mask.count);
    } catch (error) {
      span.end(error);
      throw error;
    }
    span.end();
    notes?.enter("collect");
    // Scores of several comparisons are better when higher, as products are.
    const answer = await this.#answer(
      scorer.kind === "nearest" ? metric : "dot",
      rows,
      select,
      call,
      notes,
      sequence,
      slotEpoch,
      isChosen(scope),
    );
    if (answer === undefined) return undefined;
    const hits = answer.hits.filter(({ id }) => !scope.exclude.has(idMapKey(id)));
    return { ...answer, hits: hits.slice(0, request.k) };
  }

  /** The beam width of a search: one that holds the recall that is asked for, where the points that it is about are those of a filter, or all. */
  #widthOf(
    { field, scorer, k, ef, exact, filter, ids, recallTarget }: ShardSearch,
    scope: Scope,
    efSearch: number,
  ): number {
    const isTold = recallTarget === undefined || exact || ids !== undefined || scope.slots !== undefined;
    if (isTold || scorer.kind !== "nearest") return ef > 0 ? ef : efSearch;
    const { recall, pointCount } = this.#replica;
    const allowed = { count: scope.mask?.count ?? pointCount, of: pointCount };
    const choice = recall.choose({ field, query: scorer.vector, k, filter, allowed, target: recallTarget });
    return Math.min(choice.ef, ef > 0 ? ef : limits.efMax);
  }

  /** Rows by a score of several comparisons. */
  #scored(
    serving: Searchable,
    metric: Metric,
    scorer: Scorer,
    k: number,
    ef: number,
    exact: boolean,
    scope: Scope,
    call: CallContext,
  ): Promise<FoundRows> {
    const signal = cancellationOf(call);
    const near = Math.min(limits.shardResults, Math.max(ef, overfetch * k));
    return scoreRows(scorer, this.#scoredScope(scope, k, exact, call), {
      near: async (example) => (await find(serving, example, near, near, false, scope, signal)).slots,
      compare: (examples, slots) => this.#similarities(serving, metric, examples, slots, signal),
    });
  }

  #scoredScope(scope: Scope, k: number, exact: boolean, call: CallContext): ScoredScope {
    const { slots: table } = this.#replica;
    return {
      count: scope.slots?.length ?? scope.mask?.count ?? table.aliveCount,
      slots: () => this.#slotsOf(scope, call),
      ...{ exact, k },
      byId: (one, other) => table.compare(one, other),
    };
  }

  /** For each slot that has a vector: how alike it is to each example. */
  async #similarities(
    serving: Searchable,
    metric: Metric,
    examples: readonly Float32Array[],
    slots: Uint32Array,
    signal: Cancellation | undefined,
  ): Promise<Similarities> {
    const similarities: Similarities = new Map();
    for (let from = 0; from < slots.length; from += listedRowsMax) {
      const listed = slots.slice(from, from + listedRowsMax);
      const options = { k: listed.length, ef: 1, slots: listed, ...(signal && { signal }) };
      const results = await Promise.all(examples.map((example) => serving.search(example, options)));
      results.forEach((result, example) => {
        for (let i = 0; i < result.slots.length; i++) {
          const slot = result.slots[i] as number;
          let row = similarities.get(slot);
          if (row === undefined) similarities.set(slot, (row = new Float64Array(examples.length)));
          row[example] = similarityOf(metric, result.distances[i] as number);
        }
      });
    }
    return similarities;
  }

  /** What the filter and the ids of a read come to now. */
  async #scope(
    { filter, ids, exclude }: ShardScope,
    call: CallContext,
    notes: ReadNotes | undefined,
    mayList = true,
  ): Promise<Scope> {
    const signal = cancellationOf(call);
    if (filter !== undefined && ids === undefined && mayList) {
      notes?.enter("tenant");
      const rows = this.#tenantRows(filter);
      if (rows !== undefined) {
        notes?.listed(rows.length);
        return { mask: undefined, slots: rows, isListed: true, exclude: new Set(exclude.map(idMapKey)) };
      }
    }
    if (ids !== undefined) notes?.enter("ids");
    const named = ids === undefined ? undefined : await this.#aliveSlots(ids);
    // Last, since it is right until the next turn of the event loop.
    const passing = filter === undefined ? undefined : await this.#maskOf(filter, signal, notes);
    const mask = this.#replica.expiries.visible(passing);
    const slots = mask === undefined ? named : named?.filter((slot) => isIn(mask, slot));
    return { mask, slots, isListed: false, exclude: new Set(exclude.map(idMapKey)) };
  }

  /** The rows of one tenant that pass a filter, where an index lists them; undefined where a mask is to tell. Right until the next turn. */
  #tenantRows(filter: Filter): Uint32Array | undefined {
    const { indexes, slots, pointCount, schema, usage, expiries, whole } = this.#replica;
    // A large batch is becoming visible, in several steps.
    if (whole !== undefined) return undefined;
    const source = { indexes: indexes.payloadIndexes(), alive: slots.alive, aliveCount: pointCount };
    const rows = listTenant(filter, { ...source, idOf: (slot) => slots.idOf(slot) }, schema.payloadIndexes);
    if (rows === undefined) return undefined;
    usage.filtered(filter, schema.payloadIndexes);
    const { over } = expiries;
    return over.size === 0 ? rows : rows.filter((slot) => !over.has(slot));
  }

  #maskOf(filter: Filter, signal: Cancellation | undefined, notes: ReadNotes | undefined): Promise<SlotMask> {
    const { masks } = this.#replica;
    return notes === undefined ? masks.of(filter, signal) : notes.mask((note) => masks.of(filter, signal, note));
  }

  async #aliveSlots(ids: readonly IdKey[]): Promise<Uint32Array> {
    const { store, slots } = this.#replica;
    const heads = await store.heads(ids);
    // A batch that is on the disk and not in memory yet names slots that are not taken.
    return Uint32Array.from(
      heads.flatMap((head) => (head !== undefined && slots.isAlive(head.slot) ? [head.slot] : [])),
    );
  }

  /** All slots in scope as of the call, in a fresh array. */
  async #slotsOf({ mask, slots }: Scope, call: CallContext): Promise<Uint32Array> {
    if (slots !== undefined) return slots.slice();
    const { slots: table, context } = this.#replica;
    const signal = cancellationOf(call);
    const steps = slotsIn(table.alive.slice(), mask?.words.slice());
    return runSteps(steps, { clock: context.clock, ...(signal && { signal }) });
  }

  /**
   * Calls `visit` with the payload of each point in scope that has one, or of a sample of 4,000 of them; gives how many points each
   * stands for.
   */
  async #eachPayload(
    request: ShardScope,
    call: CallContext,
    notes: ReadNotes | undefined,
    visit: (slot: number, id: IdKey, payload: JsonObject) => void,
    isSampled = false,
  ): Promise<number> {
    const signal = cancellationOf(call);
    const scope = await this.#scope(request, call, notes);
    notes?.enter("read");
    const { slots: table, store, context } = this.#replica;
    let readBytes = 0;
    const all = await this.#slotsOf(scope, call);
    const slots = isSampled ? sampleOf(all, sampledPoints, context.random) : all;
    const turns = readTurns(context.clock, this.#replica.stopped);
    for (let from = 0; from < slots.length; from += chunkPoints) {
      const chunk: { slot: number; id: IdKey }[] = [];
      for (const slot of slots.subarray(from, from + chunkPoints)) {
        if (table.hasPayload(slot)) chunk.push({ slot, id: table.idOf(slot) });
      }
      const payloads = await store.payloads(
        chunk.map(({ id }) => id),
        signal,
      );
      turns.begin();
      for (const [i, { slot, id }] of chunk.entries()) {
        if (turns.isDue()) await turns.pass();
        if (signal?.aborted) throw abortReason(signal);
        const payload = payloads[i];
        if (payload === undefined || scope.exclude.has(idMapKey(id))) continue;
        readBytes += payload.value.length;
        visit(slot, id, parsePayload(payload.value));
      }
    }
    notes?.read(slots.length, readBytes);
    notes?.enter("collect");
    return slots.length === 0 ? 1 : all.length / slots.length;
  }

  async #answer(
    metric: Metric,
    rows: FoundRows,
    select: Select,
    call: CallContext,
    notes: ReadNotes | undefined,
    sequence = this.#replica.appliedSequence,
    slotEpoch = this.#replica.slotEpoch,
    isChosen = false,
  ): Promise<ShardHits | undefined> {
    const isStored = select.payload || select.vectors.length > 0;
    const found = this.#hydrator.collect(metric, rows, sequence, slotEpoch, isStored, isChosen);
    if (found === undefined) return undefined;
    if (isStored && found.hits.length > 0) {
      notes?.enter("read");
      if (!(await this.#hydrator.hydrate(found, select, call, notes))) return undefined;
      notes?.enter("collect");
    }
    return { hits: found.hits, sequence: this.#replica.appliedSequence };
  }
}

/** The answer with how it came about, where that was asked for. */
export function explained<T extends object>(
  answer: T,
  notes: ReadNotes | undefined,
  plan: ReadExplain["plan"],
): T & { explain?: ReadExplain } {
  return notes === undefined ? answer : { ...answer, explain: notes.end(plan) };
}

/** Points that pass the filter and have a vector of the field. */
function havingVector(filter: Filter | undefined, name: string): Filter {
  const own = filter === undefined ? [] : [{ kind: "filter", filter } as const];
  return filterOf({ must: [{ kind: "hasVector", name }, ...own] });
}

/** Whether the points of the answer were chosen by what they hold, so that a point that changes meanwhile may be none of them. */
function isChosen({ mask, isListed }: Scope): boolean {
  return mask !== undefined || isListed;
}

const noBytes = new Uint8Array(0);
const noVectors = new Set<string>();

function isIn({ bytes }: SlotMask, slot: number): boolean {
  return (((bytes[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 1;
}

function rowBytesOf({ kind: { field } }: VectorLife): number {
  return field.dimension * bytesPerNumber[field.datatype];
}

function find(
  serving: Searchable,
  vector: Float32Array,
  k: number,
  ef: number,
  exact: boolean,
  { mask, slots }: Scope,
  signal: Cancellation | undefined,
  explain = false,
  scored?: number,
): Promise<SearchResult> {
  const scope = slots !== undefined ? { slots } : mask !== undefined ? { filter: mask.bytes } : {};
  const rescoring = scored === undefined ? {} : scored === 0 ? { codesOnly: true } : { scored };
  const options = { k, ef, exact, ...scope, ...rescoring };
  return serving.search(vector, { ...options, ...(signal && { signal }), ...(explain && { explain }) });
}
