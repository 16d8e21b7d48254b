import type { UnaryContext } from "../../libs/rpc/server/index.js";
import { pb } from "../../libs/wire/index.js";
import type { Backend } from "./rest/backend.js";

/** The page of metrics for callers that may see the cluster's settings. UNAUTHENTICATED, PERMISSION_DENIED. */
export function metricsFor(
  backend: Backend,
  page: (() => Promise<string>) | undefined,
): ((call: UnaryContext) => Promise<string>) | undefined {
  return page && ((call) => backend.message(pb.ClusterService.getSettings, {}, call).then(page));
}
