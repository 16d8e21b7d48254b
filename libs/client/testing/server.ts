import * as grpc from "@grpc/grpc-js";
import { deferred, KithError, toKithError } from "../../base/index.js";
import { toFailure, toServiceError } from "../../rpc/common/index.js";
import { bytesToFloats, pb } from "../../wire/index.js";

/** What one call sent, as the server saw it. */
export interface SeenCall {
  method: string;
  request: unknown;
  metadata: grpc.Metadata;
}

/** Runs before a call is answered; may wait, or throw a KithError to refuse it. */
export type Hook = (call: SeenCall) => void | Promise<void>;

interface Stored {
  id: pb.PointId;
  vectors: Record<string, pb.Vector>;
  payload: Uint8Array;
  version: number;
}

interface Held {
  collection: pb.Collection;
  points: Map<string, Stored>;
  sequence: number;
  /** Responses by idempotency key. */
  answered: Map<string, pb.UpsertResponse>;
}

type Bidi<Req, Res> = grpc.ServerDuplexStream<Req, Res>;
const none = Buffer.alloc(0);

/**
 * The public protocol over real sockets, with an exact search over a Map behind it: what the unit tests of the client talk
 * to. It records what it was sent, and its hook makes it slow or faulty on purpose.
 */
export class TestServer {
  readonly seen: SeenCall[] = [];
  hook: Hook | undefined;
  /** Runs when a unary call has been carried out, before its answer goes out. */
  answerHook: Hook | undefined;
  /** Queries that the client cancelled on the stream. */
  readonly cancelled: (number | bigint)[] = [];
  queryStreamsOpened = 0;
  upsertsInFlight = 0;
  upsertsInFlightMax = 0;
  readonly #held = new Map<string, Held>();
  #created = 0;
  readonly #streams = new Set<{ destroy(): void }>();
  readonly #server = new grpc.Server({ "grpc.max_receive_message_length": 32 * 1024 * 1024 });
  port = 0;

  static async start(options: { queryStream?: boolean; port?: number } = {}): Promise<TestServer> {
    const test = new TestServer();
    test.#register(options.queryStream ?? true);
    const bound = deferred<number>();
    test.#server.bindAsync(`127.0.0.1:${options.port ?? 0}`, grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? bound.resolve(port) : bound.reject(error),
    );
    test.port = await bound.promise;
    return test;
  }

  get target(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Ends every open stream with an error, as a router that is killed does. */
  breakStreams(): void {
    for (const stream of this.#streams) stream.destroy();
    this.#streams.clear();
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  callsOf(method: string): SeenCall[] {
    return this.seen.filter((call) => call.method === method);
  }

  #register(withQueryStream: boolean): void {
    const points: grpc.UntypedServiceImplementation = {
      upsert: this.#unary("upsert", (request: pb.UpsertRequest) => this.#upsert(request, request.points)),
      upsertColumns: this.#unary("upsertColumns", (request: pb.UpsertColumnsRequest) => this.#upsertColumns(request)),
      upsertStream: (call: Bidi<pb.UpsertStreamRequest, pb.UpsertStreamResponse>) => this.#upsertStream(call),
      delete: this.#unary("delete", (request: pb.DeletePointsRequest) => this.#delete(request)),
      get: this.#unary("get", (request: pb.GetPointsRequest) => this.#get(request)),
      scroll: this.#unary("scroll", (request: pb.ScrollRequest) => this.#scroll(request)),
      count: this.#unary("count", (request: pb.CountRequest) => this.#count(request)),
      query: this.#unary("query", (request: pb.QueryRequest) => this.#query(request)),
      queryBatch: this.#unary("queryBatch", (request: pb.QueryBatchRequest) => this.#queryBatch(request)),
    };
    if (withQueryStream) {
      points["queryStream"] = (call: Bidi<pb.QueryStreamRequest, pb.QueryStreamResponse>) => this.#queryStream(call);
    }
    this.#server.addService(pb.PointsService, points);
    this.#server.addService(pb.CollectionsService, {
      create: this.#unary("create", (request: pb.CreateCollectionRequest) => this.#create(request)),
      get: this.#unary("info", (request: pb.GetCollectionRequest) => ({
        collection: this.#find(request.name).collection,
      })),
      list: this.#unary("list", () => ({ collections: [...this.#held.values()].map(({ collection }) => collection) })),
      update: this.#unary("update", (request: pb.UpdateCollectionRequest) => this.#update(request)),
      delete: this.#unary("drop", (request: pb.DeleteCollectionRequest) => {
        this.#find(request.name);
        this.#held.delete(request.name);
        return {};
      }),
      exists: this.#unary("exists", (request: pb.ExistsCollectionRequest) => ({
        exists: this.#held.has(request.name),
      })),
      stats: this.#unary("stats", (request: pb.CollectionStatsRequest) =>
        pb.CollectionStatsResponse.create({ pointCount: this.#find(request.name).points.size }),
      ),
      waitIndexed: this.#unary("waitIndexed", (request: pb.WaitIndexedRequest) => ({
        indexedVectorCount: this.#find(request.name).points.size,
      })),
    });
    this.#server.addService(pb.ClusterService, {
      describe: this.#unary("describe", () =>
        pb.DescribeClusterResponse.create({ cluster: "test", logKind: "embedded" }),
      ),
    });
  }

  async #enter(method: string, request: unknown, metadata: grpc.Metadata): Promise<void> {
    const call = { method, request, metadata };
    this.seen.push(call);
    await this.hook?.(call);
  }

  #unary<Req, Res>(method: string, handle: (request: Req) => Res): grpc.handleUnaryCall<Req, Res> {
    return (call, callback) => {
      const { request, metadata } = call;
      const answer = async (): Promise<Res> => {
        await this.#enter(method, request, metadata);
        const response = handle(request);
        await this.answerHook?.({ method, request, metadata });
        return response;
      };
      answer().then(
        (response) => callback(null, response),
        (error: unknown) => callback(toServiceError(toKithError(error))),
      );
    };
  }

  #find(name: string): Held {
    const held = this.#held.get(name);
    if (held === undefined) throw new KithError("COLLECTION_NOT_FOUND", `there is no collection "${name}"`);
    return held;
  }

  /** The collection of a read. INVALID_TOKEN where its token is of another one. */
  #read({ collection, consistency }: { collection: string; consistency: pb.Consistency | undefined }): Held {
    const held = this.#find(collection);
    const wanted = consistency?.level;
    if (wanted?.$case === "atLeast" && wanted.value.collectionId !== held.collection.id) {
      throw new KithError(
        "INVALID_TOKEN",
        `the token is of ${wanted.value.collectionId}, not of ${held.collection.id}`,
      );
    }
    return held;
  }

  #create(request: pb.CreateCollectionRequest): pb.CreateCollectionResponse {
    if (this.#held.has(request.name)) throw new KithError("COLLECTION_EXISTS", `"${request.name}" exists`);
    const collection = pb.Collection.create({
      id: `c${++this.#created}`,
      name: request.name,
      shardCount: request.shardCount || 1,
      replicationFactor: request.replicationFactor || 1,
      labels: request.labels,
      state: pb.CollectionState.READY,
    });
    collection.vectors = request.vectors;
    this.#held.set(request.name, { collection, points: new Map(), sequence: 0, answered: new Map() });
    return { collection };
  }

  #update(request: pb.UpdateCollectionRequest): pb.UpdateCollectionResponse {
    const { collection } = this.#find(request.name);
    Object.assign(collection.labels, request.labels);
    for (const field of collection.vectors) field.efSearch = request.efSearch[field.name] ?? field.efSearch;
    return { collection };
  }

  #upsertColumns(request: pb.UpsertColumnsRequest): pb.UpsertResponse {
    const ids = idsOf(request);
    const points = ids.map((id, row): pb.Point => {
      const vectors: Record<string, pb.Vector> = {};
      for (const { name, matrix } of request.vectors) {
        const width = matrix.length / ids.length;
        vectors[name] = {
          values: bytesToFloats(matrix.subarray(row * width, (row + 1) * width)).slice(),
          indices: [],
        };
      }
      return { id, vectors, payload: request.payloads[row] ?? none, version: 0, expiresAtMs: 0 };
    });
    return this.#upsert(request, points);
  }

  #upsert(request: pb.UpsertRequest | pb.UpsertColumnsRequest, points: pb.Point[]): pb.UpsertResponse {
    const held = this.#find(request.collection);
    const key = request.options?.idempotencyKey ?? "";
    const before = held.answered.get(key);
    if (before !== undefined) return before;
    for (const [index, point] of points.entries()) this.#check(held, index, point);
    const errors: pb.ItemError[] = [];
    held.sequence++;
    for (const [index, point] of points.entries()) {
      const mapKey = keyOf(point.id);
      const exists = held.points.has(mapKey);
      if (request.mode === pb.UpsertMode.INSERT_ONLY && exists) {
        errors.push({ index, code: "POINT_EXISTS", message: `the point ${mapKey} exists` });
      } else if (request.mode === pb.UpsertMode.UPDATE_ONLY && !exists) {
        errors.push({ index, code: "POINT_NOT_FOUND", message: `there is no point ${mapKey}` });
      } else held.points.set(mapKey, { ...point, id: point.id as pb.PointId, version: held.sequence });
    }
    const response = { upserted: points.length - errors.length, errors, token: this.#token(request.collection) };
    held.answered.set(key, response);
    return response;
  }

  #check(held: Held, index: number, point: pb.Point): void {
    for (const [name, { values }] of Object.entries(point.vectors)) {
      const field = held.collection.vectors.find((each) => each.name === name);
      if (field === undefined) throw new KithError("UNKNOWN_VECTOR", `points[${index}]: no vector field "${name}"`);
      if (field.dimension !== values.length) {
        throw new KithError("DIMENSION_MISMATCH", `points[${index}]: ${values.length} instead of ${field.dimension}`);
      }
      if (values.every((value) => value === 0)) throw new KithError("ZERO_VECTOR", `points[${index}]: zero vector`);
    }
  }

  #upsertStream(call: Bidi<pb.UpsertStreamRequest, pb.UpsertStreamResponse>): void {
    this.#open(call);
    call.on("data", ({ requestId, columns }: pb.UpsertStreamRequest) => {
      this.upsertsInFlight++;
      this.upsertsInFlightMax = Math.max(this.upsertsInFlightMax, this.upsertsInFlight);
      this.#enter("upsertStream", columns, call.metadata)
        .then(() => this.#upsertColumns(columns as pb.UpsertColumnsRequest))
        .then(
          (value) => call.write({ requestId, outcome: { $case: "response", value } }),
          (error: unknown) =>
            call.write({ requestId, outcome: { $case: "failure", value: toFailure(toKithError(error)) } }),
        )
        .finally(() => this.upsertsInFlight--)
        .catch((error: unknown) => call.destroy(error as Error));
    });
  }

  #queryStream(call: Bidi<pb.QueryStreamRequest, pb.QueryStreamResponse>): void {
    this.queryStreamsOpened++;
    this.#open(call);
    call.on("data", ({ requestId, query, other, cancel }: pb.QueryStreamRequest) => {
      if (cancel) {
        this.cancelled.push(requestId);
        return;
      }
      // Others are known by the names of their calls, whichever way they come.
      this.#enter(other?.$case ?? "queryStream", other?.value ?? query, call.metadata)
        .then(() => this.#streamed(query, other))
        .then(
          (outcome) => call.write({ requestId, outcome }),
          (error: unknown) =>
            call.write({ requestId, outcome: { $case: "failure", value: toFailure(toKithError(error)) } }),
        )
        .catch((error: unknown) => call.destroy(error as Error));
    });
  }

  #count(request: pb.CountRequest): pb.CountResponse {
    return { count: this.#read(request).points.size, token: this.#token(request.collection), explain: undefined };
  }

  #streamed(
    query: pb.QueryRequest | undefined,
    other: pb.QueryStreamRequest["other"],
  ): pb.QueryStreamResponse["outcome"] {
    switch (other?.$case) {
      case undefined:
        return { $case: "response", value: this.#query(query as pb.QueryRequest) };
      case "scroll":
        return { $case: "scroll", value: this.#scroll(other.value) };
      case "count":
        return { $case: "count", value: this.#count(other.value) };
      default:
        throw new KithError("UNIMPLEMENTED", `this server does not answer ${String(other?.$case)}`);
    }
  }

  #open<Req, Res>(call: Bidi<Req, Res>): void {
    const stream = {
      destroy: () => call.emit("error", { code: grpc.status.UNAVAILABLE, details: "the router is gone" }),
    };
    this.#streams.add(stream);
    call.on("end", () => call.end());
    call.on("cancelled", () => this.#streams.delete(stream));
    call.on("close", () => this.#streams.delete(stream));
  }

  #query(request: pb.QueryRequest): pb.QueryResponse {
    const held = this.#read(request);
    const of = request.point === undefined ? undefined : held.points.get(keyOf(request.point));
    const vector = of?.vectors[request.using]?.values ?? request.vector;
    const scored: (pb.ScoredPoint & { score: number })[] = [];
    for (const point of held.points.values()) {
      const values = point.vectors[request.using]?.values;
      if (values === undefined || point === of) continue;
      let score = 0;
      for (let i = 0; i < values.length; i++) score += (values[i] as number) * (vector[i] as number);
      if (request.scoreThreshold !== undefined && score < request.scoreThreshold) continue;
      const { id, version, vectors, payload } = this.#selected(point, request.select);
      scored.push({ id, version, vectors, payload, score, highlights: {} });
    }
    scored.sort((a, b) => b.score - a.score);
    const span = {
      spanId: "s1",
      parentSpanId: "",
      name: "router.query",
      startUs: 1,
      durationUs: 2,
      attributes: {},
      node: "n1",
    };
    return {
      points: scored.slice(0, request.limit),
      missing: [],
      explain: undefined,
      trace: request.trace ? [span] : [],
      tookUs: 7,
      token: this.#token(request.collection),
    };
  }

  #queryBatch(request: pb.QueryBatchRequest): pb.QueryBatchResponse {
    const results = request.queries.map((query): pb.QueryBatchResult => {
      try {
        return { outcome: { $case: "response", value: this.#query(query) } };
      } catch (error) {
        return { outcome: { $case: "failure", value: toFailure(toKithError(error)) } };
      }
    });
    return { results };
  }

  #selected(point: Stored, select: pb.Select | undefined): pb.Point {
    const vectors = Object.entries(point.vectors).filter(
      ([name]) => select?.allVectors === true || select?.vectors.includes(name) === true,
    );
    const payload = select?.payload === true ? point.payload : none;
    return { ...point, vectors: Object.fromEntries(vectors), payload, expiresAtMs: 0 };
  }

  #get(request: pb.GetPointsRequest): pb.GetPointsResponse {
    const { points } = this.#read(request);
    const found = request.ids.flatMap((id) => points.get(keyOf(id)) ?? []);
    return {
      points: found.map((point) => this.#selected(point, request.select)),
      token: this.#token(request.collection),
    };
  }

  #token(collection: string): pb.Token {
    const { sequence, collection: record } = this.#find(collection);
    return { shards: [{ shard: 0, sequence }], collectionId: record.id };
  }

  #delete(request: pb.DeletePointsRequest): pb.DeletePointsResponse {
    const held = this.#find(request.collection);
    held.sequence++;
    const deleted = request.ids.filter((id) => held.points.delete(keyOf(id))).length;
    return { deleted, errors: [], token: this.#token(request.collection) };
  }

  #scroll(request: pb.ScrollRequest): pb.ScrollResponse {
    const all = [...this.#read(request).points.values()];
    const from = request.cursor.length === 0 ? 0 : Buffer.from(request.cursor).readUInt32LE();
    const to = from + request.limit;
    const nextCursor = Buffer.alloc(to < all.length ? 4 : 0);
    if (to < all.length) nextCursor.writeUInt32LE(to);
    return {
      points: all.slice(from, to).map((point) => this.#selected(point, request.select)),
      nextCursor,
      orders: [],
      explain: undefined,
      token: this.#token(request.collection),
    };
  }
}

/** The ids of a columnar request, as the server reads them. */
export function idsOf({ idColumn }: pb.UpsertColumnsRequest): pb.PointId[] {
  if (idColumn === undefined) return [];
  if (idColumn.$case === "ids") return idColumn.value.ids;
  const ids: pb.PointId[] = [];
  const bytes = Buffer.from(idColumn.value);
  for (let at = 0; at < bytes.length; at += 8) {
    ids.push({ id: { $case: "num", value: bytes.readBigUInt64LE(at) } });
  }
  return ids;
}

function keyOf(id: pb.PointId | undefined): string {
  return id?.id === undefined ? "" : `${id.id.$case}:${id.id.value}`;
}
