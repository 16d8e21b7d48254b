import { KithError, limits, toKithError } from "../base/index.js";
import { checkCollectionName, checkLabels } from "../model/index.js";
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
import {
  collectionFromWire,
  explainFromWire,
  pointFromWire,
  queryResultFromWire,
  statsFromWire,
  strictToWire,
  vectorFieldToWire,
} from "./decode.js";
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
import { wholeNumber } from "./numbers.js";
import { partitionOf } from "./partition.js";
import { payloadIndexInfosFromWire, payloadIndexToWire } from "./payload-index.js";
import {
  alteredFromWire,
  alterPayloadIndexToWire,
  alterVectorFieldToWire,
  generationsFromWire,
  otherOf,
  textGenerationsFromWire,
} from "./generations.js";
import { gather, namedPoint, specsOf } from "./points.js";
import { newTraceparent, queryToWire, selectToWire, withClientSpans } from "./query.js";
import { type CollectionCall, optionKeys, upsertManyKeys } from "./option-keys.js";
import { onlyKeys } from "./only-keys.js";
import { orderByToWire } from "./query-tree.js";
import {
  type QueryStream,
  type StreamedKind,
  type StreamedKinds,
  type StreamedRequest,
  streamedFrame,
  streamedResponse,
} from "./request-stream.js";
import { checkSameSchema } from "./same-schema.js";
import { sparseFieldToWire } from "./sparse.js";
import { sameCollection, type Session, tokenFromWire } from "./token.js";
import type { Call, Transport } from "./transport.js";
import type {
  AlteredVectorField,
  AlterPayloadIndexOptions,
  AlterVectorFieldOptions,
  CallOptions,
  CollectionInfo,
  CollectionStats,
  CreateOptions,
  CreatePayloadIndexOptions,
  DeleteResult,
  DistanceMatrix,
  ExplainStep,
  FacetOptions,
  FacetResult,
  FilterInput,
  GenerationInfo,
  GenerationOptions,
  GroupsResult,
  Id,
  JsonObject,
  MatrixOptions,
  OrderByInput,
  PromoteGenerationOptions,
  PayloadIndexInfo,
  PayloadIndexKind,
  PartitionValue,
  Point,
  PointInput,
  QueryBatchItem,
  QueryGroupsOptions,
  QueryInput,
  QueryOptions,
  QueryResult,
  ReadConsistency,
  ReadOptions,
  SetPayloadOptions,
  SparseSpec,
  TargetOptions,
  Token,
  UpdateOptions,
  UpsertOptions,
  TextGenerationInfo,
  UpsertResult,
  VectorsInput,
  VectorSpec,
  WriteBatchItem,
  WriteBatchResult,
  WriteCallOptions,
  WriteOperation,
  WriteResult,
  WriteTarget,
} from "./types.js";
import { BulkUpsert, type UpsertManyOptions, type UpsertManyResult } from "./upsert-many.js";
import { wellFormed } from "./well-formed.js";
import { modeToWire, unknownOutcome, writeOptions } from "./write.js";

/** Building the rest of a graph takes minutes where a large import has just ended. */
const waitIndexedDeadlineMs = 600_000;
const scrollBatch = 256;

const { CollectionsService: collections, PointsService: points } = pb;

/** What goes on the stream, as unary calls. */
const unaryOf: {
  readonly [K in StreamedKind]: UnaryDefinition<StreamedKinds[K]["request"], StreamedKinds[K]["response"]>;
} = {
  query: points.query,
  groups: points.queryGroups,
  matrix: points.searchMatrix,
  facet: points.facet,
  scroll: points.scroll,
  count: points.count,
};

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
export class CollectionHandle<P = JsonObject> {
  readonly name: string;
  readonly #transport: Transport;
  readonly #queries: QueryStream;
  readonly #session: Session;

  /** @internal Use `client.collection(name)`. */
  constructor(name: string, transport: Transport, queries: QueryStream, session: Session) {
    checkCollectionName(name);
    this.name = name;
    this.#transport = transport;
    this.#queries = queries;
    this.#session = session;
  }

  /** What this client has written here; pass it to another process, which then reads with `{atLeast: token}`. */
  get token(): Token {
    return this.#session.token;
  }

  /** Creates the collection and waits until its shards are placed. COLLECTION_EXISTS where the name is taken, but see `ifNotExists`. */
  async create(options: CreateOptions): Promise<CollectionInfo> {
    onlyKeys(options, optionKeys.create, "options");
    if (options.ifNotExists !== true) return this.#create(options);
    const { signal, deadlineMs } = options;
    const call = { ...(signal && { signal }), ...(deadlineMs !== undefined && { deadlineMs }) };
    try {
      return await this.#create(options);
    } catch (error) {
      if (toKithError(error).code !== "COLLECTION_EXISTS") throw error;
    }
    const info = await this.info(call);
    checkSameSchema(info, options);
    return info;
  }

  async #create(options: CreateOptions): Promise<CollectionInfo> {
    const request: pb.CreateCollectionRequest = {
      name: this.name,
      vectors: specsOf(options).map(([name, spec]) => vectorFieldToWire(name, spec)),
      sparseVectors: Object.entries(options.sparse ?? {}).map(([name, spec]) => sparseFieldToWire(name, spec)),
      shardCount: wholeNumber(options.shards ?? 0, "shards"),
      replicationFactor: wholeNumber(options.replicas ?? 0, "replicas"),
      labels: labelsToWire(options.labels),
      strictMode: strictToWire(options.strictMode),
      ...(options.recallTarget !== undefined && { recallTarget: options.recallTarget }),
      ...(options.partitionKey !== undefined && { partitionKey: wellFormed(options.partitionKey, "partitionKey") }),
    };
    // Not repeated by itself: after a lost answer, a second try would report the client's own collection as taken.
    const { collection } = await this.#call("create", options, (call) =>
      this.#transport.unary(collections.create, request, call),
    );
    const info = collectionFromWire(collection);
    this.#session.begin(info.id);
    return info;
  }

  /** COLLECTION_NOT_FOUND where there is none. */
  async info(options?: CallOptions): Promise<CollectionInfo> {
    return collectionFromWire((await this.#read("info", collections.get, { name: this.name }, options)).collection);
  }

  async exists(options?: CallOptions): Promise<boolean> {
    return (await this.#read("exists", collections.exists, { name: this.name }, options)).exists;
  }

  /** Changes search defaults, labels, limits and the number of replicas. */
  async update(options: UpdateOptions): Promise<CollectionInfo> {
    onlyKeys(options, optionKeys.update, "options");
    const { efSearch = {} } = options;
    const byField = typeof efSearch === "number" ? { "": efSearch } : { ...efSearch };
    for (const value of Object.values(byField)) wholeNumber(value, "efSearch");
    const request = {
      name: this.name,
      efSearch: byField,
      labels: labelsToWire(options.labels),
      strictMode: strictToWire(options.strictMode),
      ...(options.recallTarget !== undefined && { recallTarget: options.recallTarget }),
      ...(options.replicas !== undefined && { replicationFactor: wholeNumber(options.replicas, "replicas") }),
    };
    return collectionFromWire((await this.#read("update", collections.update, request, options)).collection);
  }

  /** Deletes the collection with all its points. COLLECTION_NOT_FOUND where there is none. */
  async drop(options?: CallOptions): Promise<void> {
    const { epoch } = this.#session;
    await this.#call("drop", options, (call) => this.#transport.unary(collections.delete, { name: this.name }, call));
    this.#session.clear(epoch);
  }

  /**
   * Deletes all points; schema, indexes and settings stay. In the order of the writes: a point that is written afterwards stays. `affected`
   * are the points that were there.
   */
  truncate(options?: WriteCallOptions): Promise<WriteResult> {
    checkKeys(options, writeKeys, "the options");
    return this.#part("truncate", points.truncate, (base) => base, options);
  }

  /**
   * Gives the collection another name, at once and as a whole; `client.collection(newName)` is its handle from then on. COLLECTION_EXISTS or
   * ALREADY_EXISTS where a collection or an alias has the name.
   */
  async rename(newName: string, options?: CallOptions): Promise<CollectionInfo> {
    checkCollectionName(newName);
    const { epoch } = this.#session;
    const { collection } = await this.#call("rename", options, (call) =>
      this.#transport.unary(collections.rename, { name: this.name, newName }, call),
    );
    this.#session.clear(epoch);
    return collectionFromWire(collection);
  }

  /** Counts and sizes, summed over the shards and by shard. */
  async stats(options?: CallOptions): Promise<CollectionStats> {
    return statsFromWire(await this.#read("stats", collections.stats, { name: this.name }, options));
  }

  /**
   * Returns when every point that this client has written, or that was applied before the call, is in the graph, with their number.
   * Default deadline: 10 minutes.
   */
  async waitIndexed(options?: CallOptions): Promise<number> {
    const patient = { ...options, deadlineMs: options?.deadlineMs ?? waitIndexedDeadlineMs };
    return this.#afresh(async () => {
      const request = { name: this.name, token: this.#session.written };
      return (await this.#read("waitIndexed", collections.waitIndexed, request, patient)).indexedVectorCount;
    });
  }

  /**
   * Adds an index of a field of the payload (`genre`, `address.city`, `cast[].name`); queries and writes go on while it is built, and filter
   * rightly without it. No error where the field has exactly this index. Default deadline: 10 minutes.
   */
  async createPayloadIndex(
    path: string,
    kind: PayloadIndexKind,
    options: CreatePayloadIndexOptions = {},
  ): Promise<CollectionInfo> {
    const index = payloadIndexToWire(path, kind, options);
    const request = { collection: this.name, index, wait: options.wait ?? false };
    const patient = { ...options, deadlineMs: options.deadlineMs ?? waitIndexedDeadlineMs };
    const method = collections.createPayloadIndex;
    return collectionFromWire((await this.#read("createPayloadIndex", method, request, patient)).collection);
  }

  /** Drops the index of a field. INVALID_SCHEMA where it has none. */
  async dropPayloadIndex(path: string, options?: CallOptions): Promise<CollectionInfo> {
    const request = { collection: this.name, path: wellFormed(path, "path") };
    const { collection } = await this.#call("dropPayloadIndex", options, (call) =>
      this.#transport.unary(collections.dropPayloadIndex, request, call),
    );
    return collectionFromWire(collection);
  }

  /** The payload indexes, with what the replicas say of them. */
  async listPayloadIndexes(options?: CallOptions): Promise<PayloadIndexInfo[]> {
    const request = { collection: this.name };
    const method = collections.listPayloadIndexes;
    return payloadIndexInfosFromWire((await this.#read("listPayloadIndexes", method, request, options)).indexes);
  }

  /** Adds a vector field. Points get vectors of it by writes that come afterwards. INVALID_SCHEMA where there is one of the name. */
  async addVectorField(name: string, spec: VectorSpec, options?: CallOptions): Promise<CollectionInfo> {
    const request = { collection: this.name, field: vectorFieldToWire(name, spec), sparse: undefined };
    const { collection } = await this.#call("addVectorField", options, (call) =>
      this.#transport.unary(collections.addVectorField, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Adds a sparse field. INVALID_SCHEMA where there is a vector field of the name. */
  async addSparseField(name: string, options: SparseSpec & CallOptions = {}): Promise<CollectionInfo> {
    const { modifier } = options;
    const sparse = sparseFieldToWire(name, modifier === undefined ? {} : { modifier });
    const request = { collection: this.name, field: undefined, sparse };
    const { collection } = await this.#call("addSparseField", options, (call) =>
      this.#transport.unary(collections.addVectorField, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Drops a vector field of either kind, with the vectors that points have of it. UNKNOWN_VECTOR where there is none. */
  async dropVectorField(name: string, options?: CallOptions): Promise<CollectionInfo> {
    const { collection } = await this.#call("dropVectorField", options, (call) =>
      this.#transport.unary(collections.dropVectorField, { collection: this.name, name }, call),
    );
    return collectionFromWire(collection);
  }

  /**
   * Begins another generation of the index of a vector field ("" for the unnamed one): another datatype or graph, built in the background while queries go
   * on with the one before. It answers by itself once it is whole on every replica and its recall holds, and the one before is kept for `rollbackGeneration`.
   * No error where the field is built like that, or being built. FAILED_PRECONDITION while another generation is being built. Default deadline: 10 minutes.
   */
  async alterVectorField(field: string, options: AlterVectorFieldOptions): Promise<AlteredVectorField> {
    const request = alterVectorFieldToWire(this.name, field, options);
    const patient = { ...options, deadlineMs: options.deadlineMs ?? waitIndexedDeadlineMs };
    return alteredFromWire(await this.#read("alterVectorField", collections.alterVectorField, request, patient));
  }

  /** The generations of the indexes of all vector fields, with what the replicas say of them. */
  async listGenerations(options?: CallOptions): Promise<GenerationInfo[]> {
    const request = { collection: this.name };
    const method = collections.listGenerations;
    return generationsFromWire((await this.#read("listGenerations", method, request, options)).generations);
  }

  /**
   * Begins another generation of an index by BM25: another analyzer, other fields, weights, `k1` or `b`; what is left out is the default, as in
   * `createPayloadIndex`. It answers by itself once it is whole on every replica, and the one before is kept for `rollbackGeneration`. No error where the
   * index is built like that, or being built. FAILED_PRECONDITION while another generation is being built. Default deadline: 10 minutes.
   */
  async alterPayloadIndex(path: string, options: AlterPayloadIndexOptions): Promise<AlteredVectorField> {
    const request = alterPayloadIndexToWire(this.name, path, options);
    const patient = { ...options, deadlineMs: options.deadlineMs ?? waitIndexedDeadlineMs };
    return alteredFromWire(await this.#read("alterPayloadIndex", collections.alterPayloadIndex, request, patient));
  }

  /** The generations of those indexes by BM25 that have two, with what the replicas say of them. */
  async listTextGenerations(options?: CallOptions): Promise<TextGenerationInfo[]> {
    const request = { collection: this.name };
    const method = collections.listGenerations;
    return textGenerationsFromWire((await this.#read("listTextGenerations", method, request, options)).textGenerations);
  }

  /** Has the generation that is being built answer now. FAILED_PRECONDITION, with the numbers, while it is not whole or its recall is too low. */
  async promoteGeneration(field = "", options?: PromoteGenerationOptions): Promise<CollectionInfo> {
    const request = { ...otherOf(this.name, field, options), force: options?.force ?? false };
    const { collection } = await this.#call("promoteGeneration", options, (call) =>
      this.#transport.unary(collections.promoteGeneration, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Has the generation that is kept answer again, and keeps the other one. FAILED_PRECONDITION where none is kept. */
  async rollbackGeneration(field = "", options?: GenerationOptions): Promise<CollectionInfo> {
    const request = otherOf(this.name, field, options);
    const { collection } = await this.#call("rollbackGeneration", options, (call) =>
      this.#transport.unary(collections.rollbackGeneration, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Drops the generation that does not answer: one that is being built, or the one that is kept. FAILED_PRECONDITION where there is none. */
  async dropGeneration(field = "", options?: GenerationOptions): Promise<CollectionInfo> {
    const request = otherOf(this.name, field, options);
    const { collection } = await this.#call("dropGeneration", options, (call) =>
      this.#transport.unary(collections.dropGeneration, request, call),
    );
    return collectionFromWire(collection);
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
      options: writeOptions(options, this.#transport.random),
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
      options: writeOptions(options, this.#transport.random),
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
    const bulk = new BulkUpsert(this.#transport, this.name, this.#session, options);
    // The deadline is that of each message; the run as a whole has none.
    return this.#call("upsertMany", { signal: options.signal }, (call) => bulk.run(source, call));
  }

  /** The nearest points to a vector, or to a stored point. */
  query(query: QueryOptions): Promise<QueryResult<P>> {
    return this.#afresh(() => this.#query(query));
  }

  async #query(query: QueryOptions): Promise<QueryResult<P>> {
    const { epoch } = this.#session;
    const request = queryToWire(this.name, query, this.#session);
    const collector = query.trace === true ? new SpanCollector("client", this.#transport) : undefined;
    let traceparent = "";
    const send = (call: Call): Promise<pb.QueryResponse> => {
      // Who asks for a trace finds it in the servers' exporters too, also where this process exports none.
      if (collector !== undefined)
        traceparent = traceparentOf(call.span.trace) || newTraceparent(this.#transport.random);
      return this.#sendStreamed("query", request, call, traceparent || undefined);
    };
    const response = await this.#call("query", query, send, collector);
    this.#session.read(response.token, epoch);
    const result = queryResultFromWire<P>(response, this.#transport.parsePayload);
    if (collector === undefined) return result;
    return { ...withClientSpans(result, collector), traceId: traceparent.split("-")[1] ?? "" };
  }

  /** Up to 256 queries in one call; an error of one does not fail the others. */
  async queryBatch(queries: readonly QueryInput[], options?: CallOptions): Promise<QueryBatchItem<P>[]> {
    if (queries.length === 0) throw new KithError("INVALID_ARGUMENT", "the batch is empty; pass at least one query");
    if (queries.length > limits.queryBatch) {
      throw new KithError(
        "BATCH_TOO_LARGE",
        `the batch has ${queries.length} queries; at most ${limits.queryBatch} fit in one call`,
        {
          details: { count: queries.length, limit: limits.queryBatch },
        },
      );
    }
    const { epoch } = this.#session;
    const request = { queries: queries.map((query) => queryToWire(this.name, query, this.#session)) };
    const { results } = await this.#read("queryBatch", points.queryBatch, request, options);
    return results.map(({ outcome }, index): QueryBatchItem<P> => {
      if (outcome?.$case === "response") {
        this.#session.read(outcome.value.token, epoch);
        return { ok: true, result: queryResultFromWire<P>(outcome.value, this.#transport.parsePayload) };
      }
      if (outcome?.$case === "failure") {
        const error = fromFailure(outcome.value);
        this.#forgetRefused(error, queries[index]?.consistency, epoch);
        return { ok: false, error };
      }
      return { ok: false, error: new KithError("INTERNAL", "the server answered with neither a result nor an error") };
    });
  }

  /** The best points of each of the best groups, by a value of the payload. */
  async queryGroups(options: QueryGroupsOptions): Promise<GroupsResult<P>> {
    const response = await this.#afresh(() => {
      const request = groupsToWire(this.name, options, this.#session);
      return this.#session.reading(this.#streamed("queryGroups", "groups", request, options));
    });
    return groupsFromWire<P>(response, this.#transport.parsePayload);
  }

  /**
   * The changes of points as they happen, from a token or from now on, until the caller ends the loop or the signal aborts. It goes on by itself
   * after a break. TOKEN_EXPIRED where what followed the token is not kept any more.
   */
  watch(options: WatchOptions = {}): AsyncGenerator<ChangeEvent<P>, void, undefined> {
    return watchCollection<P>(this.#transport, this.name, options);
  }

  /** How many points have each value of a field: texts, whole numbers and booleans. */
  async facet(key: string, options: FacetOptions = {}): Promise<FacetResult> {
    const response = await this.#afresh(() => {
      const request = facetToWire(this.name, key, options, this.#session);
      return this.#session.reading(this.#streamed("facet", "facet", request, options));
    });
    return facetFromWire(response);
  }

  /** How alike points drawn by chance are to one another. */
  async matrix(options: MatrixOptions = {}): Promise<DistanceMatrix> {
    const response = await this.#afresh(() => {
      const request = matrixToWire(this.name, options, this.#session);
      return this.#session.reading(this.#streamed("matrix", "matrix", request, options));
    });
    return matrixFromWire(response);
  }

  /** One point, or undefined where it does not exist; of several ids those that exist, in the order asked. */
  get(id: Id, options?: ReadOptions): Promise<Point<P> | undefined>;
  get(ids: readonly Id[], options?: ReadOptions): Promise<Point<P>[]>;
  async get(ids: Id | readonly Id[], options?: ReadOptions): Promise<Point<P> | undefined | Point<P>[]> {
    const many: readonly Id[] = isList(ids) ? ids : [ids];
    checkBatchCount(many.length);
    const response = await this.#afresh(() => {
      const request = {
        collection: this.name,
        ids: many.map(idToWire),
        select: selectToWire(options),
        consistency: this.#session.consistency(options?.consistency),
        ...partitionOf(options),
      };
      return this.#session.reading(this.#read("get", points.get, request, options));
    });
    const found = response.points.map((point) => pointFromWire<P>(point, this.#transport.parsePayload));
    return isList(ids) ? found : found[0];
  }

  /** Deletes points by id, or all that pass a filter: `{ filter: "year < 1900" }`. Ids that do not exist are no error. */
  async delete(target: WriteTarget, options?: TargetOptions): Promise<DeleteResult> {
    checkTargetOptions(options);
    const write = writeOptions(options, this.#transport.random);
    const request = { ...deleteToWire(target, options), collection: this.name, options: write };
    const { deleted, errors, token } = await this.#write("delete", points.delete, request, write, options);
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
    const write = writeOptions(options, this.#transport.random);
    const request = { collection: this.name, operations: operations.map(operationToWire), options: write };
    const { results, token } = await this.#write("writeBatch", points.writeBatch, request, write, options);
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
    const write = writeOptions(options, this.#transport.random);
    const request = requestOf({ collection: this.name, options: write });
    const { affected, errors, token } = await this.#write(name, method, request, write, options);
    return { affected, errors, token: tokenFromWire(token) };
  }

  async count(options?: CountOptions): Promise<number> {
    const approximate = options?.approximate ?? false;
    const filter = filterOf(options?.filter);
    const { count, explain: told } = await this.#afresh(() => {
      const consistency = this.#session.consistency(options?.consistency);
      const explain = options?.onExplain !== undefined;
      const request = { collection: this.name, consistency, filter, approximate, explain, ...partitionOf(options) };
      return this.#session.reading(this.#streamed("count", "count", request, options));
    });
    if (told !== undefined) options?.onExplain?.(explainFromWire(told));
    return count;
  }

  /**
   * All points in order of id, or as asked, fetched page by page: `for await (const point of handle.scroll()) …`. COLLECTION_NOT_FOUND
   * where another collection has got the name meanwhile.
   */
  async *scroll(options?: ScrollOptions): AsyncGenerator<Point<P>, void, undefined> {
    const limit = wholeNumber(options?.batch ?? scrollBatch, "batch");
    const select = selectToWire(options);
    const filter = filterOf(options?.filter);
    const orderBy = options?.orderBy === undefined ? undefined : orderByToWire(options.orderBy, "orderBy");
    let cursor: Uint8Array = emptyBytes;
    let collectionId = "";
    do {
      const after = cursor;
      const page = await this.#afresh(() => {
        const consistency = this.#session.consistency(options?.consistency);
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
        return this.#session.reading(this.#streamed("scroll", "scroll", request, options));
      });
      collectionId = sameCollection(this.name, collectionId, page.token);
      if (page.explain !== undefined) options?.onExplain?.(explainFromWire(page.explain));
      for (const point of page.points) yield pointFromWire<P>(point, this.#transport.parsePayload);
      cursor = page.nextCursor;
    } while (cursor.length > 0);
  }

  async #upsert<Req>(
    method: UnaryDefinition<Req, pb.UpsertResponse>,
    request: Req,
    write: pb.WriteOptions,
    options: UpsertOptions | undefined,
  ): Promise<UpsertResult> {
    const { upserted, errors, token } = await this.#write("upsert", method, request, write, options);
    return { upserted, errors, token: tokenFromWire(token) };
  }

  /** Asks once more where the name is an alias that means another collection by now than the one that the session's token is of. */
  async #afresh<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      const { code, details } = toKithError(error);
      if (code !== "INVALID_TOKEN" || details["alias"] === undefined) throw error;
      return ask();
    }
  }

  #streamed<K extends StreamedKind>(
    name: CollectionCall,
    kind: K,
    request: StreamedKinds[K]["request"],
    options: CountOptions | undefined,
  ): Promise<StreamedKinds[K]["response"]> {
    return this.#call(name, options, (call) => this.#sendStreamed(kind, request, call));
  }

  /** A request on the stream, or as a unary call where the server has no stream. */
  async #sendStreamed<K extends StreamedKind>(
    kind: K,
    request: StreamedKinds[K]["request"],
    call: Call,
    traceparent = traceparentOf(call.span.trace),
  ): Promise<StreamedKinds[K]["response"]> {
    const frame = streamedFrame({ kind, request } as StreamedRequest, traceparent);
    return this.#transport.retrier.run(call, async () => {
      if (!this.#queries.refused) {
        try {
          return streamedResponse(kind, await this.#queries.send(frame, call));
        } catch (error) {
          if (!this.#queries.refused || toKithError(error).code !== "UNIMPLEMENTED") throw error;
        }
      }
      return this.#transport.unary(unaryOf[kind], request, call);
    });
  }

  #read<Req, Res>(
    name: CollectionCall,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    options: CountOptions | undefined,
  ): Promise<Res> {
    return this.#call(name, options, (call) => this.#transport.retried(method, request, call));
  }

  async #write<Req, Res extends { token: pb.Token | undefined }>(
    name: CollectionCall,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    write: pb.WriteOptions,
    options: CallOptions | undefined,
  ): Promise<Res> {
    const { epoch } = this.#session;
    try {
      const response = await this.#read(name, method, request, options);
      this.#session.wrote(response.token, epoch);
      return response;
    } catch (error) {
      throw unknownOutcome(toKithError(error), write.idempotencyKey);
    }
  }

  async #call<T>(
    name: CollectionCall,
    options: CountOptions | undefined,
    body: (call: Call) => Promise<T>,
    collector?: SpanCollector,
  ): Promise<T> {
    const { epoch } = this.#session;
    const known = Object.hasOwn(optionKeys, name) ? optionKeys[name as keyof typeof optionKeys] : undefined;
    if (options !== undefined && known !== undefined) onlyKeys(options, known, "options");
    try {
      return await this.#transport.call(`kith.client.${name}`, options, body, collector);
    } catch (thrown) {
      const error = toKithError(thrown);
      this.#forgetRefused(error, options?.consistency, epoch);
      throw error;
    }
  }

  /**
   * Where the session's own token was refused, the next read starts afresh with whatever has the name. COLLECTION_NOT_FOUND
   * proves nothing: a router may not know yet of a collection that was just made.
   */
  #forgetRefused({ code }: KithError, consistency: ReadConsistency = "session", epoch: number): void {
    if (code === "INVALID_TOKEN" && consistency === "session") this.#session.clear(epoch);
  }
}

function isList(ids: Id | readonly Id[]): ids is readonly Id[] {
  return Array.isArray(ids);
}

function labelsToWire(labels: CreateOptions["labels"]): Record<string, string> {
  const own = { ...labels };
  checkLabels(own);
  return own;
}
