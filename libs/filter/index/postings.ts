import { Arena } from "./arena.js";
import { SlotSet } from "./bits.js";
import { U32Column } from "./chunks.js";

/** Lists of this many slots at least, and of one slot in 32, become sets of bits. */
const denseCount = 1024;
const denseShare = 32;
const firstLength = 2;

/**
 * For each word (by its number) the slots that have it: 4 bytes each and what the list has free, at most one bit of every slot.
 * A slot that is taken away stays in the lists, as stale: whoever reads a list asks elsewhere about stale slots.
 */
export class Postings {
  readonly #arena = new Arena((word, at) => this.#places.set(word, at));
  readonly #places = new U32Column();
  readonly #lengths = new U32Column();
  readonly #dense = new Map<number, SlotSet>();

  get memoryBytes(): number {
    let dense = 0;
    for (const set of this.#dense.values()) dense += set.memoryBytes;
    return this.#arena.memoryBytes + this.#places.memoryBytes + this.#lengths.memoryBytes + dense;
  }

  /** Adds a slot to a word's list. `slotCount` are the slots of all words; `isCurrent` whether a slot still has the word. */
  add(word: number, slot: number, slotCount: number, isCurrent: (slot: number) => boolean): void {
    const dense = this.#dense.get(word);
    if (dense !== undefined) return dense.add(slot);
    let length = this.#lengths.get(word);
    let place = this.#places.get(word);
    if (place === 0 || length * 4 === this.#arena.length(place)) {
      length = this.#sweep(word, place, length, isCurrent);
      if (length >= denseCount && length * denseShare >= slotCount) return this.#toBits(word, place, length, slot);
      place = this.#grow(word, place, length);
    }
    this.#arena.words(place)[(this.#arena.start(place) >>> 2) + length] = slot;
    this.#lengths.set(word, length + 1);
  }

  /** Takes a slot out of a word's list; false where it stays there as a stale one. */
  remove(word: number, slot: number): boolean {
    const dense = this.#dense.get(word);
    dense?.delete(slot);
    return dense !== undefined;
  }

  /** Forgets a word that no slot has. */
  clear(word: number): void {
    this.#dense.delete(word);
    const place = this.#places.get(word);
    if (place !== 0) this.#arena.drop(place);
    this.#places.set(word, 0);
    this.#lengths.set(word, 0);
  }

  /** The slots of a word as a set, where they are kept as one. */
  dense(word: number): SlotSet | undefined {
    return this.#dense.get(word);
  }

  length(word: number): number {
    return this.#dense.get(word)?.count ?? this.#lengths.get(word);
  }

  /** A copy of a word's list, which is not a dense one. */
  list(word: number): Uint32Array {
    const place = this.#places.get(word);
    if (place === 0) return new Uint32Array(0);
    const start = this.#arena.start(place) >>> 2;
    return this.#arena.words(place).slice(start, start + this.#lengths.get(word));
  }

  /** Drops the slots of a full list that are not current any more. */
  #sweep(word: number, place: number, length: number, isCurrent: (slot: number) => boolean): number {
    if (length === 0) return 0;
    const words = this.#arena.words(place);
    const start = this.#arena.start(place) >>> 2;
    let kept = 0;
    for (let i = start; i < start + length; i++) {
      const slot = words[i] as number;
      if (isCurrent(slot)) words[start + kept++] = slot;
    }
    this.#lengths.set(word, kept);
    return kept;
  }

  #grow(word: number, place: number, length: number): number {
    // Room for a quarter at least, or the next sweep would come too soon.
    if (place !== 0 && length * 4 <= this.#arena.length(place) * 0.75) return place;
    const larger = this.#arena.allocate(word, Math.max(firstLength, Math.ceil(length * 1.5)) * 4);
    if (place !== 0) {
      const from = this.#arena.start(place) >>> 2;
      const list = this.#arena.words(place).subarray(from, from + length);
      this.#arena.words(larger).set(list, this.#arena.start(larger) >>> 2);
      this.#arena.drop(place);
    }
    // Dropping may have moved others, never the newest.
    this.#places.set(word, larger);
    return larger;
  }

  #toBits(word: number, place: number, length: number, slot: number): void {
    const set = new SlotSet();
    const words = this.#arena.words(place);
    const start = this.#arena.start(place) >>> 2;
    for (let i = start; i < start + length; i++) set.add(words[i] as number);
    set.add(slot);
    this.clear(word);
    this.#dense.set(word, set);
  }
}
