export { answerEach, type RequestContext, type RequestStreamProtocol } from "./request-stream.js";
export { createRpcServer, type Handlers, type RpcServer, type RpcServerOptions, type ServerTls } from "./server.js";
export type { ServerStream, StreamHandler } from "./server-stream.js";
export type { UnaryContext, UnaryHandler } from "./unary.js";
