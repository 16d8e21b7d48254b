import { assert, xxh32 } from "../base/index.js";
import type { IdKey, ShardPlacement } from "../model/index.js";

/** Hash slots of a collection. A power of two, so that a slot is the low bits of the hash. Part of the data format. */
export const hashSlotCount = 16_384;

/** The hash slot of a point: XXH32 of its id in key form, modulo 16 384. */
export function hashSlotOf(id: IdKey): number {
  return xxh32(id) & (hashSlotCount - 1);
}

/** Splits the hash slots into contiguous ranges whose sizes differ by at most one. */
export function evenRanges(shardCount: number): Pick<ShardPlacement, "shard" | "firstSlot" | "lastSlot">[] {
  assert(
    shardCount >= 1 && shardCount <= hashSlotCount,
    `cannot split ${hashSlotCount} hash slots into ${shardCount} shards`,
  );
  return Array.from({ length: shardCount }, (_, shard) => ({
    shard,
    firstSlot: Math.floor((shard * hashSlotCount) / shardCount),
    lastSlot: Math.floor(((shard + 1) * hashSlotCount) / shardCount) - 1,
  }));
}

/** Hash slot → shard, as a table. Asserts that the ranges cover every slot exactly once. */
export function slotTable(shards: readonly Pick<ShardPlacement, "shard" | "firstSlot" | "lastSlot">[]): Uint16Array {
  const table = new Uint16Array(hashSlotCount).fill(0xffff);
  for (const { shard, firstSlot, lastSlot } of shards) {
    for (let slot = firstSlot; slot <= lastSlot; slot++) {
      assert(table[slot] === 0xffff, `hash slot ${slot} belongs to two shards`);
      table[slot] = shard;
    }
  }
  assert(!table.includes(0xffff), "some hash slots belong to no shard");
  return table;
}
