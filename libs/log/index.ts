import type { EmbeddedLogOptions } from "./embedded/log.js";
import type { JetStreamLogOptions } from "./jetstream/log.js";
import type { Log } from "./port.js";

export { EncryptedLog } from "./encrypted.js";
export { ReadOnlyLog } from "./read-only.js";

// Each adapter is loaded where it is used.

/** All logs of the process in one LevelDB, every append fsynced; see embedded/index.ts. */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<Log> {
  return (await import("./embedded/index.js")).openEmbeddedLog(options);
}

/** One stream of NATS JetStream for each shard; see jetstream/index.ts. */
export async function openJetStreamLog(options: JetStreamLogOptions): Promise<Log> {
  return (await import("./jetstream/index.js")).openJetStreamLog(options);
}

export type {
  Append,
  AppendOptions,
  Continuation,
  CreateOptions,
  Log,
  LogEntry,
  LogFault,
  LogState,
  LogSubscription,
  SubscribeOptions,
} from "./port.js";
