import type { Clock } from "../../libs/base/index.js";
import type { CatalogView, NodesView } from "../../libs/cluster/index.js";
import type { Collection, ShardPlacement } from "../../libs/model/index.js";
import { type PlacementNode, placeReplicas } from "../../libs/sharding/index.js";

/** Chooses the nodes of new replicas, so that those that are chosen at the same time are spread too. */
export class Placements {
  readonly #collections: CatalogView<Collection>;
  readonly #nodes: NodesView;
  readonly #clock: Clock;
  /** By collection id: what was chosen and may not be in the catalog yet. */
  readonly #chosen = new Map<string, readonly ShardPlacement[]>();

  constructor(collections: CatalogView<Collection>, nodes: NodesView, clock: Clock) {
    this.#collections = collections;
    this.#nodes = nodes;
    this.#clock = clock;
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
    const replicaCounts = new Map<string, number>();
    const count = (shards: readonly ShardPlacement[]): void => {
      for (const { replicas } of shards) {
        for (const { node } of replicas) replicaCounts.set(node, (replicaCounts.get(node) ?? 0) + 1);
      }
    };
    for (const { id, shards } of this.#collections.values()) if (!this.#chosen.has(id)) count(shards);
    for (const shards of this.#chosen.values()) count(shards);
    return this.#nodes
      .all()
      .filter((node) => node.roles.includes("shard") && this.#nodes.stateOf(node.id) === "up")
      .map((node) => ({ id: node.id, zone: node.zone, replicaCount: replicaCounts.get(node.id) ?? 0 }));
  }
}
