import { assert } from "../../../libs/base/index.js";
import { type Collection, type IdKey, parsePath, type Path, type Stored } from "../../../libs/model/index.js";
import { hashSlotOf, hashSlotOfPartition, slotTable } from "../../../libs/sharding/index.js";
import type { WriteLane } from "../write/write-lane.js";
import type { RoutedShard } from "./routed-shard.js";

/** A collection with everything that a request needs to find its way. */
export class RoutedCollection {
  /** All that the catalog names, by id. */
  readonly #byId: ReadonlyMap<number, RoutedShard>;
  /** Those that own the hash slots, by id: each point is in one of them. */
  readonly shards: readonly RoutedShard[];
  /** By hash slot, a position in `shards`. */
  readonly #positions: Uint16Array;
  readonly #lanes: ReadonlyMap<number, WriteLane>;
  /** Of the partition key; undefined where there is none. */
  readonly partitionPath: Path | undefined;
  /** Of its measurements. */
  readonly attributes: { readonly "kith.collection": string };

  /** `lanes`: by shard id, one for each shard that owns slots. */
  constructor(
    readonly record: Collection,
    shards: readonly RoutedShard[],
    lanes: ReadonlyMap<number, WriteLane>,
  ) {
    this.#byId = new Map(shards.map((shard) => [shard.id.shard, shard]));
    this.shards = shards
      .filter(({ placement }) => placement.state === "active")
      .sort((a, b) => a.id.shard - b.id.shard);
    this.#positions = slotTable(this.shards.map(({ placement }) => placement));
    this.#lanes = lanes;
    this.partitionPath = record.partitionKey === undefined ? undefined : parsePath(record.partitionKey);
    this.attributes = { "kith.collection": record.name };
  }

  /** Those that own slots, and those that do not yet or no more. */
  allShards(): RoutedShard[] {
    return [...this.#byId.values()];
  }

  /** The shard with this id, whether it owns slots or not; undefined where there is none. */
  find(shard: number): RoutedShard | undefined {
    return this.#byId.get(shard);
  }

  /** Ids of the shards that have what a shard had: itself, or those that have got its slots since. */
  heirsOf(shard: number): number[] {
    const heirs = this.shards.filter(({ placement }) => placement.origin?.ancestors.includes(shard) === true);
    return [...(this.#byId.has(shard) ? [shard] : []), ...heirs.map(({ id }) => id.shard)];
  }

  shardOf(id: IdKey): RoutedShard {
    const position = this.shards.length === 1 ? 0 : (this.#positions[hashSlotOf(id)] as number);
    return this.shards[position] as RoutedShard;
  }

  /** The shard of all points with this value of the partition key. */
  shardOfPartition(partition: string): RoutedShard {
    return this.shards[this.#positions[hashSlotOfPartition(partition)] as number] as RoutedShard;
  }

  /** The way of the writes to a shard that owns slots, by the shard's id. */
  laneOf(shard: number): WriteLane {
    const lane = this.#lanes.get(shard);
    assert(lane !== undefined, `shard ${shard} of "${this.record.name}" takes no writes`);
    return lane;
  }

  /** What all shards hold, as their replicas told when they were polled last: of each the one that has most. */
  knownContent(): Pick<Stored, "points" | "bytes"> {
    const most = (of: "pointCount" | "diskBytes"): number =>
      this.shards.reduce(
        (sum, { replicas }) => sum + Math.max(0, ...replicas.map(({ status }) => status?.[of] ?? 0)),
        0,
      );
    return { points: most("pointCount"), bytes: most("diskBytes") };
  }

  lanes(): Iterable<WriteLane> {
    return this.#lanes.values();
  }
}
