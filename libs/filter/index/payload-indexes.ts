import { assert } from "../../base/index.js";
import {
  type IsEmptyCondition,
  type IsNullCondition,
  type JsonObject,
  type JsonValue,
  type Path,
  someAtPath,
  type ValuesCountCondition,
} from "../../model/index.js";
import { boundsTest, hasNull, isSomething, type ValueCondition } from "../matches.js";
import { defaultTokenizer } from "../tokens.js";
import { orInto, SlotSet, type Words } from "./bits.js";
import { BoolIndex } from "./bool-index.js";
import { GeoIndex } from "./geo-index.js";
import { KeywordIndex } from "./keyword-index.js";
import { NumberIndex } from "./number-index.js";
import type { Steps } from "./sorted-entries.js";
import { TextIndex } from "./text-index.js";
import type { IndexKind, Lookup, PayloadIndex, PayloadIndexSpec } from "./types.js";
import { UuidIndex } from "./uuid-index.js";

export function createIndex({ kind, tokenizer = defaultTokenizer }: PayloadIndexSpec): PayloadIndex {
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
      return new TextIndex(tokenizer);
  }
}

/** One index, and what else is known of its field in each slot. */
interface Field {
  readonly spec: PayloadIndexSpec;
  readonly index: PayloadIndex;
  /** Slots whose field is not empty. */
  readonly filled: SlotSet;
  /** Slots whose field is null, or has a null element. */
  readonly nulls: SlotSet;
  /** While the index is built: slots that were written or removed since, which the build leaves alone. */
  touched: SlotSet | undefined;
}

/**
 * The payload indexes over the slots of a replica. They are all in memory, and say the same as `matches` does: they hold nothing
 * that the payloads do not, so that they can be dropped and built again at any time.
 */
export class PayloadIndexes {
  #fields: Field[] = [];
  readonly #watchers = new Set<(slot: number) => void>();

  constructor(specs: readonly PayloadIndexSpec[] = []) {
    for (const spec of specs) this.#fields.push(newField(spec, undefined));
  }

  get specs(): PayloadIndexSpec[] {
    return this.#fields.map((field) => field.spec);
  }

  /** Bytes of each index, in the order of `specs`. */
  get memoryBytes(): number[] {
    return this.#fields.map(({ index, filled, nulls }) => index.memoryBytes + filled.memoryBytes + nulls.memoryBytes);
  }

  /** Takes in a slot's payload; the slot has none here. */
  insert(slot: number, payload: JsonObject): void {
    for (const field of this.#fields) {
      field.touched?.add(slot);
      insertInto(field, slot, payload);
    }
    this.#touch(slot);
  }

  /** Forgets a slot, if it is known. */
  remove(slot: number): void {
    for (const field of this.#fields) {
      field.touched?.add(slot);
      removeFrom(field, slot);
    }
    this.#touch(slot);
  }

  /** A further index, which is not asked before `finish`: meanwhile `fill` brings the slots that there are. */
  startBuild(spec: PayloadIndexSpec): void {
    assert(
      this.#find(spec.path, spec.kind) === undefined,
      `there is a ${spec.kind} index of ${spec.path.text} already`,
    );
    this.#fields.push(newField(spec, new SlotSet()));
  }

  /** Brings one slot into an index that is being built, unless it was written or removed since the build began. */
  fill(path: Path, kind: IndexKind, slot: number, payload: JsonObject): void {
    const field = this.#find(path, kind);
    if (field?.touched !== undefined && !field.touched.has(slot)) insertInto(field, slot, payload);
  }

  finishBuild(path: Path, kind: IndexKind): void {
    const field = this.#find(path, kind);
    if (field !== undefined) field.touched = undefined;
  }

  drop(path: Path, kind: IndexKind): void {
    this.#fields = this.#fields.filter((field) => field !== this.#find(path, kind));
  }

  /** An index that answers; undefined while it is being built. */
  get(path: Path, kind: IndexKind): PayloadIndex | undefined {
    const field = this.#find(path, kind);
    return field?.touched === undefined ? field?.index : undefined;
  }

  /** How to find the slots that meet a condition on a field, and the index that tells; undefined where none does. */
  lookup(condition: ValueCondition): { lookup: Lookup; spec: PayloadIndexSpec } | undefined {
    for (const { spec, index } of this.#ready(condition.path)) {
      const lookup = index.lookup(condition);
      if (lookup !== undefined) return { lookup, spec };
    }
    return undefined;
  }

  /**
   * How to find the slots whose field is not empty, is null, or has a number of values, for any kind of index on the field. Not
   * being empty is found, not being so.
   */
  presence(
    condition: IsEmptyCondition | IsNullCondition | ValuesCountCondition,
  ): { lookup: Lookup; spec: PayloadIndexSpec } | undefined {
    const [field] = this.#ready(condition.path);
    if (field === undefined) return undefined;
    const { spec, filled, nulls } = field;
    if (condition.kind === "isEmpty") return { lookup: setLookup(filled, true), spec };
    if (condition.kind === "isNull") return { lookup: setLookup(nulls, true), spec };
    const within = boundsTest(condition.range);
    if (within(0)) return undefined;
    const { gt, gte, lt, lte } = condition.range;
    // One value at least is all that it asks for.
    const isFilled = lt === undefined && lte === undefined && (gt ?? 0) === 0 && (gte ?? 1) <= 1;
    return { lookup: setLookup(filled, isFilled), spec };
  }

  /** Calls with each slot that comes or goes, until the function that it gives is called. */
  watch(watcher: (slot: number) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #touch(slot: number): void {
    for (const watcher of this.#watchers) watcher(slot);
  }

  #find(path: Path, kind: IndexKind): Field | undefined {
    return this.#fields.find(({ spec }) => spec.kind === kind && spec.path.text === path.text);
  }

  #ready(path: Path): Field[] {
    return this.#fields.filter(({ spec, touched }) => touched === undefined && spec.path.text === path.text);
  }
}

function newField(spec: PayloadIndexSpec, touched: SlotSet | undefined): Field {
  return { spec, index: createIndex(spec), filled: new SlotSet(), nulls: new SlotSet(), touched };
}

function insertInto({ spec, index, filled, nulls }: Field, slot: number, payload: JsonObject): void {
  const values: JsonValue[] = [];
  someAtPath(payload, spec.path, (value) => {
    if (isSomething(value)) filled.add(slot);
    if (hasNull(value)) nulls.add(slot);
    if (Array.isArray(value)) for (const each of value) values.push(each);
    else values.push(value);
    return false;
  });
  if (values.length > 0) index.insert(slot, values);
}

function removeFrom({ index, filled, nulls }: Field, slot: number): void {
  if (filled.has(slot)) index.remove(slot);
  filled.delete(slot);
  nulls.delete(slot);
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
