import { type Clock, KithError } from "../../libs/base/index.js";
import type { NodesView } from "../../libs/cluster/index.js";
import type { ChannelTls } from "../../libs/rpc/client/index.js";
import { type ClusterSecret, fetchSnapshot } from "../../libs/link/index.js";
import type { FetchSnapshot } from "../shard/index.js";

/** What this node shows other nodes, and asks of them. */
export interface Trust {
  tls?: ChannelTls;
  secret: ClusterSecret | undefined;
}

/** Copies of replicas of other nodes. */
export function snapshotsOf(nodes: NodesView, clock: Clock, trust: Trust): FetchSnapshot {
  return async (node, replica, wanted, signal, foreign) => {
    if (foreign !== undefined)
      return fetchSnapshot(replica, wanted, { address: foreign, node, clock, signal, ...trust });
    const address = nodes.get(node)?.linkAddress ?? "";
    if (address === "") throw new KithError("SHARD_UNAVAILABLE", `node ${node} has not told its address`);
    if (nodes.stateOf(node) === "down") throw new KithError("SHARD_UNAVAILABLE", `node ${node} is down`);
    return fetchSnapshot(replica, wanted, { address, node, clock, signal, ...trust });
  };
}
