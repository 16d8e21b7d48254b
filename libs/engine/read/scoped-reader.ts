import type { SearchResult } from "../../ann/index.js";
import { abortReason, type Cancellation, KithError, limits } from "../../base/index.js";
import type { CallContext } from "../../call/index.js";
import { fieldConditions, StoredFilterPoint } from "../../filter/index.js";
import { bytesPerNumber, type Filter, idMapKey, type Metric, type Scorer, type ShardPage } from "../../model/index.js";
import { examplesOf, similarityOf } from "../../query/index.js";
import type {
  CodesExplain,
  ReadAnswer,
  ReadExplain,
  ShardCountOf,
  ShardHits,
  ShardSample,
  ShardScroll,
  ShardSearch,
} from "../../shard-api/index.js";
import { contentBytes } from "../../storage/index.js";
import { startSpan } from "../../telemetry/index.js";
import type { VectorLife } from "../index/index-set.js";
import type { OpenReplica } from "../replica/open-replica.js";
import type { ReadNotes } from "./explain.js";
import { explained } from "./explain.js";
import { bytesOf, cancellationOf, checkLength, type FoundRows, type Hydrator, storedPoint } from "./hydrator.js";
import { readTurns } from "../apply/turns.js";
import { asksForVectors } from "./conditions.js";
import { overfetch, scoreRows, type Similarities } from "./scores.js";
import { vectorsOf } from "./mask-points.js";
import { askedFor, isTied, withTied } from "./tied.js";
import { chunkPoints, isChosen, type Scope, type Scopes, within } from "./scopes.js";

/** Rows of one native call that compares a list of slots. */
const listedRowsMax = 10_000;

type Searchable = NonNullable<VectorLife["serving"]>;

/** Answers reads of those points that pass a filter, or that are named. */
export class ScopedReader {
  readonly #replica: OpenReplica;
  readonly #hydrator: Hydrator;
  readonly #scopes: Scopes;

  constructor(replica: OpenReplica, hydrator: Hydrator, scopes: Scopes) {
    this.#replica = replica;
    this.#hydrator = hydrator;
    this.#scopes = scopes;
  }

  async count({ filter, approximate, explain }: ShardCountOf, call: CallContext): Promise<ReadAnswer<"count">> {
    const { masks, expiries, context } = this.#replica;
    const notes = this.#scopes.notes(explain);
    const told = (count: number, plan: ReadExplain["plan"]): ReadAnswer<"count"> =>
      explained({ count, sequence: this.#replica.appliedSequence }, notes, plan);
    if (filter === undefined) return told(this.#replica.pointCount - expiries.over.size, "count");
    const listed = this.#scopes.tenantRows(filter);
    if (listed !== undefined) return told(listed.length, "tenant");
    if (approximate === true && expiries.over.size === 0) {
      notes?.enter("estimate");
      return told(await masks.estimate(filter, context.random, cancellationOf(call)), "sampled points");
    }
    const mask = await this.#scopes.maskOf(filter, cancellationOf(call), notes);
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
    usage.filtered(fieldConditions(filter), schema.payloadIndexes);
    const test = masks.testOf(filter);
    const needsHeads = asksForVectors(filter);
    const { parts, fields } = this.#hydrator.parts({ ...select, payload: true });
    const signal = cancellationOf(call);
    const points: ShardPage["points"] = [];
    const notes = this.#scopes.notes(explain);
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
    const notes = this.#scopes.notes(request.explain);
    const answer = await this.#scopes.repeated(call, notes, (each) => this.#searchOnce(index, request, each, notes));
    return explained(answer, notes, scorer.kind === "nearest" ? "search" : "scores");
  }

  async sample(request: ShardSample, call: CallContext): Promise<ShardHits> {
    const { random } = this.#replica.context;
    const notes = this.#scopes.notes(request.explain);
    const drawn = await this.#scopes.repeated(call, notes, async (each) => {
      const scope = await this.#scopes.scope(request, each, notes);
      const { appliedSequence: sequence, slotEpoch } = this.#replica;
      const slots = await this.#scopes.slotsOf(scope, each);
      // The first `limit` places of a shuffle (Fisher, Yates).
      const count = Math.min(request.limit, slots.length);
      for (let i = 0; i < count; i++) {
        const other = i + Math.floor(random.float() * (slots.length - i));
        [slots[i], slots[other]] = [slots[other] as number, slots[i] as number];
      }
      const rows = { slots: slots.subarray(0, count), distances: new Float32Array(count).fill(-1) };
      return this.#scopes.answer("dot", rows, request.select, each, notes, sequence, slotEpoch, isChosen(scope));
    });
    return explained(drawn, notes, "mask");
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
    const scope = await this.#scopes.scope(request, call, notes);
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
        notes?.search(request.field, codesOf(index, serving, scored), k, ef, exact, result, rowBytesOf(index));
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
      // It was built again meanwhile, and the one that was asked more than once is closed.
      if (index.serving !== serving) return undefined;
      throw error;
    }
    span.end();
    notes?.enter("collect");
    // Scores of several comparisons are better when higher, as products are.
    const answer = await this.#scopes.answer(
      scorer.kind === "nearest" ? metric : "dot",
      rows,
      select,
      call,
      notes,
      sequence,
      slotEpoch,
      isChosen(scope),
      k,
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
    return scoreRows(scorer, this.#scopes.scoredScope(scope, k, exact, call), {
      near: async (example) => (await find(serving, example, near, near, false, scope, signal)).slots,
      compare: (examples, slots) => this.#similarities(serving, metric, examples, slots, signal),
    });
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
}

const noBytes = new Uint8Array(0);
const noVectors = new Set<string>();

function rowBytesOf({ kind: { field } }: VectorLife): number {
  return field.dimension * bytesPerNumber[field.datatype];
}

function codesOf({ kind }: VectorLife, serving: Searchable, scored: number | undefined): CodesExplain {
  const { datatype } = kind.field;
  const originals = serving.originals();
  const rescored = datatype !== "f32" && originals !== "LevelDB" && scored !== 0;
  return { datatype, generation: kind.generation, rescored, originals };
}

/** The `k` nearest, and rows behind them where they are needed to decide between those that are as near. */
async function find(
  serving: Searchable,
  vector: Float32Array,
  k: number,
  ef: number,
  exact: boolean,
  scope: Scope,
  signal: Cancellation | undefined,
  explain = false,
  scored?: number,
): Promise<SearchResult> {
  const rescoring = scored === undefined ? {} : scored === 0 ? { codesOnly: true } : { scored };
  const options = { k: askedFor(k), ef, exact, ...within(scope), ...rescoring };
  const asked = { ...options, ...(signal && { signal }), ...(explain && { explain }) };
  const result = await serving.search(vector, asked);
  return isTied(result, k) ? withTied(result, k, asked, (wider) => serving.search(vector, wider)) : result;
}
