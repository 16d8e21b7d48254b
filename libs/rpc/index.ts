export {
  type CallOptions,
  type Channel,
  type RpcChannelOptions,
  type ChannelTls,
  type ClientStream,
  createChannel,
  openStream,
  type StreamListener,
  unaryCall,
} from "./channel.js";
export type { BidiDefinition, UnaryDefinition } from "./definition.js";
export { checkRequestSize, fromFailure, fromServiceError, toFailure, toServiceError } from "./errors.js";
export { LinkClient, type LinkClientOptions, type LinkState } from "./link-client.js";
export { serveLink } from "./link-server.js";
export { answerEach, type RequestContext, type RequestStreamProtocol } from "./request-stream.js";
export { createRpcServer, type Handlers, type RpcServer, type RpcServerOptions, type ServerTls } from "./server.js";
export type { ServerStream, StreamHandler } from "./server-stream.js";
export type { ReplicaName, ShardApi } from "./shard-api.js";
export { fetchSnapshot, serveSnapshots, type SnapshotApi } from "./snapshots.js";
export type { UnaryContext, UnaryHandler } from "./unary.js";
