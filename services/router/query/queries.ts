import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { Log } from "../../../libs/log/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import {
  checkRecallTarget,
  checkStrict,
  checkStrictExact,
  type Collection,
  fieldOf,
  type Filter,
  type Hit,
  type IdKey,
  idMapKey,
  isSparse,
  partitionedId,
  type QueryTree,
  type ShardQuery,
  type VectorField,
} from "../../../libs/model/index.js";
import {
  checkQuery,
  checkStrictFilter,
  checkStrictQuery,
  finishNearest,
  type Group,
  type GroupValue,
  limitOf,
  type NearestPlan,
  planNearest,
  runGroups,
  runMatrix,
  runQuery,
} from "../../../libs/query/index.js";
import { type CallContext, childCall, type RowRule } from "../../../libs/call/index.js";
import type { ReadRequest, ShardSearch } from "../../../libs/shard-api/index.js";
import { toFailure } from "../../../libs/rpc/common/index.js";
import {
  collecting,
  histogramOf,
  metricsEnabled,
  registerGauge,
  SpanCollector,
  startSpan,
} from "../../../libs/telemetry/index.js";
import { filterFromWire, type pb, type QueryAnswer, type ShardSequence } from "../../../libs/wire/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { accessOf, narrowed, refuseTelling, ruleOf, seeing, seen } from "../access.js";
import { idOf, keyOf } from "../ids.js";
import { partitionIn, type Scoped, scoped, storedId } from "../partitions.js";
import { CollectionSource } from "./collection-source.js";
import { QueryAdmission } from "./admission.js";
import { type AnswerBudget, type AnswerShape, type Reservation, sizeOf } from "./answer-budget.js";
import { ExplainStep } from "./explain.js";
import { groupToWire, idOfValue, pointToWire, shapedHits } from "./points.js";
import { TextStatisticsCache } from "./text-statistics.js";
import { shapeOfGroups, shapeOfQuery, shapeOfRead } from "./shape.js";
import type { SlowLog, SlowQuery } from "./slow-log.js";
import { checkFilters, isTree, pathAt, treeOf } from "./query-request.js";
import { checkExactScores, hasOriginals, isExact, rescored, withOriginals } from "./exact-scores.js";
import { type MinSequences, minSequencesOf, type PayloadOptions, selectionOf } from "./read-options.js";

const duration = histogramOf("kith.query.duration");

/** The vector of a stored point, and the state of its shard that it was read from. */
interface StoredVector {
  vector: Float32Array;
  shard: number;
  sequence: number;
}

/** What has been read already: neither the hits nor the token may be of a state before it. */
function alsoAfter(minSequences: MinSequences, stored: StoredVector): MinSequences {
  return (shard) => (shard === stored.shard ? Math.max(minSequences(shard), stored.sequence) : minSequences(shard));
}

/** What the token of the answer says of each shard. */
function sequencesOf(results: readonly ShardHits[], stored: StoredVector | undefined): readonly ShardSequence[] {
  if (stored === undefined) return results;
  return results.map(({ shard, sequence }) => ({
    shard,
    sequence: shard === stored.shard ? Math.max(sequence, stored.sequence) : sequence,
  }));
}

interface ShardHits extends ShardSequence {
  hits: Hit[];
  missing: RoutedShard | undefined;
}

/** What a query comes to. */
interface Answered {
  hits: readonly Hit[];
  payloadAsStruct?: boolean;
  matrices?: ReadonlyMap<string, number> | undefined;
  /** Shards that did not answer. */
  missing: readonly RoutedShard[];
  sequences: readonly ShardSequence[];
}

/** What every query asks for, whatever it is about. */
type Common = Pick<pb.QueryRequest, "collection" | "trace" | "explain" | "consistency" | "select" | "limit" | "offset">;

/** What a query says of itself in traces and in the log of slow queries. */
type Described = Pick<SlowQuery, "kind" | "shape"> & { span: string };

/** What a query works with. */
interface Working {
  collection: RoutedCollection;
  /** Which of its points are there for the caller. */
  rule: RowRule | undefined;
  minSequences: MinSequences;
  call: CallContext;
  /** Where it is to be explained. */
  step: ExplainStep | undefined;
}

const defaultGroups = 10;
const defaultGroupSize = 3;
const defaultSample = 10;
const defaultMatrixLimit = 3;
/** Of a matrix: two places and a score, as numbers in arrays. */
const pairBytes = 24;

/** The query path: plan, pick replicas, scatter, merge. */
export class Queries {
  readonly #routingTable: RoutingTable;
  readonly #log: Log;
  readonly #nodeId: string;
  readonly #budget: AnswerBudget;
  readonly #texts = new TextStatisticsCache();
  readonly #slowLog: SlowLog;
  readonly #admission: QueryAdmission;
  readonly #unregister: () => void;

  constructor(routingTable: RoutingTable, log: Log, nodeId: string, budget: AnswerBudget, slowLog: SlowLog) {
    this.#routingTable = routingTable;
    this.#log = log;
    this.#nodeId = nodeId;
    this.#budget = budget;
    this.#slowLog = slowLog;
    this.#admission = new QueryAdmission(routingTable.runtime.clock);
    this.#unregister = registerGauge("kith.query.in_flight", (report) => report(this.#admission.inFlight));
  }

  close(): void {
    this.#unregister();
    this.#admission.close();
  }

  /** What the answer will probably have, in bytes; 0 for a collection that there is not. `unknown`: where no like one was seen. */
  expectedBytes(request: pb.QueryRequest, unknown?: number): number {
    const collection = this.#routingTable.find(request.collection);
    if (collection === undefined) return 0;
    const shape = shapeOf(collection, request);
    return unknown === undefined || this.#budget.isKnown(shape) ? this.#budget.expectedBytes(shape) : unknown;
  }

  /** As `expectedBytes`, of groups. */
  expectedGroupsBytes({ query, limit, groupSize }: pb.QueryGroupsRequest): number {
    const results = (limit === 0 ? defaultGroups : limit) * (groupSize === 0 ? defaultGroupSize : groupSize);
    return query === undefined ? 0 : this.expectedBytes({ ...query, limit: Math.min(results, limits.queryLimit) });
  }

  /**
   * Queries that are answered together. BATCH_TOO_LARGE where the answers do not fit into one message, as soon as that is known:
   * they are read no more than a message's worth at a time.
   */
  async batch<T>(
    requests: readonly pb.QueryRequest[],
    call: CallContext,
    send: (outcomes: (QueryAnswer | pb.Failure)[]) => T,
  ): Promise<T> {
    this.#checkBatch(requests, call);
    // The call itself was counted at the door.
    if (requests.length > 1) accessOf(call).usage?.begin(requests.length - 1);
    const held = this.#budget.hold();
    const outcomes: (QueryAnswer | pb.Failure)[] = [];
    let next = 0;
    let answered = 0;
    let sizeBytes = 0;
    let expectedBytes = 0;
    const running = new Set<Promise<void>>();
    const run = async (at: number, request: pb.QueryRequest, expected: number): Promise<void> => {
      expectedBytes += expected;
      try {
        const outcome = await this.query(request, call).catch((error: unknown) => toFailure(toKithError(error)));
        outcomes[at] = outcome;
        answered++;
        const size = "hits" in outcome ? sizeOf(outcome.hits) : 0;
        held.add(size);
        sizeBytes += size;
      } finally {
        expectedBytes -= expected;
      }
    };
    try {
      while (answered < requests.length) {
        for (let request = requests[next]; request !== undefined; request = requests[next]) {
          // One of which nothing is known goes alone.
          const expected = this.expectedBytes(request, limits.messageBytes);
          if (running.size > 0 && sizeBytes + expectedBytes + expected > limits.messageBytes) break;
          const one = run(next++, request, expected);
          running.add(one);
          void one.then(() => running.delete(one));
        }
        await Promise.race(running);
        if (sizeBytes > limits.messageBytes) throw batchTooLarge(answered, requests.length, sizeBytes);
      }
      return send(outcomes);
    } finally {
      await Promise.all(running);
      held.release();
    }
  }

  /** COLLECTION_LIMIT where one collection is asked more at once than it allows. */
  #checkBatch(requests: readonly pb.QueryRequest[], call: CallContext): void {
    const counts = new Map<string, number>();
    for (const { collection } of requests) counts.set(collection, (counts.get(collection) ?? 0) + 1);
    for (const [name, count] of counts) {
      const record = this.#routingTable.find(name)?.record;
      // Of one that is none of the caller's, each query tells by itself that there is none.
      if (record === undefined || !accessOf(call).decide(record.name).isAllowed) continue;
      checkStrict(record.strictMode, "maxBatchQueries", count, `the number of queries to "${name}"`);
    }
  }

  /** RESOURCE_EXHAUSTED where too many queries are in flight, alone, in batches and on streams together, or their answers are too large. */
  async query(request: pb.QueryRequest, call: CallContext): Promise<QueryAnswer> {
    const described = { span: "router.query", kind: "query", shape: () => shapeOfQuery(request) };
    const isByTree = isTree(request) || request.explain || this.#isOfSparse(request);
    checkExactScores(request, isByTree);
    const wanted = request.exactScores ? this.#withOriginals(request) : request;
    const answered = await this.#run(described, wanted, call, (working) =>
      isByTree ? this.#tree(working, request) : this.#nearest(working, wanted, hasOriginals(request)),
    );
    return answered[1];
  }

  #isOfSparse({ collection, using }: pb.QueryRequest): boolean {
    const record = this.#routingTable.find(collection)?.record;
    return record !== undefined && isSparse(record, using);
  }

  #withOriginals(request: pb.QueryRequest): pb.QueryRequest {
    const fields = this.#routingTable.find(request.collection)?.record.fields;
    return withOriginals(
      request,
      fields?.find(({ name }) => name === request.using),
    );
  }

  /** The best points of the best groups. */
  async groups(request: pb.QueryGroupsRequest, call: CallContext): Promise<pb.QueryGroupsResponse> {
    const { query, withLookup } = request;
    if (query === undefined) throw wrong("query", "is missing: say which points, and how they are scored");
    checkExactScores(query, true);
    if (query.limit !== 0) throw wrong("query.limit", "is not 0; the limits of groups stand beside the query");
    if (query.offset !== 0) throw wrong("query.offset", "is not 0; groups have no offset");
    const grouping = {
      path: pathAt(request.groupBy, "group_by"),
      limit: limitOf(request.limit, defaultGroups, limits.queryLimit, "limit"),
      size: limitOf(request.groupSize, defaultGroupSize, limits.queryLimit, "group_size"),
    };
    if (grouping.limit * grouping.size > limits.queryLimit) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `limit x group_size is ${grouping.limit * grouping.size}; it must be in 1..${limits.queryLimit}`,
        { details: { field: "limit", value: grouping.limit * grouping.size, max: limits.queryLimit } },
      );
    }
    const wanted = { ...query, limit: grouping.limit * grouping.size };
    const described = { span: "router.query_groups", kind: "query_groups", shape: () => shapeOfGroups(request) };
    const held: Reservation[] = [];
    const answering = this.#run(described, wanted, call, async (working) => {
      checkStrict(working.collection.record.strictMode, "maxLimit", wanted.limit, "limit x group_size");
      const { source, tree, payload } = within("query.", () => this.#prepare(working, query));
      const found = await runGroups(source, tree, grouping);
      const projected = found.map(({ value, hits }) => ({ value, hits: [...shapedHits(hits, payload)] }));
      const lookups = withLookup && (await this.#lookUp(working, withLookup, found, held));
      const hits = projected.flatMap((group) => group.hits);
      const groups = projected.map((group) => groupToWire(group, payload, lookups?.get(group.value)));
      return { groups, hits, missing: [...source.missing], sequences: source.sequences() };
    });
    const releasing = (): void => held.forEach((each) => each.release());
    const [{ groups }, told] = await answering.finally(releasing);
    return {
      groups,
      missing: [...told.missing],
      trace: [...told.trace],
      tookUs: told.tookUs,
      token: tokenOf(told),
      explain: told.explain,
    };
  }

  /** How alike points drawn by chance are. */
  async matrix(request: pb.SearchMatrixRequest, call: CallContext): Promise<pb.SearchMatrixResponse> {
    const lead = `matrix ${JSON.stringify(request.using)} sample ${request.sample} limit ${request.limit}`;
    const described = {
      span: "router.search_matrix",
      kind: "search_matrix",
      shape: () => shapeOfRead(lead, request.filter),
    };
    const { sample, ...rest } = request;
    const common = { ...rest, limit: sample, offset: 0, select: undefined, trace: false, explain: false };
    const held: Reservation[] = [];
    const answering = this.#run(described, common, call, async (working) => {
      const filter = request.filter && filterFromWire(request.filter);
      if (filter !== undefined) validateFilter(filter);
      const drawn = limitOf(sample, defaultSample, limits.matrixPoints, "sample");
      const { strictMode } = working.collection.record;
      checkStrict(strictMode, "maxLimit", drawn, "sample");
      checkStrictFilter(working.collection.record, filter, "filter");
      const source = this.#source(working, false, request.partition);
      const limit = limitOf(request.limit, defaultMatrixLimit, limits.matrixPoints, "limit");
      const { dimension } = fieldOf(working.collection.record, request.using);
      held.push(this.#budget.reserveBytes(matrixBytes(drawn, limit, dimension)));
      const found = await runMatrix(source, { using: request.using, filter, sample: drawn, limit });
      return { ...found, hits: [], missing: [], sequences: source.sequences() };
    });
    const releasing = (): void => held.forEach((each) => each.release());
    const [matrix, told] = await answering.finally(releasing);
    const { ids, rows, columns, scores } = matrix;
    return { ids: ids.map(idOf), rows, columns, scores, token: tokenOf(told) };
  }

  /** As `runOnce`, and once more where hash slots have gone to other shards meanwhile. */
  async #run<T extends Answered>(
    described: Described,
    request: Common,
    call: CallContext,
    work: (working: Working) => Promise<T>,
  ): Promise<[T, QueryAnswer]> {
    const before = this.#routingTable.find(request.collection);
    try {
      return await this.#runOnce(described, request, call, work);
    } catch (error) {
      return this.#runAgain(error, before, described, request, call, work);
    }
  }

  /** A method of its own: a closure in `run` would cost every query an allocation. */
  #runAgain<T extends Answered>(
    error: unknown,
    before: RoutedCollection | undefined,
    described: Described,
    request: Common,
    call: CallContext,
    work: (working: Working) => Promise<T>,
  ): Promise<[T, QueryAnswer]> {
    const again = (): Promise<[T, QueryAnswer]> => this.#runOnce(described, request, call, work);
    return this.#routingTable.epochs.retryingAfter(error, before, request.collection, call, again);
  }

  /** Does what all queries have in common around `work`: counts, measures, traces and explains it, and keeps it where it was slow. */
  async #runOnce<T extends Answered>(
    described: Described,
    request: Common,
    call: CallContext,
    work: (working: Working) => Promise<T>,
  ): Promise<[T, QueryAnswer]> {
    const { clock } = this.#routingTable.runtime;
    const startMs = clock.monotonicMs();
    let collection: RoutedCollection | undefined;
    let reservation: Reservation | undefined;
    this.#admission.check(call.deadlineMs);
    const release = accessOf(call).usage?.query();
    this.#admission.enter();
    const step = request.explain ? new ExplainStep(clock, "answer", startMs) : undefined;
    const preparing = step?.begin("prepare");
    const collector = request.trace ? new SpanCollector(this.#nodeId, this.#routingTable.runtime) : undefined;
    const outer = collector === undefined ? call : childCall(call, collecting(call.trace, collector));
    const span = startSpan(outer.trace, described.span, { attributes: { "kith.collection": request.collection } });
    try {
      collection = this.#routingTable.resolve(request.collection, call);
      const rule = ruleOf(call, collection.record);
      if (request.explain) refuseTelling(rule, "explain");
      if (request.trace) refuseTelling(rule, "trace");
      this.#routingTable.rates.take(collection.record, "maxReadsPerSecond");
      const reserving = this.#budget.reserveKnown(shapeOf(collection, request), collection.shards.length, outer);
      reservation = reserving instanceof Promise ? await reserving : reserving;
      const settled = minSequencesOf(collection, request.consistency, this.#log, request.collection);
      const minSequences = settled instanceof Promise ? await settled : settled;
      preparing?.end();
      const answered = await work({ collection, rule, minSequences, call: childCall(outer, span.trace), step });
      const sizeBytes = sizeOf(answered.hits);
      reservation.settle(sizeBytes);
      accessOf(call).usage?.spend(answered.hits.length, sizeBytes);
      span.set("kith.results", answered.hits.length);
      span.end();
      step?.end();
      const tookMs = clock.monotonicMs() - startMs;
      if (metricsEnabled()) duration.record(tookMs / 1000, collection.attributes);
      this.#slowLog.note(described, request.collection, tookMs, "");
      const answer: QueryAnswer = {
        hits: answered.hits,
        payloadAsStruct: answered.payloadAsStruct,
        matrices: answered.matrices,
        missing: answered.missing.length === 0 ? none : answered.missing.map(slotsOf),
        trace: collector?.spans ?? none,
        tookUs: Math.round(tookMs * 1000),
        sequences: answered.sequences,
        collectionId: collection.record.id,
        explain: step?.toWire(),
      };
      return [answered, answer];
    } catch (error) {
      span.end(error);
      const { code } = toKithError(error);
      const tookMs = clock.monotonicMs() - startMs;
      // Without the name of a collection that there is not: whoever asks could make up any number of them.
      if (metricsEnabled()) duration.record(tookMs / 1000, { ...collection?.attributes, "error.type": code });
      this.#slowLog.note(described, request.collection, tookMs, code);
      throw error;
    } finally {
      // From here the answer is the server's, which counts what its clients have not taken.
      reservation?.release();
      release?.();
      this.#admission.leave();
    }
  }

  /** The common query: one search of each shard. */
  async #nearest(
    { collection, rule, minSequences, call }: Working,
    request: pb.QueryRequest,
    showsVectors: boolean,
  ): Promise<Answered> {
    const field = fieldOf(collection.record, request.using);
    const { strictMode } = collection.record;
    if (strictMode !== undefined) {
      checkStrict(strictMode, "maxLimit", request.limit === 0 ? defaultResults : request.limit, "limit");
      checkStrict(strictMode, "maxEf", request.ef, "ef");
      checkStrictExact(strictMode, request.exact, "exact");
    }
    const filter = request.filter && filterFromWire(request.filter);
    if (filter !== undefined) {
      validateFilter(filter);
      checkStrictFilter(collection.record, filter, "filter");
    }
    const partition = partitionIn(collection, request.partition);
    const exclude = excludedBy(request, collection, partition);
    const stored = exclude && (await this.#vectorOf(collection, field, exclude, rule, minSequences, call));
    const { using, limit, ef, exact, oversampling, rescore = true, scoreThreshold } = request;
    const vector = stored?.vector ?? request.vector;
    const { select, payload } = selectionOf(collection.record, request.select);
    const rows = stored === undefined ? request.vectorRows : undefined;
    const recallTarget = recallTargetOf(collection.record, request);
    const width = widestOf(collection.record, recallTarget, ef);
    const shown = seeing(select, rule);
    const plan = planNearest(collection.record, {
      using,
      vector,
      rows,
      limit,
      ef: width,
      recallTarget,
      exact,
      oversampling,
      rescore,
      select: shown,
      scoreThreshold,
      exclude,
    });
    const notBefore = stored === undefined ? minSequences : alsoAfter(minSequences, stored);
    const scope = scoped(collection, narrowed(filter, rule), partition);
    const results = await scatter(scope, plan, notBefore, request.allowPartial, call);
    const rescores = request.exactScores && !isExact(field);
    const lists: (readonly Hit[])[] = [];
    let missing: readonly RoutedShard[] = none;
    for (const result of results) {
      const visible = rule === undefined ? result.hits : [...seen(result.hits, select, rule)];
      lists.push(rescores ? rescored(visible, field, vector, showsVectors) : visible);
      if (result.missing !== undefined) missing = [...missing, result.missing];
    }
    return {
      hits: shapedHits(finishNearest(plan, lists), payload),
      payloadAsStruct: payload.asStruct,
      matrices: payload.matrices,
      missing,
      sequences: sequencesOf(results, stored),
    };
  }

  /** Every other query: a tree of stages, each of which reads all shards. */
  async #tree(working: Working, request: pb.QueryRequest): Promise<Answered> {
    const { source, tree, payload } = this.#prepare(working, request);
    const found = await runQuery(source, tree);
    const hits = source.work("shape", () => [...shapedHits(found, payload)]);
    const shape = { payloadAsStruct: payload.asStruct, matrices: payload.matrices };
    return { hits, ...shape, missing: [...source.missing], sequences: source.sequences() };
  }

  /** The query as a tree that was checked, and what it reads. */
  #prepare(
    working: Working,
    request: pb.QueryRequest,
  ): { source: CollectionSource; tree: QueryTree; payload: PayloadOptions } {
    const checking = working.step?.begin("check");
    const { record } = working.collection;
    const { select, payload } = selectionOf(record, request.select);
    const partition = partitionIn(working.collection, request.partition);
    // Where it is not named, and needed, the source tells: an example may be of another collection.
    const tree = treeOf(request, select, (id) => (partition === undefined ? id : partitionedId(partition, id)));
    checkQuery(record, tree, (name, using) => fieldOf(this.#routingTable.resolve(name, working.call).record, using));
    checkFilters(tree, "");
    checkStrictQuery(record, tree, (tree.limit === 0 ? defaultResults : tree.limit) + tree.offset);
    checking?.end();
    const recallTarget = recallTargetOf(record, request);
    return { source: this.#source(working, request.allowPartial, partition, recallTarget), tree, payload };
  }

  #source(
    { collection, minSequences, call, step }: Omit<Working, "rule">,
    allowPartial: boolean,
    asked: string | undefined,
    recallTarget?: number,
  ): CollectionSource {
    const partition = partitionIn(collection, asked);
    const resolve = (name: string): RoutedCollection => this.#routingTable.resolve(name, call);
    const { clock } = this.#routingTable.runtime;
    const texts = this.#texts;
    return new CollectionSource({
      ...{ collection, minSequences, call, allowPartial, partition, resolve, step },
      ...{ clock, texts, recallTarget },
    });
  }

  /** The points whose ids are the values of groups. Their share of the answers' bytes is put to what is `held`. */
  async #lookUp(
    { call, step }: Working,
    { collection: name, select: wanted }: pb.GroupLookup,
    groups: readonly Group<Hit>[],
    held: Reservation[],
  ): Promise<Map<GroupValue, pb.Point>> {
    const collection = this.#routingTable.resolve(name, call);
    const selecting = wanted ?? { payload: true, vectors: [], allVectors: false, include: [], exclude: [] };
    const { select, payload } = selectionOf(collection.record, selecting);
    const source = this.#source({ collection, minSequences: () => 0, call, step }, false, undefined);
    const ids = groups.flatMap(({ value }): [GroupValue, IdKey][] => {
      const id = idOfValue(value);
      return id === undefined ? [] : [[value, storedId(collection, id, undefined, "with_lookup")]];
    });
    if (ids.length === 0) return new Map();
    const shape = { collectionId: collection.record.id, select: selecting, count: ids.length };
    // Not in turn: the groups that wait for these points have theirs.
    const reservation = this.#budget.reserve(shape);
    held.push(reservation);
    const points = await source.fetch(
      ids.map(([, id]) => id),
      select,
    );
    reservation.settle(sizeOf([...points.values()]));
    return new Map(
      ids.flatMap(([value, id]): [GroupValue, pb.Point][] => {
        const point = points.get(idMapKey(id));
        return point === undefined ? [] : [[value, pointToWire(point, payload)]];
      }),
    );
  }

  async #vectorOf(
    collection: RoutedCollection,
    field: VectorField,
    id: IdKey,
    rule: RowRule | undefined,
    minSequences: MinSequences,
    call: CallContext,
  ): Promise<StoredVector> {
    const shard = collection.shardOf(id);
    const select = { payload: false, vectors: [field.name] };
    const { points, sequence } = await shard.ask(call, (api, context) =>
      api.read(
        "get",
        shard.id,
        { ids: [id], select: seeing(select, rule), minSequence: minSequences(shard.id.shard) },
        context,
      ),
    );
    const [point] = seen(points, select, rule);
    const vector = point?.vectors?.get(field.name);
    if (vector === undefined) {
      throw new KithError(
        "POINT_NOT_FOUND",
        point === undefined
          ? "there is no point with this id to query by"
          : `the point has no vector "${field.name}" to query by`,
      );
    }
    return { vector, shard: shard.id.shard, sequence };
  }
}

const none: readonly never[] = [];

function slotsOf({ placement: { firstSlot, lastSlot } }: RoutedShard): { first: number; last: number } {
  return { first: firstSlot, last: lastSlot };
}

/** Results of a query that names no limit; at least the smallest of what the server takes for it. */
const defaultResults = 10;

/** The recall that the query asks for, or the collection does for it. LIMIT_OUT_OF_RANGE. */
function recallTargetOf(
  { recallTarget: ofCollection }: Collection,
  { recallTarget, ef, exact }: Pick<pb.QueryRequest, "recallTarget" | "ef" | "exact">,
): number | undefined {
  if (recallTarget === undefined) return ef > 0 || exact ? undefined : ofCollection;
  checkRecallTarget(recallTarget, "recall_target");
  return exact ? undefined : recallTarget;
}

/** The widest beam that may be taken for a recall. */
function widestOf({ strictMode }: Collection, recallTarget: number | undefined, ef: number): number {
  return recallTarget !== undefined && ef === 0 ? (strictMode?.maxEf ?? 0) : ef;
}

function shapeOf(collection: RoutedCollection, { limit, offset, select }: Common): AnswerShape {
  const count = Math.min((limit === 0 ? defaultResults : limit) + offset, limits.queryLimit);
  return { collectionId: collection.record.id, select, count };
}

function batchTooLarge(answered: number, count: number, sizeBytes: number): KithError {
  return new KithError(
    "BATCH_TOO_LARGE",
    `the first ${answered} of ${count} answers have ${sizeBytes} bytes; at most ${limits.messageBytes} are sent: ` +
      "ask for fewer queries or results, or without payloads and vectors",
    { details: { sizeBytes, limitBytes: limits.messageBytes } },
  );
}

function tokenOf({ sequences, collectionId }: QueryAnswer): pb.Token {
  return { shards: sequences.map(({ shard, sequence }) => ({ shard, sequence })), collectionId };
}

function wrong(path: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${path} ${what}`, { details: { path } });
}

/** The point whose stored vector is the query, if the request names one. */
function excludedBy(
  request: pb.QueryRequest,
  collection: RoutedCollection,
  partition: string | undefined,
): IdKey | undefined {
  if (request.point === undefined) return undefined;
  if (request.vector.length > 0) {
    throw new KithError("INVALID_ARGUMENT", "the query has both a vector and a point; give one of them");
  }
  return storedId(
    collection,
    keyOf(request.point, () => "point"),
    partition,
    "point",
  );
}

function scatter(
  { shards, filter }: Scoped,
  plan: NearestPlan,
  minSequences: MinSequences,
  allowPartial: boolean,
  call: CallContext,
): Promise<ShardHits[]> {
  const asked: Promise<ShardHits>[] = [];
  for (const shard of shards) {
    const minSequence = minSequences(shard.id.shard);
    const one =
      filter === undefined
        ? askShard(shard, "query", queryOf(plan.shardQuery, minSequence), call)
        : askShard(shard, "search", searchOf(plan.shardQuery, filter, minSequence), call);
    asked.push(allowPartial ? one.catch((error) => missing(shard, error)) : one);
  }
  return Promise.all(asked);
}

/** Not `{ ...query, minSequence }`: the V8 of Node 20 gives every object with a new key behind a spread a hidden class of its own. */
function queryOf(query: NearestPlan["shardQuery"], minSequence: number): ShardQuery {
  const { field, vector, k, ef, exact, scored, recallTarget, select } = query;
  return { field, vector, k, ef, exact, scored, recallTarget, select, minSequence };
}

function searchOf(query: NearestPlan["shardQuery"], filter: Filter, minSequence: number): ShardSearch {
  const { field, vector, k, ef, exact, scored, recallTarget, select } = query;
  const scorer = { kind: "nearest", vector } as const;
  return {
    field,
    scorer,
    k,
    ef,
    exact,
    scored,
    recallTarget,
    select,
    minSequence,
    filter,
    ids: undefined,
    exclude: [],
  };
}

async function askShard<K extends "query" | "search">(
  shard: RoutedShard,
  kind: K,
  request: ReadRequest<K>,
  call: CallContext,
): Promise<ShardHits> {
  const span = startSpan(call.trace, "router.ask_shard", {
    role: "client",
    attributes: { "kith.shard": shard.id.shard },
  });
  try {
    const context = childCall(call, span.trace);
    const { hits, sequence } = await shard.askHedged(context, (api, each) => api.read(kind, shard.id, request, each));
    span.end();
    return { shard: shard.id.shard, sequence, hits, missing: undefined };
  } catch (error) {
    span.end(error);
    throw error;
  }
}

/** With allow_partial a shard that cannot answer is named instead of failing the query; a wrong query still fails. */
function missing(shard: RoutedShard, error: unknown): ShardHits {
  const { code } = toKithError(error);
  if (code !== "SHARD_UNAVAILABLE" && code !== "SHUTTING_DOWN" && code !== "CORRUPT_DATA") throw error;
  return { shard: shard.id.shard, sequence: 0, hits: [], missing: shard };
}

/** Bytes that a matrix takes while it is made: the vectors of the points drawn, and its pairs. */
function matrixBytes(sample: number, limit: number, dimension: number): number {
  const pairs = sample * Math.min(limit, sample);
  return sample * dimension * 4 + pairs * pairBytes;
}

/** Does what may find a fault of a query that stands within a request: its node is named from the request on. */
function within<T>(at: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof KithError)) throw error;
    const { code, message, details } = error;
    const { path } = details;
    if (typeof path !== "string") throw error;
    const named = message.startsWith(path) ? `${at}${message}` : message;
    throw new KithError(code, named, { details: { ...details, path: `${at}${path}` }, cause: error });
  }
}
