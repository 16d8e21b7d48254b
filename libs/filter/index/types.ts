import type { Integer, JsonValue, Path, PayloadIndexKind } from "../../model/index.js";
import type { ValueCondition } from "../matches.js";
import type { TokenizerOptions } from "../tokens.js";
import type { SlotSet, Words } from "./bits.js";
import type { Steps } from "./sorted-entries.js";

export type IndexKind = PayloadIndexKind;

/** An index of the values of one field. */
export interface PayloadIndexSpec {
  readonly path: Path;
  readonly kind: IndexKind;
  /** Of a text index; how texts are split is part of the field's schema. */
  readonly tokenizer?: TokenizerOptions;
  /** Of a text index: whether it keeps the order of words, which decides phrases. True where absent. */
  readonly phrase?: boolean;
}

/**
 * An index of one field over slots. It holds the values of its kind; of other values it knows which slots have some. Each
 * method is synchronous; what takes longer gives way in steps, between which slots may come and go.
 */
export interface PayloadIndex {
  readonly kind: IndexKind;
  readonly memoryBytes: number;
  /** Slots with a value that is held. */
  readonly slotCount: number;
  /** Slots whose places in lists may be out of date, of texts: where they are most of all, a new index is smaller and faster. */
  readonly staleCount?: number;
  /** The values of the field, those of its arrays one by one. The slot has none yet. */
  insert(slot: number, values: readonly JsonValue[]): void;
  remove(slot: number): void;
  /** How to find the slots that meet a condition; undefined where this index cannot tell. */
  lookup(condition: ValueCondition): Lookup | undefined;
  /** Whether it holds all values of its field other than null: then facets and orders by it lack nothing. */
  readonly holdsAll: boolean;
  /**
   * Its content, in steps between which slots may come and go. What it gives of those is any part of what they had, and nothing for which
   * `isSkipped` holds when they are reached.
   */
  serialize(isSkipped?: (slot: number) => boolean): Steps<Uint8Array>;
  /** Fills an empty index with what `serialize` gave; CORRUPT_DATA where the bytes are damaged. */
  load(packed: Uint8Array): Steps<void>;
  /**
   * How many slots have each value, for kinds that have values to count (not geo and text): of a set of slots, or of all. In
   * steps between which it must not change.
   */
  facet?(mask?: Words): Steps<FacetCount[]>;
  /** Slots in the order of their values, of numbers and datetimes (in microseconds). */
  page?(options: PageOptions<number>): OrderedPage<number>;
}

export interface Lookup {
  /** Slots that `mark` will mark, about; exact where no slot has more than one value. */
  readonly estimate: number;
  /** Whether the slots that are marked meet the condition; if not, they only may. */
  readonly sure: boolean;
  /** Further slots that may: they have values that the index does not hold. */
  readonly maybe?: SlotSet;
  /** Sets the bits of the slots; others are left alone. Slots beyond the words' end are left out. */
  mark(words: Words): Steps<void>;
  /** Whether a slot would be marked. */
  has(slot: number): boolean;
  /** The slots that `mark` would mark, ascending; missing where they come in another order, or several times. */
  list?(): Uint32Array;
}

export type FacetValue = string | boolean | Integer;

export interface FacetCount {
  readonly value: FacetValue;
  /** Points that have the value. */
  readonly count: number;
}

/** A place in an order of values: before or behind the entries of a key, or right behind one slot's. */
export interface OrderCursor<K> {
  readonly key: K;
  /** Behind this slot among the entries of the key; absent: before all of them in the direction of the page. */
  readonly slot?: number;
}

export interface PageOptions<K> {
  readonly descending: boolean;
  readonly start?: OrderCursor<K>;
  readonly limit: number;
  /** Only slots of this set. */
  readonly mask?: Words;
  /** Entries looked at before the page ends early. */
  readonly visits?: number;
}

export interface OrderedPage<K> {
  readonly items: readonly { readonly slot: number; readonly key: K }[];
  /** Where the next page begins; undefined where no entry follows. */
  readonly next?: OrderCursor<K>;
}
