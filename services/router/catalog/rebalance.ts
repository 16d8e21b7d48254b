import { KithError, type Random } from "../../../libs/base/index.js";
import {
  type CollectionsView,
  isLive,
  isMove,
  type NodesView,
  type Operations,
  type SettingsView,
} from "../../../libs/cluster/index.js";
import type { ReplicaStatus } from "../../../libs/model/index.js";
import { type BalanceMove, balanceShards, type BalanceShard, planRebalance } from "../../../libs/sharding/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { RoutingTable } from "../routing/routing-table.js";

export interface RebalanceOptions {
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  settings: SettingsView;
  routingTable: RoutingTable;
  random: Random;
}

/**
 * What a node takes of copies where no limit is set, in bytes a second, for the estimate of how long they take: a copy of 191 MB of vectors of 768
 * dimensions took 2.5 s of CPU in the node that took it, and 1.9 s in the one that gave it.
 */
const unlimitedBytesPerSecond = 64 * 1024 * 1024;
/** A move takes about so long besides its copy. */
const moveOverheadMs = 4_000;

/** Plans that balance the nodes; their moves are operations, and done by the coordinator. */
export class Rebalance {
  readonly #options: RebalanceOptions;

  constructor(options: RebalanceOptions) {
    this.#options = options;
  }

  async plan({ apply }: pb.RebalanceRequest): Promise<pb.RebalanceResponse> {
    const { nodes, settings, collections } = this.#options;
    const { rebalanceThresholdPercent, rebalanceMinBytes } = settings.current;
    if (apply) this.#refuseSecond();
    const able = nodes.all().filter(({ id, roles }) => roles.includes("shard") && nodes.stateOf(id) === "up");
    const shards = balanceShards(collections.values(), this.#statuses());
    const moves = planRebalance(able, shards, {
      threshold: rebalanceThresholdPercent / 100,
      minBytes: rebalanceMinBytes,
    });
    return {
      moves: moves.map(({ collection, shard, from, to, sizeBytes }) => ({ collection, shard, from, to, sizeBytes })),
      sizeBytes: moves.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      expectedMs: this.#expectedMs(moves),
      nodes: able.map(({ id }) => loadOf(id, shards, moves)),
      operations: apply ? await this.#begin(moves) : [],
    };
  }

  async abort(): Promise<pb.AbortRebalanceResponse> {
    const { operations } = this.#options;
    const ids = this.#live();
    // Those that have ended meanwhile are no failure.
    const results = await Promise.allSettled(ids.map((id) => operations.cancel(id)));
    return { operations: ids.filter((_, i) => results[i]?.status === "fulfilled") };
  }

  #live(): string[] {
    return this.#options.operations
      .list()
      .filter((each) => isLive(each) && isMove(each) && each.data.reason === "rebalance")
      .map(({ id }) => id);
  }

  #refuseSecond(): void {
    const live = this.#live();
    if (live.length === 0) return;
    throw new KithError(
      "FAILED_PRECONDITION",
      `${live.length} moves of a rebalancing have not ended: wait for them, or abort them`,
      { details: { moves: live.length } },
    );
  }

  /** What replicas said when they were polled last. */
  #statuses(): (collectionId: string, shard: number, node: string) => ReplicaStatus | undefined {
    const byId = new Map(this.#options.routingTable.all().map((collection) => [collection.record.id, collection]));
    return (collectionId, shard, node) =>
      byId
        .get(collectionId)
        ?.find(shard)
        ?.replicas.find((replica) => replica.node.id === node)?.status;
  }

  /** By the node that takes the most, and by how many go on at once. */
  #expectedMs(moves: readonly BalanceMove[]): number {
    const { copyBytesPerSecond, movesAtOnce } = this.#options.settings.current;
    const rate =
      copyBytesPerSecond === 0 ? unlimitedBytesPerSecond : Math.min(copyBytesPerSecond, unlimitedBytesPerSecond);
    const taken = new Map<string, number>();
    for (const { to, sizeBytes } of moves) taken.set(to, (taken.get(to) ?? 0) + sizeBytes);
    const copyMs = (Math.max(0, ...taken.values()) / rate) * 1000;
    return Math.round(copyMs + Math.ceil(moves.length / movesAtOnce) * moveOverheadMs);
  }

  async #begin(moves: readonly BalanceMove[]): Promise<string[]> {
    const { operations, random } = this.#options;
    const ids: string[] = [];
    for (const { collectionId, collection, shard, from, to } of moves) {
      const { value } = await operations.create({
        id: `move-${collectionId}-${shard}-${random.bytes(6).toString("hex")}`,
        kind: "move_replica",
        subject: { collectionId, collection, shard },
        step: "join",
        data: { from, to, reason: "rebalance" },
      });
      ids.push(value.id);
    }
    return ids;
  }
}

function loadOf(node: string, shards: readonly BalanceShard[], moves: readonly BalanceMove[]): pb.NodeLoad {
  const load = { node, sizeBytes: 0, plannedBytes: 0, readsPerSecond: 0 };
  for (const { nodes, sizeBytes, readsPerSecond } of shards) {
    if (!nodes.includes(node)) continue;
    load.sizeBytes += sizeBytes;
    load.readsPerSecond += readsPerSecond;
  }
  load.plannedBytes = load.sizeBytes;
  for (const { from, to, sizeBytes } of moves) {
    if (from === node) load.plannedBytes -= sizeBytes;
    if (to === node) load.plannedBytes += sizeBytes;
  }
  return load;
}
