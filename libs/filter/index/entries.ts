import { assert } from "../../base/index.js";
import { SlotSet } from "./bits.js";
import { U32Column } from "./chunks.js";

/** Entries from here on are further values of slots that have more than one. */
export const furtherBase = 0x8000_0000;

/**
 * The values of slots, as entries: the first value of a slot is the entry of the slot's own number, so that a slot with one
 * value needs nothing here but a bit; further values take 8 bytes (and 4 of their slot) more. What an entry stands for is kept
 * in columns of its owner, see `columnOf`.
 */
export class Entries {
  /** Slots with a value. */
  readonly slots = new SlotSet();
  /** Number of a slot's first further entry and 1; 0 for none. */
  readonly #first = new U32Column();
  readonly #slotOf = new U32Column();
  readonly #next = new U32Column();
  #free = 0;
  #end = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Whether no slot has more than one value. */
  get isSingle(): boolean {
    return this.#count === this.slots.count;
  }

  get memoryBytes(): number {
    return this.slots.memoryBytes + this.#first.memoryBytes + this.#slotOf.memoryBytes + this.#next.memoryBytes;
  }

  /** An entry for one more value of a slot. */
  add(slot: number): number {
    assert(slot < furtherBase, `the slot ${slot} is beyond 2^31`);
    this.#count++;
    if (!this.slots.has(slot)) {
      this.slots.add(slot);
      return slot;
    }
    const number = this.#free === 0 ? this.#end++ : this.#free - 1;
    if (this.#free !== 0) this.#free = this.#next.get(number);
    this.#slotOf.set(number, slot);
    this.#next.set(number, this.#first.get(slot));
    this.#first.set(slot, number + 1);
    return furtherBase + number;
  }

  /** Takes all entries of a slot away. */
  clear(slot: number): void {
    if (!this.slots.has(slot)) return;
    this.slots.delete(slot);
    this.#count--;
    for (let number = this.#first.get(slot); number !== 0; ) {
      const next = this.#next.get(number - 1);
      this.#next.set(number - 1, this.#free);
      this.#free = number;
      this.#count--;
      number = next;
    }
    if (this.#first.get(slot) !== 0) this.#first.set(slot, 0);
  }

  slotOf(entry: number): number {
    return entry < furtherBase ? entry : this.#slotOf.get(entry - furtherBase);
  }

  hasFurther(slot: number): boolean {
    return this.#first.get(slot) !== 0;
  }

  /** Whether the test holds for an entry of the slot. */
  some(slot: number, test: (entry: number) => boolean): boolean {
    if (!this.slots.has(slot)) return false;
    if (test(slot)) return true;
    for (let number = this.#first.get(slot); number !== 0; number = this.#next.get(number - 1)) {
      if (test(furtherBase + number - 1)) return true;
    }
    return false;
  }
}

interface Column {
  get(at: number): number;
  set(at: number, value: number): void;
  readonly memoryBytes: number;
}

/** A column by entry: one for the first values of slots, one for further ones. */
export class EntryColumn {
  readonly #own: Column;
  readonly #further: Column;

  constructor(make: () => Column) {
    this.#own = make();
    this.#further = make();
  }

  get(entry: number): number {
    return entry < furtherBase ? this.#own.get(entry) : this.#further.get(entry - furtherBase);
  }

  set(entry: number, value: number): void {
    if (entry < furtherBase) this.#own.set(entry, value);
    else this.#further.set(entry - furtherBase, value);
  }

  get memoryBytes(): number {
    return this.#own.memoryBytes + this.#further.memoryBytes;
  }
}
