import { KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { Log } from "../../../libs/log/index.js";
import { fieldOf, type Hit, type IdKey, type ShardQuery, type VectorField } from "../../../libs/model/index.js";
import { checkQuery, finishNearest, type NearestPlan, planNearest, runQuery } from "../../../libs/query/index.js";
import { type CallContext, childCall } from "../../../libs/call/index.js";
import { toFailure } from "../../../libs/rpc/common/index.js";
import { collecting, histogramOf, metricsEnabled, SpanCollector, startSpan } from "../../../libs/telemetry/index.js";
import type { pb, QueryAnswer, ShardSequence } from "../../../libs/wire/index.js";
import type { RoutedCollection } from "../routing/routed-collection.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { keyOf } from "../ids.js";
import { CollectionSource } from "./collection-source.js";
import { checkFilters, isTree, treeOf } from "./query-request.js";
import { type AnswerBudget, type AnswerShape, type Reservation, sizeOf } from "./answer-budget.js";
import { type MinSequences, minSequencesOf, selectOf } from "./read-options.js";

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
  /** Shards that did not answer. */
  missing: readonly RoutedShard[];
  sequences: readonly ShardSequence[];
}

/** The query path: plan, pick replicas, scatter, merge. */
export class Queries {
  readonly #routingTable: RoutingTable;
  readonly #log: Log;
  readonly #nodeId: string;
  readonly #budget: AnswerBudget;
  #inFlight = 0;

  constructor(routingTable: RoutingTable, log: Log, nodeId: string, budget: AnswerBudget) {
    this.#routingTable = routingTable;
    this.#log = log;
    this.#nodeId = nodeId;
    this.#budget = budget;
  }

  /** What the answer will probably have, in bytes; 0 for a collection that there is not. `unknown`: where no like one was seen. */
  expectedBytes(request: pb.QueryRequest, unknown?: number): number {
    const collection = this.#routingTable.find(request.collection);
    if (collection === undefined) return 0;
    const shape = shapeOf(collection, request);
    return unknown === undefined || this.#budget.isKnown(shape) ? this.#budget.expectedBytes(shape) : unknown;
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

  /** RESOURCE_EXHAUSTED where too many queries are in flight, alone, in batches and on streams together, or their answers are too large. */
  async query(request: pb.QueryRequest, call: CallContext): Promise<QueryAnswer> {
    if (this.#inFlight >= limits.inFlightCalls) throw tooManyQueries();
    const { clock } = this.#routingTable.runtime;
    const startMs = clock.monotonicMs();
    let collection: RoutedCollection | undefined;
    let reservation: Reservation | undefined;
    this.#inFlight++;
    const collector = request.trace ? new SpanCollector(this.#nodeId) : undefined;
    const outer = collector === undefined ? call : childCall(call, collecting(call.trace, collector));
    const span = startSpan(outer.trace, "router.query", { attributes: { "kith.collection": request.collection } });
    try {
      const inner = childCall(outer, span.trace);
      collection = this.#routingTable.resolve(request.collection);
      reservation = this.#budget.reserve(shapeOf(collection, request), collection.shards.length);
      const settled = minSequencesOf(collection, request.consistency, this.#log);
      const minSequences = settled instanceof Promise ? await settled : settled;
      const { hits, missing, sequences } = isTree(request)
        ? await this.#tree(collection, request, minSequences, inner)
        : await this.#nearest(collection, request, minSequences, inner);
      reservation.settle(sizeOf(hits));
      span.set("kith.results", hits.length);
      span.end();
      if (metricsEnabled()) duration.record((clock.monotonicMs() - startMs) / 1000, collection.attributes);
      return {
        hits,
        missing: missing.map(({ placement: { firstSlot, lastSlot } }) => ({ first: firstSlot, last: lastSlot })),
        trace: collector?.spans ?? [],
        tookUs: Math.round((clock.monotonicMs() - startMs) * 1000),
        sequences,
        collectionId: collection.record.id,
      };
    } catch (error) {
      span.end(error);
      if (metricsEnabled()) {
        // Without the name of a collection that there is not: whoever asks could make up any number of them.
        const attributes = { ...collection?.attributes, "error.type": toKithError(error).code };
        duration.record((clock.monotonicMs() - startMs) / 1000, attributes);
      }
      throw error;
    } finally {
      // From here the answer is the server's, which counts what its clients have not taken.
      reservation?.release();
      this.#inFlight--;
    }
  }

  /** The common query: one search of each shard. */
  async #nearest(
    collection: RoutedCollection,
    request: pb.QueryRequest,
    minSequences: MinSequences,
    inner: CallContext,
  ): Promise<Answered> {
    const field = fieldOf(collection.record, request.using);
    const exclude = excludedBy(request);
    const stored = exclude && (await this.#vectorOf(collection, field, exclude, minSequences, inner));
    const { using, limit, ef, exact, scoreThreshold } = request;
    const vector = stored?.vector ?? request.vector;
    const select = selectOf(collection.record, request.select);
    const plan = planNearest(collection.record, { using, vector, limit, ef, exact, select, scoreThreshold, exclude });
    const notBefore = stored === undefined ? minSequences : alsoAfter(minSequences, stored);
    const results = await scatter(collection, plan, notBefore, request.allowPartial, inner);
    return {
      hits: finishNearest(
        plan,
        results.map(({ hits }) => hits),
      ),
      missing: results.flatMap((result) => result.missing ?? []),
      sequences: sequencesOf(results, stored),
    };
  }

  /** Every other query: a tree of stages, each of which reads all shards. */
  async #tree(
    collection: RoutedCollection,
    request: pb.QueryRequest,
    minSequences: MinSequences,
    call: CallContext,
  ): Promise<Answered> {
    const tree = treeOf(request, selectOf(collection.record, request.select));
    const resolve = (name: string): RoutedCollection => this.#routingTable.resolve(name);
    checkQuery(collection.record, tree, (name, using) => fieldOf(resolve(name).record, using));
    checkFilters(tree, "");
    const { allowPartial } = request;
    const source = new CollectionSource({ collection, minSequences, call, allowPartial, resolve });
    const hits = await runQuery(source, tree);
    return { hits, missing: [...source.missing], sequences: source.sequences() };
  }

  async #vectorOf(
    collection: RoutedCollection,
    field: VectorField,
    id: IdKey,
    minSequences: MinSequences,
    call: CallContext,
  ): Promise<StoredVector> {
    const shard = collection.shardOf(id);
    const select = { payload: false, vectors: [field.name] };
    const { points, sequence } = await shard.ask(call, (api, context) =>
      api.read("get", shard.id, { ids: [id], select, minSequence: minSequences(shard.id.shard) }, context),
    );
    const point = points[0];
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

/** Results of a query that names no limit; at least the smallest of what the server takes for it. */
const defaultResults = 10;

function shapeOf(collection: RoutedCollection, { limit, offset, select }: pb.QueryRequest): AnswerShape {
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

function tooManyQueries(): KithError {
  const limit = limits.inFlightCalls;
  return new KithError("RESOURCE_EXHAUSTED", `the router is answering ${limit} queries already; try again shortly`, {
    details: { limit },
    retryAfterMs: 100,
  });
}

/** The point whose stored vector is the query, if the request names one. */
function excludedBy(request: pb.QueryRequest): IdKey | undefined {
  if (request.point === undefined) return undefined;
  if (request.vector.length > 0) {
    throw new KithError("INVALID_ARGUMENT", "the query has both a vector and a point; give one of them");
  }
  return keyOf(request.point, () => "point");
}

function scatter(
  collection: RoutedCollection,
  plan: NearestPlan,
  minSequences: MinSequences,
  allowPartial: boolean,
  call: CallContext,
): Promise<ShardHits[]> {
  return Promise.all(
    collection.shards.map((shard) => {
      const asked = askShard(shard, queryOf(plan.shardQuery, minSequences(shard.id.shard)), call);
      return allowPartial ? asked.catch((error) => missing(shard, error)) : asked;
    }),
  );
}

/** Not `{ ...query, minSequence }`: the V8 of Node 20 gives every object with a new key behind a spread a hidden class of its own. */
function queryOf(query: NearestPlan["shardQuery"], minSequence: number): ShardQuery {
  const { field, vector, k, ef, exact, select } = query;
  return { field, vector, k, ef, exact, select, minSequence };
}

async function askShard(shard: RoutedShard, query: ShardQuery, call: CallContext): Promise<ShardHits> {
  const span = startSpan(call.trace, "router.ask_shard", {
    role: "client",
    attributes: { "kith.shard": shard.id.shard },
  });
  try {
    const context = childCall(call, span.trace);
    const { hits, sequence } = await shard.askHedged(context, (api, each) => api.read("query", shard.id, query, each));
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
