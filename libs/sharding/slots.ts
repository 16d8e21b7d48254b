import { assert } from "../base/index.js";
import { xxh32 } from "../hash/index.js";
import { type IdKey, partitionOf, type SlotRange } from "../model/index.js";

/** Hash slots of a collection. A power of two, so that a slot is the low bits of the hash. Part of the data format. */
export const hashSlotCount = 16_384;

/** The hash slot of a point: XXH32 of its id in key form, or of its value of the partition key, modulo 16 384. */
export function hashSlotOf(id: IdKey): number {
  return xxh32(partitionOf(id) ?? id) & (hashSlotCount - 1);
}

/** The hash slot of all points with a value of the partition key. */
export function hashSlotOfPartition(partition: string): number {
  return xxh32(Buffer.from(partition)) & (hashSlotCount - 1);
}

/** Splits the slots of a range so that one of them is alone. */
export function rangesAround({ firstSlot, lastSlot }: SlotRange, slot: number): SlotRange[] {
  assert(slot >= firstSlot && slot <= lastSlot, `the hash slot ${slot} is not in ${firstSlot}..${lastSlot}`);
  return [
    { firstSlot, lastSlot: slot - 1 },
    { firstSlot: slot, lastSlot: slot },
    { firstSlot: slot + 1, lastSlot },
  ].filter((range) => range.firstSlot <= range.lastSlot);
}

/** Splits the hash slots into contiguous ranges whose sizes differ by at most one. */
export function evenRanges(shardCount: number): SlotRange[] {
  assert(
    shardCount >= 1 && shardCount <= hashSlotCount,
    `cannot split ${hashSlotCount} hash slots into ${shardCount} shards`,
  );
  return splitRange({ firstSlot: 0, lastSlot: hashSlotCount - 1 }, shardCount);
}

/** Splits the slots of a range into contiguous ranges whose sizes differ by at most one; of no more than it has. */
export function splitRange({ firstSlot, lastSlot }: SlotRange, count: number): SlotRange[] {
  const size = lastSlot - firstSlot + 1;
  assert(count >= 1 && count <= size, `cannot split ${size} hash slots into ${count} ranges`);
  return Array.from({ length: count }, (_, i) => ({
    firstSlot: firstSlot + Math.floor((i * size) / count),
    lastSlot: firstSlot + Math.floor(((i + 1) * size) / count) - 1,
  }));
}

const unowned = 0xffff;

/** Hash slot → position of its range in `ranges`, as a table. Asserts that the ranges cover every slot exactly once. */
export function slotTable(ranges: readonly SlotRange[]): Uint16Array {
  const table = new Uint16Array(hashSlotCount).fill(unowned);
  ranges.forEach(({ firstSlot, lastSlot }, position) => {
    for (let slot = firstSlot; slot <= lastSlot; slot++) {
      assert(table[slot] === unowned, `hash slot ${slot} belongs to two shards`);
      table[slot] = position;
    }
  });
  assert(!table.includes(unowned), "some hash slots belong to no shard");
  return table;
}
