import { KithError, toKithError } from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import type { Peers, PeerSnapshot } from "../../libs/engine/index.js";
import {
  type FilePlace,
  followedBy,
  type ShardId,
  type Snapshot,
  type SnapshotWanted,
} from "../../libs/model/index.js";

/** Asks another node for a snapshot of its replica. */
export type FetchSnapshot = (
  node: string,
  replica: ShardId,
  wanted: SnapshotWanted,
  signal: AbortSignal,
  /** host:port of a node of another cluster; missing for one of this. */
  address?: string,
) => Promise<Snapshot>;

/** The files that a backup has of a shard, which is restored from it; undefined for a replica that is not. */
export type RestoredSnapshot = (incarnation: string, from: FilePlace | undefined) => Promise<Snapshot> | undefined;

/** How it is named. */
const backupName = "the backup";

/** Who is asked for a snapshot. */
interface Asked {
  /** How it is named. */
  from: string;
  node: string;
  address?: string;
}

/**
 * The other replicas of a shard, where the catalog says that they are; those of the shard that it comes from while it follows that one. In a standby
 * cluster those of the primary are asked last. While their collection is restored by files, the backup has what none of them has.
 */
export class PlacedPeers implements Peers {
  readonly #nodeId: string;
  readonly #id: ShardId;
  readonly #collections: CollectionsView;
  readonly #fetch: FetchSnapshot;
  readonly #restored: RestoredSnapshot;
  /** Who was asked first the last time: the next time it is another one. */
  #turn = 0;

  constructor(
    nodeId: string,
    id: ShardId,
    collections: CollectionsView,
    fetch: FetchSnapshot,
    restored: RestoredSnapshot = () => undefined,
  ) {
    this.#nodeId = nodeId;
    this.#id = id;
    this.#collections = collections;
    this.#fetch = fetch;
    this.#restored = restored;
  }

  async fetch(wanted: SnapshotWanted, signal: AbortSignal): Promise<PeerSnapshot> {
    const restored = await this.#backup(wanted);
    if (restored !== undefined) return restored;
    const refusals: string[] = [];
    const { asked, nodes } = this.#others(this.#turn++);
    for (const { from, node, address } of nodes) {
      try {
        const snapshot = await this.#fetch(node, asked, wanted, signal, address);
        return { ...snapshot, from, mayBeAhead: address !== undefined };
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
    const restored = from === backupName ? await this.#backup(wanted) : undefined;
    if (restored !== undefined) return restored;
    const { asked, nodes } = this.#others(0);
    const { node, address } = nodes.find((each) => each.from === from) ?? { node: from, address: undefined };
    const snapshot = await this.#fetch(node, asked, wanted, signal, address);
    return { ...snapshot, from, mayBeAhead: address !== undefined };
  }

  /** What the backup has that the shard is restored from; undefined where it is not. */
  async #backup({ incarnation, resume, takesFiles }: SnapshotWanted): Promise<PeerSnapshot | undefined> {
    const restored = await this.#restored(incarnation, resume?.file);
    if (restored === undefined || takesFiles === true) return restored && { ...restored, from: backupName };
    throw new KithError(
      "FAILED_PRECONDITION",
      "this node encrypts what it keeps, and routers do not: give all nodes the same keys, and restore again",
    );
  }

  /** Each in its turn; those that are joining last, for they wait for a copy themselves as a rule. */
  #others(turn: number): { asked: ShardId; nodes: Asked[] } {
    const { collectionId, shard } = this.#id;
    const record = this.#collections.findById(collectionId);
    const followed = record && followedBy(record.shards, shard);
    const asked = { collectionId, shard: followed?.shard ?? shard };
    const { replicas: placed = [], sources = [] } = record?.shards.find((each) => each.shard === asked.shard) ?? {};
    const isHere = ({ node }: { node: string }): boolean => node === this.#nodeId;
    const others = placed.filter((each) => !isHere(each));
    // What is on this node need not cross the network.
    const here = followed === undefined ? [] : placed.filter(isHere);
    const ordered = [
      ...here,
      ...rotated(
        others.filter(({ state }) => state !== "joining"),
        turn,
      ),
      ...rotated(
        others.filter(({ state }) => state === "joining"),
        turn,
      ),
    ];
    const elsewhere = rotated(sources, turn).map(
      (source): Asked => ({ from: `${source.node}@${source.address}`, ...source }),
    );
    return { asked, nodes: [...ordered.map(({ node }): Asked => ({ from: node, node })), ...elsewhere] };
  }
}

function rotated<T>(items: readonly T[], turn: number): T[] {
  const first = items.length === 0 ? 0 : turn % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}
