import type { Clock } from "../../libs/base/index.js";
import {
  type ClusterSettings,
  type CollectionsView,
  isLive,
  isMove,
  type NewOperation,
  type NodesView,
  type Operations,
} from "../../libs/cluster/index.js";
import type { ReplicaStatus, ShardId } from "../../libs/model/index.js";
import { type BalanceNode, balanceShards, planRebalance } from "../../libs/sharding/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { Measurements } from "./measurements.js";

export interface BalancerOptions {
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  settings: () => ClusterSettings;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  clock: Clock;
  logger: Logger;
}

/** Replicas that are asked at once. */
const askedMax = 16;

/**
 * Balances the nodes by itself, where the settings say so: when the same nodes have been up for two measurements, none is away, and no replica
 * is being moved.
 */
export class Balancer {
  readonly #options: BalancerOptions;
  readonly #measurements: Measurements;
  /** Ids of the nodes of the last measurement. */
  #measured = "";
  #planned: NewOperation<"move_replica">[] = [];

  constructor(options: BalancerOptions) {
    this.#options = options;
    this.#measurements = new Measurements(options, "how loaded the nodes are", () => this.#measure());
  }

  /** Moves that are to be begun; `isCalm`: nothing else is to be moved. To be called again and again. */
  plan(isCalm: boolean): NewOperation<"move_replica">[] {
    const { logger } = this.#options;
    const planned = this.#planned;
    this.#planned = [];
    if (!isCalm || !this.#isDue()) return [];
    if (planned.length > 0) {
      logger.info(`the nodes are not equally loaded: ${planned.length} replicas are moved`, { moves: planned.length });
      return planned;
    }
    this.#measurements.beginDue();
    return [];
  }

  close(): Promise<void> {
    return this.#measurements.close();
  }

  #isDue(): boolean {
    const { settings, operations } = this.#options;
    const { autoRebalance, rebalancePaused } = settings();
    if (autoRebalance === 0 || rebalancePaused === 1) return false;
    for (const id of operations.live()) {
      const record = operations.get(id)?.value;
      if (record !== undefined && isMove(record) && isLive(record)) return false;
    }
    return true;
  }

  async #measure(): Promise<void> {
    const { collections, settings, clock } = this.#options;
    const nodes = this.#nodes();
    const ids = nodes?.map(({ id }) => id).join() ?? "";
    const isSame = ids === this.#measured;
    this.#measured = ids;
    if (nodes === undefined || nodes.length < 2 || !isSame) return;
    const statuses = await this.#statuses();
    const { rebalanceThresholdPercent, rebalanceMinBytes } = settings();
    const shards = balanceShards(collections.values(), (id, shard, node) => statuses.get(`${id}/${shard}/${node}`));
    const moves = planRebalance(nodes, shards, {
      threshold: rebalanceThresholdPercent / 100,
      minBytes: rebalanceMinBytes,
    });
    // Where the same moves are planned once more, after they were undone, they are other operations.
    const stamp = clock.nowMs().toString(36);
    this.#planned = moves.map(({ collectionId, collection, shard, from, to }) => ({
      id: `move-${collectionId}-${shard}-${stamp}`,
      kind: "move_replica",
      subject: { collectionId, collection, shard },
      step: "join",
      data: { from, to, reason: "rebalance" },
    }));
  }

  /** The shard nodes; undefined where one of them is not up, for it may be about to come back or to go. */
  #nodes(): BalanceNode[] | undefined {
    const { nodes } = this.#options;
    const all = nodes.all().filter(({ roles }) => roles.includes("shard"));
    const states = all.map(({ id }) => nodes.stateOf(id));
    if (states.some((state) => state !== "up" && state !== "draining")) return undefined;
    return all.filter((_, i) => states[i] === "up").map(({ id, zone }) => ({ id, zone }));
  }

  async #statuses(): Promise<Map<string, ReplicaStatus>> {
    const { collections, statusOf } = this.#options;
    const wanted = collections
      .values()
      .flatMap(({ id, shards }) =>
        shards.flatMap(({ shard, replicas }) => replicas.map(({ node }) => ({ id, shard, node }))),
      );
    const found = new Map<string, ReplicaStatus>();
    const ask = async (): Promise<void> => {
      for (let next = wanted.pop(); next !== undefined; next = wanted.pop()) {
        const { id, shard, node } = next;
        const status = await statusOf(node, { collectionId: id, shard }).catch(() => undefined);
        if (status !== undefined) found.set(`${id}/${shard}/${node}`, status);
      }
    };
    await Promise.all(Array.from({ length: askedMax }, ask));
    return found;
  }
}
