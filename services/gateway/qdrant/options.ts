import type { Runtime } from "../../../libs/base/index.js";
import type { ServerTls } from "../../../libs/rpc/server/index.js";
import type { Logger } from "../../../libs/telemetry/index.js";
import type { Backend } from "../rest/backend.js";

export interface QdrantOptions extends Runtime {
  backend: Backend;
  logger: Logger;
  /** Kith's own version. */
  version: string;
  tls?: ServerTls | undefined;
  /** Whether calls can be answered: /readyz. */
  ready: () => boolean;
  /** The page of metrics in Prometheus's text format; undefined where metrics are not collected. */
  metrics?: (() => Promise<string>) | undefined;
}
