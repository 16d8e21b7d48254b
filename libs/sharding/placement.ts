import { KithError } from "../base/index.js";
import type { ReplicaPlacement, ShardPlacement } from "../model/index.js";
import { evenRanges } from "./slots.js";

export interface PlacementNode {
  id: string;
  zone: string;
  /** Replicas that the node holds already, of all collections. */
  replicaCount: number;
}

/** The shards of a new collection in its first epoch, with the ids 0, 1, …, placed nowhere yet. */
export function newShards(shardCount: number): ShardPlacement[] {
  return evenRanges(shardCount).map((slots, shard) => ({ shard, ...slots, epoch: 1, state: "active", replicas: [] }));
}

/**
 * Chooses nodes for the replicas that a shard lacks: every replica of a shard on another node, in another zone while there are
 * zones left, on the nodes that hold the fewest. Pure and deterministic (ties by node id), and minimal: replicas that are placed stay; those
 * that leave do not count. New ones come `as` said. FAILED_PRECONDITION where there are fewer nodes than replicas.
 */
export function placeReplicas(
  shards: readonly ShardPlacement[],
  replicationFactor: number,
  nodes: readonly PlacementNode[],
  as: Pick<ReplicaPlacement, "state" | "sinceMs">,
): ShardPlacement[] {
  if (nodes.length < replicationFactor) {
    throw new KithError(
      "FAILED_PRECONDITION",
      `${replicationFactor} replicas need ${replicationFactor} shard nodes, and ${nodes.length} are up; start more nodes or create the collection with fewer replicas`,
      { details: { replicationFactor, nodeCount: nodes.length } },
    );
  }
  const load = new Map(nodes.map((node) => [node.id, node.replicaCount]));
  const zoneOf = new Map(nodes.map((node) => [node.id, node.zone]));
  return shards.map((placement) => {
    const replicas = [...placement.replicas];
    const staying = replicas.filter(({ state }) => state !== "leaving");
    const zones = new Set(staying.map(({ node }) => zoneOf.get(node)));
    for (let count = staying.length; count < replicationFactor; count++) {
      const best = nodes
        .filter(({ id }) => !replicas.some(({ node }) => node === id))
        .sort(
          (a, b) =>
            Number(zones.has(a.zone)) - Number(zones.has(b.zone)) ||
            (load.get(a.id) ?? 0) - (load.get(b.id) ?? 0) ||
            (a.id < b.id ? -1 : 1),
        )[0];
      if (best === undefined) break;
      replicas.push({ node: best.id, ...as });
      zones.add(best.zone);
      load.set(best.id, (load.get(best.id) ?? 0) + 1);
    }
    return { ...placement, replicas };
  });
}
