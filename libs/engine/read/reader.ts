import type { SearchResult } from "../../ann/index.js";
import { abortReason, assert, KithError, limits } from "../../base/index.js";
import type { ShardPoints, ShardQuery, ShardQueryResult } from "../../model/index.js";
import type {
  ReadAnswer,
  ReadHandlers,
  ReadKind,
  ReadRequest,
  ShardChanges,
  ShardChangesOf,
  ShardCountOf,
  ShardFacet,
  ShardFacets,
  ShardGet,
  ShardHits,
  ShardIndexCounts,
  ShardIndices,
  ShardOrder,
  ShardSample,
  ShardScroll,
  ShardSearch,
  ShardSparse,
  ShardTermCounts,
  ShardTerms,
  ShardText,
  ShardTrial,
  ShardTrials,
} from "../../shard-api/index.js";
import type { CallContext } from "../../call/index.js";
import { histogramOf, startSpan } from "../../telemetry/index.js";
import type { VectorLife } from "../index/index-set.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { tryBuilds } from "../recall/trial.js";
import { AnswerCache } from "./answer-cache.js";
import { ChangesReader } from "./changes-reader.js";
import { explained, ReadNotes } from "./explain.js";
import { bytesOf, cancellationOf, checkLength, Hydrator, storedPoint } from "./hydrator.js";
import { PostingsReader } from "./postings-reader.js";
import { ScopedReader } from "./scoped-reader.js";
import { Scopes } from "./scopes.js";
import { countIndices } from "./sparse.js";
import { countTerms } from "./texts.js";
import { askedFor, isTied, keepFirst, withTied } from "./tied.js";
import { ValuesReader } from "./values-reader.js";

const searchDuration = histogramOf("kith.index.search.duration");

/** A query whose hits were overwritten while it ran is run again; the last time while the applier stands still. */
const attemptsMax = 3;

/** Answers reads from one open replica, which has applied what they ask for: a method for each kind. */
export class Reader implements ReadHandlers {
  readonly #replica: OpenReplica;
  readonly #hydrator: Hydrator;
  readonly #scoped: ScopedReader;
  readonly #postings: PostingsReader;
  readonly #values: ValuesReader;
  readonly #changes: ChangesReader;
  /** Missing where answers are not kept. */
  readonly answers: AnswerCache | undefined;

  constructor(replica: OpenReplica) {
    this.#replica = replica;
    this.#hydrator = new Hydrator(replica);
    const scopes = new Scopes(replica, this.#hydrator);
    this.#scoped = new ScopedReader(replica, this.#hydrator, scopes);
    this.#postings = new PostingsReader(replica, this.#hydrator, scopes);
    this.#values = new ValuesReader(replica, scopes);
    this.#changes = new ChangesReader(replica, this.#hydrator);
    const { answerCacheBytes } = replica.context.tuning;
    if (answerCacheBytes > 0) this.answers = new AnswerCache(replica, answerCacheBytes);
  }

  /** One read of the kind, by what was answered before where that is kept. */
  read<K extends ReadKind>(kind: K, request: ReadRequest<K>, call: CallContext): Promise<ReadAnswer<K>> {
    const handlers = this as ReadHandlers;
    if (this.answers === undefined) return handlers[kind](request, call);
    return this.answers.read(kind, request, () => handlers[kind](request, call));
  }

  async query(query: ShardQuery, call: CallContext): Promise<ShardQueryResult> {
    const index = this.#hydrator.index(query.field);
    const { k } = query;
    if (!Number.isInteger(k) || k < 1 || k > limits.shardResults) {
      throw new KithError("LIMIT_OUT_OF_RANGE", `k is ${k}; it must be a whole number in 1..${limits.shardResults}`, {
        details: { field: "k", value: k },
      });
    }
    checkLength(index.kind.field, query.vector, "the query");
    for (let attempt = 1; attempt < attemptsMax; attempt++) {
      const result = await this.#attempt(index, query, call);
      if (result !== undefined) return result;
      await this.#replica.writing;
    }
    return this.#lastAttempt(index, query, call);
  }

  /** A method of its own: a closure in `query` would cost every query an allocation. */
  async #lastAttempt(index: VectorLife, query: ShardQuery, call: CallContext): Promise<ShardQueryResult> {
    const attempt = (): Promise<ShardQueryResult | undefined> => this.#attempt(index, query, call);
    const result = await this.#replica.fairLock.read(attempt, cancellationOf(call));
    assert(result !== undefined, `the index of "${query.field}" found rows that were dead before the search began`);
    return result;
  }

  /** Those that exist, in the order asked. */
  async get({ ids, select }: ShardGet, call: CallContext): Promise<ShardPoints> {
    const { parts, fields } = this.#hydrator.parts(select);
    const points = await this.#replica.store.read(ids, parts, cancellationOf(call));
    const { expiries } = this.#replica;
    return {
      points: points.flatMap((point) => {
        return point === undefined || expiries.isPast(point.head.expiresAtMs) ? [] : [storedPoint(point, fields)];
      }),
      sequence: this.#replica.writtenSequence,
    };
  }

  async scroll(request: ShardScroll, call: CallContext): Promise<ReadAnswer<"scroll">> {
    const { after, limit, select, filter } = request;
    if (!Number.isInteger(limit) || limit < 1 || limit > limits.scrollLimit) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `limit is ${limit}; it must be a whole number in 1..${limits.scrollLimit}`,
        {
          details: { field: "limit", value: limit },
        },
      );
    }
    if (filter !== undefined) return this.#scoped.scroll(request, filter, call);
    const { parts, fields } = this.#hydrator.parts(select);
    const { store, expiries, context, pointCount } = this.#replica;
    const notes = request.explain === true ? new ReadNotes(context.clock, pointCount) : undefined;
    notes?.enter("read");
    for (let from = after; ; ) {
      const { points, end } = await store.scroll(from, limit, parts, cancellationOf(call));
      notes?.read(points.length, notes === undefined ? 0 : bytesOf(points, parts));
      const visible = points.filter(({ head }) => !expiries.isPast(head.expiresAtMs));
      // A page without points would be taken for the end.
      if (end || visible.length > 0) {
        const sequence = this.#replica.writtenSequence;
        notes?.enter("collect");
        return explained(
          { points: visible.map((point) => storedPoint(point, fields)), end, sequence },
          notes,
          "points",
        );
      }
      from = points.at(-1)?.id;
    }
  }

  count(request: ShardCountOf, call: CallContext): Promise<ReadAnswer<"count">> {
    return this.#scoped.count(request, call);
  }

  search(request: ShardSearch, call: CallContext): Promise<ShardHits> {
    return this.#scoped.search(request, call);
  }

  order(request: ShardOrder, call: CallContext): Promise<ShardHits> {
    return this.#values.order(request, call);
  }

  sample(request: ShardSample, call: CallContext): Promise<ShardHits> {
    return this.#scoped.sample(request, call);
  }

  facet(request: ShardFacet, call: CallContext): Promise<ShardFacets> {
    return this.#values.facet(request, call);
  }

  text(request: ShardText, call: CallContext): Promise<ShardHits> {
    return this.#postings.text(request, call);
  }

  terms(request: ShardTerms, call: CallContext): Promise<ShardTermCounts> {
    return countTerms(this.#replica, request, call);
  }

  sparse(request: ShardSparse, call: CallContext): Promise<ShardHits> {
    return this.#postings.sparse(request, call);
  }

  indices(request: ShardIndices): Promise<ShardIndexCounts> {
    return countIndices(this.#replica, this.#hydrator, request);
  }

  async trial({ field: name, target }: ShardTrial, call: CallContext): Promise<ShardTrials> {
    const replica = this.#replica;
    const field = replica.indexes.generationsOf(name)?.field;
    if (field === undefined) throw this.#hydrator.unknown(name);
    const signal = cancellationOf(call);
    const { store, slots, context } = replica;
    const { random, indexes, directory } = context;
    assert(indexes !== undefined, "a replica that answers reads has no indexes to try");
    const tried = replica.trying.then(() => {
      if (signal?.aborted) throw abortReason(signal);
      return tryBuilds({ store, slots, random, field, indexes, directory, target, signal });
    });
    replica.trying = tried.then(
      () => undefined,
      () => undefined,
    );
    return { ...(await tried), sequence: replica.appliedSequence };
  }

  changes(request: ShardChangesOf, call: CallContext): Promise<ShardChanges> {
    return this.#changes.read(request, call);
  }

  /** The beam width of a query of all points. */
  #widthOf({ kind }: VectorLife, { field, vector: searched, k, ef, exact, recallTarget }: ShardQuery): number {
    if (recallTarget === undefined || exact) return ef > 0 ? ef : kind.field.efSearch;
    const { recall, pointCount } = this.#replica;
    const allowed = { count: pointCount, of: pointCount };
    const choice = recall.choose({ field, query: searched, k, filter: undefined, allowed, target: recallTarget });
    return Math.max(k, Math.min(choice.ef, ef > 0 ? ef : limits.efMax));
  }

  /** Undefined where points were overwritten meanwhile, or the index was built again, so that the query must be run again. */
  async #attempt(index: VectorLife, query: ShardQuery, call: CallContext): Promise<ShardQueryResult | undefined> {
    const { appliedSequence: sequence, slotEpoch } = this.#replica;
    const { kind, serving } = index;
    if (serving === undefined) throw this.#hydrator.notBuilt(kind.label);
    const span = startSpan(call.trace, "index.search");
    let result: SearchResult;
    try {
      const ef = this.#widthOf(index, query);
      const signal = cancellationOf(call);
      const mask = this.#replica.expiries.visible(undefined);
      const { k, exact, scored } = query;
      const codesOnly = scored === 0;
      // Without spreads: see queryOf in the router.
      const rescored = codesOnly ? undefined : scored;
      const options = { k: askedFor(k), ef, exact, scored: rescored, codesOnly, filter: mask?.bytes, signal };
      result = await serving.search(query.vector, options);
      if (isTied(result, k))
        result = await withTied(result, k, options, (wider) => serving.search(query.vector, wider));
      searchDuration.record((result.queueUs + result.searchUs) / 1e6);
      span.set("plan", result.plan);
      span.set("ef", ef);
      span.set("computed", result.computed);
      span.set("queue_us", result.queueUs);
      span.set("search_us", result.searchUs);
      if (!exact && this.#replica.indexes.generationsOf(query.field)?.other !== undefined) {
        this.#replica.shadows.answered({ field: query.field, query: query.vector, k, ef, scored, filter: undefined });
      }
    } catch (error) {
      span.end(error);
      // It was built again meanwhile, and the one that was asked twice is closed.
      if (index.serving !== serving) return undefined;
      throw error;
    }
    span.end();
    const { select } = query;
    const isStored = select.payload || select.vectors.length > 0;
    const found = this.#hydrator.collect(kind.field.metric, result, sequence, slotEpoch, isStored);
    if (found === undefined) return undefined;
    keepFirst(found, query.k);
    if (isStored && found.hits.length > 0 && !(await this.#hydrator.hydrate(found, select, call))) return undefined;
    // Not the sequence of before: deletions since then may have been seen, and younger hits.
    return { hits: found.hits, plan: result.plan, sequence: this.#replica.appliedSequence };
  }
}
