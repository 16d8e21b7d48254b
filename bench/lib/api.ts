import { Client, credentials, type Metadata, type ServiceError } from "@grpc/grpc-js";
import { KithError } from "../../libs/base/index.js";
import { pb } from "../../libs/wire/index.js";

interface Method<Req, Res> {
  path: string;
  requestSerialize: (request: Req) => Buffer;
  responseDeserialize: (bytes: Buffer) => Res;
}

const points = pb.PointsService;
const collections = pb.CollectionsService;
const deadlineMs = 60_000;
const indexDeadlineMs = 3_600_000;

/** The calls that the benchmarks make besides the load itself, typed, without retries. */
export class Api {
  readonly client: Client;
  readonly target: string;

  /** `ca` is the PEM of the authority of a server with TLS. */
  constructor(target: string, ca?: Buffer) {
    this.target = target;
    this.client = new Client(target, ca === undefined ? credentials.createInsecure() : credentials.createSsl(ca), {
      "grpc.use_local_subchannel_pool": 1,
      // Servers are named by address here, which SNI does not take.
      ...(ca !== undefined && { "grpc.ssl_target_name_override": "localhost" }),
      "grpc.max_receive_message_length": -1,
      "grpc.max_send_message_length": -1,
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 200,
    });
  }

  ready(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.client.waitForReady(Date.now() + timeoutMs, (cause) => {
        if (cause === undefined) resolve();
        else
          reject(new KithError("SHARD_UNAVAILABLE", `nothing serves at ${this.target}: ${cause.message}`, { cause }));
      });
    });
  }

  close(): void {
    this.client.close();
  }

  query(request: pb.QueryRequest): Promise<pb.QueryResponse> {
    return this.#unary(points.query, request);
  }

  /** The encoded QueryResponse to an encoded QueryRequest. */
  queryRaw(request: Buffer): Promise<Buffer> {
    const raw = (bytes: Buffer): Buffer => bytes;
    return this.#unary({ path: points.query.path, requestSerialize: raw, responseDeserialize: raw }, request);
  }

  upsertColumns(request: pb.UpsertColumnsRequest): Promise<pb.UpsertResponse> {
    return this.#unary(points.upsertColumns, request);
  }

  delete(request: pb.DeletePointsRequest): Promise<pb.DeletePointsResponse> {
    return this.#unary(points.delete, request);
  }

  facet(request: pb.FacetRequest): Promise<pb.FacetResponse> {
    return this.#unary(points.facet, request);
  }

  scroll(request: pb.ScrollRequest): Promise<pb.ScrollResponse> {
    return this.#unary(points.scroll, request);
  }

  exists(name: string): Promise<boolean> {
    return this.#unary(collections.exists, pb.ExistsCollectionRequest.fromPartial({ name })).then(
      ({ exists }) => exists,
    );
  }

  async collection(name: string): Promise<pb.Collection> {
    const { collection } = await this.#unary(collections.get, pb.GetCollectionRequest.fromPartial({ name }));
    if (collection === undefined) throw new KithError("INTERNAL", `${this.target} answered without the collection`);
    return collection;
  }

  async create(request: pb.CreateCollectionRequest): Promise<void> {
    await this.#unary(collections.create, request);
  }

  async createPayloadIndex(request: pb.CreatePayloadIndexRequest): Promise<void> {
    await this.#unary(collections.createPayloadIndex, request);
  }

  async drop(name: string): Promise<void> {
    await this.#unary(collections.delete, pb.DeleteCollectionRequest.fromPartial({ name }));
  }

  stats(name: string): Promise<pb.CollectionStatsResponse> {
    return this.#unary(collections.stats, pb.CollectionStatsRequest.fromPartial({ name }));
  }

  async waitIndexed(name: string): Promise<number> {
    const request = pb.WaitIndexedRequest.fromPartial({ name });
    return (await this.#unary(collections.waitIndexed, request, indexDeadlineMs)).indexedVectorCount;
  }

  #unary<Req, Res>(method: Method<Req, Res>, request: Req, timeoutMs = deadlineMs): Promise<Res> {
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + timeoutMs },
        (error: ServiceError | null, response?: Res) => {
          if (error !== null) reject(failureOf(method.path, error));
          else resolve(response as Res);
        },
      );
    });
  }
}

function failureOf(path: string, error: ServiceError): Error {
  const metadata: Metadata | undefined = error.metadata;
  const detail = metadata?.get("grpc-status-details-bin").length ? "" : " (without error details)";
  return new Error(`${path}: ${error.message}${detail}`, { cause: error });
}
