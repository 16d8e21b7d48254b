import { formatDigest } from "../../hash/index.js";
import type { FollowedShard, IdKey } from "../../model/index.js";
import { hashSlotOf } from "../../sharding/index.js";
import type { ShareCounts, StoreShare } from "../../storage/index.js";
import { decodeChanges, encodeChanges } from "../apply/change-feed.js";
import { decodeLineage, encodeLineage, extended } from "./lineage.js";
import { fromJson, type StoreState, toJson } from "./schema.js";

/** Whether a point is in the slots that a replica takes of the shard that it follows. */
export function ownsOf({ slots }: FollowedShard): (id: IdKey) => boolean {
  return (id) => {
    const slot = hashSlotOf(id);
    return slot >= slots.firstSlot && slot <= slots.lastSlot;
  };
}

/** The part of another shard's replica that a copy takes, whose store gets this id. */
export class FollowedShare implements StoreShare {
  readonly owns: (id: IdKey) => boolean;
  readonly #followed: FollowedShard;
  readonly #storeId: string;
  readonly #withChanges: boolean;

  constructor(followed: FollowedShard, storeId: string, withChanges: boolean) {
    this.owns = ownsOf(followed);
    this.#followed = followed;
    this.#storeId = storeId;
    this.#withChanges = withChanges;
  }

  changes(body: Uint8Array): Uint8Array | undefined {
    const own = decodeChanges(body).filter(({ kind, id }) => kind === "truncate" || this.owns(id));
    const [encoded] = encodeChanges(own);
    return encoded;
  }

  metas(
    { pointCount, digest, vectorCounts }: ShareCounts,
    stateBody: Uint8Array,
    lineage: Uint8Array | undefined,
  ): ReadonlyMap<string, Uint8Array> {
    const { changes, ...before } = fromJson<StoreState>(stateBody);
    const state: StoreState = {
      ...before,
      pointCount,
      digest: formatDigest(digest),
      slotEnd: pointCount,
      fieldCounts: before.fieldCounts.map((count, number) => (count === 0 ? 0 : (vectorCounts.get(number) ?? 0))),
      ...(this.#withChanges && changes && { changes: { from: changes.from, store: this.#storeId } }),
    };
    const spans = extended(decodeLineage(lineage), this.#followed.allSlots, before.appliedSequence);
    return new Map([
      ["state", toJson(state)],
      ["lineage", encodeLineage(spans)],
    ]);
  }
}
