import { type Clock, toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import type { ShardId } from "../model/index.js";
import { CatalogView } from "./view.js";

/** How far a standby cluster has read the logs of this one. */
interface Follower {
  /** Last sequences that are there, by "collection id/shard". */
  places: Record<string, number>;
  /** Grows, so that the key's revision changes. */
  beat: number;
}

/** How often a standby tells where it is, and how long it counts as there after it has told so last. Milliseconds. */
export const followerTellMs = 1_000;
const followerLostMs = 15_000;

function keyOf({ collectionId, shard }: ShardId): string {
  return `${collectionId}/${shard}`;
}

/** A standby that reads a log. */
export interface FollowerPlace {
  name: string;
  sequence: number;
  /** Whether it has told so of late. */
  isThere: boolean;
}

/** The standby clusters that follow this one, by what they tell in its catalog. */
export class FollowersView {
  readonly #view: CatalogView<Follower>;
  readonly #clock: Clock;
  readonly #seenMs = new Map<string, number>();

  constructor(catalog: Catalog, clock: Clock) {
    this.#clock = clock;
    this.#view = new CatalogView(catalog, "followers", (json) => JSON.parse(json) as Follower);
    this.#view.onChange((name, value) => {
      if (value === undefined) this.#seenMs.delete(name);
      else this.#seenMs.set(name, clock.monotonicMs());
    });
  }

  start(signal?: AbortSignal): Promise<void> {
    return this.#view.start(signal);
  }

  /** Up to where standbys have read a log; of those that have begun to. */
  placesOf(shard: ShardId): FollowerPlace[] {
    const key = keyOf(shard);
    const nowMs = this.#clock.monotonicMs();
    return this.#view.names().flatMap((name): FollowerPlace[] => {
      const sequence = this.#view.get(name)?.value.places[key];
      if (sequence === undefined) return [];
      const seenMs = this.#seenMs.get(name) ?? Number.NEGATIVE_INFINITY;
      return [{ name, sequence, isThere: nowMs - seenMs < followerLostMs }];
    });
  }

  /** Says where a standby is: to be called by that one. */
  async tell(name: string, places: readonly (ShardId & { sequence: number })[]): Promise<void> {
    const told = Object.fromEntries(places.map((place) => [keyOf(place), place.sequence]));
    if (this.#view.get(name) === undefined) {
      try {
        await this.#view.create(name, { places: told, beat: 0 });
        return;
      } catch (error) {
        if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      }
    }
    await this.#view.modify(name, ({ beat }) => ({ places: told, beat: beat + 1 }));
  }

  /** A standby that follows no more: to be called by that one. */
  async remove(name: string): Promise<void> {
    await this.#view.delete(name);
  }

  close(): Promise<void> {
    return this.#view.close();
  }
}
