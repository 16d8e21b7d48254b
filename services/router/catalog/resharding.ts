import { KithError, limits, type Random } from "../../../libs/base/index.js";
import {
  type CollectionsView,
  isLive,
  isMerge,
  isSplit,
  operationOfShard,
  type OperationRecord,
  type Operations,
  type ShardMerge,
  type ShardSplit,
} from "../../../libs/cluster/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Collection, ShardPlacement, SlotRange } from "../../../libs/model/index.js";
import { hashSlotOfPartition, rangesAround, splitRange } from "../../../libs/sharding/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { partitionIn } from "../partitions.js";
import { checkLogRoom } from "./named.js";
import type { RoutingTable } from "../routing/routing-table.js";

export interface ReshardingOptions {
  operations: Operations;
  view: CollectionsView;
  routingTable: RoutingTable;
  log: Log;
  random: Random;
}

const intoDefault = 2;

/** Splits and merges of shards: asked for here, done by the coordinator. */
export class Resharding {
  readonly #options: ReshardingOptions;

  constructor(options: ReshardingOptions) {
    this.#options = options;
  }

  /** The operation, which has just begun. INVALID_ARGUMENT for an unknown shard; FAILED_PRECONDITION where it cannot be split. */
  async split(
    { collection: name, shard: id, into: asked }: pb.SplitShardRequest,
    call: CallContext,
  ): Promise<OperationRecord> {
    const { record } = this.#options.routingTable.resolve(name, call);
    const shard = record.shards.find((each) => each.shard === id && each.state !== "preparing");
    if (shard === undefined) throw unknownShard(record, id);
    const into = asked === 0 ? intoDefault : asked;
    if (into < 2 || into > limits.splitMax) {
      throw new KithError("LIMIT_OUT_OF_RANGE", `into is ${into}; a shard is split into 2..${limits.splitMax}`, {
        details: { field: "into", value: into, min: 2, max: limits.splitMax },
      });
    }
    this.#check(record, shard, into);
    return this.#begin(record, name, shard, splitRange(shard, into));
  }

  /**
   * As `split`, so that the hash slot of a value of the partition key has a shard of its own. FAILED_PRECONDITION where the collection has no such key,
   * or the slot is alone already.
   */
  async isolate(
    { collection: name, partition: asked }: pb.IsolatePartitionRequest,
    call: CallContext,
  ): Promise<OperationRecord> {
    const collection = this.#options.routingTable.resolve(name, call);
    const { record } = collection;
    if (record.partitionKey === undefined) {
      throw new KithError("FAILED_PRECONDITION", `the collection "${name}" has no partition key`, {
        details: { collection: name },
      });
    }
    const partition = partitionIn(collection, asked);
    if (partition === undefined) {
      throw new KithError("INVALID_ARGUMENT", `partition is empty; give a value of "${record.partitionKey}"`, {
        details: { field: "partition" },
      });
    }
    const { placement } = collection.shardOfPartition(partition);
    const ranges = rangesAround(placement, hashSlotOfPartition(partition));
    if (ranges.length === 1) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `"${partition}" has shard ${placement.shard} of "${name}" for itself already`,
        {
          details: { collection: name, shard: placement.shard },
        },
      );
    }
    this.#check(record, placement, ranges.length);
    return this.#begin(record, name, placement, ranges);
  }

  /** The operation, which has just begun. INVALID_ARGUMENT for an unknown shard; FAILED_PRECONDITION where they cannot be merged. */
  async merge({ collection: name, shards: asked }: pb.MergeShardsRequest, call: CallContext): Promise<OperationRecord> {
    const { record } = this.#options.routingTable.resolve(name, call);
    if (asked.length < 2 || asked.length > limits.mergeMax) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `${asked.length} shards are to be merged; give 2 to ${limits.mergeMax}`,
        {
          details: { field: "shards", value: asked.length, min: 2, max: limits.mergeMax },
        },
      );
    }
    const parents = asked.map((id) => {
      const shard = record.shards.find((each) => each.shard === id && each.state !== "preparing");
      if (shard === undefined) throw unknownShard(record, id);
      return shard;
    });
    parents.sort((a, b) => a.firstSlot - b.firstSlot);
    for (const shard of parents) this.#checkFree(record, shard);
    const gap = parents.findIndex((each, i) => i > 0 && each.firstSlot !== (parents[i - 1]?.lastSlot ?? 0) + 1);
    if (gap !== -1) {
      const [left, right] = [parents[gap - 1], parents[gap]].map((each) => {
        return `shard ${each?.shard} (hash slots ${each?.firstSlot} to ${each?.lastSlot})`;
      });
      throw new KithError("FAILED_PRECONDITION", `${left} and ${right} of "${name}" are not next to each other`, {
        details: { collection: name, shards: asked.join() },
      });
    }
    checkLogRoom(this.#options.view, 1);
    const { operations, random } = this.#options;
    const ids = parents.map(({ shard }) => shard);
    const data: ShardMerge = { reason: "requested", parents: ids, term: 0, reader: "", places: {} };
    const [shard] = ids;
    const { value } = await operations.create({
      id: `merge-${record.id}-${ids.slice(0, 4).join("-")}-${random.bytes(6).toString("hex")}`,
      kind: "merge_shards",
      subject: { collectionId: record.id, collection: name, ...(shard !== undefined && { shard }) },
      step: "prepare",
      data,
    });
    return value;
  }

  async #begin(
    { id: collectionId }: Collection,
    collection: string,
    { shard }: ShardPlacement,
    ranges: SlotRange[],
  ): Promise<OperationRecord> {
    const { operations, random } = this.#options;
    const data: ShardSplit = { reason: "requested", ranges, children: [] };
    const { value } = await operations.create({
      id: `split-${collectionId}-${shard}-${random.bytes(6).toString("hex")}`,
      kind: "split_shard",
      subject: { collectionId, collection, shard },
      step: "prepare",
      data,
    });
    return value;
  }

  /** Refuses a shard that has no slots, or is being changed. */
  #checkFree({ id: collectionId, name }: Collection, shard: ShardPlacement): void {
    const { operations } = this.#options;
    const what = `shard ${shard.shard} of "${name}"`;
    const refuse = (message: string): never => {
      throw new KithError("FAILED_PRECONDITION", message, { details: { collection: name, shard: shard.shard } });
    };
    if (shard.state !== "active") refuse(`${what} has passed its hash slots on to other shards`);
    for (const id of operations.live()) {
      const other = operations.get(id)?.value;
      if (other !== undefined && operationOfShard(other, { collectionId, shard: shard.shard })) {
        refuse(`${what} is being changed already, by the operation ${id}`);
      }
    }
  }

  #check(record: Collection, shard: ShardPlacement, into: number): void {
    this.#checkFree(record, shard);
    const { name, shards } = record;
    const what = `shard ${shard.shard} of "${name}"`;
    const refuse = (message: string): never => {
      throw new KithError("FAILED_PRECONDITION", message, { details: { collection: name, shard: shard.shard } });
    };
    const slots = shard.lastSlot - shard.firstSlot + 1;
    if (into > slots) refuse(`${what} has ${slots} hash slots, and cannot be split into ${into} shards`);
    const count = shards.filter(({ state }) => state === "active").length - 1 + into;
    if (count > limits.shardsMax) {
      refuse(`the collection "${name}" would have ${count} shards; at most ${limits.shardsMax} are allowed`);
    }
    checkLogRoom(this.#options.view, into);
  }

  /** What is known of a split or a merge; undefined of another operation. */
  async describe(operation: OperationRecord): Promise<pb.Resharding | undefined> {
    if (isMerge(operation)) {
      const { parents, child, reason, progress } = operation.data;
      const unknown = { totalBytes: 0, lag: undefined, unindexedVectorCount: 0 };
      return {
        from: parents,
        to: child === undefined ? [] : [child],
        reason,
        copiedBytes: progress?.bytes ?? 0,
        ...unknown,
      };
    }
    if (!isSplit(operation)) return undefined;
    const { data, subject } = operation;
    const progress = operation.step === "copy" && isLive(operation) ? await this.#progressOf(operation) : undefined;
    return {
      from: [subject.shard ?? 0],
      to: data.children,
      reason: data.reason,
      ...{ copiedBytes: 0, totalBytes: 0, lag: undefined, unindexedVectorCount: 0 },
      ...progress,
    };
  }

  /** Of all replicas of the new shards together; of those that are furthest behind. */
  async #progressOf({
    subject,
    data,
  }: OperationRecord<string, string, ShardSplit>): Promise<Partial<pb.Resharding> | undefined> {
    const { routingTable, log } = this.#options;
    const collection = routingTable.all().find(({ record }) => record.id === subject.collectionId);
    const parent = collection?.find(subject.shard ?? 0);
    if (parent === undefined) return undefined;
    const statuses = data.children
      .flatMap((child) => collection?.find(child)?.replicas ?? [])
      .flatMap(({ status }) => status ?? []);
    const sum = (of: (status: (typeof statuses)[number]) => number): number =>
      statuses.reduce((total, status) => total + of(status), 0);
    const bytes = {
      copiedBytes: sum(({ copy }) => copy?.copiedBytes ?? 0),
      totalBytes: sum(({ copy }) => copy?.totalBytes ?? 0),
      unindexedVectorCount: sum(({ unindexedVectorCount }) => unindexedVectorCount),
    };
    if (statuses.length === 0 || statuses.some(({ state }) => state === "initializing") || !log.available) return bytes;
    const lastSequence = await log.state(parent.id).then(
      (state) => state.lastSequence,
      () => undefined,
    );
    if (lastSequence === undefined) return bytes;
    return { ...bytes, lag: Math.max(0, lastSequence - Math.min(...statuses.map((each) => each.appliedSequence))) };
  }
}

function unknownShard({ name, shards }: Collection, shard: number): KithError {
  const known = shards.map((each) => each.shard).sort((a, b) => a - b);
  return new KithError(
    "INVALID_ARGUMENT",
    `the collection "${name}" has no shard ${shard}; it has ${known.slice(0, 32).join(", ")}${known.length > 32 ? " …" : ""}`,
    { details: { collection: name, shard } },
  );
}
