export { openEmbeddedLog } from "./embedded/index.js";
export { openJetStreamLog } from "./jetstream/index.js";
export type {
  Append,
  AppendOptions,
  Log,
  LogEntry,
  LogFault,
  LogName,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "./port.js";
