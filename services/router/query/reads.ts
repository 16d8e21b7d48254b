import { KithError, limits } from "../../../libs/base/index.js";
import type { Log } from "../../../libs/log/index.js";
import {
  compareIds,
  type Filter,
  type IdKey,
  isIdKey,
  parsePath,
  type StoredPoint,
} from "../../../libs/model/index.js";
import { type CallContext, childCall } from "../../../libs/call/index.js";
import { limitOf, mergeFacets, mergePages } from "../../../libs/query/index.js";
import { inSpan } from "../../../libs/telemetry/index.js";
import { filterFromWire, type pb, type ShardSequence } from "../../../libs/wire/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import { checkBatchSize } from "../write/point-batch.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { idOf, keyOf } from "../ids.js";
import { type AnswerBudget, sizeOf } from "./answer-budget.js";
import { minSequencesOf, selectOf } from "./read-options.js";

const defaultScroll = 100;
const defaultFacets = 10;

/** Tells of the points that an answer has. */
type Counted = (points: readonly StoredPoint[]) => void;

/** Get, scroll and count. */
export class Reads {
  readonly #routingTable: RoutingTable;
  readonly #log: Log;

  readonly #budget: AnswerBudget;

  constructor(routingTable: RoutingTable, log: Log, budget: AnswerBudget) {
    this.#routingTable = routingTable;
    this.#log = log;
    this.#budget = budget;
  }

  /** Runs a read whose points count in the budget of answers, until they are on their way. */
  async #counted<T>(
    { record }: RoutedCollection,
    select: pb.Select | undefined,
    count: number,
    copies: number,
    read: (counted: Counted) => Promise<T>,
  ): Promise<T> {
    const reservation = this.#budget.reserve({ collectionId: record.id, select, count }, copies);
    try {
      return await read((points) => reservation.settle(sizeOf(points)));
    } finally {
      reservation.release();
    }
  }

  async get(request: pb.GetPointsRequest, call: CallContext): Promise<pb.GetPointsResponse> {
    const collection = this.#routingTable.resolve(request.collection);
    checkBatchSize(request.ids.length, "ids");
    const keys = request.ids.map((id, row) => keyOf(id, () => `ids[${row}]`));
    const select = selectOf(collection.record, request.select);
    const get = (counted: Counted): Promise<pb.GetPointsResponse> =>
      inSpan(call.trace, "router.get", undefined, async (span) => {
        const minSequences = await minSequencesOf(collection, request.consistency, this.#log);
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
              api.read("get", shard.id, { ids, select, minSequence: minSequences(shard.id.shard) }, context),
            );
            // The answer has a point for every id that exists, in the order asked: one walk over both pairs them.
            let at = 0;
            ids.forEach((id, i) => {
              const point = points[at];
              if (point === undefined || compareIds(point.id, id) !== 0) return;
              found[rows[i] as number] = point;
              at++;
            });
            return { shard: shard.id.shard, sequence };
          }),
        );
        const points = found.filter((point) => point !== undefined);
        counted(points);
        return { points: points.map(pointOf), token: tokenOf(collection, sequences) };
      });
    return this.#counted(collection, request.select, keys.length, 1, get);
  }

  async scroll(request: pb.ScrollRequest, call: CallContext): Promise<pb.ScrollResponse> {
    const collection = this.#routingTable.resolve(request.collection);
    const limit = limitOf(request.limit, defaultScroll, limits.scrollLimit, "limit");
    const select = selectOf(collection.record, request.select);
    const filter = filterOf(request.filter);
    const after = request.cursor.length === 0 ? undefined : request.cursor;
    if (after !== undefined && !isIdKey(after)) {
      throw new KithError(
        "INVALID_ARGUMENT",
        "the cursor is not one that a scroll returned; begin again with an empty one",
      );
    }
    const scroll = (counted: Counted): Promise<pb.ScrollResponse> =>
      inSpan(call.trace, "router.scroll", undefined, async (span) => {
        const minSequences = await minSequencesOf(collection, request.consistency, this.#log);
        const inner = childCall(call, span.trace);
        const pages = await askAll(collection, (shard) =>
          shard.ask(inner, (api, context) =>
            api.read(
              "scroll",
              shard.id,
              { after, limit, select, filter, minSequence: minSequences(shard.id.shard) },
              context,
            ),
          ),
        );
        const { points, end } = mergePages(pages, limit);
        counted(points);
        const last = points[points.length - 1];
        return {
          points: points.map(pointOf),
          nextCursor: end || last === undefined ? new Uint8Array() : last.id,
          token: tokenOf(collection, pages),
        };
      });
    return this.#counted(collection, request.select, limit, collection.shards.length, scroll);
  }

  async count(request: pb.CountRequest, call: CallContext): Promise<pb.CountResponse> {
    const collection = this.#routingTable.resolve(request.collection);
    const filter = filterOf(request.filter);
    return inSpan(call.trace, "router.count", undefined, async (span) => {
      const minSequences = await minSequencesOf(collection, request.consistency, this.#log);
      const inner = childCall(call, span.trace);
      const counts = await askAll(collection, (shard) =>
        shard.ask(inner, (api, context) =>
          api.read("count", shard.id, { filter, minSequence: minSequences(shard.id.shard) }, context),
        ),
      );
      return { count: counts.reduce((sum, { count }) => sum + count, 0), token: tokenOf(collection, counts) };
    });
  }

  async facet(request: pb.FacetRequest, call: CallContext): Promise<pb.FacetResponse> {
    const collection = this.#routingTable.resolve(request.collection);
    const filter = filterOf(request.filter);
    const limit = limitOf(request.limit, defaultFacets, limits.queryLimit, "limit");
    const key = parsePath(request.key).text;
    return inSpan(call.trace, "router.facet", undefined, async (span) => {
      const minSequences = await minSequencesOf(collection, request.consistency, this.#log);
      const inner = childCall(call, span.trace);
      const facets = await askAll(collection, (shard) =>
        shard.ask(inner, (api, context) => {
          const minSequence = minSequences(shard.id.shard);
          return api.read("facet", shard.id, { key, filter, ids: undefined, exclude: [], minSequence }, context);
        }),
      );
      const hits = mergeFacets(
        facets.map(({ counts }) => counts),
        limit,
      );
      return { hits: hits.map(facetHitOf), token: tokenOf(collection, facets) };
    });
  }
}

function facetHitOf({ value, count }: ReturnType<typeof mergeFacets>[number]): pb.FacetHit {
  if (typeof value === "boolean") return { value: { $case: "boolean", value }, count };
  if (typeof value === "number" && Number.isSafeInteger(value)) return { value: { $case: "integer", value }, count };
  // A whole number beyond 2^53 keeps its digits as text.
  return { value: { $case: "text", value: String(value) }, count };
}

/** The filter of a request, checked; INVALID_FILTER. */
function filterOf(wire: pb.Filter | undefined): Filter | undefined {
  if (wire === undefined) return undefined;
  const filter = filterFromWire(wire);
  validateFilter(filter);
  return filter;
}

/** What each shard that owns hash slots answers, with its id. */
export function askAll<T extends object>(
  collection: RoutedCollection,
  ask: (shard: RoutedShard) => Promise<T>,
): Promise<(T & { shard: number })[]> {
  return Promise.all(collection.shards.map(async (shard) => ({ ...(await ask(shard)), shard: shard.id.shard })));
}

function tokenOf({ record }: RoutedCollection, reads: readonly ShardSequence[]): pb.Token {
  return { shards: reads.map(({ shard, sequence }) => ({ shard, sequence })), collectionId: record.id };
}

function pointOf(point: StoredPoint): pb.Point {
  return {
    id: idOf(point.id),
    vectors: point.vectors === undefined ? {} : vectorsOf(point.vectors),
    payload: point.payload,
    version: point.version,
  };
}

function vectorsOf(vectors: ReadonlyMap<string, Float32Array>): { [name: string]: pb.Vector } {
  return Object.fromEntries([...vectors].map(([name, values]) => [name, { values }]));
}
