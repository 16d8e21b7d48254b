import { type Clock, KithError, limits, withTimeout } from "../../../libs/base/index.js";
import type { Catalog } from "../../../libs/catalog/index.js";
import { leaseHolder, type NodeRecord, type NodesView } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { ReplicaStatus } from "../../../libs/model/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { untraced } from "../../../libs/telemetry/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { RoutingTable } from "../routing/routing-table.js";
import type { ReplicaHandle } from "../routing/replica-handle.js";
import type { RoutedShard } from "../routing/routed-shard.js";

export interface ClusterOptions {
  name: string;
  version: string;
  logKind: "embedded" | "jetstream";
  log: Log;
  catalog: Catalog;
  nodes: NodesView;
  routingTable: RoutingTable;
  clock: Clock;
}

/** How long one replica may take to describe itself. */
const statusTimeoutMs = 1_000;

/** The Cluster service: nodes, shards, replicas, sequences, lag and sizes, read afresh at each call. */
export class Cluster {
  readonly #options: ClusterOptions;

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  async describe(call: CallContext): Promise<pb.DescribeClusterResponse> {
    const { name, version, logKind, log, catalog, routingTable } = this.#options;
    const shards = await Promise.all(
      routingTable
        .all()
        .flatMap((collection) =>
          collection.allShards().map((shard) => this.#shard(collection.record.name, shard, call)),
        ),
    );
    return {
      cluster: name,
      version,
      logKind,
      logAvailable: log.available,
      coordinator: await leaseHolder(catalog).catch(() => ""),
      nodes: this.#nodes(),
      shards,
    };
  }

  async drain({ node }: pb.DrainNodeRequest): Promise<pb.DrainNodeResponse> {
    const record = this.#shardNode(node);
    await this.#options.nodes.drain(node, { isOwn: false });
    return { node: this.#node(record, this.#replicaCounts()) };
  }

  async undrain({ node }: pb.UndrainNodeRequest): Promise<pb.UndrainNodeResponse> {
    const { nodes } = this.#options;
    // One that was drained and is gone for good leaves its mark behind.
    if (nodes.drainOf(node) === undefined || nodes.get(node) !== undefined) this.#shardNode(node);
    await nodes.undrain(node);
    const record = nodes.get(node);
    return { node: record && this.#node(record, this.#replicaCounts()) };
  }

  #shardNode(id: string): NodeRecord {
    const record = this.#options.nodes.get(id);
    if (record?.roles.includes("shard") === true) return record;
    throw new KithError("NOT_FOUND", `there is no shard node "${id.slice(0, limits.nameLength)}"`, {
      details: { node: id.slice(0, limits.nameLength) },
    });
  }

  #nodes(): pb.Node[] {
    const counts = this.#replicaCounts();
    return this.#options.nodes.all().map((node) => this.#node(node, counts));
  }

  #node(node: NodeRecord, replicaCounts: ReadonlyMap<string, number>): pb.Node {
    const { nodes, clock } = this.#options;
    return {
      id: node.id,
      address: node.address || node.linkAddress,
      zone: node.zone,
      roles: node.roles,
      state: nodes.stateOf(node.id),
      memoryBytes: node.memoryBytes,
      diskFreeBytes: node.diskFreeBytes,
      uptimeMs: Math.max(0, clock.nowMs() - node.startedAtMs),
      version: node.version,
      replicaCount: replicaCounts.get(node.id) ?? 0,
    };
  }

  #replicaCounts(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const collection of this.#options.routingTable.all()) {
      for (const { replicas } of collection.record.shards) {
        for (const { node } of replicas) counts.set(node, (counts.get(node) ?? 0) + 1);
      }
    }
    return counts;
  }

  async #shard(collection: string, shard: RoutedShard, call: CallContext): Promise<pb.Shard> {
    const { log } = this.#options;
    const state = log.available ? await log.state(shard.id).catch(() => undefined) : undefined;
    const logSequence = state?.lastSequence;
    const replicas = await Promise.all(
      shard.replicas.map((replica) => this.#replica(shard, replica, logSequence, call)),
    );
    return {
      collection,
      shard: shard.id.shard,
      state: shard.placement.state,
      epoch: shard.placement.epoch,
      slots: { first: shard.placement.firstSlot, last: shard.placement.lastSlot },
      logSequence,
      logFirstSequence: state?.firstSequence,
      logBytes: state?.sizeBytes,
      replicas,
    };
  }

  async #replica(
    shard: RoutedShard,
    replica: ReplicaHandle,
    logSequence: number | undefined,
    call: CallContext,
  ): Promise<pb.Replica> {
    const ask = (signal: AbortSignal): Promise<ReplicaStatus> =>
      replica.node.api.status(shard.id, 0, { signal, trace: untraced });
    try {
      const status = await withTimeout(this.#options.clock, statusTimeoutMs, ask, call.signal);
      return {
        ...placedOf(replica),
        state: status.state,
        appliedSequence: status.appliedSequence,
        lag: lagOf(logSequence, status.appliedSequence),
        pointCount: status.pointCount,
        memoryBytes: status.memoryBytes,
        diskBytes: status.diskBytes,
        digest: status.digest,
        fault: status.fault,
        copiedBytes: status.copy?.copiedBytes ?? 0,
        copyBytes: status.copy?.totalBytes ?? 0,
        readsPerSecond: status.readsPerSecond ?? 0,
        masterKey: status.encryption?.masterKey ?? "",
        encrypting: status.encryption?.isRewriting ?? false,
      };
    } catch (error) {
      const last = replica.status;
      return {
        ...placedOf(replica),
        state: "unreachable",
        appliedSequence: last?.appliedSequence ?? 0,
        lag: lagOf(logSequence, last?.appliedSequence ?? 0),
        pointCount: last?.pointCount ?? 0,
        memoryBytes: 0,
        diskBytes: 0,
        digest: "",
        fault: error instanceof Error ? error.message : String(error),
        copiedBytes: 0,
        copyBytes: 0,
        readsPerSecond: 0,
        masterKey: last?.encryption?.masterKey ?? "",
        encrypting: last?.encryption?.isRewriting ?? false,
      };
    }
  }
}

/** Where the catalog has the replica. */
function placedOf({ placement }: ReplicaHandle): Pick<pb.Replica, "node" | "placement" | "placedAt"> {
  return { node: placement.node, placement: placement.state, placedAt: new Date(placement.sinceMs) };
}

/** Records behind the log; unknown where the log is. */
function lagOf(logSequence: number | undefined, appliedSequence: number): number | undefined {
  return logSequence === undefined ? undefined : Math.max(0, logSequence - appliedSequence);
}
