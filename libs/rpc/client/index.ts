export {
  type CallOptions,
  type Channel,
  type ClientStream,
  createChannel,
  openAnswers,
  openStream,
  type RpcChannelOptions,
  type StreamListener,
  unaryCall,
} from "./channel.js";
export type { ChannelTls } from "./credentials.js";
