export {
  type CallOptions,
  type Channel,
  type ChannelTls,
  type ClientStream,
  createChannel,
  openAnswers,
  openStream,
  type RpcChannelOptions,
  type StreamListener,
  unaryCall,
} from "./channel.js";
