import type { JsonValue, MatchList } from "../../model/index.js";
import type { ValueCondition } from "../matches.js";
import { orInto, SlotSet, type Words } from "./bits.js";
import { U32Column } from "./chunks.js";
import { Dictionary } from "./dictionary.js";
import { EntryColumn } from "./entries.js";
import { type KeyPacker, OrderedIndex } from "./ordered-index.js";
import { bytesOf, damaged, packStrings, u32Of, unpackStrings } from "./sections.js";
import type { Steps } from "./sorted-entries.js";
import type { FacetCount, Lookup, PayloadIndex } from "./types.js";

/** Gives the numbers of strings, in steps. */
type Scan = (visit: (number: number) => void) => Steps<void>;

/** Keys that are stored, or strings that are read, in one step. */
const keysPerStep = 4_096;

/** Longer strings are not held: they may match and must be checked. In code units. */
const heldLength = 1024;
/** A value that this many slots have at least, and one in 32 of all, also has a set of bits: its mask is a copy. */
const heavyCount = 1024;
const heavyShare = 32;

/**
 * Strings: 4 bytes a value and about 6 of order, at most 4 more for the sets of frequent values, and the dictionary of the
 * distinct ones. The order is by the strings' numbers, which are the dictionary's.
 */
export class KeywordIndex extends OrderedIndex<number> implements PayloadIndex {
  readonly kind = "keyword";
  readonly #numbers = new EntryColumn(() => new U32Column());
  readonly #dictionary = new Dictionary();
  readonly #heavy = new Map<number, SlotSet>();

  protected get columnBytes(): number {
    let heavy = 0;
    for (const set of this.#heavy.values()) heavy += set.memoryBytes;
    return this.#numbers.memoryBytes + this.#dictionary.memoryBytes + heavy;
  }

  protected compare(a: number, b: number): number {
    return this.#numbers.get(a) - this.#numbers.get(b);
  }

  protected compareKey(entry: number, key: number): number {
    return this.#numbers.get(entry) - key;
  }

  protected keyOf(entry: number): number {
    return this.#numbers.get(entry);
  }

  protected setKey(entry: number, key: number): void {
    this.#numbers.set(entry, key);
  }

  protected keyFor(value: JsonValue): number | "foreign" | undefined {
    if (typeof value !== "string") return "foreign";
    return value.length > heldLength ? undefined : this.#dictionary.use(value);
  }

  protected override dropKey(entry: number): void {
    const number = this.#numbers.get(entry);
    this.#dictionary.release(number);
    const set = this.#heavy.get(number);
    if (set === undefined) return;
    set.delete(this.entries.slotOf(entry));
    if (set.count * 2 * heavyShare < this.slotCount || set.count * 2 < heavyCount) this.#heavy.delete(number);
  }

  protected override repeated(key: number): void {
    this.#dictionary.release(key);
  }

  protected override added(slot: number, key: number): void {
    const set = this.#heavy.get(key);
    if (set !== undefined) set.add(slot);
    else {
      const count = this.#dictionary.count(key);
      // Asked at powers of two alone, since the answer costs a scan.
      if (count >= heavyCount && (count & (count - 1)) === 0 && count * heavyShare >= this.slotCount)
        this.#collect(key);
    }
  }

  #collect(key: number): void {
    const set = new SlotSet();
    this.order.forward(this.before(key), (entry) => {
      if (this.#numbers.get(entry) !== key) return false;
      set.add(this.entries.slotOf(entry));
      return true;
    });
    this.#heavy.set(key, set);
  }

  protected readonly keySections = 3;

  /** The distinct strings in the order of their numbers, and how many entries each has. */
  protected keyPacker(): KeyPacker {
    // The text at once: when the last slot of a string is gone, its number may become another's.
    const strings: string[] = [];
    const stringOf: number[] = [];
    let last: number | undefined;
    const add = (entry: number): void => {
      const number = this.#numbers.get(entry);
      if (number !== last) strings.push(this.#dictionary.text(number));
      last = number;
      stringOf.push(strings.length - 1);
    };
    const pack = function* (positions: Uint32Array): Steps<Uint8Array[]> {
      const kept: string[] = [];
      const counts: number[] = [];
      let current = -1;
      for (let i = 0; i < positions.length; i++) {
        const string = stringOf[positions[i] as number] as number;
        if (string !== current) {
          current = string;
          kept.push(strings[string] as string);
          counts.push(0);
        }
        counts[counts.length - 1] = (counts.at(-1) as number) + 1;
        if (i % keysPerStep === keysPerStep - 1) yield;
      }
      return [bytesOf(Uint32Array.from(counts)), ...packStrings(kept)];
    };
    return { add, pack };
  }

  /** New numbers are given in the order of the old ones, so that the entries stay in order. */
  protected *unpackKeys(sections: readonly Uint8Array[], count: number): Steps<(i: number) => number> {
    const [countBytes, lengths, units] = sections as [Uint8Array, Uint8Array, Uint8Array];
    const counts = u32Of(countBytes);
    const numbers = new Uint32Array(count);
    let at = 0;
    let string = 0;
    yield* unpackStrings(lengths, units, (text) => {
      const uses = counts[string++] ?? 0;
      if (uses === 0 || at + uses > count) throw damaged("has strings without slots");
      numbers.fill(this.#dictionary.use(text, uses), at, at + uses);
      at += uses;
    });
    if (at !== count) throw damaged(`has strings for ${at} of ${count} slots`);
    return (i) => numbers[i] as number;
  }

  protected override loaded(): void {
    for (let number = 0; number < this.#dictionary.end; number++) {
      const count = this.#dictionary.count(number);
      if (count >= heavyCount && count * heavyShare >= this.slotCount) this.#collect(number);
    }
  }

  *facet(mask?: Words): Steps<FacetCount[]> {
    const counts = new Uint32Array(this.#dictionary.end);
    if (mask === undefined) {
      for (let number = 0; number < counts.length; number++) counts[number] = this.#dictionary.count(number);
    } else {
      yield* this.eachKey(mask, (entry) => {
        const number = this.#numbers.get(entry);
        counts[number] = (counts[number] as number) + 1;
      });
    }
    const found: FacetCount[] = [];
    for (let number = 0; number < counts.length; number++) {
      const count = counts[number] as number;
      if (count > 0) found.push({ value: this.#dictionary.text(number), count });
      if (number % keysPerStep === keysPerStep - 1) yield;
    }
    return found;
  }

  lookup(condition: ValueCondition): Lookup | undefined {
    if (condition.kind !== "match") return undefined;
    const { match } = condition;
    switch (match.kind) {
      case "value":
        return typeof match.value === "string" ? this.#oneOf([match.value]) : undefined;
      case "any":
        return isStrings(match.values) ? this.#oneOf(match.values) : undefined;
      case "except":
        return isStrings(match.values)
          ? this.noneOf(this.#numbersOf(match.values), match.values.every(isHeld))
          : undefined;
      case "prefix":
        return this.#prefix(match.text);
      case "substring":
        return this.#substring(match.text);
      default:
        return undefined;
    }
  }

  #oneOf(values: readonly string[]): Lookup {
    const maybe = values.every(isHeld) || this.unheld.count === 0 ? undefined : this.unheld;
    return this.anyOf(this.#numbersOf(values), maybe);
  }

  #numbersOf(values: readonly string[]): number[] {
    const numbers = new Set<number>();
    for (const value of values) {
      const number = this.#dictionary.find(value);
      if (number !== undefined) numbers.add(number);
    }
    return [...numbers];
  }

  #prefix(prefix: string): Lookup {
    const estimate = this.#dictionary.prefixEstimate(prefix, this.entries.count);
    const scan: Scan = (visit) => this.#dictionary.withPrefix(prefix, visit);
    return this.#scanned(estimate, scan, (text) => text.startsWith(prefix));
  }

  /** Every string that there is is looked at once, which is less than to read the payloads of all points. */
  #substring(part: string): Lookup {
    const isHit = (text: string): boolean => text.includes(part);
    const scan: Scan = (visit) =>
      this.#dictionary.all((number) => {
        if (isHit(this.#dictionary.text(number))) visit(number);
      });
    return this.#scanned(this.entries.count, scan, isHit);
  }

  /** The slots of the strings that a scan of the dictionary finds, which are those that pass the test. */
  #scanned(estimate: number, scan: Scan, test: (text: string) => boolean): Lookup {
    const mark = function* (this: KeywordIndex, words: Words): Steps<void> {
      let numbers: number[] = [];
      const steps = scan((number) => numbers.push(number));
      while (steps.next().done !== true) {
        yield* this.#markAll(words, numbers);
        numbers = [];
      }
      yield* this.#markAll(words, numbers);
    };
    return {
      estimate,
      sure: true,
      maybe: this.unheld.count === 0 ? undefined : this.unheld,
      mark: mark.bind(this),
      has: (slot) => this.entries.some(slot, (entry) => test(this.#dictionary.text(this.#numbers.get(entry)))),
    };
  }

  *#markAll(words: Words, numbers: readonly number[]): Steps<void> {
    for (const number of numbers) yield* this.markKey(words, number);
    yield;
  }

  protected override countOf(key: number): number {
    return this.#dictionary.count(key);
  }

  protected override *markKey(words: Words, key: number): Steps<void> {
    const set = this.#heavy.get(key);
    if (set !== undefined) orInto(words, set.words);
    else yield* super.markKey(words, key);
  }

  protected isOneOf(keys: readonly number[]): (entry: number) => boolean {
    const set = new Set(keys);
    return (entry) => set.has(this.#numbers.get(entry));
  }
}

function isStrings(values: MatchList): values is readonly string[] {
  return values.length === 0 || typeof values[0] === "string";
}

function isHeld(value: string): boolean {
  return value.length <= heldLength;
}
