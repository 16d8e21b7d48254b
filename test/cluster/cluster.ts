import type { KithClient } from "../../libs/client/index.js";

/** What a scenario needs of a cluster; the same scenario runs on every driver. */
export interface Cluster {
  readonly driver: "in-process" | "processes";
  /** host:port of the router. */
  readonly target: string;
  /** A client of its own; closed with the cluster. */
  connect(): Promise<KithClient>;
  /** Ids of the nodes that hold replicas. */
  readonly shardNodes: readonly string[];
  /** Ends a node at once, as kill -9 does. */
  kill(node: string): Promise<void>;
  /** Ends a node in order. */
  stop(node: string): Promise<void>;
  /** Starts a node that was ended, on its old data. */
  start(node: string): Promise<void>;
  /** Folder of a node's data. */
  dataOf(node: string): string;
  /** Ends everything and deletes the data, unless the scenario failed. */
  close(): Promise<void>;
}

/** A cluster whose log is a NATS server of its own. */
export interface NatsCluster extends Cluster {
  killNats(): Promise<void>;
  startNats(): Promise<void>;
}
