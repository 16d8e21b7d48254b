import { assert } from "../base/index.js";
import { xxh32 } from "../hash/index.js";
import type { IdKey, SlotRange } from "../model/index.js";

/** Hash slots of a collection. A power of two, so that a slot is the low bits of the hash. Part of the data format. */
export const hashSlotCount = 16_384;

/** The hash slot of a point: XXH32 of its id in key form, modulo 16 384. */
export function hashSlotOf(id: IdKey): number {
  return xxh32(id) & (hashSlotCount - 1);
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
