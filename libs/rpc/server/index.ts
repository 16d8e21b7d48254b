export { readDescriptorSet } from "./descriptors.js";
export { answerEach, type RequestContext, type RequestStreamProtocol } from "./request-stream.js";
export { createRpcServer, type Handlers, type RpcServer, type RpcServerOptions } from "./server.js";
export { ServerCall } from "./server-call.js";
export type { PortProtocol, ProtocolConnection, ProtocolPort } from "./shared-port.js";
export type { ServerStream, StreamHandler } from "./server-stream.js";
export type { UnaryContext, UnaryHandler } from "./unary.js";
export type { ServerTls } from "./tls.js";
