import { type Clock, limits } from "../../libs/base/index.js";
import {
  type ClusterSettings,
  type CollectionsView,
  isLive,
  isMerge,
  isSplit,
  type NewOperation,
  type OperationRecord,
  operationOfShard,
  type Operations,
} from "../../libs/cluster/index.js";
import type { Collection, ReplicaStatus, ShardId, ShardPlacement } from "../../libs/model/index.js";
import { type BalanceShard, balanceShards, splitRange } from "../../libs/sharding/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { Measurements } from "./measurements.js";

/** How often sizes are looked at, and how long shards rest. */
export interface ReshardingPace {
  everyMs: number;
  /** A shard that was split or merged, or could not be, is left alone for so long. */
  holdOffMs: number;
}

export interface ResharderOptions {
  collections: CollectionsView;
  operations: Operations;
  settings: () => ClusterSettings;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  clock: Clock;
  logger: Logger;
  pace?: ReshardingPace | undefined;
}

type Resharding = NewOperation<"split_shard" | "merge_shards">;

const usualPace: ReshardingPace = { everyMs: 15_000, holdOffMs: 10 * 60_000 };
/** Merged shards have at most this share of what a shard is split at, whatever the setting is: else the two would alternate. */
const mergedShareMax = 0.5;

/**
 * Splits shards that have grown beyond the setting, the largest first, and merges neighbours that have become small, the smallest first: one at a time.
 * Only shards are merged that were one before, so that a collection keeps the shards that it was made with.
 */
export class Resharder {
  readonly #options: ResharderOptions;
  readonly #pace: ReshardingPace;
  readonly #measurements: Measurements;
  #planned: Resharding | undefined;

  constructor(options: ResharderOptions) {
    this.#options = options;
    this.#pace = options.pace ?? usualPace;
    const { clock, logger } = options;
    this.#measurements = new Measurements(
      { clock, logger, everyMs: this.#pace.everyMs },
      "how large the shards are",
      () => this.#measure(),
    );
  }

  /** A split or a merge that is to be begun. To be called again and again. */
  plan(): Resharding[] {
    const planned = this.#planned;
    this.#planned = undefined;
    const { splitShardBytes, mergeShardBytes } = this.#options.settings();
    if ((splitShardBytes === 0 && mergeShardBytes === 0) || this.#isBusy()) return [];
    if (planned !== undefined) return [planned];
    this.#measurements.beginDue();
    return [];
  }

  close(): Promise<void> {
    return this.#measurements.close();
  }

  #isBusy(): boolean {
    return this.#options.operations.list().some((record) => (isSplit(record) || isMerge(record)) && isLive(record));
  }

  async #measure(): Promise<void> {
    const { collections, statusOf } = this.#options;
    const statuses = new Map<string, ReplicaStatus>();
    for (const { id, shards } of collections.values()) {
      for (const { shard, replicas } of shards) {
        const node = replicas.find(({ state }) => state === "active")?.node;
        const status =
          node === undefined ? undefined : await statusOf(node, { collectionId: id, shard }).catch(() => undefined);
        if (node !== undefined && status?.state === "active") statuses.set(`${id}/${shard}/${node}`, status);
      }
    }
    const sizes = balanceShards(collections.values(), (id, shard, node) => statuses.get(`${id}/${shard}/${node}`));
    const done = this.#options.operations.list().filter((each) => isSplit(each) || isMerge(each));
    const resting = sizes.filter((each) => this.#isRested(each, done));
    this.#planned = this.#splitOf(resting) ?? this.#mergeOf(resting);
  }

  /** Whether nothing was done with it a short time ago. */
  #isRested(shard: BalanceShard, done: readonly OperationRecord[]): boolean {
    const nowMs = this.#options.clock.nowMs();
    return !done.some((each) => {
      const isAboutIt = operationOfShard(each, shard) || hasMade(each, shard);
      return isAboutIt && Math.abs(nowMs - each.updatedAtMs) < this.#pace.holdOffMs;
    });
  }

  #splitOf(shards: readonly BalanceShard[]): Resharding | undefined {
    const { splitShardBytes } = this.#options.settings();
    if (splitShardBytes === 0 || this.#logCount() + 2 > limits.logsMax) return undefined;
    const large = shards.filter(({ sizeBytes }) => sizeBytes > splitShardBytes);
    for (const { collectionId, collection, shard, sizeBytes } of large.sort((a, b) => b.sizeBytes - a.sizeBytes)) {
      const record = this.#recordOf(collectionId);
      const placement = record?.shards.find((each) => each.shard === shard);
      const isFull = (record?.shards.length ?? 0) >= limits.shardsMax;
      if (placement === undefined || isFull || placement.lastSlot === placement.firstSlot) continue;
      this.#tell(`shard ${shard} of "${collection}" has ${sizeBytes} bytes, and is split`, collection, shard);
      return {
        id: `split-${collectionId}-${shard}-${this.#options.clock.nowMs().toString(36)}`,
        kind: "split_shard",
        subject: { collectionId, collection, shard },
        step: "prepare",
        data: { reason: "size", ranges: splitRange(placement, 2), children: [] },
      };
    }
    return undefined;
  }

  #mergeOf(shards: readonly BalanceShard[]): Resharding | undefined {
    const { splitShardBytes, mergeShardBytes } = this.#options.settings();
    if (mergeShardBytes === 0 || this.#logCount() + 1 > limits.logsMax) return undefined;
    const bytesMax =
      splitShardBytes === 0 ? mergeShardBytes : Math.min(mergeShardBytes, splitShardBytes * mergedShareMax);
    const sizes = new Map(shards.map((each) => [`${each.collectionId}/${each.shard}`, each]));
    let best: { left: BalanceShard; right: BalanceShard; sizeBytes: number } | undefined;
    for (const collectionId of new Set(shards.map((each) => each.collectionId))) {
      const placed = this.#recordOf(collectionId)?.shards.filter(({ state }) => state === "active") ?? [];
      placed.sort((a, b) => a.firstSlot - b.firstSlot);
      for (const [i, one] of placed.entries()) {
        const other = placed[i + 1];
        if (other === undefined || !mayMerge(one, other)) continue;
        const left = sizes.get(`${collectionId}/${one.shard}`);
        const right = sizes.get(`${collectionId}/${other.shard}`);
        if (left === undefined || right === undefined) continue;
        const sizeBytes = left.sizeBytes + right.sizeBytes;
        if (sizeBytes <= bytesMax && sizeBytes < (best?.sizeBytes ?? Infinity)) best = { left, right, sizeBytes };
      }
    }
    if (best === undefined) return undefined;
    const { collectionId, collection, shard } = best.left;
    const parents = [shard, best.right.shard];
    const text = `the shards ${parents.join(" and ")} of "${collection}" have ${best.sizeBytes} bytes together, and are merged`;
    this.#tell(text, collection, shard);
    return {
      id: `merge-${collectionId}-${parents.join("-")}-${this.#options.clock.nowMs().toString(36)}`,
      kind: "merge_shards",
      subject: { collectionId, collection, shard },
      step: "prepare",
      data: { reason: "size", parents, term: 0, reader: "", places: {} },
    };
  }

  #recordOf(collectionId: string): Collection | undefined {
    return this.#options.collections.findById(collectionId);
  }

  #logCount(): number {
    return this.#options.collections.values().reduce((count, { shards }) => count + shards.length, 0);
  }

  #tell(text: string, collection: string, shard: number): void {
    this.#options.logger.info(text, { collection, shard });
  }
}

/** Whether the shard came of the operation. */
function hasMade(record: OperationRecord, { collectionId, shard }: BalanceShard): boolean {
  if (record.subject.collectionId !== collectionId) return false;
  return isSplit(record) ? record.data.children.includes(shard) : isMerge(record) && record.data.child === shard;
}

/** Neighbours that were one shard before. One with a single hash slot was given that on purpose. */
function mayMerge(left: ShardPlacement, right: ShardPlacement): boolean {
  if (left.lastSlot + 1 !== right.firstSlot) return false;
  if ([left, right].some(({ firstSlot, lastSlot }) => firstSlot === lastSlot)) return false;
  const ancestors = new Set(left.origin?.ancestors);
  return right.origin?.ancestors.some((each) => ancestors.has(each)) === true;
}
