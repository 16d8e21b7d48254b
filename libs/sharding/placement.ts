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
      const loaded = nodes.map((node) => ({ ...node, replicaCount: load.get(node.id) ?? 0 }));
      const best = bestNode(loaded, replicas, zones);
      if (best === undefined) break;
      replicas.push({ node: best.id, ...as });
      zones.add(best.zone);
      load.set(best.id, (load.get(best.id) ?? 0) + 1);
    }
    return { ...placement, replicas };
  });
}

function bestNode(
  nodes: readonly PlacementNode[],
  replicas: readonly ReplicaPlacement[],
  zones: ReadonlySet<string | undefined>,
): PlacementNode | undefined {
  return nodes
    .filter(({ id }) => !replicas.some(({ node }) => node === id))
    .sort(
      (a, b) =>
        Number(zones.has(a.zone)) - Number(zones.has(b.zone)) ||
        a.replicaCount - b.replicaCount ||
        (a.id < b.id ? -1 : 1),
    )[0];
}

/**
 * The node for one more replica of a shard, in the place of the one on `from` where that is given: none that has a replica of it, in
 * another zone than those that stay while there is one, with the fewest replicas (ties by id). Undefined where there is none.
 *
 * @param zoneOf the zone of each node, those included that take no replicas
 */
export function nodeForReplica(
  { replicas }: ShardPlacement,
  nodes: readonly PlacementNode[],
  zoneOf: (node: string) => string | undefined,
  from?: string,
): string | undefined {
  const staying = replicas.filter(({ node, state }) => node !== from && state !== "leaving");
  return bestNode(nodes, replicas, new Set(staying.map(({ node }) => zoneOf(node))))?.id;
}

/**
 * The replica of a shard that goes where there are too many: one of those on nodes of `unwanted` first, then one whose zone has another
 * one, on the node with the most replicas (ties by id). Undefined where there is none.
 */
export function replicaToRemove(
  { replicas }: ShardPlacement,
  nodes: readonly PlacementNode[],
  zoneOf: (node: string) => string | undefined,
  unwanted: (node: string) => boolean,
): string | undefined {
  const counts = new Map(nodes.map(({ id, replicaCount }) => [id, replicaCount]));
  const staying = replicas.filter(({ state }) => state !== "leaving").map(({ node }) => node);
  const isDoubled = (node: string): boolean =>
    staying.some((other) => other !== node && zoneOf(other) === zoneOf(node));
  return staying.sort(
    (a, b) =>
      Number(unwanted(b)) - Number(unwanted(a)) ||
      Number(isDoubled(b)) - Number(isDoubled(a)) ||
      (counts.get(b) ?? 0) - (counts.get(a) ?? 0) ||
      (a < b ? 1 : -1),
  )[0];
}
