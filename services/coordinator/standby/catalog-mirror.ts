import { type Runtime, toKithError } from "../../../libs/base/index.js";
import { type CollectionsView, deletionIdOf } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Collection, ShardId, ShardPlacement } from "../../../libs/model/index.js";
import { placeReplicas } from "../../../libs/sharding/index.js";
import type { Placements } from "../placements.js";
import { type FollowedLogs, type StatusOf, statusesOf } from "./followed-logs.js";
import { followedIn, type MirrorContext, mirrored } from "./mirrored.js";
import type { PrimaryCluster } from "./primary.js";

export interface CatalogMirrorOptions extends Pick<Runtime, "clock"> {
  collections: CollectionsView;
  placements: Placements;
  /** This cluster's log, as it is stored. */
  stored: Log;
  logs: FollowedLogs;
  statusOf: StatusOf;
  /** Whether this coordinator may still write. */
  isHolder: () => boolean;
}

/** Names are compared so often, and records of which nothing was heard. */
const namesEveryMs = 1_000;
const compareEveryMs = 10_000;

/** Brings the catalog of this cluster to what the primary's has: the same collections and shards, on nodes of its own. */
export class CatalogMirror {
  readonly #options: CatalogMirrorOptions;
  /** Keys of records that have changed here or there since they were compared, or are on their way to what the primary has. */
  readonly #changed = new Set<string>();
  #comparedMs = Number.NEGATIVE_INFINITY;
  #namesMs = Number.NEGATIVE_INFINITY;
  #orphans: string[] = [];

  constructor(options: CatalogMirrorOptions) {
    this.#options = options;
  }

  /** Names of collections here whose records the primary has lost. */
  get orphans(): readonly string[] {
    return this.#orphans;
  }

  /** Hears of changes on both sides from now on, and compares all at first. Returns what ends that. */
  watch(primary: PrimaryCluster): () => void {
    this.#comparedMs = Number.NEGATIVE_INFINITY;
    const note = (key: string): unknown => this.#changed.add(key);
    const stops = [primary.collections, this.#options.collections].map((view) => view.onChange(note));
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Goes through what may differ. Returns what cannot be followed now, empty where all is. */
  async reconcile(primary: PrimaryCluster): Promise<string> {
    const { collections } = this.#options;
    const orphans: string[] = [];
    let reason = "";
    const trying = async (what: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        const { message } = toKithError(error);
        reason = `${what}: ${message}`;
      }
    };
    for (const key of this.#due(primary)) {
      const theirs = primary.collections.get(key)?.value;
      // What changes from here on is heard of.
      this.#changed.delete(key);
      if (theirs === undefined) continue;
      let isSettled = false;
      await trying(`the collection "${theirs.name}"`, async () => {
        await this.#mirrorRecord(key, theirs, primary);
        const ours = collections.get(key)?.value;
        const isThere = ours?.id === theirs.id && ours.shards.every(({ state }) => state === "active");
        isSettled = isThere || theirs.state !== "ready";
      });
      if (!isSettled) this.#changed.add(key);
    }
    for (const key of collections.names()) {
      const ours = collections.get(key)?.value;
      if (ours === undefined || ours.state !== "ready") continue;
      const theirs = primary.collections.get(key)?.value;
      if (theirs?.id === ours.id && theirs.state !== "deleting") continue;
      // A record that is merely gone may have been lost: that is no reason to delete anything here.
      const isDeleted = theirs !== undefined || primary.operations.get(deletionIdOf(ours.id)) !== undefined;
      if (isDeleted) await trying(`the collection "${ours.name}"`, () => this.#markDeleted(key, ours.id));
      else orphans.push(collections.naming.nameOf(ours.id) ?? ours.name);
    }
    this.#orphans = orphans;
    await trying("the names of collections", () => this.#mirrorNames(primary));
    return reason;
  }

  /** Those that may differ. All of them now and then: where the primary's nodes are is in no record. */
  #due(primary: PrimaryCluster): string[] {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#comparedMs >= compareEveryMs) {
      this.#comparedMs = nowMs;
      for (const key of primary.collections.names()) this.#changed.add(key);
    }
    return [...this.#changed].sort();
  }

  async #mirrorRecord(key: string, theirs: Collection, primary: PrimaryCluster): Promise<void> {
    const { collections, isHolder } = this.#options;
    // One that is being made, restored or deleted there is not to be had yet, or no more.
    if (theirs.state !== "ready" || theirs.restoring !== undefined) return;
    const known = collections.get(key)?.value;
    if (known !== undefined && known.id !== theirs.id) return;
    const context = await this.#contextOf(known, primary);
    if (known === undefined) {
      if (isHolder()) await collections.create(key, mirrored(theirs, undefined, context));
      return;
    }
    if (isSame(mirrored(theirs, known, context), known)) return;
    const gone: number[] = [];
    await collections.modify(key, (found) => {
      gone.length = 0;
      if (!isHolder() || found.id !== theirs.id || found.state !== "ready") return undefined;
      const next = mirrored(theirs, found, context);
      const left = new Set(next.shards.map(({ shard }) => shard));
      gone.push(...found.shards.map(({ shard }) => shard).filter((shard) => !left.has(shard)));
      return isSame(next, found) ? undefined : next;
    });
    for (const shard of gone) await this.#options.logs.drop({ collectionId: theirs.id, shard });
  }

  async #contextOf(ours: Collection | undefined, primary: PrimaryCluster): Promise<MirrorContext> {
    const { placements, clock, logs } = this.#options;
    const ready = new Set<number>();
    const cutOff = new Set<number>();
    for (const shard of ours?.shards ?? []) {
      if (shard.state !== "preparing" || ours === undefined) continue;
      if (await this.#isReady(ours, shard)) ready.add(shard.shard);
      const parent = followedIn(shard, ours.shards);
      if (parent !== undefined && this.#isCutOff({ collectionId: ours.id, shard: parent.shard }, primary))
        cutOff.add(parent.shard);
    }
    return {
      place: (shards, replicationFactor) => {
        const candidates = placements.candidates();
        const count = Math.max(1, Math.min(replicationFactor, candidates.length));
        return placeReplicas(shards, count, candidates, { state: "active", sinceMs: clock.nowMs() });
      },
      sourcesOf: ({ replicas }) =>
        replicas
          .filter(({ state }) => state === "active")
          .flatMap(({ node }) => {
            const address = primary.nodes.get(node)?.linkAddress ?? "";
            return address === "" ? [] : [{ node, address }];
          }),
      isReady: ({ shard }) => ready.has(shard),
      isCutOff: ({ shard }) => cutOff.has(shard),
      isResting: (shard) => logs.isResting({ collectionId: ours?.id ?? "", shard }),
      nowMs: clock.nowMs(),
    };
  }

  /** Whether a replica of a new shard has all that it took over. */
  async #isReady({ id: collectionId, shards }: Collection, shard: ShardPlacement): Promise<boolean> {
    const name = { collectionId, shard: shard.shard };
    const parent = followedIn(shard, shards);
    const sealedAt = parent && (await this.#options.stored.sealedAt({ collectionId, shard: parent.shard }));
    if (parent !== undefined && sealedAt === undefined) return false;
    const isMerge = shard.origin?.merge !== undefined;
    return (await statusesOf(name, shard, this.#options.statusOf)).some((status) => {
      if (status.state !== "active") return false;
      if (isMerge) return (status.adoptedSequence ?? 0) > 0;
      return status.appliedSequence >= (sealedAt ?? 1);
    });
  }

  /** The primary has removed a log that has not come to its end here. */
  #isCutOff(name: ShardId, primary: PrimaryCluster): boolean {
    if (!this.#options.logs.isCutOff(name)) return false;
    const theirs = primary.collections.findById(name.collectionId);
    return theirs !== undefined && !theirs.shards.some(({ shard }) => shard === name.shard);
  }

  async #markDeleted(key: string, id: string): Promise<void> {
    const { collections, isHolder } = this.#options;
    await collections.modify(key, (found) =>
      isHolder() && found.id === id && found.state === "ready" ? { ...found, state: "deleting" } : undefined,
    );
  }

  async #mirrorNames(primary: PrimaryCluster): Promise<void> {
    const { collections, isHolder } = this.#options;
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#namesMs < namesEveryMs) return;
    const theirs = await primary.collections.readDirectory();
    const ours = await collections.readDirectory();
    if (!isSame(theirs, ours) && isHolder()) await collections.changeDirectory(() => theirs);
    this.#namesMs = nowMs;
  }
}

function isSame(one: object, other: object): boolean {
  return JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
}

/** With the keys of objects in one order, whoever has written them. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, each]) => [key, sorted(each)]));
}
