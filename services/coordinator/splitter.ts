import { type Clock, limits, toKithError } from "../../libs/base/index.js";
import {
  type ClusterSettings,
  type CollectionsView,
  isLive,
  isSplit,
  type NewOperation,
  operationOfShard,
  type Operations,
} from "../../libs/cluster/index.js";
import type { ReplicaStatus, ShardId } from "../../libs/model/index.js";
import { balanceShards, splitRange } from "../../libs/sharding/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

export interface SplitterOptions {
  collections: CollectionsView;
  operations: Operations;
  settings: () => ClusterSettings;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  clock: Clock;
  logger: Logger;
}

/** How often it is looked how large the shards are. */
const measureEveryMs = 15_000;
/** A shard whose split was undone, or could not be made, is left alone for so long. */
const holdOffMs = 10 * 60_000;

/** Splits shards that have grown beyond the setting, the largest first and one at a time. */
export class Splitter {
  readonly #options: SplitterOptions;
  #measuredMs: number;
  #measuring: Promise<void> | undefined;
  #planned: NewOperation<"split_shard"> | undefined;

  constructor(options: SplitterOptions) {
    this.#options = options;
    this.#measuredMs = options.clock.monotonicMs();
  }

  /** A split that is to be begun. To be called again and again. */
  plan(): NewOperation<"split_shard">[] {
    const { clock, logger, settings } = this.#options;
    const planned = this.#planned;
    this.#planned = undefined;
    if (settings().splitShardBytes === 0 || this.#isBusy()) return [];
    if (planned !== undefined) return [planned];
    const nowMs = clock.monotonicMs();
    if (this.#measuring !== undefined || nowMs - this.#measuredMs < measureEveryMs) return [];
    this.#measuredMs = nowMs;
    this.#measuring = this.#measure()
      .catch((error: unknown) => {
        const { code, message } = toKithError(error);
        logger.warn(`it could not be measured how large the shards are: ${message}`, { code });
      })
      .finally(() => (this.#measuring = undefined));
    return [];
  }

  async close(): Promise<void> {
    await this.#measuring;
  }

  #isBusy(): boolean {
    return this.#options.operations.list().some((record) => isSplit(record) && isLive(record));
  }

  async #measure(): Promise<void> {
    const { collections, operations, settings, statusOf, clock, logger } = this.#options;
    const { splitShardBytes } = settings();
    const statuses = new Map<string, ReplicaStatus>();
    for (const { id, shards } of collections.values()) {
      for (const { shard, replicas } of shards) {
        const node = replicas.find(({ state }) => state === "active")?.node;
        const status =
          node === undefined ? undefined : await statusOf(node, { collectionId: id, shard }).catch(() => undefined);
        if (node !== undefined && status?.state === "active") statuses.set(`${id}/${shard}/${node}`, status);
      }
    }
    const nowMs = clock.nowMs();
    const ended = operations.list().filter(isSplit);
    const large = balanceShards(collections.values(), (id, shard, node) => statuses.get(`${id}/${shard}/${node}`))
      .filter(({ sizeBytes }) => sizeBytes > splitShardBytes)
      .filter((shard) => !ended.some((each) => operationOfShard(each, shard) && nowMs - each.updatedAtMs < holdOffMs))
      .sort((a, b) => b.sizeBytes - a.sizeBytes);
    for (const { collectionId, collection, shard, sizeBytes } of large) {
      const record = collections.get(collection)?.value;
      const placement = record?.shards.find((each) => each.shard === shard);
      const isFull = (record?.shards.length ?? 0) >= limits.shardsMax;
      if (placement === undefined || isFull || placement.lastSlot === placement.firstSlot) continue;
      logger.info(`shard ${shard} of "${collection}" has ${sizeBytes} bytes, and is split`, { collection, shard });
      this.#planned = {
        id: `split-${collectionId}-${shard}-${nowMs.toString(36)}`,
        kind: "split_shard",
        subject: { collectionId, collection, shard },
        step: "prepare",
        data: { reason: "size", ranges: splitRange(placement, 2), children: [] },
      };
      return;
    }
  }
}
