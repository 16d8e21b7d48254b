import type { Runtime } from "../../../libs/base/index.js";
import type { UnaryDefinition } from "../../../libs/rpc/common/index.js";
import { createRpcServer, type RpcServer, type ServerTls, type UnaryHandler } from "../../../libs/rpc/server/index.js";
import type { Logger } from "../../../libs/telemetry/index.js";
import type { Encoded } from "../../../libs/wire/index.js";
import type { Backend } from "../rest/backend.js";
import { grpcWording } from "./door-errors.js";
import { defaultDeadlineMs, maxDeadlineMs } from "./door-limits.js";

export interface QdrantGrpcOptions extends Runtime {
  backend: Backend;
  logger: Logger;
  /** Node id: names this process in traces and logs. */
  node: string;
  /** Kith's own version. */
  version: string;
  tls?: ServerTls | undefined;
}

/** The calls of Qdrant's services. What they are is in proto/qdrant, which is read with the first call. */
const services: Readonly<Record<string, readonly string[]>> = {
  Points: [
    ...["Upsert", "Delete", "Get", "UpdateVectors", "DeleteVectors"],
    ...["SetPayload", "OverwritePayload", "DeletePayload", "ClearPayload", "UpdateBatch"],
    ...["CreateFieldIndex", "DeleteFieldIndex", "CreateVectorName", "DeleteVectorName"],
    ...["Query", "QueryBatch", "QueryGroups", "Scroll", "Count", "Facet", "SearchMatrixPairs", "SearchMatrixOffsets"],
    ...["Search", "SearchBatch", "SearchGroups", "Recommend", "RecommendBatch", "RecommendGroups"],
    ...["Discover", "DiscoverBatch"],
  ],
  Collections: [
    ...["Get", "List", "Create", "Update", "Delete", "CollectionExists"],
    ...["UpdateAliases", "ListCollectionAliases", "ListAliases"],
    ...["CollectionClusterInfo", "UpdateCollectionClusterSetup"],
    ...["CreateShardKey", "DeleteShardKey", "ListShardKeys"],
  ],
  Snapshots: ["Create", "List", "Delete", "CreateFull", "ListFull", "DeleteFull"],
  Qdrant: ["HealthCheck"],
};

type Definition = UnaryDefinition<Uint8Array, object>;

/** Messages go through as bytes: the service reads and writes them. */
function definitionOf(path: string): Definition {
  const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: asBuffer,
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (message) => (message as Encoded<object>).bytes,
    responseDeserialize: (bytes) => bytes,
  };
}

/** The server of Qdrant's gRPC services, which are loaded with the first call. */
export function createQdrantGrpc({ backend, ...options }: QdrantGrpcOptions): RpcServer {
  const { logger, tls, version, random } = options;
  const server = createRpcServer({
    ...{ clock: options.clock, random, node: options.node, logger },
    ...(tls !== undefined && { tls }),
    defaultDeadlineMs,
    maxDeadlineMs,
    wording: grpcWording,
    tellsCall: true,
  });
  const load = async () => {
    const [{ QdrantService }, { selfOf }] = await Promise.all([import("./grpc/service.js"), import("./self.js")]);
    return new QdrantService(backend, selfOf({ version, logger, random }));
  };
  let loading: ReturnType<typeof load> | undefined;
  for (const [service, methods] of Object.entries(services)) {
    const definition: Record<string, Definition> = {};
    const handlers: Record<string, UnaryHandler<Uint8Array, Encoded<object>>> = {};
    for (const method of methods) {
      definition[method] = definitionOf(`/qdrant.${service}/${method}`);
      handlers[method] = async (bytes, call) =>
        (await (loading ??= load())).answer(`${service}/${method}`, bytes, call);
    }
    server.addService(definition, handlers);
  }
  server.addReflection("qdrant.binpb");
  return server;
}
