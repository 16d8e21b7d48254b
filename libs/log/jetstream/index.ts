import type { Log } from "../port.js";
import { JetStreamLog, type JetStreamLogOptions } from "./log.js";

/**
 * The log on NATS JetStream: one stream per shard. Durable when the server runs with `sync_interval: always`, or with
 * three replicas or more. The connection is made by `connectNats` and may be shared with the catalog.
 */
export function openJetStreamLog(options: JetStreamLogOptions): Log {
  return new JetStreamLog(options);
}
