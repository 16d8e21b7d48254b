import type { Random } from "../../base/index.js";

/**
 * So many of the items, about: one by chance of each run of equal length. Unlike every n-th item, it takes no account of what repeats in
 * their order. All of them where there are no more.
 */
export function sampleOf(items: Uint32Array, wanted: number, random: Random): Uint32Array {
  if (items.length <= wanted) return items;
  const stride = items.length / wanted;
  const sample = new Uint32Array(wanted);
  for (let i = 0; i < wanted; i++) {
    const first = Math.floor(i * stride);
    const end = Math.floor((i + 1) * stride);
    sample[i] = items[first + Math.floor(random.float() * (end - first))] as number;
  }
  return sample;
}

/** The slots that are in `possible` and not in `sure`. */
export function openSlots(sure: Uint32Array, possible: Uint32Array, count: number): Uint32Array {
  const slots = new Uint32Array(count);
  let length = 0;
  for (let i = 0; i < possible.length; i++) {
    for (let word = (possible[i] as number) & ~(sure[i] ?? 0); word !== 0; ) {
      const low = word & -word;
      word ^= low;
      slots[length++] = (i << 5) + (31 - Math.clz32(low));
    }
  }
  return slots.subarray(0, length);
}
