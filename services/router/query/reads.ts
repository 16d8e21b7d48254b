import { KithError, limits } from "../../../libs/base/index.js";
import type { Log } from "../../../libs/log/index.js";
import {
  checkStrict,
  compareIds,
  type Filter,
  idBefore,
  type IdKey,
  partitionedId,
  type StoredPoint,
} from "../../../libs/model/index.js";
import { type CallContext, childCall, type RowRule } from "../../../libs/call/index.js";
import { checkOrder, checkStrictFilter, limitOf, mergeFacets, mergePages } from "../../../libs/query/index.js";
import { inSpan } from "../../../libs/telemetry/index.js";
import { filterFromWire, orderFromWire, type pb, type ShardSequence } from "../../../libs/wire/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import { accessOf, narrowed, refuseTelling, ruleOf, seeing, seen } from "../access.js";
import { checkBatchSize } from "../write/point-batch.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { keyOf } from "../ids.js";
import { type AnswerBudget, facetBytes, sizeOf } from "./answer-budget.js";
import { askShard } from "./ask-shard.js";
import {
  decodeIdCursor,
  decodePlaceCursor,
  encodeIdCursor,
  encodePlaceCursor,
  type ScrollMark,
  scrollMark,
} from "./cursor.js";
import { ExplainStep } from "./explain.js";
import { pointToWire } from "./points.js";
import { partitionIn, type Scoped, scoped, skipped, storedId } from "../partitions.js";
import { pathAt } from "./query-request.js";
import { minSequencesOf, type PayloadOptions, selectionOf } from "./read-options.js";
import { shapeOfPath, shapeOfRead } from "./shape.js";
import type { SlowLog } from "./slow-log.js";
import { orderedPage, pagesOf, type Scrolling } from "./scroll.js";

const defaultScroll = 100;
const defaultFacets = 10;

/** Tells of the points that an answer has. */
type Counted = (points: readonly StoredPoint[]) => void;

/** Get, scroll and count. */
export class Reads {
  readonly #routingTable: RoutingTable;
  readonly #log: Log;

  readonly #budget: AnswerBudget;
  readonly #slowLog: SlowLog;

  constructor(routingTable: RoutingTable, log: Log, budget: AnswerBudget, slowLog: SlowLog) {
    this.#routingTable = routingTable;
    this.#log = log;
    this.#budget = budget;
    this.#slowLog = slowLog;
  }

  /** What a page will probably have, in bytes; 0 for a collection that there is not for the caller. */
  expectedBytes({ collection: name, select, limit }: pb.ScrollRequest, call: CallContext): number {
    const collection = this.#routingTable.findFor(name, call);
    if (collection === undefined) return 0;
    const count = Math.min(limit === 0 ? defaultScroll : limit, limits.scrollLimit);
    const expected = this.#budget.expectedBytes({ collectionId: collection.record.id, select, count });
    return Math.min(expected, limits.scrollBytes);
  }

  /** Runs a read whose points count in the budget of answers, until they are on their way. */
  async #counted<T>(
    { record }: RoutedCollection,
    select: pb.Select | undefined,
    count: number,
    copies: number,
    call: CallContext,
    read: (counted: Counted) => Promise<T>,
  ): Promise<T> {
    const reservation = await this.#budget.reserveKnown({ collectionId: record.id, select, count }, copies, call);
    try {
      return await read((points) => {
        const sizeBytes = sizeOf(points);
        reservation.settle(sizeBytes);
        accessOf(call).usage?.spend(points.length, sizeBytes);
      });
    } finally {
      reservation.release();
    }
  }

  #retrying<T>({ collection }: { collection: string }, call: CallContext, read: () => Promise<T>): Promise<T> {
    return this.#routingTable.epochs.retrying(collection, call, read);
  }

  /** The collection of a read, which counts in its rate; and which of its points are there for the caller. */
  #resolve(name: string, call: CallContext): { collection: RoutedCollection; rule: RowRule | undefined } {
    const collection = this.#routingTable.resolve(name, call);
    this.#routingTable.rates.take(collection.record, "maxReadsPerSecond");
    return { collection, rule: ruleOf(call, collection.record) };
  }

  get(request: pb.GetPointsRequest, call: CallContext): Promise<pb.GetPointsResponse> {
    const { collection, ids } = request;
    const slow = { kind: "get", collection, shape: () => `get ${ids.length} ids` };
    return this.#slowLog.watch(slow, () => this.#retrying(request, call, () => this.#get(request, call)));
  }

  scroll(request: pb.ScrollRequest, call: CallContext): Promise<pb.ScrollResponse> {
    const { collection, limit, orderBy, filter } = request;
    const lead = `scroll limit ${limit}${orderBy === undefined ? "" : ` by ${shapeOfPath(orderBy.key)}`}`;
    return this.#slowLog.watch({ kind: "scroll", collection, shape: () => shapeOfRead(lead, filter) }, () =>
      this.#retrying(request, call, () => this.#scroll(request, call)),
    );
  }

  count(request: pb.CountRequest, call: CallContext): Promise<pb.CountResponse> {
    const { collection, filter } = request;
    return this.#slowLog.watch({ kind: "count", collection, shape: () => shapeOfRead("count", filter) }, () =>
      this.#retrying(request, call, () => this.#count(request, call)),
    );
  }

  facet(request: pb.FacetRequest, call: CallContext): Promise<pb.FacetResponse> {
    const { collection, key, limit, filter } = request;
    const shape = (): string => shapeOfRead(`facet by ${shapeOfPath(key)} limit ${limit}`, filter);
    return this.#slowLog.watch({ kind: "facet", collection, shape }, () =>
      this.#retrying(request, call, () => this.#facet(request, call)),
    );
  }

  async #get(request: pb.GetPointsRequest, call: CallContext): Promise<pb.GetPointsResponse> {
    const { collection, rule } = this.#resolve(request.collection, call);
    checkBatchSize(request.ids.length, "ids");
    const { strictMode } = collection.record;
    checkStrict(strictMode, "maxBatchPoints", request.ids.length, "the number of ids");
    const partition = partitionIn(collection, request.partition);
    const keys = request.ids.map((id, row) => {
      return storedId(
        collection,
        keyOf(id, () => `ids[${row}]`),
        partition,
        "ids",
      );
    });
    const { select, payload } = selectionOf(collection.record, request.select);
    const get = (counted: Counted): Promise<pb.GetPointsResponse> =>
      inSpan(call.trace, "router.get", undefined, async (span) => {
        const minSequences = await minSequencesOf(collection, request.consistency, this.#log, request.collection);
        const inner = childCall(call, span.trace);
        const byShard = new Map<RoutedShard, { ids: IdKey[]; rows: number[] }>();
        keys.forEach((id, row) => {
          const shard = collection.shardOf(id);
          const group = byShard.get(shard) ?? { ids: [], rows: [] };
          byShard.set(shard, group);
          group.ids.push(id);
          group.rows.push(row);
        });
        const found: (StoredPoint | undefined)[] = new Array<StoredPoint | undefined>(keys.length);
        const sequences = await Promise.all(
          [...byShard].map(async ([shard, { ids, rows }]) => {
            const { points, sequence } = await shard.ask(inner, (api, context) =>
              api.read(
                "get",
                shard.id,
                { ids, select: seeing(select, rule), minSequence: minSequences(shard.id.shard) },
                context,
              ),
            );
            const visible = seen(points, select, rule);
            // There is a point for every id that exists, in the order asked: one walk over both pairs them.
            let at = 0;
            ids.forEach((id, i) => {
              const point = visible[at];
              if (point === undefined || compareIds(point.id, id) !== 0) return;
              found[rows[i] as number] = point;
              at++;
            });
            return { shard: shard.id.shard, sequence };
          }),
        );
        const points = found.filter((point) => point !== undefined);
        counted(points);
        return { points: points.map((point) => pointToWire(point, payload)), token: tokenOf(collection, sequences) };
      });
    return this.#counted(collection, request.select, keys.length, 1, call, get);
  }

  /** Where it is to be explained: the step of the whole answer, from now on. */
  #step(explain: boolean): ExplainStep | undefined {
    const { clock } = this.#routingTable.runtime;
    return explain ? new ExplainStep(clock, "answer", clock.monotonicMs()) : undefined;
  }

  async #scroll(request: pb.ScrollRequest, call: CallContext): Promise<pb.ScrollResponse> {
    const step = this.#step(request.explain);
    const preparing = step?.begin("prepare");
    const { collection, rule } = this.#resolve(request.collection, call);
    if (request.explain) refuseTelling(rule, "explain");
    const limit = limitOf(request.limit, defaultScroll, limits.scrollLimit, "limit");
    checkStrict(collection.record.strictMode, "maxLimit", limit, "limit");
    const { select, payload } = selectionOf(collection.record, request.select);
    const filter = filterOf(request.filter, collection);
    const partition = partitionIn(collection, request.partition);
    const { shards, filter: asked } = scoped(collection, narrowed(filter, rule), partition);
    const orderBy = request.orderBy && orderFromWire(request.orderBy, "order_by");
    if (orderBy !== undefined) checkOrder(orderBy, "order_by");
    if (request.from !== undefined) checkFrom(request, collection);
    const mark = scrollMark(collection.record.id, filter, orderBy, partition);
    const scroll = (counted: Counted): Promise<pb.ScrollResponse> =>
      inSpan(call.trace, "router.scroll", undefined, async (span) => {
        const minSequences = await minSequencesOf(collection, request.consistency, this.#log, request.collection);
        const scrolling: Scrolling = {
          collection,
          limit,
          select,
          filter: asked,
          shards,
          rule,
          minSequences,
          call: childCall(call, span.trace),
          step,
        };
        preparing?.end();
        if (orderBy !== undefined) {
          const after = decodePlaceCursor(request.cursor, mark);
          const page = await orderedPage(scrolling, orderBy, after);
          counted(page.points);
          const points = wireOf(page.points, payload, step);
          return {
            points,
            orders: page.orders,
            nextCursor: page.next === undefined ? new Uint8Array() : encodePlaceCursor(mark, page.next),
            token: tokenOf(collection, page.sequences),
            explain: step?.toWire(),
          };
        }
        const pages = await pagesOf(scrolling, startOf(request, mark, partition));
        const merging = step?.begin("merge");
        const { points, end } = mergePages(pages, limit);
        merging?.end();
        counted(points);
        const last = points[points.length - 1];
        return {
          points: wireOf(points, payload, step),
          orders: [],
          nextCursor: end || last === undefined ? new Uint8Array() : encodeIdCursor(mark, last.id),
          token: tokenOf(collection, pages),
          explain: step?.toWire(),
        };
      });
    return this.#counted(collection, request.select, limit, collection.shards.length, call, scroll);
  }

  async #count(request: pb.CountRequest, call: CallContext): Promise<pb.CountResponse> {
    const step = this.#step(request.explain);
    const preparing = step?.begin("prepare");
    const { collection, rule } = this.#resolve(request.collection, call);
    const { shards, filter } = scopeOf(request, collection, rule);
    // An estimate tells of points that do not pass, too.
    const approximate = request.approximate && rule === undefined;
    if (request.explain) refuseTelling(rule, "explain");
    const { explain } = request;
    return inSpan(call.trace, "router.count", undefined, async (span) => {
      const minSequences = await minSequencesOf(collection, request.consistency, this.#log, request.collection);
      const inner = childCall(call, span.trace);
      preparing?.end();
      const reading = step?.begin("count").fact("shards_skipped", skipped(collection, shards));
      const counts = await askAll(shards, (shard) => {
        const wanted = { filter, approximate, minSequence: minSequences(shard.id.shard), explain };
        return askShard(shard, "count", wanted, { call: inner, step: reading });
      });
      reading?.end();
      const count = counts.reduce((sum, { count }) => sum + count, 0);
      step?.end();
      return { count, token: tokenOf(collection, counts), explain: step?.toWire() };
    });
  }

  async #facet(request: pb.FacetRequest, call: CallContext): Promise<pb.FacetResponse> {
    const step = this.#step(request.explain);
    const preparing = step?.begin("prepare");
    const { collection, rule } = this.#resolve(request.collection, call);
    const { shards, filter } = scopeOf(request, collection, rule);
    const limit = limitOf(request.limit, defaultFacets, limits.queryLimit, "limit");
    checkStrict(collection.record.strictMode, "maxLimit", limit, "limit");
    const key = pathAt(request.key, "key").text;
    const { explain } = request;
    if (explain) refuseTelling(rule, "explain");
    const approximate = request.approximate && rule === undefined;
    // What the shards give: all values that they have, of which the answer has the first.
    const shape = { collectionId: collection.record.id, select: undefined, count: 1, kind: `facet ${key}` };
    const reservation = await this.#budget.reserveKnown(shape, 1, call);
    const facet = inSpan(call.trace, "router.facet", undefined, async (span): Promise<pb.FacetResponse> => {
      const minSequences = await minSequencesOf(collection, request.consistency, this.#log, request.collection);
      const inner = childCall(call, span.trace);
      preparing?.end();
      const reading = step?.begin("facet").fact("shards_skipped", skipped(collection, shards));
      const facets = await askAll(shards, (shard) => {
        const scope = { filter, ids: undefined, exclude: [], minSequence: minSequences(shard.id.shard), explain };
        return askShard(shard, "facet", { key, approximate, ...scope }, { call: inner, step: reading });
      });
      reading?.end();
      reservation.settle(facets.reduce((sum, { counts }) => sum + facetBytes(counts), 0));
      const merging = step?.begin("merge");
      const hits = mergeFacets(
        facets.map(({ counts }) => counts),
        limit,
      );
      merging?.end();
      step?.end();
      return { hits: hits.map(facetHitOf), token: tokenOf(collection, facets), explain: step?.toWire() };
    });
    return facet.finally(() => reservation.release());
  }
}

function checkFrom({ orderBy, cursor, partition }: pb.ScrollRequest, { partitionPath }: RoutedCollection): void {
  const isPlain = orderBy === undefined && cursor.length === 0;
  if (isPlain && (partitionPath === undefined || (partition ?? "") !== "")) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    "from begins a scroll in order of ids: leave out cursor and order_by, and in a collection with a partition key set partition, or begin with a cursor",
    { details: { field: "from" } },
  );
}

/** The id after which a page begins. */
function startOf(
  { cursor, from }: pb.ScrollRequest,
  mark: ScrollMark,
  partition: string | undefined,
): IdKey | undefined {
  if (from === undefined) return decodeIdCursor(cursor, mark);
  const before = idBefore(keyOf(from, () => "from"));
  return before === undefined || partition === undefined ? before : partitionedId(partition, before);
}

function wireOf(points: readonly StoredPoint[], payload: PayloadOptions, step: ExplainStep | undefined): pb.Point[] {
  const encoding = step?.begin("encode");
  const wire = points.map((point) => pointToWire(point, payload));
  encoding?.end();
  step?.end();
  return wire;
}

function facetHitOf({ value, count }: ReturnType<typeof mergeFacets>[number]): pb.FacetHit {
  if (typeof value === "boolean") return { value: { $case: "boolean", value }, count };
  if (typeof value === "number" && Number.isSafeInteger(value)) return { value: { $case: "integer", value }, count };
  // A whole number beyond 2^53 keeps its digits as text.
  return { value: { $case: "text", value: String(value) }, count };
}

/** The filter of a request, checked; INVALID_FILTER, and COLLECTION_LIMIT where it is more than the collection allows. */
function filterOf(wire: pb.Filter | undefined, { record }: RoutedCollection): Filter | undefined {
  if (wire === undefined) return undefined;
  const filter = filterFromWire(wire);
  validateFilter(filter);
  checkStrictFilter(record, filter, "filter");
  return filter;
}

/** Which shards a count or a facet asks, and for what. */
function scopeOf(
  { filter, partition }: Pick<pb.CountRequest, "filter" | "partition">,
  collection: RoutedCollection,
  rule: RowRule | undefined,
): Scoped {
  return scoped(collection, narrowed(filterOf(filter, collection), rule), partitionIn(collection, partition));
}

/** What each of these shards answers, with its id. */
function askAll<T extends object>(
  shards: readonly RoutedShard[],
  ask: (shard: RoutedShard) => Promise<T>,
): Promise<(T & { shard: number })[]> {
  return Promise.all(shards.map(async (shard) => ({ ...(await ask(shard)), shard: shard.id.shard })));
}

function tokenOf({ record }: RoutedCollection, reads: readonly ShardSequence[]): pb.Token {
  return { shards: reads.map(({ shard, sequence }) => ({ shard, sequence })), collectionId: record.id };
}
