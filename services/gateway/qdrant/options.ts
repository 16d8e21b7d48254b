import type { Runtime } from "../../../libs/base/index.js";
import type { ServerTls, UnaryContext } from "../../../libs/rpc/server/index.js";
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
  /**
   * The page of metrics in Prometheus's text format, for callers that may see the cluster's settings: it has names and sizes of collections.
   * Undefined where metrics are not collected. UNAUTHENTICATED, PERMISSION_DENIED.
   */
  metrics?: ((call: UnaryContext) => Promise<string>) | undefined;
}
