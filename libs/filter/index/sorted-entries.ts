import { assert } from "../../base/index.js";

/** Entries of one block. */
const blockBits = 9;
const blockLength = 1 << blockBits;
/** Blocks of one slab: memory grows by 16 KiB. */
const slabBits = 3;
const slabMask = (1 << slabBits) - 1;
/** Neighbours that would fit into one block with this much room are merged. */
const mergeLength = Math.floor(blockLength * 0.75);
/** Blocks that a scan visits before it gives way. */
const blocksPerStep = 32;

/** Orders entries; 0 only for the same entry. */
export type Compare = (a: number, b: number) => number;

/** A place in the order: below 0 for entries before it, 0 and more for entries behind it. */
export type Probe = (entry: number) => number;

/** Work that can be laid down between steps: each `next` takes some tens of microseconds. */
export type Steps<T> = Generator<undefined, T, undefined>;

/**
 * Entries (u32) in order, in blocks: 4 bytes an entry and what its block has free, about 5.5 where entries came in random order.
 * Entries are compared by what they stand for, which their owner keeps.
 */
export class SortedEntries {
  readonly #compare: Compare;
  readonly #slabs: Uint32Array[] = [];
  /** Numbers of blocks in the order of their entries, and the length of each by its number. */
  #order: number[] = [];
  readonly #lengths: number[] = [];
  readonly #free: number[] = [];
  #size = 0;

  constructor(compare: Compare) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#size;
  }

  get memoryBytes(): number {
    return this.#slabs.length * (blockLength << slabBits) * 4 + (this.#order.length + this.#lengths.length) * 8;
  }

  insert(entry: number): void {
    this.#size++;
    const at = this.#blockFor(entry);
    if (at < 0) {
      const first = this.#newBlock();
      this.#order.push(first);
      this.#put(first, 0, entry);
      return;
    }
    const block = this.#order[at] as number;
    const place = this.#placeIn(block, (other) => this.#compare(other, entry));
    if ((this.#lengths[block] as number) < blockLength) {
      this.#put(block, place, entry);
      return;
    }
    this.#split(at, place, entry);
  }

  /** The entry must be there, and what it stands for unchanged. */
  remove(entry: number): void {
    const at = this.#blockFor(entry);
    assert(at >= 0, `the entry ${entry} to remove is not in its index`);
    const block = this.#order[at] as number;
    const place = this.#placeIn(block, (other) => this.#compare(other, entry));
    const length = this.#lengths[block] as number;
    const slab = this.#slab(block);
    const base = this.#base(block);
    assert(place < length && slab[base + place] === entry, `the entry ${entry} to remove is not in its index`);
    slab.copyWithin(base + place, base + place + 1, base + length);
    this.#lengths[block] = length - 1;
    this.#size--;
    this.#mergeAround(at);
  }

  /** Number of entries before a place; exact, in microseconds for millions of entries. */
  rank(probe: Probe): number {
    const at = this.#blockBefore(probe);
    if (at < 0) return 0;
    let rank = 0;
    for (let i = 0; i < at; i++) rank += this.#lengths[this.#order[i] as number] as number;
    return rank + this.#placeIn(this.#order[at] as number, probe);
  }

  /**
   * Visits the entries behind `from` and before `to` in order, in runs. Entries may come and go between steps: `after` gives
   * the place right behind an entry, independent of what becomes of it.
   */
  *scan(
    from: Probe,
    to: Probe,
    after: (entry: number) => Probe,
    visit: (entries: Uint32Array, first: number, end: number) => void,
    blocks = blocksPerStep,
  ): Steps<void> {
    let start = from;
    for (;;) {
      let last: number | undefined;
      const endAt = this.#blockBefore(to);
      const startAt = Math.max(this.#blockBefore(start), 0);
      const stop = Math.min(endAt, startAt + blocks - 1);
      for (let at = startAt; at <= stop; at++) {
        const block = this.#order[at] as number;
        const base = this.#base(block);
        const first = at === startAt ? this.#placeIn(block, start) : 0;
        const end = at === endAt ? this.#placeIn(block, to) : (this.#lengths[block] as number);
        if (first >= end) continue;
        const slab = this.#slab(block);
        visit(slab, base + first, base + end);
        last = slab[base + end - 1];
      }
      if (stop >= endAt || last === undefined) return;
      start = after(last);
      yield;
    }
  }

  /** Visits the entries behind a place in order, until a visit gives false. */
  forward(probe: Probe, visit: (entry: number) => boolean): void {
    const startAt = Math.max(this.#blockBefore(probe), 0);
    for (let at = startAt; at < this.#order.length; at++) {
      const block = this.#order[at] as number;
      const base = this.#base(block);
      const slab = this.#slab(block);
      const end = base + (this.#lengths[block] as number);
      for (let i = base + (at === startAt ? this.#placeIn(block, probe) : 0); i < end; i++) {
        if (!visit(slab[i] as number)) return;
      }
    }
  }

  /** Visits the entries before a place from the last to the first, until a visit gives false. */
  backward(probe: Probe, visit: (entry: number) => boolean): void {
    const startAt = this.#blockBefore(probe);
    for (let at = startAt; at >= 0; at--) {
      const block = this.#order[at] as number;
      const base = this.#base(block);
      const slab = this.#slab(block);
      const end = base + (at === startAt ? this.#placeIn(block, probe) : (this.#lengths[block] as number));
      for (let i = end - 1; i >= base; i--) if (!visit(slab[i] as number)) return;
    }
  }

  /** All entries in order, as one array. */
  toArray(): Uint32Array {
    const all = new Uint32Array(this.#size);
    let at = 0;
    for (const block of this.#order) {
      const base = this.#base(block);
      all.set(this.#slab(block).subarray(base, base + (this.#lengths[block] as number)), at);
      at += this.#lengths[block] as number;
    }
    return all;
  }

  /** Fills an empty order with entries that are in order. */
  load(entries: Uint32Array): void {
    assert(this.#size === 0, "only an empty order is loaded");
    for (let at = 0; at < entries.length; at += blockLength) {
      const block = this.#newBlock();
      const part = entries.subarray(at, at + blockLength);
      this.#slab(block).set(part, this.#base(block));
      this.#lengths[block] = part.length;
      this.#order.push(block);
    }
    this.#size = entries.length;
  }

  /** The last block whose first entry is not behind the entry; the first block where none is; -1 without blocks. */
  #blockFor(entry: number): number {
    let low = 0;
    let high = this.#order.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#compare(this.#firstOf(this.#order[middle] as number), entry) <= 0) low = middle;
      else high = middle - 1;
    }
    return high;
  }

  /** The last block that begins before the place; -1 where none does. */
  #blockBefore(probe: Probe): number {
    let low = -1;
    let high = this.#order.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (probe(this.#firstOf(this.#order[middle] as number)) < 0) low = middle;
      else high = middle - 1;
    }
    return high;
  }

  /** How many entries of a block are before the place. */
  #placeIn(block: number, probe: Probe): number {
    const slab = this.#slab(block);
    const base = this.#base(block);
    let low = 0;
    let high = this.#lengths[block] as number;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (probe(slab[base + middle] as number) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #put(block: number, place: number, entry: number): void {
    const length = this.#lengths[block] as number;
    const slab = this.#slab(block);
    const base = this.#base(block);
    if (place < length) slab.copyWithin(base + place + 1, base + place, base + length);
    slab[base + place] = entry;
    this.#lengths[block] = length + 1;
  }

  /** A full block gets a second one behind it. At its end it stays full: entries often come in order. */
  #split(at: number, place: number, entry: number): void {
    const block = this.#order[at] as number;
    const added = this.#newBlock();
    this.#order.splice(at + 1, 0, added);
    const keep = place === blockLength ? blockLength : blockLength >>> 1;
    const base = this.#base(block);
    this.#slab(added).set(this.#slab(block).subarray(base + keep, base + blockLength), this.#base(added));
    this.#lengths[added] = blockLength - keep;
    this.#lengths[block] = keep;
    if (place > keep || keep === blockLength) this.#put(added, place - keep, entry);
    else this.#put(block, place, entry);
  }

  #mergeAround(at: number): void {
    const block = this.#order[at] as number;
    const length = this.#lengths[block] as number;
    if (length === 0) return this.#drop(at);
    const next = this.#order[at + 1];
    if (next !== undefined && length + (this.#lengths[next] as number) <= mergeLength) return this.#merge(at);
    const before = this.#order[at - 1];
    if (before !== undefined && length + (this.#lengths[before] as number) <= mergeLength) this.#merge(at - 1);
  }

  /** Moves the entries of the block behind into the block. */
  #merge(at: number): void {
    const block = this.#order[at] as number;
    const next = this.#order[at + 1] as number;
    const length = this.#lengths[block] as number;
    const moved = this.#lengths[next] as number;
    const from = this.#base(next);
    this.#slab(block).set(this.#slab(next).subarray(from, from + moved), this.#base(block) + length);
    this.#lengths[block] = length + moved;
    this.#drop(at + 1);
  }

  #drop(at: number): void {
    const block = this.#order[at] as number;
    this.#order.splice(at, 1);
    this.#lengths[block] = 0;
    this.#free.push(block);
  }

  #newBlock(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    const block = this.#lengths.length;
    if (block >>> slabBits === this.#slabs.length) this.#slabs.push(new Uint32Array(blockLength << slabBits));
    this.#lengths.push(0);
    return block;
  }

  #slab(block: number): Uint32Array {
    return this.#slabs[block >>> slabBits] as Uint32Array;
  }

  #base(block: number): number {
    return (block & slabMask) << blockBits;
  }

  #firstOf(block: number): number {
    return this.#slab(block)[this.#base(block)] as number;
  }
}

/** Before and behind all entries. */
export const beginning: Probe = () => 1;
export const ending: Probe = () => -1;
