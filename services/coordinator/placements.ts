import type { Clock } from "../../libs/base/index.js";
import type { CollectionsView, NodesView } from "../../libs/cluster/index.js";
import type { Collection, ShardPlacement } from "../../libs/model/index.js";
import { type PlacementNode, placeReplicas } from "../../libs/sharding/index.js";

/** Chooses the nodes of new replicas, so that those that are chosen at the same time are spread too. */
export class Placements {
  readonly #collections: CollectionsView;
  readonly #nodes: NodesView;
  readonly #clock: Clock;
  /** By collection id: what was chosen and may not be in the catalog yet. */
  readonly #chosen = new Map<string, readonly ShardPlacement[]>();
  /** By node: the replicas that the catalog places there. Kept with each change: counting all for each creation makes many quadratic. */
  readonly #placed = new Map<string, number>();
  readonly #stopWatching: () => void;

  constructor(collections: CollectionsView, nodes: NodesView, clock: Clock) {
    this.#collections = collections;
    this.#nodes = nodes;
    this.#clock = clock;
    for (const { shards } of collections.values()) count(this.#placed, shards, 1);
    this.#stopWatching = collections.onChange((_key, record, before) => {
      if (before !== undefined) count(this.#placed, before.shards, -1);
      if (record !== undefined) count(this.#placed, record.shards, 1);
    });
  }

  close(): void {
    this.#stopWatching();
  }

  /** The shards of a new collection with all their replicas, on nodes that are up; FAILED_PRECONDITION where these are too few. */
  choose({ id, shards, replicationFactor }: Collection): ShardPlacement[] {
    this.#chosen.delete(id);
    const chosen = placeReplicas(shards, replicationFactor, this.candidates(), {
      state: "active",
      sinceMs: this.#clock.nowMs(),
    });
    this.#chosen.set(id, chosen);
    return chosen;
  }

  /** The choice for the collection is in the catalog, or will never be. */
  settle(collectionId: string): void {
    this.#chosen.delete(collectionId);
  }

  /** The nodes that take new replicas, with what they have. */
  candidates(): PlacementNode[] {
    const replicaCounts = new Map(this.#placed);
    for (const [id, shards] of this.#chosen) {
      count(replicaCounts, this.#collections.findById(id)?.shards ?? [], -1);
      count(replicaCounts, shards, 1);
    }
    return this.#nodes
      .all()
      .filter((node) => node.roles.includes("shard") && this.#nodes.stateOf(node.id) === "up")
      .map((node) => ({ id: node.id, zone: node.zone, replicaCount: replicaCounts.get(node.id) ?? 0 }));
  }
}

/** Adds `by` for each replica to the count of its node. */
function count(counts: Map<string, number>, shards: readonly ShardPlacement[], by: 1 | -1): void {
  for (const { replicas } of shards) {
    for (const { node } of replicas) counts.set(node, (counts.get(node) ?? 0) + by);
  }
}
