import { afterAll, afterEach, beforeAll } from "vitest";
import type { ConnectOptions, KithClient } from "../../libs/client/index.js";
import type { NetworkPiece } from "./proxy.js";
import type { NatsServers } from "./nats-servers.js";
import type { Ballast } from "./small-disk.js";

/** How many nodes a cluster has. */
export interface ClusterSize {
  shardNodes?: number;
  /** Replicas of a collection that asks for none. */
  replicas?: number;
  /** Routers, each with the coordinator's role. Default: 1. */
  routers?: number;
}

/** What a scenario needs of a cluster; the same scenario runs on every driver. */
export interface Cluster {
  readonly driver: "in-process" | "processes";
  /** host:port of the first router. */
  readonly target: string;
  /** A client of its own; closed with the cluster. */
  connect(options?: ConnectOptions & { router?: number }): Promise<KithClient>;
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
  /** Everything that a node has logged so far, one JSON object a line. */
  logOf(node: string): string;
  /** Keeps logs and data when the cluster is closed, and says where: the scenario failed. */
  keep(): void;
  /** Ends everything and deletes the data, unless it is to be kept. */
  close(): Promise<void>;
}

/** The network of one node. */
export interface NodeNetwork {
  /** From the node to NATS. */
  nats: NetworkPiece;
  /** From others to the node's link; of shard nodes. */
  link: NetworkPiece | undefined;
}

/** Real processes, whose log is a NATS server of their own. */
export interface ProcessCluster extends Cluster {
  readonly natsUrl: string;
  /** What can be cut of a node's network; of a cluster that is `cuttable`. */
  networkOf(node: string): NodeNetwork;
  /** Where there are several. */
  readonly natsServers: NatsServers | undefined;
  /** Of a cluster with `natsDiskMiB`: fills the disk of NATS. */
  readonly natsDisk: Ballast;
  /** host:port of every router, in order. */
  readonly targets: readonly string[];
  /** Ids of the routers, which are coordinators as well. */
  readonly routers: readonly string[];
  killNats(): Promise<void>;
  /** Sends NATS a signal: SIGSTOP freezes it, SIGCONT lets it go on. */
  signalNats(signal: NodeJS.Signals): void;
  /** On its old store; `storeBytes` is a new upper bound. */
  startNats(storeBytes?: number): Promise<void>;
  /** Sends a signal and does not wait. */
  signal(node: string, signal: NodeJS.Signals): void;
  /** Resolves with the exit code when the process has ended; undefined for one that a signal ended. */
  ended(node: string): Promise<number | undefined>;
  pidOf(node: string): number;
}

/**
 * One cluster for all tests of a file. When one of them fails, or `setUp` does, logs and data stay, and where they are is
 * printed. The returned function gives the cluster, within tests.
 */
export function useCluster<C extends Cluster>(
  start: () => Promise<C>,
  setUp: (cluster: C) => Promise<void> = () => Promise.resolve(),
): () => C {
  let cluster: C | undefined;
  beforeAll(async () => {
    cluster = await start();
    try {
      await setUp(cluster);
    } catch (error) {
      cluster.keep();
      throw error;
    }
  }, 120_000);
  afterEach(({ task }) => {
    if (task.result?.state === "fail") cluster?.keep();
  });
  afterAll(() => cluster?.close(), 120_000);
  return () => {
    if (cluster === undefined) throw new Error("the cluster is there within tests only");
    return cluster;
  };
}
