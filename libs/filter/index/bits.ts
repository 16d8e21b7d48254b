/** Sets of slots as words of 32 bits; bit 0 of word 0 is slot 0. What an index of vectors takes as its mask. */
export type Words = Uint32Array<ArrayBuffer>;

export function wordsFor(slots: number): Words {
  return new Uint32Array((slots + 31) >>> 5);
}

export function hasBit(words: Words, slot: number): boolean {
  return (((words[slot >>> 5] ?? 0) >>> (slot & 31)) & 1) === 1;
}

export function setBit(words: Words, slot: number): void {
  words[slot >>> 5] = (words[slot >>> 5] as number) | (1 << (slot & 31));
}

export function clearBit(words: Words, slot: number): void {
  words[slot >>> 5] = (words[slot >>> 5] as number) & ~(1 << (slot & 31));
}

/** Words beyond the end of the shorter operand count as empty. */
export function orInto(into: Words, words: Words): void {
  const length = Math.min(into.length, words.length);
  for (let i = 0; i < length; i++) into[i] = (into[i] as number) | (words[i] as number);
}

export function andInto(into: Words, words: Words): void {
  const length = Math.min(into.length, words.length);
  for (let i = 0; i < length; i++) into[i] = (into[i] as number) & (words[i] as number);
  into.fill(0, length);
}

export function andNotInto(into: Words, words: Words): void {
  const length = Math.min(into.length, words.length);
  for (let i = 0; i < length; i++) into[i] = (into[i] as number) & ~(words[i] as number);
}

export function countBits(words: Words): number {
  let count = 0;
  for (let i = 0; i < words.length; i++) count += popCount(words[i] as number);
  return count;
}

function popCount(word: number): number {
  let bits = word - ((word >>> 1) & 0x5555_5555);
  bits = (bits & 0x3333_3333) + ((bits >>> 2) & 0x3333_3333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f_0f0f, 0x0101_0101) >>> 24;
}

/** Calls with each slot of the set in the words from `first` to before `end`, in ascending order. */
export function eachBit(words: Words, first: number, end: number, visit: (slot: number) => void): void {
  for (let i = first; i < end; i++) {
    let word = words[i] as number;
    while (word !== 0) {
      const low = word & -word;
      visit((i << 5) + (31 - Math.clz32(low)));
      word ^= low;
    }
  }
}

/** A set of slots that grows as slots come; empty it takes no memory. */
export class SlotSet {
  words: Words = new Uint32Array(0);
  count = 0;

  has(slot: number): boolean {
    return hasBit(this.words, slot);
  }

  add(slot: number): void {
    if (this.has(slot)) return;
    const needed = (slot >>> 5) + 1;
    if (needed > this.words.length) {
      const larger = new Uint32Array(Math.max(needed, Math.ceil(this.words.length * 1.25), 32));
      larger.set(this.words);
      this.words = larger;
    }
    setBit(this.words, slot);
    this.count++;
  }

  addAll(words: Words): void {
    if (words.length > this.words.length) {
      const larger = new Uint32Array(words.length);
      larger.set(this.words);
      this.words = larger;
    }
    for (let i = 0; i < words.length; i++) this.words[i] = (this.words[i] as number) | (words[i] as number);
    this.count = countBits(this.words);
  }

  clear(): void {
    this.words.fill(0);
    this.count = 0;
  }

  delete(slot: number): void {
    if (!this.has(slot)) return;
    clearBit(this.words, slot);
    this.count--;
  }

  /** In ascending order. */
  *[Symbol.iterator](): Generator<number> {
    for (let i = 0; i < this.words.length; i++) {
      for (let word = this.words[i] as number; word !== 0; ) {
        const low = word & -word;
        word ^= low;
        yield (i << 5) + (31 - Math.clz32(low));
      }
    }
  }

  get memoryBytes(): number {
    return this.words.byteLength;
  }
}

/** Adds the slots of words to a set, in steps. */
export function* addAll(set: SlotSet, words: Uint32Array): Generator<undefined, void, undefined> {
  const copy = Uint32Array.from(words);
  for (let first = 0; first < copy.length; first += 1024) {
    eachBit(copy, first, Math.min(first + 1024, copy.length), (slot) => set.add(slot));
    yield;
  }
}
