import { KithError, limits } from "../base/index.js";
import { fromFailure, type UnaryDefinition } from "../rpc/common/index.js";
import { SpanCollector, traceparentOf } from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import { facetFromWire, facetToWire, groupsFromWire, groupsToWire, matrixFromWire, matrixToWire } from "./analysis.js";
import {
  checkBatchCount,
  type ColumnsInput,
  columnsToWire,
  emptyBytes,
  expiryToWire,
  payloadBytes,
  pointToWire,
} from "./columns.js";
import { explainFromWire, pointFromWire, queryResultFromWire } from "./decode.js";
import { givenBoolean, givenList } from "./given.js";
import { idToWire } from "./ids.js";
import { filterOf } from "./filter.js";
import { type ChangeEvent, watchCollection, type WatchOptions } from "./watch.js";
import {
  checkKeys,
  checkTargetOptions,
  deleteToWire,
  extrasOf,
  listOf,
  namesOf,
  operationToWire,
  targetToWire,
  updateVectorsToWire,
  writeKeys,
} from "./part-writes.js";
import { atLeastOne } from "./numbers.js";
import { partitionOf } from "./partition.js";
import { gather, namedPoint } from "./points.js";
import { newTraceparent, queryToWire, selectToWire, withClientSpans } from "./query.js";
import { type CollectionCall, upsertManyKeys } from "./option-keys.js";
import { onlyKeys } from "./only-keys.js";
import { orderByToWire } from "./query-tree.js";
import { type QueryStream } from "./request-stream.js";
import { sameCollection, type Session, tokenFromWire } from "./token.js";
import type { Call, Transport } from "./transport.js";
import type { OrderByInput } from "./types/expressions.js";
import type { CallOptions, ReadConsistency, Token, WriteCallOptions } from "./types/calls.js";
import type { PartitionValue, Point, PointInput, ReadOptions, VectorsInput } from "./types/points.js";
import type {
  DistanceMatrix,
  ExplainStep,
  FacetOptions,
  FacetResult,
  GroupsResult,
  MatrixOptions,
  QueryBatchItem,
  QueryGroupsOptions,
  QueryInput,
  QueryOptions,
  QueryResult,
} from "./types/queries.js";
import type {
  DeleteResult,
  SetPayloadOptions,
  TargetOptions,
  UpsertOptions,
  UpsertResult,
  WriteBatchItem,
  WriteBatchResult,
  WriteOperation,
  WriteResult,
  WriteTarget,
} from "./types/writes.js";
import type { FilterInput, Id, JsonObject } from "./types/values.js";
import { BulkUpsert, type UpsertManyOptions, type UpsertManyResult } from "./upsert-many.js";
import { CollectionCalls } from "./collection-calls.js";
import { CollectionSchema } from "./collection-schema.js";
import { wellFormed } from "./well-formed.js";
import { modeToWire, writeOptions } from "./write.js";

const scrollBatch = 256;

const { PointsService: points } = pb;

export interface ScrollOptions extends ReadOptions {
  /** Only points that pass. */
  filter?: FilterInput;
  /**
   * In this order instead of that of the ids: a path of a number or datetime in the payload. A point with several values stands at
   * each of them, one without at none; one that is written meanwhile stands where its value is by then.
   */
  orderBy?: string | OrderByInput;
  /** Points fetched at a time, 1..10 000. Default: 256. */
  batch?: number;
  /** Is told of each page how it came about, as the `explain` of a query tells it; without it nothing is taken down. */
  onExplain?: (explain: ExplainStep) => void;
}

export interface CountOptions extends CallOptions {
  /** In a collection with a partition key: only points with this value of it, which are in one shard. */
  partition?: PartitionValue;
  /** Only points that pass. */
  filter?: FilterInput;
  /** An estimate will do, where it is cheaper. */
  approximate?: boolean;
  /** Is told how the answer came about, as the `explain` of a query tells it; without it nothing is taken down. */
  onExplain?: (explain: ExplainStep) => void;
  consistency?: ReadConsistency;
}

/**
 * One collection of a server, by name; it need not exist yet. `P` is the type of the payloads, which the client does not
 * check. All handles of one client for one name share what the client has written, so that reads see it.
 */
export class CollectionHandle<P = JsonObject> extends CollectionSchema {
  /** @internal Use `client.collection(name)`. */
  constructor(name: string, transport: Transport, queries: QueryStream, session: Session) {
    super(name, new CollectionCalls(transport, queries, session));
  }

  /** What this client has written here; pass it to another process, which then reads with `{atLeast: token}`. */
  get token(): Token {
    return this.calls.session.token;
  }

  /** Writes one point or up to 10 000. For more, or for points that come one by one: `upsertMany`. */
  async upsert(input: PointInput<P> | readonly PointInput<P>[], options?: UpsertOptions): Promise<UpsertResult> {
    const many: readonly PointInput<P>[] = Array.isArray(input)
      ? (input as readonly PointInput<P>[])
      : [input as PointInput<P>];
    checkBatchCount(many.length);
    checkKeys(options, [...writeKeys, "mode", "onlyIf"], "the options");
    const columns = gather(many);
    const base = {
      collection: this.name,
      mode: modeToWire(options?.mode),
      onlyIf: filterOf(options?.onlyIf),
      options: writeOptions(options, this.calls.transport.random),
    };
    if (columns !== undefined) {
      return this.#upsert(points.upsertColumns, { ...base, ...columns }, base.options, options);
    }
    const rows = many.map((point, index) => namedPoint(index, point, () => pointToWire(point)));
    const request = { ...base, points: rows, ...extrasOf(many, options?.onlyIf) };
    return this.#upsert(points.upsert, request, base.options, options);
  }

  /** The fastest form for data that is in columns already: one matrix per vector field, sent as it lies in memory. */
  async upsertColumns(input: ColumnsInput<P>, options?: UpsertOptions): Promise<UpsertResult> {
    checkKeys(options, [...writeKeys, "mode", "onlyIf"], "the options");
    const base = {
      collection: this.name,
      mode: modeToWire(options?.mode),
      onlyIf: filterOf(options?.onlyIf),
      options: writeOptions(options, this.calls.transport.random),
    };
    return this.#upsert(points.upsertColumns, { ...base, ...columnsToWire(input) }, base.options, options);
  }

  /**
   * Writes any number of points from an iterable or a generator, over one stream of columnar messages. At most `inFlight`
   * messages are unanswered at a time, and the source is not read further meanwhile. Points that are refused are reported
   * one by one and the others go on; an error of the whole (no such collection, or another one of its name meanwhile, server
   * away for longer than the retries last) rejects, with `details.resumeIndex`. Of two points with one id the last one wins: a
   * message with an id that is on its way waits for that one's answer. Points of different ids are written in any order.
   */
  async upsertMany(
    source: Iterable<PointInput<P>> | AsyncIterable<PointInput<P>>,
    options: UpsertManyOptions = {},
  ): Promise<UpsertManyResult> {
    onlyKeys(options, upsertManyKeys, "options");
    const bulk = new BulkUpsert(this.calls.transport, this.name, this.calls.session, options);
    // The deadline is that of each message; the run as a whole has none.
    return this.calls.call("upsertMany", { signal: options.signal }, (call) => bulk.run(source, call));
  }

  /** The nearest points to a vector, or to a stored point. */
  query(query: QueryOptions): Promise<QueryResult<P>> {
    return this.calls.afresh(() => this.#query(query));
  }

  async #query(query: QueryOptions): Promise<QueryResult<P>> {
    const { epoch } = this.calls.session;
    const request = queryToWire(this.name, query, this.calls.session);
    const collector = query.trace === true ? new SpanCollector("client", this.calls.transport) : undefined;
    let traceparent = "";
    const send = (call: Call): Promise<pb.QueryResponse> => {
      // Who asks for a trace finds it in the servers' exporters too, also where this process exports none.
      if (collector !== undefined)
        traceparent = traceparentOf(call.span.trace) || newTraceparent(this.calls.transport.random);
      return this.calls.sendStreamed("query", request, call, traceparent || undefined);
    };
    const response = await this.calls.call("query", query, send, collector);
    this.calls.session.read(response.token, epoch);
    const result = queryResultFromWire<P>(response, this.calls.transport.parsePayload);
    if (collector === undefined) return result;
    return { ...withClientSpans(result, collector), traceId: traceparent.split("-")[1] ?? "" };
  }

  /** Up to 256 queries in one call; an error of one does not fail the others. */
  async queryBatch(queries: readonly QueryInput[], options?: CallOptions): Promise<QueryBatchItem<P>[]> {
    if (givenList(queries, "queries").length === 0)
      throw new KithError("INVALID_ARGUMENT", "the batch is empty; pass at least one query");
    if (queries.length > limits.queryBatch) {
      throw new KithError(
        "BATCH_TOO_LARGE",
        `the batch has ${queries.length} queries; at most ${limits.queryBatch} fit in one call`,
        {
          details: { count: queries.length, limit: limits.queryBatch },
        },
      );
    }
    const { epoch } = this.calls.session;
    const request = {
      queries: queries.map((query) => queryToWire(this.name, query, this.calls.session)),
    };
    const { results } = await this.calls.read("queryBatch", points.queryBatch, request, options);
    return results.map(({ outcome }, index): QueryBatchItem<P> => {
      if (outcome?.$case === "response") {
        this.calls.session.read(outcome.value.token, epoch);
        return { ok: true, result: queryResultFromWire<P>(outcome.value, this.calls.transport.parsePayload) };
      }
      if (outcome?.$case === "failure") {
        const error = fromFailure(outcome.value);
        this.calls.forgetRefused(error, queries[index]?.consistency, epoch);
        return { ok: false, error };
      }
      return { ok: false, error: new KithError("INTERNAL", "the server answered with neither a result nor an error") };
    });
  }

  /** The best points of each of the best groups, by a value of the payload. */
  async queryGroups(options: QueryGroupsOptions): Promise<GroupsResult<P>> {
    const response = await this.calls.afresh(() => {
      const request = groupsToWire(this.name, options, this.calls.session);
      return this.calls.session.reading(this.calls.streamed("queryGroups", "groups", request, options));
    });
    return groupsFromWire<P>(response, this.calls.transport.parsePayload);
  }

  /**
   * The changes of points as they happen, from a token or from now on, until the caller ends the loop or the signal aborts. It goes on by itself
   * after a break. TOKEN_EXPIRED where what followed the token is not kept any more.
   */
  watch(options: WatchOptions = {}): AsyncGenerator<ChangeEvent<P>, void, undefined> {
    return watchCollection<P>(this.calls.transport, this.name, options);
  }

  /** How many points have each value of a field: texts, whole numbers and booleans. */
  async facet(key: string, options: FacetOptions = {}): Promise<FacetResult> {
    const response = await this.calls.afresh(() => {
      const request = facetToWire(this.name, key, options, this.calls.session);
      return this.calls.session.reading(this.calls.streamed("facet", "facet", request, options));
    });
    return facetFromWire(response);
  }

  /** How alike points drawn by chance are to one another. */
  async matrix(options: MatrixOptions = {}): Promise<DistanceMatrix> {
    const response = await this.calls.afresh(() => {
      const request = matrixToWire(this.name, options, this.calls.session);
      return this.calls.session.reading(this.calls.streamed("matrix", "matrix", request, options));
    });
    return matrixFromWire(response);
  }

  /** One point, or undefined where it does not exist; of several ids those that exist, in the order asked. */
  get(id: Id, options?: ReadOptions): Promise<Point<P> | undefined>;
  get(ids: readonly Id[], options?: ReadOptions): Promise<Point<P>[]>;
  async get(ids: Id | readonly Id[], options?: ReadOptions): Promise<Point<P> | undefined | Point<P>[]> {
    const many: readonly Id[] = isList(ids) ? ids : [ids];
    checkBatchCount(many.length);
    const response = await this.calls.afresh(() => {
      const request = {
        collection: this.name,
        ids: many.map(idToWire),
        select: selectToWire(options),
        consistency: this.calls.session.consistency(options?.consistency),
        ...partitionOf(options),
      };
      return this.calls.session.reading(this.calls.read("get", points.get, request, options));
    });
    const found = response.points.map((point) => pointFromWire<P>(point, this.calls.transport.parsePayload));
    return isList(ids) ? found : found[0];
  }

  /** Deletes points by id, or all that pass a filter: `{ filter: "year < 1900" }`. Ids that do not exist are no error. */
  async delete(target: WriteTarget, options?: TargetOptions): Promise<DeleteResult> {
    checkTargetOptions(options);
    const write = writeOptions(options, this.calls.transport.random);
    const request = { ...deleteToWire(target, options), collection: this.name, options: write };
    const { deleted, errors, token } = await this.calls.write("delete", points.delete, request, write, options);
    return { deleted, errors, token: tokenFromWire(token) };
  }

  /**
   * Sets keys of payloads, each as a whole, and leaves others alone; a null removes its key. With `path`, the keys of the object
   * there, which is made where it is missing. As all writes of parts: by ids, what does not exist is a POINT_NOT_FOUND in `errors`.
   */
  async setPayload(
    target: WriteTarget,
    payload: JsonObject | Uint8Array,
    options?: SetPayloadOptions,
  ): Promise<WriteResult> {
    checkTargetOptions(options, ["path"]);
    const { path = "" } = options ?? {};
    const request = {
      target: targetToWire(target, options),
      payload: payloadBytes(payload),
      path: wellFormed(path, "path"),
    };
    return this.#part("setPayload", points.setPayload, (base) => ({ ...request, ...base }), options);
  }

  /** Puts one payload in the place of what the points have. */
  async overwritePayload(target: WriteTarget, payload: P | Uint8Array, options?: TargetOptions): Promise<WriteResult> {
    checkTargetOptions(options);
    const request = { target: targetToWire(target, options), payload: payloadBytes(payload) };
    return this.#part("overwritePayload", points.overwritePayload, (base) => ({ ...request, ...base }), options);
  }

  /** Removes what paths lead to in payloads: keys ("a.b", "a[].b"), or all elements of an array ("a[]"). */
  async deletePayload(
    target: WriteTarget,
    paths: string | readonly string[],
    options?: TargetOptions,
  ): Promise<WriteResult> {
    checkTargetOptions(options);
    const request = { target: targetToWire(target, options), paths: namesOf(paths, "paths") };
    return this.#part("deletePayload", points.deletePayload, (base) => ({ ...request, ...base }), options);
  }

  /** Removes the payloads. */
  async clearPayload(target: WriteTarget, options?: TargetOptions): Promise<WriteResult> {
    checkTargetOptions(options);
    const wire = targetToWire(target, options);
    return this.#part("clearPayload", points.clearPayload, (base) => ({ ...base, target: wire }), options);
  }

  /** Sets vectors of points that exist; their other vectors and their payloads stay. */
  async updateVectors(input: VectorsInput | readonly VectorsInput[], options?: TargetOptions): Promise<WriteResult> {
    checkTargetOptions(options);
    const request = updateVectorsToWire(listOf(input), options);
    return this.#part("updateVectors", points.updateVectors, (base) => ({ ...request, ...base }), options);
  }

  /** Removes the vectors of these fields; "" is the unnamed one. */
  async deleteVectors(
    target: WriteTarget,
    vectors: string | readonly string[],
    options?: TargetOptions,
  ): Promise<WriteResult> {
    checkTargetOptions(options);
    const request = { target: targetToWire(target, options), vectors: namesOf(vectors, "vectors") };
    return this.#part("deleteVectors", points.deleteVectors, (base) => ({ ...request, ...base }), options);
  }

  /** From when on points are not found any more: a Date, milliseconds since the Unix epoch, or null for never. */
  async setExpiry(target: WriteTarget, expiresAt: Date | number | null, options?: TargetOptions): Promise<WriteResult> {
    checkTargetOptions(options);
    const request = { target: targetToWire(target, options), expiresAtMs: expiryToWire(expiresAt) };
    return this.#part("setExpiry", points.setExpiry, (base) => ({ ...request, ...base }), options);
  }

  /**
   * Up to 1 000 writes of any kind, in order: each sees what those before it did. They are checked as a whole before any is written;
   * then each has its own answer, and one that fails does not stop those after it.
   */
  async writeBatch(operations: readonly WriteOperation<P>[], options?: WriteCallOptions): Promise<WriteBatchResult> {
    checkKeys(options, writeKeys, "the options");
    const write = writeOptions(options, this.calls.transport.random);
    const request = {
      collection: this.name,
      operations: givenList(operations, "operations").map(operationToWire),
      options: write,
    };
    const { results, token } = await this.calls.write("writeBatch", points.writeBatch, request, write, options);
    return {
      results: results.map(({ outcome }): WriteBatchItem => {
        if (outcome?.$case === "failure") return { ok: false, error: fromFailure(outcome.value) };
        const { affected = 0, errors = [] } = outcome?.value ?? {};
        return { ok: true, result: { affected, errors } };
      }),
      token: tokenFromWire(token),
    };
  }

  async #part<Req>(
    name: CollectionCall,
    method: UnaryDefinition<Req, pb.WriteResponse>,
    requestOf: (base: { collection: string; options: pb.WriteOptions }) => Req,
    options: WriteCallOptions | undefined,
  ): Promise<WriteResult> {
    const write = writeOptions(options, this.calls.transport.random);
    const request = requestOf({ collection: this.name, options: write });
    const { affected, errors, token } = await this.calls.write(name, method, request, write, options);
    return { affected, errors, token: tokenFromWire(token) };
  }

  /**
   * Deletes all points; schema, indexes and settings stay. In the order of the writes: a point that is written afterwards stays. `affected`
   * are the points that were there.
   */
  truncate(options?: WriteCallOptions): Promise<WriteResult> {
    checkKeys(options, writeKeys, "the options");
    return this.#part("truncate", points.truncate, (base) => base, options);
  }

  async count(options?: CountOptions): Promise<number> {
    const approximate = givenBoolean(options?.approximate ?? false, "approximate");
    const filter = filterOf(options?.filter);
    const { count, explain: told } = await this.calls.afresh(() => {
      const consistency = this.calls.session.consistency(options?.consistency);
      const explain = options?.onExplain !== undefined;
      const request = { collection: this.name, consistency, filter, approximate, explain, ...partitionOf(options) };
      return this.calls.session.reading(this.calls.streamed("count", "count", request, options));
    });
    if (told !== undefined) options?.onExplain?.(explainFromWire(told));
    return count;
  }

  /**
   * All points in order of id, or as asked, fetched page by page: `for await (const point of handle.scroll()) …`. COLLECTION_NOT_FOUND
   * where another collection has got the name meanwhile.
   */
  async *scroll(options?: ScrollOptions): AsyncGenerator<Point<P>, void, undefined> {
    const limit = atLeastOne(options?.batch ?? scrollBatch, "batch");
    const select = selectToWire(options);
    const filter = filterOf(options?.filter);
    const orderBy = options?.orderBy === undefined ? undefined : orderByToWire(options.orderBy, "orderBy");
    let cursor: Uint8Array = emptyBytes;
    let collectionId = "";
    do {
      const after = cursor;
      const page = await this.calls.afresh(() => {
        const consistency = this.calls.session.consistency(options?.consistency);
        const explain = options?.onExplain !== undefined;
        const asked = {
          limit,
          select,
          consistency,
          filter,
          orderBy,
          explain,
          from: undefined,
          ...partitionOf(options),
        };
        const request = { collection: this.name, cursor: after, ...asked };
        return this.calls.session.reading(this.calls.streamed("scroll", "scroll", request, options));
      });
      collectionId = sameCollection(this.name, collectionId, page.token);
      if (page.explain !== undefined) options?.onExplain?.(explainFromWire(page.explain));
      for (const point of page.points) yield pointFromWire<P>(point, this.calls.transport.parsePayload);
      cursor = page.nextCursor;
    } while (cursor.length > 0);
  }

  async #upsert<Req>(
    method: UnaryDefinition<Req, pb.UpsertResponse>,
    request: Req,
    write: pb.WriteOptions,
    options: UpsertOptions | undefined,
  ): Promise<UpsertResult> {
    const { upserted, errors, token } = await this.calls.write("upsert", method, request, write, options);
    return { upserted, errors, token: tokenFromWire(token) };
  }
}

function isList(ids: Id | readonly Id[]): ids is readonly Id[] {
  return Array.isArray(ids);
}
