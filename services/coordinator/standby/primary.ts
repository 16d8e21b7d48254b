import type { CollectionsView, FollowersView, NodesView, Operations } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";

/** The cluster that is followed, as its NATS tells it. */
export interface PrimaryCluster {
  collections: CollectionsView;
  nodes: NodesView;
  operations: Operations;
  /** As it is stored: records are not decrypted. */
  log: Log;
  followers: FollowersView;
  close(): Promise<void>;
}
