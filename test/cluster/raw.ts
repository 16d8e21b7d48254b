import { Client, credentials, type ServiceError } from "@grpc/grpc-js";
import { fromServiceError } from "../../libs/rpc/common/index.js";
import { pb } from "../../libs/wire/index.js";

/** The public API without the SDK and its checks: what a client in another language may send. */
export interface RawCalls {
  upsert(request: pb.UpsertRequest): Promise<pb.UpsertResponse>;
  upsertColumns(request: pb.UpsertColumnsRequest): Promise<pb.UpsertResponse>;
  query(request: Partial<pb.QueryRequest>): Promise<pb.QueryResponse>;
  scroll(request: Partial<pb.ScrollRequest>): Promise<pb.ScrollResponse>;
  facet(request: Partial<pb.FacetRequest>): Promise<pb.FacetResponse>;
  call<Req, Res>(method: Method<Req, Res>, request: Req): Promise<Res>;
  create(request: Partial<pb.CreateCollectionRequest>): Promise<pb.CreateCollectionResponse>;
  deleteCollection(name: string): Promise<pb.DeleteCollectionResponse>;
  /** Sends bytes, by default such as are no message of the method. */
  garbage(path: string, bytes?: Buffer): Promise<unknown>;
  close(): void;
}

interface Method<Req, Res> {
  path: string;
  requestSerialize: (value: Req) => Buffer;
  responseDeserialize: (bytes: Buffer) => Res;
}

export function rawCalls(target: string): RawCalls {
  const client = new Client(target, credentials.createInsecure(), { "grpc.max_send_message_length": -1 });
  const call = <Req, Res>(method: Method<Req, Res>, request: Req): Promise<Res> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + 20_000 },
        (error: ServiceError | null, response?: Res) =>
          error ? reject(fromServiceError(error)) : resolve(response as Res),
      );
    });
  return {
    call,
    upsert: (request) => call(pb.PointsService.upsert, request),
    upsertColumns: (request) => call(pb.PointsService.upsertColumns, request),
    query: (request) => call(pb.PointsService.query, pb.QueryRequest.fromPartial(request)),
    scroll: (request) => call(pb.PointsService.scroll, pb.ScrollRequest.fromPartial(request)),
    facet: (request) => call(pb.PointsService.facet, pb.FacetRequest.fromPartial(request)),
    create: (request) => call(pb.CollectionsService.create, pb.CreateCollectionRequest.fromPartial(request)),
    deleteCollection: (name) => call(pb.CollectionsService.delete, { name }),
    garbage: (path, bytes = Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])) =>
      call<Buffer, Buffer>({ path, requestSerialize: (given) => given, responseDeserialize: (given) => given }, bytes),
    close: () => client.close(),
  };
}
