import { KithError } from "../base/index.js";
import type { ShardPlacement } from "../model/index.js";

export interface PlacementNode {
  id: string;
  zone: string;
  /** Replicas that the node holds already, of all collections. */
  replicaCount: number;
}

/**
 * Chooses nodes for replicas that have none: every replica of a shard on another node, in another zone while there are
 * zones left, on the nodes that hold the fewest. Pure and deterministic (ties by node id), and minimal: replicas that are placed stay.
 * FAILED_PRECONDITION where there are fewer nodes than replicas.
 */
export function placeReplicas(
  shards: readonly ShardPlacement[],
  replicationFactor: number,
  nodes: readonly PlacementNode[],
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
    const chosen = [...placement.nodes];
    while (chosen.length < replicationFactor) {
      const zones = new Set(chosen.map((id) => zoneOf.get(id)));
      const best = nodes
        .filter((node) => !chosen.includes(node.id))
        .sort(
          (a, b) =>
            Number(zones.has(a.zone)) - Number(zones.has(b.zone)) ||
            (load.get(a.id) ?? 0) - (load.get(b.id) ?? 0) ||
            (a.id < b.id ? -1 : 1),
        )[0];
      if (best === undefined) break;
      chosen.push(best.id);
      load.set(best.id, (load.get(best.id) ?? 0) + 1);
    }
    return { ...placement, nodes: chosen };
  });
}
