import { abortReason, type Cancellation, type Random } from "../../base/index.js";
import {
  compileFilter,
  fieldConditions,
  filterSchemaOf,
  filterToJson,
  type FilterPoint,
  type PointTest,
  type UnindexedCondition,
  type Words,
} from "../../filter/index.js";
import { type Filter, type IdKey, type JsonObject, printJson } from "../../model/index.js";
import { counterOf } from "../../telemetry/index.js";
import { hasVector, type TouchedPoint } from "../apply/write-set.js";
import type { RowChanges } from "../index/changes.js";
import { type Schema, vectorFieldsOf } from "../recover/schema.js";
import { asksForVectors } from "./conditions.js";
import { LiveMask } from "./live-mask.js";
import type { MaskSource, MaskState, SlotMask } from "./mask.js";
import { estimateCount, fillMask } from "./mask-fill.js";

/** Masks that are kept; the one that was not used for the longest time goes first. */
const masksMax = 64;
/** A mask that was not used while so many batches were applied is not worth being kept up to date. */
const idleBatchesMax = 16;

const lookups = counterOf("kith.cache.lookups");
const hit = { "kith.cache": "masks", "kith.cache.hit": true };
const miss = { "kith.cache": "masks", "kith.cache.hit": false };

interface Entry {
  readonly mask: LiveMask;
  readonly conditions: readonly UnindexedCondition[];
  readonly ready: Promise<void>;
  isReady: boolean;
  /** A change of the schema has made it wrong. */
  isStale: boolean;
}

/**
 * Which slots pass the filters that are asked for. A mask is made once, from the payload indexes and by a test of the points of which
 * these cannot tell, and then follows each batch, so that it is right at every moment: a search that takes it sees neither what came
 * too late nor what was overwritten.
 */
export class Masks {
  readonly #source: MaskSource;
  /** By the text of the filter, in order of last use. */
  readonly #masks = new Map<string, Entry>();

  constructor(source: MaskSource) {
    this.#source = source;
  }

  get memoryBytes(): number {
    let sum = 0;
    for (const { mask } of this.#masks.values()) sum += mask.memoryBytes;
    return sum;
  }

  /**
   * The slots that pass the filter now. Valid until the next turn of the event loop: what is read of it is read at once. `note` is
   * told where it came from.
   */
  async of(filter: Filter, signal: Cancellation | undefined, note?: (state: MaskState) => void): Promise<SlotMask> {
    const key = printJson(filterToJson(filter));
    let entry = this.#entry(key, filter, note);
    this.#source.usage.filtered(entry.conditions, this.#source.schema.payloadIndexes);
    for (;;) {
      const { mask } = entry;
      mask.idleBatches = 0;
      mask.users++;
      try {
        if (!entry.isReady) await entry.ready;
      } finally {
        mask.users--;
      }
      if (signal?.aborted) throw abortReason(signal);
      if (!entry.isStale) return mask;
      entry = this.#entry(key, filter, note);
    }
  }

  /** How many slots pass now, about: see `estimateCount`. Exact where the mask is there, or soon made. */
  async estimate(filter: Filter, random: Random, signal: Cancellation | undefined): Promise<number> {
    if (this.#masks.get(printJson(filterToJson(filter)))?.isReady !== true) {
      const tested = { test: this.testOf(filter), needsHeads: asksForVectors(filter) };
      const estimated = await estimateCount(tested, filter, this.#source, random, signal);
      if (estimated !== undefined) return estimated;
    }
    return (await this.of(filter, signal)).count;
  }

  #entry(key: string, filter: Filter, note: ((state: MaskState) => void) | undefined): Entry {
    const known = this.#masks.get(key);
    lookups.add(1, known === undefined ? miss : hit);
    if (known !== undefined) {
      note?.(known.isReady ? "cached" : "awaited");
      // The last in order of use.
      this.#masks.delete(key);
      this.#masks.set(key, known);
      return known;
    }
    note?.("built");
    const test = compileFilter(filter, filterSchemaOf(this.#source.schema.payloadIndexes));
    const mask = new LiveMask(test, asksForVectors(filter));
    const ready = fillMask(mask, filter, this.#source);
    const entry: Entry = { mask, conditions: fieldConditions(filter), ready, isReady: false, isStale: false };
    const forget = (): void => {
      if (this.#masks.get(key) === entry) this.#masks.delete(key);
    };
    // The waiters are told; a mask that could not be made is not kept.
    entry.ready.then(() => (entry.isReady = true), forget);
    this.#evict();
    this.#masks.set(key, entry);
    return entry;
  }

  /** The test of single points by the schema of now. */
  testOf(filter: Filter): PointTest {
    return compileFilter(filter, filterSchemaOf(this.#source.schema.payloadIndexes));
  }

  /** Brings all masks up to date with a batch, in the step in which it becomes visible. */
  apply(changes: RowChanges): void {
    if (this.#masks.size === 0) return;
    const { insertedSlots, insertedPoints, tombstoneSlots, updatedSlots, updatedPoints } = changes;
    const masks = [...this.#masks.values()].map(({ mask }) => mask);
    if (masks.length === 0) return;
    for (const mask of masks) for (const slot of tombstoneSlots) mask.put(slot, false);
    const putAll = (slots: readonly number[], points: readonly TouchedPoint[]): void => {
      for (let i = 0; i < slots.length; i++) {
        const point = new ChangedPoint(points[i] as TouchedPoint, changes, this.#source.schema);
        for (const mask of masks) mask.put(slots[i] as number, mask.test(point));
      }
    };
    putAll(insertedSlots, insertedPoints);
    putAll(updatedSlots, updatedPoints);
  }

  /** No point is left; `alive`: the slots of before. In the step in which that becomes visible. */
  empty(alive: Words): void {
    for (const { mask } of this.#masks.values()) mask.empty(alive);
  }

  /** Told of each batch: masks that nobody asks for are not kept for ever. */
  age(): void {
    for (const [key, { mask }] of this.#masks) {
      if (mask.users === 0 && ++mask.idleBatches > idleBatchesMax) this.#masks.delete(key);
    }
  }

  /** Forgets what a change of the schema makes wrong: whoever waits for such a mask gets another one. */
  changeSchema(): void {
    for (const entry of this.#masks.values()) entry.isStale = true;
    this.#masks.clear();
  }

  #evict(): void {
    for (const [key, { mask }] of this.#masks) {
      if (this.#masks.size < masksMax) return;
      if (mask.users === 0) this.#masks.delete(key);
    }
  }
}

/** A point as a batch leaves it. */
class ChangedPoint implements FilterPoint {
  readonly id: IdKey;
  readonly #point: TouchedPoint;
  readonly #changes: RowChanges;
  readonly #schema: Schema;

  constructor(point: TouchedPoint, changes: RowChanges, schema: Schema) {
    this.id = point.id;
    this.#point = point;
    this.#changes = changes;
    this.#schema = schema;
  }

  get payload(): JsonObject {
    return this.#changes.parsed(this.#point);
  }

  hasVector(name: string): boolean {
    const fields = vectorFieldsOf(this.#schema);
    return fields.some((field) => field.name === name && hasVector(this.#point, field.number));
  }
}
