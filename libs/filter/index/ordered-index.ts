import { assert } from "../../base/index.js";
import type { JsonValue } from "../../model/index.js";
import { addAll, clearBit, eachBit, hasBit, orInto, SlotSet, setBit, type Words } from "./bits.js";
import { Entries, furtherBase } from "./entries.js";
import { bytesOf, damaged, packSections, u32Of, unpackSections } from "./sections.js";
import { beginning, ending, type Probe, SortedEntries, type Steps } from "./sorted-entries.js";
import type { Lookup, OrderCursor, OrderedPage, PageOptions } from "./types.js";

/** Words of a mask whose slots are looked at in one step. */
const wordsPerStep = 256;
/** Entries that are stored, read or counted in one step. */
const entriesPerStep = 8_192;

/** Keys of a list that are counted for an estimate: each takes microseconds. */
const keysCounted = 32;

/** Keys of entries as they are met, to be stored. */
export interface KeyPacker {
  add(entry: number): void;
  /** Sections of the keys at these positions, which ascend, in the order in which they were added. */
  pack(positions: Uint32Array): Steps<Uint8Array[]>;
}

/**
 * Values (keys) in order, and for each the slots that have it in ascending order. Bitmaps for each value were measured instead
 * (roaring-wasm 1.1.0, a million points): with 100,000 distinct values 65 bytes of memory a point and 620 ns an insertion, with 8 distinct
 * ones 2 ms to make the mask of a value, since its bitmaps leave WebAssembly as lists of numbers. roaring, the native one, downloads a binary
 * or Node's headers when it is installed.
 */
export abstract class OrderedIndex<K> {
  protected readonly entries = new Entries();
  protected readonly order = new SortedEntries(
    (a, b) => this.compare(a, b) || this.entries.slotOf(a) - this.entries.slotOf(b),
  );
  /** Slots with a value that belongs to the kind of this index but is not held. */
  protected readonly unheld = new SlotSet();
  /** Slots with another value that is not null. */
  protected readonly foreign = new SlotSet();

  /** By their keys. */
  protected abstract compare(a: number, b: number): number;
  protected abstract compareKey(entry: number, key: K): number;
  protected abstract keyOf(entry: number): K;
  protected abstract setKey(entry: number, key: K): void;
  /** Gives up what an entry's key took. */
  protected dropKey(_entry: number): void {}
  protected abstract readonly columnBytes: number;
  /** The key of a value that is held; undefined where it is not held, and "foreign" where it belongs to no such index. */
  protected abstract keyFor(value: JsonValue): K | "foreign" | undefined;

  get holdsAll(): boolean {
    return this.unheld.count === 0 && this.foreign.count === 0;
  }

  get slotCount(): number {
    return this.entries.slots.count;
  }

  get memoryBytes(): number {
    const sets = this.unheld.memoryBytes + this.foreign.memoryBytes;
    return this.columnBytes + this.entries.memoryBytes + this.order.memoryBytes + sets;
  }

  insert(slot: number, values: readonly JsonValue[]): void {
    assert(!this.entries.slots.has(slot), `the slot ${slot} already has values`);
    for (const value of values) {
      if (value === null) continue;
      const key = this.keyFor(value);
      if (key === "foreign") this.foreign.add(slot);
      else if (key === undefined) this.unheld.add(slot);
      else if (values.length > 1 && this.entries.some(slot, (entry) => this.compareKey(entry, key) === 0)) {
        this.repeated(key);
      } else this.#add(slot, key);
    }
  }

  remove(slot: number): void {
    this.unheld.delete(slot);
    this.foreign.delete(slot);
    this.entries.some(slot, (entry) => {
      this.order.remove(entry);
      this.dropKey(entry);
      return false;
    });
    this.entries.clear(slot);
  }

  /** A slot has got a key. */
  protected added(_slot: number, _key: K): void {}

  /** A slot has got a value whose key it has already. */
  protected repeated(_key: K): void {}

  #add(slot: number, key: K): void {
    const entry = this.entries.add(slot);
    this.setKey(entry, key);
    this.order.insert(entry);
    this.added(slot, key);
  }

  /** Before the entries of a key. */
  protected before(key: K): Probe {
    return (entry) => (this.compareKey(entry, key) < 0 ? -1 : 1);
  }

  /** Behind the entries of a key. */
  protected behind(key: K): Probe {
    return (entry) => (this.compareKey(entry, key) <= 0 ? -1 : 1);
  }

  protected after(entry: number): Probe {
    return this.#behindSlot(this.keyOf(entry), this.entries.slotOf(entry));
  }

  #behindSlot(key: K, slot: number): Probe {
    return (other) => ((this.compareKey(other, key) || this.entries.slotOf(other) - slot) > 0 ? 1 : -1);
  }

  #beforeSlot(key: K, slot: number): Probe {
    return (other) => ((this.compareKey(other, key) || this.entries.slotOf(other) - slot) >= 0 ? 1 : -1);
  }

  protected countBetween(from: Probe, to: Probe): number {
    return Math.max(0, this.order.rank(to) - this.order.rank(from));
  }

  /** Sets the bits of the slots with an entry between two places. */
  protected *markBetween(words: Words, from: Probe, to: Probe): Steps<void> {
    const end = words.length << 5;
    yield* this.order.scan(
      from,
      to,
      (entry) => this.after(entry),
      (run, first, last) => {
        for (let i = first; i < last; i++) {
          const slot = this.entries.slotOf(run[i] as number);
          if (slot < end) setBit(words, slot);
        }
      },
    );
  }

  /** The slots with an entry between two places. */
  protected between(from: Probe, to: Probe, maybe: SlotSet | undefined): Lookup {
    return {
      estimate: this.countBetween(from, to),
      sure: true,
      maybe,
      mark: (words) => this.markBetween(words, from, to),
      has: (slot) => this.entries.some(slot, (entry) => from(entry) >= 0 && to(entry) < 0),
    };
  }

  /** The slots with one of these keys. */
  protected anyOf(keys: readonly K[], maybe: SlotSet | undefined, sure = true): Lookup {
    const mark = function* (this: OrderedIndex<K>, words: Words): Steps<void> {
      for (const key of keys) {
        yield* this.markKey(words, key);
        yield;
      }
    };
    let isListed: ((entry: number) => boolean) | undefined;
    const [only] = keys;
    return {
      ...(keys.length <= 1 && { list: () => (only === undefined ? new Uint32Array(0) : this.#slotsWith(only)) }),
      estimate: Math.min(this.slotCount, this.#countOfAll(keys)),
      sure,
      maybe,
      mark: mark.bind(this),
      has: (slot) => {
        isListed ??= this.isOneOf(keys);
        return this.entries.some(slot, isListed);
      },
    };
  }

  /**
   * The slots with a key that is none of these, or with a value that is no key at all. Those not held are sure as well, unless
   * some of the values to leave out are not held either.
   */
  protected noneOf(keys: readonly K[], unheldIsSure: boolean): Lookup {
    let isListed: ((entry: number) => boolean) | undefined;
    const hasOther = (slot: number): boolean => {
      const listed = (isListed ??= this.isOneOf(keys));
      return this.entries.some(slot, (entry) => !listed(entry));
    };
    const mark = function* (this: OrderedIndex<K>, words: Words): Steps<void> {
      // The words may hold other slots' bits already.
      const others = new Uint32Array(words.length);
      orInto(others, this.entries.slots.words);
      for (const key of keys) {
        yield* this.order.scan(
          this.before(key),
          this.behind(key),
          (entry) => this.after(entry),
          (run, first, last) => {
            for (let i = first; i < last; i++) {
              const slot = this.entries.slotOf(run[i] as number);
              if (slot >>> 5 >= others.length) continue;
              if (!this.entries.hasFurther(slot) || !hasOther(slot)) clearBit(others, slot);
            }
          },
        );
        yield;
      }
      orInto(words, others);
      orInto(words, this.foreign.words);
      if (unheldIsSure) orInto(words, this.unheld.words);
    };
    return {
      estimate:
        Math.max(0, this.slotCount - keys.reduce((sum, key) => sum + this.countOf(key), 0)) + this.foreign.count,
      sure: true,
      maybe: unheldIsSure ? undefined : this.unheld,
      mark: mark.bind(this),
      has: (slot) => hasOther(slot) || this.foreign.has(slot) || (unheldIsSure && this.unheld.has(slot)),
    };
  }

  /** Of long lists the first ones are counted, and the others taken to be like them. */
  #countOfAll(keys: readonly K[]): number {
    const counted = keys.slice(0, keysCounted);
    const sum = counted.reduce((total, key) => total + this.countOf(key), 0);
    return counted.length === 0 ? 0 : Math.round((sum / counted.length) * keys.length);
  }

  /** Calls with each key of each slot of a set, or of all; ascending by key without a set. */
  protected *eachKey(mask: Words | undefined, visit: (entry: number) => void): Steps<void> {
    if (mask === undefined) {
      yield* this.order.scan(
        beginning,
        ending,
        (entry) => this.after(entry),
        (run, first, last) => {
          for (let i = first; i < last; i++) visit(run[i] as number);
        },
      );
      return;
    }
    for (let first = 0; first < mask.length; first += wordsPerStep) {
      eachBit(mask, first, Math.min(first + wordsPerStep, mask.length), (slot) => {
        this.entries.some(slot, (entry) => {
          visit(entry);
          return false;
        });
      });
      yield;
    }
  }

  /** In ascending order. */
  #slotsWith(key: K): Uint32Array {
    const slots = new Uint32Array(this.countOf(key));
    let length = 0;
    this.order.forward(this.before(key), (entry) => {
      if (length === slots.length) return false;
      slots[length++] = this.entries.slotOf(entry);
      return true;
    });
    return slots;
  }

  protected countOf(key: K): number {
    return this.countBetween(this.before(key), this.behind(key));
  }

  protected markKey(words: Words, key: K): Steps<void> {
    return this.markBetween(words, this.before(key), this.behind(key));
  }

  protected abstract isOneOf(keys: readonly K[]): (entry: number) => boolean;

  /** Takes keys in order. */
  protected abstract keyPacker(): KeyPacker;
  /** Sections that it packs them into. */
  protected abstract readonly keySections: number;
  /** Gives each of so many entries in order its key, from such sections. */
  protected abstract unpackKeys(sections: readonly Uint8Array[], count: number): Steps<(i: number) => K>;

  /** The walk meets each entry that stays once and in order; the others are skipped behind it, or else would be out of order. */
  *serialize(isSkipped: (slot: number) => boolean = () => false): Steps<Uint8Array> {
    const sets = [bytesOf(this.unheld.words.slice()), bytesOf(this.foreign.words.slice())];
    const found: number[] = [];
    const packer = this.keyPacker();
    yield* this.eachKey(undefined, (entry) => {
      found.push(this.entries.slotOf(entry));
      packer.add(entry);
    });
    const slots = new Uint32Array(found.length);
    const positions = new Uint32Array(found.length);
    let count = 0;
    for (let i = 0; i < found.length; i++) {
      if (!isSkipped(found[i] as number)) {
        slots[count] = found[i] as number;
        positions[count++] = i;
      }
      if (i % entriesPerStep === entriesPerStep - 1) yield;
    }
    const keys = yield* packer.pack(positions.subarray(0, count));
    return yield* packSections([bytesOf(slots.subarray(0, count)), ...sets, ...keys]);
  }

  *load(packed: Uint8Array): Steps<void> {
    assert(this.entries.count === 0, "only an empty index is loaded");
    const [slotBytes, unheld, foreign, ...keyBytes] = yield* unpackSections(packed, 3 + this.keySections);
    const slots = u32Of(slotBytes as Uint8Array);
    yield* addAll(this.unheld, u32Of(unheld as Uint8Array));
    yield* addAll(this.foreign, u32Of(foreign as Uint8Array));
    const keyAt = yield* this.unpackKeys(keyBytes, slots.length);
    const entries = new Uint32Array(slots.length);
    for (let i = 0; i < slots.length; i++) {
      const slot = slots[i] as number;
      if (slot >= furtherBase) throw damaged(`names the slot ${slot}`);
      const entry = this.entries.add(slot);
      const key = keyAt(i);
      this.setKey(entry, key);
      entries[i] = entry;
      if (i % entriesPerStep === entriesPerStep - 1) yield;
    }
    this.order.load(entries);
    this.loaded();
  }

  /** All entries are there again. */
  protected loaded(): void {}

  /** Slots in the order of their values, a slot once for each of its values; ties by slot. */
  protected pageOf(options: PageOptions<K>): OrderedPage<K> {
    const { descending, start, limit, mask, visits = Infinity } = options;
    const items: { slot: number; key: K }[] = [];
    let seen = 0;
    let next: OrderCursor<K> | undefined;
    const visit = (entry: number): boolean => {
      const slot = this.entries.slotOf(entry);
      if (items.length >= limit || seen >= visits) {
        next = last;
        return false;
      }
      seen++;
      const key = this.keyOf(entry);
      last = { key, slot };
      if (mask === undefined || hasBit(mask, slot)) items.push({ slot, key });
      return true;
    };
    let last = start;
    if (descending) this.order.backward(this.#startOf(start, true), visit);
    else this.order.forward(this.#startOf(start, false), visit);
    return next === undefined ? { items } : { items, next };
  }

  #startOf(start: OrderCursor<K> | undefined, descending: boolean): Probe {
    if (start === undefined) return descending ? ending : beginning;
    const { key, slot } = start;
    if (slot === undefined) return descending ? this.behind(key) : this.before(key);
    return descending ? this.#beforeSlot(key, slot) : this.#behindSlot(key, slot);
  }
}
