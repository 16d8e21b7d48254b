import type { JsonValue } from "../../model/index.js";
import type { ValueCondition } from "../matches.js";
import { addAll, andInto, countBits, orInto, SlotSet, type Words } from "./bits.js";
import { bytesOf, packSections, u32Of, unpackSections } from "./sections.js";
import type { Steps } from "./sorted-entries.js";
import type { FacetCount, Lookup, PayloadIndex } from "./types.js";

/** Booleans, as two sets of bits. */
export class BoolIndex implements PayloadIndex {
  readonly kind = "bool";
  readonly #sets = { true: new SlotSet(), false: new SlotSet() };
  /** Slots with another value that is not null. */
  readonly #foreign = new SlotSet();

  get slotCount(): number {
    const { true: yes, false: no } = this.#sets;
    return Math.max(yes.count, no.count);
  }

  get memoryBytes(): number {
    return this.#sets.true.memoryBytes + this.#sets.false.memoryBytes + this.#foreign.memoryBytes;
  }

  insert(slot: number, values: readonly JsonValue[]): void {
    for (const value of values) {
      if (typeof value === "boolean") this.set(value).add(slot);
      else if (value !== null) this.#foreign.add(slot);
    }
  }

  remove(slot: number): void {
    this.#sets.true.delete(slot);
    this.#sets.false.delete(slot);
    this.#foreign.delete(slot);
  }

  get holdsAll(): boolean {
    return this.#foreign.count === 0;
  }

  set(value: boolean): SlotSet {
    return this.#sets[value ? "true" : "false"];
  }

  *serialize(): Steps<Uint8Array> {
    return yield* packSections(
      [this.#sets.true, this.#sets.false, this.#foreign].map(({ words }) => bytesOf(words.slice())),
    );
  }

  *load(packed: Uint8Array): Steps<void> {
    const [yes, no, foreign] = yield* unpackSections(packed, 3);
    yield* addAll(this.#sets.true, u32Of(yes as Uint8Array));
    yield* addAll(this.#sets.false, u32Of(no as Uint8Array));
    yield* addAll(this.#foreign, u32Of(foreign as Uint8Array));
  }

  *facet(mask?: Words): Steps<FacetCount[]> {
    const found: FacetCount[] = [];
    for (const value of [false, true]) {
      const slots = this.set(value).words.slice();
      if (mask !== undefined) andInto(slots, mask);
      const count = countBits(slots);
      if (count > 0) found.push({ value, count });
      yield;
    }
    return found;
  }

  lookup(condition: ValueCondition): Lookup | undefined {
    if (condition.kind !== "match" || condition.match.kind !== "value") return undefined;
    const { value } = condition.match;
    if (typeof value !== "boolean") return undefined;
    const set = this.set(value);
    return {
      estimate: set.count,
      sure: true,
      *mark(words: Words): Steps<void> {
        orInto(words, set.words);
        yield;
      },
      has: (slot) => set.has(slot),
    };
  }
}
