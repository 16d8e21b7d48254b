import { KithError } from "../../base/index.js";
import {
  type IsEmptyCondition,
  type IsNullCondition,
  type JsonObject,
  type JsonValue,
  someAtPath,
  type ValuesCountCondition,
} from "../../model/index.js";
import { boundsTest, hasNull, isSomething } from "../matches.js";
import { defaultTokenizer } from "../tokens.js";
import { addAll, orInto, SlotSet, type Words } from "./bits.js";
import { BoolIndex } from "./bool-index.js";
import { GeoIndex } from "./geo-index.js";
import { KeywordIndex } from "./keyword-index.js";
import { NumberIndex } from "./number-index.js";
import { bytesOf, packSections, u32Of, unpackSections } from "./sections.js";
import type { Steps } from "./sorted-entries.js";
import { TextIndex } from "./text-index.js";
import type { Lookup, PayloadIndex, PayloadIndexSpec } from "./types.js";
import { UuidIndex } from "./uuid-index.js";

function createIndex({ kind, tokenizer = defaultTokenizer, phrase = true }: PayloadIndexSpec): PayloadIndex {
  switch (kind) {
    case "keyword":
      return new KeywordIndex();
    case "integer":
    case "float":
    case "datetime":
      return new NumberIndex(kind);
    case "bool":
      return new BoolIndex();
    case "uuid":
      return new UuidIndex();
    case "geo":
      return new GeoIndex();
    case "text":
      return new TextIndex(tokenizer, phrase);
    case "bm25":
      throw new KithError("INTERNAL", "an index by BM25 is none of values");
  }
}

/**
 * The index of one field over the slots of points with a payload, and what else is known of the field in each. It is in memory, and
 * says the same as `matches` does: it holds nothing that the payloads do not, so that it can be dropped and built again at any time.
 */
export class PayloadField {
  readonly spec: PayloadIndexSpec;
  readonly index: PayloadIndex;
  /** Slots with a payload. */
  readonly #slots = new SlotSet();
  /** Slots whose field is not empty. */
  readonly #filled = new SlotSet();
  /** Slots whose field is null, or has a null element. */
  readonly #nulls = new SlotSet();
  /** While the content is packed: slots that came or went since it began. */
  #touched: SlotSet | undefined;

  constructor(spec: PayloadIndexSpec) {
    this.spec = spec;
    this.index = createIndex(spec);
  }

  /** Slots with a payload. */
  get slotCount(): number {
    return this.#slots.count;
  }

  get memoryBytes(): number {
    const sets = this.#slots.memoryBytes + this.#filled.memoryBytes + this.#nulls.memoryBytes;
    return this.index.memoryBytes + sets;
  }

  /** Takes in a slot's payload; the slot has none here. */
  insert(slot: number, payload: JsonObject): void {
    this.#touched?.add(slot);
    this.#slots.add(slot);
    const values: JsonValue[] = [];
    someAtPath(payload, this.spec.path, (value) => {
      if (isSomething(value)) this.#filled.add(slot);
      if (hasNull(value)) this.#nulls.add(slot);
      if (Array.isArray(value)) for (const each of value) values.push(each);
      else values.push(value);
      return false;
    });
    if (values.length > 0) this.index.insert(slot, values);
  }

  /** Forgets a slot, if it is known. */
  remove(slot: number): void {
    this.#touched?.add(slot);
    if (this.#filled.has(slot)) this.index.remove(slot);
    this.#slots.delete(slot);
    this.#filled.delete(slot);
    this.#nulls.delete(slot);
  }

  /** See PayloadIndexes.presence. */
  presence(condition: IsEmptyCondition | IsNullCondition | ValuesCountCondition): Lookup | undefined {
    if (condition.kind === "isEmpty") return setLookup(this.#filled, true);
    if (condition.kind === "isNull") return setLookup(this.#nulls, true);
    const within = boundsTest(condition.range);
    if (within(0)) return undefined;
    const { gt, gte, lt, lte } = condition.range;
    // One value at least is all that it asks for.
    const isFilled = lt === undefined && lte === undefined && (gt ?? 0) === 0 && (gte ?? 1) <= 1;
    return setLookup(this.#filled, isFilled);
  }

  /**
   * The content as of the first step, without the slots that come or go until the last one: those are read from the points again.
   * One at a time.
   */
  *serialize(): Steps<Uint8Array> {
    const touched = (this.#touched = new SlotSet());
    try {
      const sets = [this.#slots, this.#filled, this.#nulls].map(({ words }) => bytesOf(words.slice()));
      const index = yield* this.index.serialize((slot) => touched.has(slot));
      return yield* packSections([index, ...sets, bytesOf(touched.words)]);
    } finally {
      this.#touched = undefined;
    }
  }

  /** Fills an empty field with what `serialize` gave; CORRUPT_DATA where the bytes are damaged. */
  *load(packed: Uint8Array): Steps<void> {
    const [index, slots, filled, nulls, touched] = yield* unpackSections(packed, 5);
    yield* addAll(this.#slots, u32Of(slots as Uint8Array));
    yield* addAll(this.#filled, u32Of(filled as Uint8Array));
    yield* addAll(this.#nulls, u32Of(nulls as Uint8Array));
    yield* this.index.load(index as Uint8Array);
    const gone = new SlotSet();
    yield* addAll(gone, u32Of(touched as Uint8Array));
    for (const slot of gone) {
      this.index.remove(slot);
      this.remove(slot);
    }
  }
}

function setLookup(set: SlotSet, sure: boolean): Lookup {
  return {
    estimate: set.count,
    sure,
    *mark(words: Words): Steps<void> {
      orInto(words, set.words);
      yield;
    },
    has: (slot) => set.has(slot),
  };
}
