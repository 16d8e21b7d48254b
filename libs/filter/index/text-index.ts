import { assert } from "../../base/index.js";
import type { JsonValue } from "../../model/index.js";
import type { ValueCondition } from "../matches.js";
import { Tokenizer, type TokenizerOptions } from "../tokens.js";
import { Arena } from "./arena.js";
import { orInto, SlotSet, setBit, type Words } from "./bits.js";
import { U32Column } from "./chunks.js";
import { Dictionary } from "./dictionary.js";
import { Postings } from "./postings.js";
import { bytesOf, damaged, packSections, packStrings, u32Of, unpackSections, unpackStrings } from "./sections.js";
import type { Steps } from "./sorted-entries.js";
import type { Lookup, PayloadIndex } from "./types.js";

/** Texts looked at in one step, and slots of lists taken over in one. */
const textsPerStep = 1_000;
const slotsPerStep = 20_000;

/** Numbers of words of which a text needs one. */
type Group = ReadonlySet<number>;
type GroupTest = (slot: number, groups: readonly Group[]) => boolean;

/** Word of no text, between the values of an array: a condition holds within one of them. */
const boundary = 0;

/**
 * Words of texts. For each slot it keeps the words in their order (1 to 3 bytes each), for each word the slots that have it, so that
 * phrases too are decided without the payload.
 */
export class TextIndex implements PayloadIndex {
  readonly kind = "text";
  /** It has words instead of values. */
  readonly holdsAll = false;
  readonly #tokenizer: Tokenizer;
  /** Whether the order of words is kept: else phrases are decided by the payload. */
  readonly #keepsOrder: boolean;
  readonly #dictionary = new Dictionary();
  readonly #postings = new Postings();
  readonly #texts = new Arena((slot, at) => this.#places.set(slot, at));
  readonly #places = new U32Column();
  readonly #slots = new SlotSet();
  /** Slots that were removed once: lists may name them although they lack the word. */
  readonly #stale = new SlotSet();
  /** Slot (and 1) that had a word last, so that a word is counted once for each slot. */
  readonly #lastSlot = new U32Column();
  #scratch = new Uint8Array(1024);

  constructor(options: TokenizerOptions, keepsOrder = true) {
    this.#tokenizer = new Tokenizer(options);
    this.#keepsOrder = keepsOrder;
  }

  get slotCount(): number {
    return this.#slots.count;
  }

  get memoryBytes(): number {
    const columns = this.#places.memoryBytes + this.#lastSlot.memoryBytes;
    const sets = this.#slots.memoryBytes + this.#stale.memoryBytes;
    return this.#dictionary.memoryBytes + this.#postings.memoryBytes + this.#texts.memoryBytes + columns + sets;
  }

  get staleCount(): number {
    return this.#stale.count;
  }

  insert(slot: number, values: readonly JsonValue[]): void {
    assert(this.#places.get(slot) === 0, `the slot ${slot} already has texts`);
    let length = 0;
    for (const value of values) {
      if (typeof value !== "string") continue;
      const all = this.#tokenizer.words(value);
      if (all.length === 0) continue;
      const words = this.#keepsOrder ? all : unique(all);
      if (length > 0) length = this.#write(boundary, length);
      for (const word of words) length = this.#write(this.#wordOf(word, slot) + 1, length);
    }
    if (length > 0) this.#keep(slot, length);
  }

  /** The number of a word, in use for a slot, which comes into the word's list the first time. */
  #wordOf(word: string, slot: number): number {
    const known = this.#dictionary.find(word);
    if (known !== undefined && this.#lastSlot.get(known) === slot + 1) return known;
    const number = this.#dictionary.use(word);
    this.#lastSlot.set(number, slot + 1);
    const isCurrent = (other: number): boolean => !this.#stale.has(other) || this.#hasWord(other, number);
    this.#postings.add(number, slot, this.slotCount, isCurrent);
    return number;
  }

  #write(value: number, length: number): number {
    if (length + 5 > this.#scratch.length) {
      const larger = new Uint8Array(this.#scratch.length * 2);
      larger.set(this.#scratch);
      this.#scratch = larger;
    }
    let rest = value;
    let at = length;
    for (; rest > 0x7f; rest >>>= 7) this.#scratch[at++] = (rest & 0x7f) | 0x80;
    this.#scratch[at++] = rest;
    return at;
  }

  #keep(slot: number, length: number): void {
    const at = this.#texts.allocate(slot, length);
    this.#texts.bytes(at).set(this.#scratch.subarray(0, length), this.#texts.start(at));
    this.#places.set(slot, at);
    this.#slots.add(slot);
  }

  remove(slot: number): void {
    const at = this.#places.get(slot);
    if (at === 0) return;
    const words = new Set<number>();
    this.#eachWord(slot, (word) => {
      if (word !== boundary) words.add(word - 1);
      return true;
    });
    for (const word of words) {
      if (!this.#postings.remove(word, slot)) this.#stale.add(slot);
      if (this.#lastSlot.get(word) === slot + 1) this.#lastSlot.set(word, 0);
      if (this.#dictionary.count(word) === 1) this.#postings.clear(word);
      this.#dictionary.release(word);
    }
    this.#texts.drop(at);
    this.#places.set(slot, 0);
    this.#slots.delete(slot);
  }

  /** The distinct words, then for each slot how many it has in a row and which, by their place among those. */
  *serialize(isSkipped: (slot: number) => boolean = () => false): Steps<Uint8Array> {
    const strings: string[] = [];
    const places = new Map<number, number>();
    yield* this.#dictionary.all((number) => {
      places.set(number, strings.length + 1);
      strings.push(this.#dictionary.text(number));
    });
    const slots: number[] = [];
    const lengths: number[] = [];
    const words: number[] = [];
    for (const [i, slot] of [...this.#slots].entries()) {
      if (i % textsPerStep === textsPerStep - 1) yield;
      if (isSkipped(slot)) continue;
      const before = words.length;
      // A word that came meanwhile has no place; a slot that has it came meanwhile too.
      this.#eachWord(slot, (word) => words.push(word === boundary ? boundary : (places.get(word - 1) ?? boundary)) > 0);
      if (words.length === before) continue;
      slots.push(slot);
      lengths.push(words.length - before);
    }
    const texts = [slots, lengths, words].map((each) => bytesOf(Uint32Array.from(each)));
    return yield* packSections([...packStrings(strings), ...texts]);
  }

  *load(packed: Uint8Array): Steps<void> {
    assert(this.slotCount === 0, "only an empty index is loaded");
    const sections = (yield* unpackSections(packed, 5)) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    const strings: string[] = [];
    yield* unpackStrings(sections[0], sections[1], (text) => strings.push(text));
    const [slots, lengths, words] = [u32Of(sections[2]), u32Of(sections[3]), u32Of(sections[4])];
    if (lengths.length !== slots.length) throw damaged(`has ${lengths.length} texts for ${slots.length} slots`);
    let from = 0;
    for (const [i, slot] of slots.entries()) {
      const end = from + (lengths[i] as number);
      if (end > words.length || end === from) throw damaged("has texts beyond their end");
      let length = 0;
      for (; from < end; from++) {
        const place = words[from] as number;
        const word = strings[place - 1];
        if (place !== boundary && word === undefined) throw damaged(`names the word ${place} of ${strings.length}`);
        length = this.#write(word === undefined ? boundary : this.#wordOf(word, slot) + 1, length);
      }
      this.#keep(slot, length);
      if (i % textsPerStep === textsPerStep - 1) yield;
    }
  }

  /** Words of a slot in order, each as its number and 1, until a visit gives false. */
  #eachWord(slot: number, visit: (word: number) => boolean): void {
    const place = this.#places.get(slot);
    if (place === 0) return;
    const bytes = this.#texts.bytes(place);
    let at = this.#texts.start(place);
    const end = at + this.#texts.length(place);
    while (at < end) {
      let byte = bytes[at++] as number;
      let word = byte & 0x7f;
      for (let shift = 7; byte > 0x7f; shift += 7) {
        byte = bytes[at++] as number;
        word |= (byte & 0x7f) << shift;
      }
      if (!visit(word)) return;
    }
  }

  #hasWord(slot: number, number: number): boolean {
    let found = false;
    this.#eachWord(slot, (word) => {
      found = word === number + 1;
      return !found;
    });
    return found;
  }

  lookup(condition: ValueCondition): Lookup | undefined {
    if (condition.kind !== "match") return undefined;
    const { match } = condition;
    switch (match.kind) {
      case "text":
        return this.#all(unique(this.#tokenizer.words(match.text)), (slot, groups) => this.#hasAll(slot, groups));
      case "phrase": {
        const words = this.#tokenizer.words(match.text);
        if (this.#keepsOrder) return this.#all(words, (slot, groups) => this.#hasPhrase(slot, groups));
        return { ...this.#all(unique(words), (slot, groups) => this.#hasAll(slot, groups)), sure: words.length === 0 };
      }
      case "textAny":
        return this.#any(unique(this.#tokenizer.words(match.text)));
      default:
        return undefined;
    }
  }

  /** The numbers that a word of a condition stands for: its own, or those of all words that begin with it. */
  *#group(word: string): Steps<Group> {
    const numbers = new Set<number>();
    if (this.#tokenizer.options.kind === "prefix") {
      yield* this.#dictionary.withPrefix(word, (number) => numbers.add(number));
    } else {
      const number = this.#dictionary.find(word);
      if (number !== undefined) numbers.add(number);
    }
    return numbers;
  }

  #estimateOf(word: string): number {
    if (this.#tokenizer.options.kind === "prefix") {
      return this.#dictionary.prefixEstimate(word, this.slotCount);
    }
    const number = this.#dictionary.find(word);
    return number === undefined ? 0 : this.#dictionary.count(number);
  }

  /** Texts that have every word, and pass the test. */
  #all(words: readonly string[], test: GroupTest): Lookup {
    const mark = function* (this: TextIndex, into: Words): Steps<void> {
      if (words.length === 0) return;
      const groups: Group[] = [];
      for (const word of words) groups.push(yield* this.#group(word));
      const rarest = groups.reduce((a, b) => (this.#lengthOf(b) < this.#lengthOf(a) ? b : a));
      yield* this.#markGroup(into, rarest, groups.length === 1 ? undefined : (slot) => test(slot, groups));
    };
    return {
      estimate: words.length === 0 ? 0 : Math.min(...words.map((word) => this.#estimateOf(word))),
      sure: true,
      mark: mark.bind(this),
      has: (slot) => words.length > 0 && test(slot, this.#groupsIn(slot, words)),
    };
  }

  #any(words: readonly string[]): Lookup {
    const mark = function* (this: TextIndex, into: Words): Steps<void> {
      for (const word of words) yield* this.#markGroup(into, yield* this.#group(word));
    };
    return {
      estimate: Math.min(
        this.slotCount,
        words.reduce((sum, word) => sum + this.#estimateOf(word), 0),
      ),
      sure: true,
      mark: mark.bind(this),
      has: (slot) => this.#groupsIn(slot, words).some((group) => this.#hasAll(slot, [group])),
    };
  }

  /** The groups of words of a condition, as far as one slot has any of them. Nothing else is kept: words come and go. */
  #groupsIn(slot: number, words: readonly string[]): Group[] {
    if (this.#tokenizer.options.kind !== "prefix") {
      return words.map((word) => {
        const number = this.#dictionary.find(word);
        return new Set(number === undefined ? [] : [number]);
      });
    }
    const own = new Map<number, string>();
    this.#eachWord(slot, (word) => {
      if (word !== boundary && !own.has(word - 1)) own.set(word - 1, this.#dictionary.text(word - 1));
      return true;
    });
    return words.map((query) => {
      const found = [...own].filter(([, word]) => this.#tokenizer.finds(query, word));
      return new Set(found.map(([number]) => number));
    });
  }

  #lengthOf(group: Group): number {
    let length = 0;
    for (const word of group) length += this.#postings.length(word);
    return length;
  }

  /** Sets the bits of the slots that have a word of the group, and pass the test if there is one. */
  *#markGroup(into: Words, group: Group, test?: (slot: number) => boolean): Steps<void> {
    const end = into.length << 5;
    let seen = 0;
    for (const word of group) {
      const dense = this.#postings.dense(word);
      if (dense !== undefined && test === undefined) {
        orInto(into, dense.words);
        continue;
      }
      // A copy: a list may be put in order between two steps.
      const slots = dense === undefined ? this.#postings.list(word) : Uint32Array.from(dense);
      for (const slot of slots) {
        const isCurrent = dense !== undefined || !this.#stale.has(slot) || this.#hasWord(slot, word);
        if (slot < end && isCurrent && (test === undefined || test(slot))) setBit(into, slot);
        if (++seen % (test === undefined ? slotsPerStep : textsPerStep) === 0) yield;
      }
    }
  }

  /** Whether one value of the slot has a word of every group. */
  #hasAll(slot: number, groups: readonly Group[]): boolean {
    const found = groups.map(() => false);
    let missing = groups.length;
    this.#eachWord(slot, (word) => {
      if (word === boundary) {
        found.fill(false);
        missing = groups.length;
        return true;
      }
      for (let i = 0; i < groups.length; i++) {
        if (found[i] === true || !(groups[i] as Group).has(word - 1)) continue;
        found[i] = true;
        missing--;
      }
      return missing > 0;
    });
    return missing === 0;
  }

  #hasPhrase(slot: number, groups: readonly Group[]): boolean {
    const words: number[] = [];
    this.#eachWord(slot, (word) => words.push(word) > 0);
    for (let start = 0; start + groups.length <= words.length; start++) {
      if (groups.every((group, i) => group.has((words[start + i] as number) - 1))) return true;
    }
    return false;
  }
}

function unique(words: readonly string[]): string[] {
  return [...new Set(words)];
}
