export { openEmbeddedLog } from "./embedded/index.js";
export { openJetStreamLog } from "./jetstream/index.js";
export type {
  Append,
  AppendOptions,
  Log,
  LogEntry,
  LogFault,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "./port.js";
