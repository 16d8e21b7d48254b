import type { Random } from "../../base/index.js";
import type { Steps, Words } from "../../filter/index.js";

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

/** The slots that are in `possible` and not in `sure`. Neither may change meanwhile. */
export function openSlots(sure: Words, possible: Words): Steps<Uint32Array> {
  const open = possible.slice();
  for (let i = 0; i < open.length; i++) open[i] = (open[i] as number) & ~(sure[i] ?? 0);
  return slotsIn(open);
}

/** Words that are looked at in one step: 8,192 slots. */
const wordsPerStep = 256;

/** The slots of `words`, where given those that are in `others` too. Neither may change meanwhile. */
export function* slotsIn(words: Words, others?: Words): Steps<Uint32Array> {
  let slots = new Uint32Array(1_024);
  let length = 0;
  for (let i = 0; i < words.length; i++) {
    if (i % wordsPerStep === wordsPerStep - 1) yield;
    if (length + 32 > slots.length) {
      const larger = new Uint32Array(slots.length * 2);
      larger.set(slots);
      slots = larger;
    }
    for (let word = (words[i] as number) & (others === undefined ? -1 : (others[i] ?? 0)); word !== 0; ) {
      const low = word & -word;
      word ^= low;
      slots[length++] = (i << 5) + (31 - Math.clz32(low));
    }
  }
  return slots.slice(0, length);
}
