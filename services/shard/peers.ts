import { KithError, toKithError } from "../../libs/base/index.js";
import type { CatalogView } from "../../libs/cluster/index.js";
import type { Peers, PeerSnapshot } from "../../libs/engine/index.js";
import type { Collection, ShardId, Snapshot, SnapshotWanted } from "../../libs/model/index.js";

/** Asks another node for a snapshot of its replica. */
export type FetchSnapshot = (
  node: string,
  replica: ShardId,
  wanted: SnapshotWanted,
  signal: AbortSignal,
) => Promise<Snapshot>;

/** The other replicas of a shard, where the catalog says that they are. */
export class PlacedPeers implements Peers {
  readonly #nodeId: string;
  readonly #name: ShardId;
  readonly #collections: CatalogView<Collection>;
  readonly #fetch: FetchSnapshot;
  /** Who was asked first the last time: the next time it is another one. */
  #turn = 0;

  constructor(nodeId: string, name: ShardId, collections: CatalogView<Collection>, fetch: FetchSnapshot) {
    this.#nodeId = nodeId;
    this.#name = name;
    this.#collections = collections;
    this.#fetch = fetch;
  }

  async fetch(wanted: SnapshotWanted, signal: AbortSignal): Promise<PeerSnapshot> {
    const nodes = this.#others();
    const refusals: string[] = [];
    const first = this.#turn++;
    for (let i = 0; i < nodes.length; i++) {
      const from = nodes[(first + i) % nodes.length] as string;
      try {
        const snapshot = await this.#fetch(from, this.#name, wanted, signal);
        return { ...snapshot, from };
      } catch (error) {
        if (signal.aborted) throw error;
        refusals.push(`${from}: ${toKithError(error).message}`);
      }
    }
    throw new KithError(
      "SHARD_UNAVAILABLE",
      refusals.length === 0 ? "no other node has a replica of this shard" : refusals.join("; "),
    );
  }

  #others(): string[] {
    for (const { id, shards } of this.#collections.values()) {
      if (id !== this.#name.collectionId) continue;
      const placed = shards.find(({ shard }) => shard === this.#name.shard);
      return placed?.nodes.filter((node) => node !== this.#nodeId) ?? [];
    }
    return [];
  }
}
