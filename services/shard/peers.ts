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
  readonly #id: ShardId;
  readonly #collections: CatalogView<Collection>;
  readonly #fetch: FetchSnapshot;
  /** Who was asked first the last time: the next time it is another one. */
  #turn = 0;

  constructor(nodeId: string, id: ShardId, collections: CatalogView<Collection>, fetch: FetchSnapshot) {
    this.#nodeId = nodeId;
    this.#id = id;
    this.#collections = collections;
    this.#fetch = fetch;
  }

  async fetch(wanted: SnapshotWanted, signal: AbortSignal): Promise<PeerSnapshot> {
    const refusals: string[] = [];
    for (const from of this.#others(this.#turn++)) {
      try {
        const snapshot = await this.#fetch(from, this.#id, wanted, signal);
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

  async resume(from: string, wanted: SnapshotWanted, signal: AbortSignal): Promise<PeerSnapshot> {
    const snapshot = await this.#fetch(from, this.#id, wanted, signal);
    return { ...snapshot, from };
  }

  /** Each in its turn; those that are joining last, for they wait for a copy themselves as a rule. */
  #others(turn: number): string[] {
    const record = this.#collections.values().find(({ id }) => id === this.#id.collectionId);
    const placed = record?.shards.find(({ shard }) => shard === this.#id.shard);
    const others = placed?.replicas.filter(({ node }) => node !== this.#nodeId) ?? [];
    return [
      ...rotated(
        others.filter(({ state }) => state !== "joining"),
        turn,
      ),
      ...rotated(
        others.filter(({ state }) => state === "joining"),
        turn,
      ),
    ].map(({ node }) => node);
  }
}

function rotated<T>(items: readonly T[], turn: number): T[] {
  const first = items.length === 0 ? 0 : turn % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}
