import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import type { Log } from "../../../libs/log/index.js";
import {
  checkStrict,
  fieldOf,
  type Hit,
  type IdKey,
  idMapKey,
  isSparse,
  partitionedId,
  type QueryTree,
} from "../../../libs/model/index.js";
import {
  checkQuery,
  checkStrictFilter,
  checkStrictQuery,
  type Group,
  type GroupValue,
  limitOf,
  runGroups,
  runMatrix,
  runQuery,
} from "../../../libs/query/index.js";
import { toFailure } from "../../../libs/rpc/common/index.js";
import { type Encoded, filterFromWire, pb, type QueryAnswer } from "../../../libs/wire/index.js";
import { accessOf } from "../access.js";
import { idOf } from "../ids.js";
import { partitionIn, storedId } from "../partitions.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { type AnswerBudget, type Reservation, sizeOf } from "./answer-budget.js";
import { AnswerWriter } from "./answer-writer.js";
import { CollectionSource } from "./collection-source.js";
import { checkExactScores, hasOriginals, withOriginals } from "./exact-scores.js";
import { highlighted, type Highlighting, highlightingOf } from "./highlights.js";
import { nearest } from "./nearest.js";
import { groupToWire, idOfValue, pointToWire, shapedHits } from "./points.js";
import { checkFilters, defaultResults, isTree, pathAt, recallTargetOf, treeOf } from "./query-request.js";
import { type Answered, QueryRunner, shapeOf, type Working } from "./query-runner.js";
import { type PayloadOptions, selectionOf } from "./read-options.js";
import { shapeOfGroups, shapeOfQuery, shapeOfRead } from "./shape.js";
import type { SlowLog } from "./slow-log.js";
import { TextStatisticsCache } from "./text-statistics.js";

/** A query that was checked, and what it reads. */
interface Prepared {
  source: CollectionSource;
  tree: QueryTree;
  payload: PayloadOptions;
  highlighting: Highlighting | undefined;
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
  readonly #budget: AnswerBudget;
  readonly #runner: QueryRunner;
  readonly writer: AnswerWriter;
  readonly #texts = new TextStatisticsCache();

  constructor(routingTable: RoutingTable, log: Log, nodeId: string, budget: AnswerBudget, slowLog: SlowLog) {
    this.#routingTable = routingTable;
    this.#budget = budget;
    this.writer = new AnswerWriter(budget, routingTable.runtime.clock);
    this.#runner = new QueryRunner(routingTable, log, nodeId, budget, slowLog);
  }

  close(): void {
    this.#runner.close();
  }

  /** What the answer will probably have, in bytes; 0 for a collection that there is not for the caller. `unknown`: where no like one was seen. */
  expectedBytes(request: pb.QueryRequest, call: CallContext, unknown?: number): number {
    const collection = this.#routingTable.findFor(request.collection, call);
    if (collection === undefined) return 0;
    const shape = shapeOf(collection, request);
    return unknown === undefined || this.#budget.isKnown(shape) ? this.#budget.expectedBytes(shape) : unknown;
  }

  /** As `expectedBytes`, of groups. */
  expectedGroupsBytes({ query, limit, groupSize }: pb.QueryGroupsRequest, call: CallContext): number {
    const results = (limit === 0 ? defaultGroups : limit) * (groupSize === 0 ? defaultGroupSize : groupSize);
    return query === undefined
      ? 0
      : this.expectedBytes({ ...query, limit: Math.min(results, limits.queryLimit) }, call);
  }

  /**
   * Queries that are answered together. BATCH_TOO_LARGE where the answers do not fit into one message, as soon as that is known:
   * they are read no more than a message's worth at a time. RESOURCE_EXHAUSTED where there is no room for them together: batches that each have
   * room for a part, and wait for the rest, would wait for each other.
   */
  async batch(requests: readonly pb.QueryRequest[], call: CallContext): Promise<Encoded<pb.QueryBatchResponse>> {
    this.#checkBatch(requests, call);
    // The call itself was counted at the door.
    if (requests.length > 1) accessOf(call).usage?.begin(requests.length - 1);
    const together = this.#expectedTogether(requests, call);
    const reserving = this.#budget.reserveTogether(together, call);
    const reservation = reserving instanceof Promise ? await reserving : reserving;
    const outcomes: (QueryAnswer | pb.Failure)[] = [];
    let next = 0;
    let answered = 0;
    let sizeBytes = 0;
    let expectedBytes = 0;
    const running = new Set<Promise<void>>();
    const run = async (at: number, request: pb.QueryRequest, expected: number): Promise<void> => {
      expectedBytes += expected;
      try {
        const outcome = await this.#query(request, call, true).catch((error: unknown) => toFailure(toKithError(error)));
        outcomes[at] = outcome;
        answered++;
        sizeBytes += "hits" in outcome ? sizeOf(outcome.hits) : 0;
        if (sizeBytes > together) reservation.settle(sizeBytes);
      } finally {
        expectedBytes -= expected;
      }
    };
    try {
      while (answered < requests.length) {
        for (let request = requests[next]; request !== undefined; request = requests[next]) {
          // One of which nothing is known goes alone.
          const expected = this.expectedBytes(request, call, limits.messageBytes);
          if (running.size > 0 && sizeBytes + expectedBytes + expected > limits.messageBytes) break;
          const one = run(next++, request, expected);
          running.add(one);
          void one.then(() => running.delete(one));
        }
        await Promise.race(running);
        if (sizeBytes > limits.messageBytes) throw batchTooLarge(answered, requests.length, sizeBytes);
      }
      reservation.settle(sizeBytes);
      return await this.writer.batch(outcomes);
    } finally {
      await Promise.all(running);
      reservation.release();
    }
  }

  /** What the answers of a batch will probably have together while they are read, in bytes. */
  #expectedTogether(requests: readonly pb.QueryRequest[], call: CallContext): number {
    let bytes = 0;
    let shards = 1;
    for (const request of requests) {
      const collection = this.#routingTable.findFor(request.collection, call);
      if (collection === undefined) continue;
      bytes += this.#budget.expectedBytes(shapeOf(collection, request)) * collection.shards.length;
      shards = Math.max(shards, collection.shards.length);
    }
    return Math.min(bytes, limits.messageBytes * shards);
  }

  /** COLLECTION_LIMIT where one collection is asked more at once than it allows. */
  #checkBatch(requests: readonly pb.QueryRequest[], call: CallContext): void {
    const counts = new Map<string, number>();
    for (const { collection } of requests) counts.set(collection, (counts.get(collection) ?? 0) + 1);
    for (const [name, count] of counts) {
      const record = this.#routingTable.findFor(name, call)?.record;
      // Of one that is none of the caller's, each query tells by itself that there is none.
      if (record === undefined) continue;
      checkStrict(record.strictMode, "maxBatchQueries", count, `the number of queries to "${name}"`);
    }
  }

  /** RESOURCE_EXHAUSTED where too many queries are in flight, alone, in batches and on streams together, or their answers are too large. */
  query(request: pb.QueryRequest, call: CallContext): Promise<QueryAnswer> {
    return this.#query(request, call, false);
  }

  async #query(request: pb.QueryRequest, call: CallContext, isOfBatch: boolean): Promise<QueryAnswer> {
    const described = { span: "router.query", kind: "query", shape: () => shapeOfQuery(request) };
    const isByTree = isTree(request) || request.explain || this.#isOfSparse(request, call);
    checkExactScores(request, isByTree);
    const wanted = request.exactScores ? this.#withOriginals(request, call) : withMarkedTexts(request);
    const work = (working: Working): Promise<Answered> =>
      isByTree ? this.#tree(working, request) : nearest(working, wanted, hasOriginals(request));
    const answered = await this.#runner.run(described, wanted, call, work, isOfBatch);
    return answered[1];
  }

  /** As `query`, as a message. */
  async answer(request: pb.QueryRequest, call: CallContext): Promise<Encoded<pb.QueryResponse>> {
    return this.writer.query(await this.query(request, call));
  }

  /** As `answer`, of a request of a QueryStream. */
  async answerStreamed(
    requestId: number | bigint,
    request: pb.QueryRequest,
    call: CallContext,
  ): Promise<Encoded<pb.QueryStreamResponse>> {
    return this.writer.streamed(requestId, await this.query(request, call));
  }

  #isOfSparse({ collection, using }: pb.QueryRequest, call: CallContext): boolean {
    const record = this.#routingTable.findFor(collection, call)?.record;
    return record !== undefined && isSparse(record, using);
  }

  #withOriginals(request: pb.QueryRequest, call: CallContext): pb.QueryRequest {
    const fields = this.#routingTable.findFor(request.collection, call)?.record.fields;
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
    const wanted = withMarkedTexts({ ...query, limit: grouping.limit * grouping.size });
    const described = { span: "router.query_groups", kind: "query_groups", shape: () => shapeOfGroups(request) };
    const held: Reservation[] = [];
    const answering = this.#runner.run(described, wanted, call, async (working) => {
      checkStrict(working.collection.record.strictMode, "maxLimit", wanted.limit, "limit x group_size");
      const prepared = within("query.", () => this.#prepare(working, query, wanted.limit));
      const { source, tree, payload } = prepared;
      const found: Group<Hit>[] = [];
      for (const group of await runGroups(source, tree, grouping))
        found.push({ ...group, hits: [...(await this.#marked(working, group.hits, prepared))] });
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
    const answering = this.#runner.run(described, common, call, async (working) => {
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

  /** Every other query: a tree of stages, each of which reads all shards. */
  async #tree(working: Working, request: pb.QueryRequest): Promise<Answered> {
    const prepared = this.#prepare(working, request);
    const { source, tree, payload } = prepared;
    const found = await this.#marked(working, await runQuery(source, tree), prepared);
    const hits = source.work("shape", () => [...shapedHits(found, payload)]);
    const shape = { payloadAsStruct: payload.asStruct, matrices: payload.matrices };
    return { hits, ...shape, missing: [...source.missing], sequences: source.sequences() };
  }

  /** With what is marked in their texts, where that is asked for. */
  async #marked({ call, step }: Working, hits: readonly Hit[], { highlighting }: Prepared): Promise<readonly Hit[]> {
    if (highlighting === undefined) return hits;
    const marking = step?.begin("highlight");
    const found = await highlighted(hits, highlighting, call, this.#routingTable.runtime.clock);
    marking?.end();
    return found;
  }

  /** The query as a tree that was checked, and what it reads. `limit`: results, where these are not what the request says. */
  #prepare(working: Working, request: pb.QueryRequest, limit?: number): Prepared {
    const checking = working.step?.begin("check");
    const { record } = working.collection;
    const { select: asked, payload } = selectionOf(record, request.select);
    // What is marked is read, whether it comes back or not.
    const select = request.highlight === undefined ? asked : { ...asked, payload: true };
    const partition = partitionIn(working.collection, request.partition);
    // Where it is not named, and needed, the source tells: an example may be of another collection.
    const tree = treeOf(request, select, (id) => (partition === undefined ? id : partitionedId(partition, id)));
    checkQuery(record, tree, (name, using) => fieldOf(this.#routingTable.resolve(name, working.call).record, using));
    checkFilters(tree, "");
    const results = tree.limit === 0 ? defaultResults : tree.limit;
    checkStrictQuery(record, tree, results + tree.offset);
    const highlighting = highlightingOf(record, request, tree, limit ?? results, asked.payload);
    checking?.end();
    const recallTarget = recallTargetOf(record, request);
    const source = this.#source(working, request.allowPartial, partition, recallTarget);
    return { source, tree, payload, highlighting };
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
}

/** A request that reads the payloads in which it marks words: they count among the answers that are in flight. */
function withMarkedTexts(request: pb.QueryRequest): pb.QueryRequest {
  if (request.highlight === undefined) return request;
  return { ...request, select: pb.Select.fromPartial({ ...request.select, payload: true }) };
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
