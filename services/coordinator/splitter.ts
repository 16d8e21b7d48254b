import { type Clock, limits } from "../../libs/base/index.js";
import {
  type ClusterSettings,
  type CollectionsView,
  isLive,
  isMerge,
  isSplit,
  type NewOperation,
  operationOfShard,
  type Operations,
} from "../../libs/cluster/index.js";
import type { ReplicaStatus, ShardId } from "../../libs/model/index.js";
import { balanceShards, splitRange } from "../../libs/sharding/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { Measurements } from "./measurements.js";

export interface SplitterOptions {
  collections: CollectionsView;
  operations: Operations;
  settings: () => ClusterSettings;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  clock: Clock;
  logger: Logger;
}

/** A shard whose split was undone, or could not be made, is left alone for so long. */
const holdOffMs = 10 * 60_000;

/** Splits shards that have grown beyond the setting, the largest first and one at a time. */
export class Splitter {
  readonly #options: SplitterOptions;
  readonly #measurements: Measurements;
  #planned: NewOperation<"split_shard"> | undefined;

  constructor(options: SplitterOptions) {
    this.#options = options;
    this.#measurements = new Measurements(options, "how large the shards are", () => this.#measure());
  }

  /** A split that is to be begun. To be called again and again. */
  plan(): NewOperation<"split_shard">[] {
    const planned = this.#planned;
    this.#planned = undefined;
    if (this.#options.settings().splitShardBytes === 0 || this.#isBusy()) return [];
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
    const logs = collections.values().reduce((count, { shards }) => count + shards.length, 0);
    if (logs + 2 > limits.logsMax) return;
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
