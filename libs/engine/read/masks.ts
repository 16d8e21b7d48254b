import { abortReason, type Cancellation } from "../../base/index.js";
import { compileFilter, filterToJson, type PointTest, StoredFilterPoint } from "../../filter/index.js";
import { type Condition, type Filter, type IdKey, idMapKey, printJson } from "../../model/index.js";
import { hasVector, payloadOf, type TouchedPoint } from "../apply/write-set.js";
import type { RowChanges } from "../index/changes.js";
import type { SlotTable } from "../index/slots.js";
import type { Schema } from "../recover/schema.js";
import type { Head, PointStore } from "../../storage/index.js";

/** Points that are read and tested between two turns of the event loop: about a millisecond, at 4 us each. */
const chunkPoints = 256;
/** Masks that are kept; the one that was not used for the longest time goes first. */
const masksMax = 64;
/** A mask that was not used while so many batches were applied is not worth being kept up to date. */
const idleBatchesMax = 16;

/** What is tested: an open replica. */
export interface MaskSource {
  readonly store: PointStore;
  readonly slots: SlotTable;
  readonly schema: Schema;
  /** Aborted when the open replica ends. */
  readonly stopped: AbortSignal;
}

/** The slots that pass a filter, as of now and for as long as its owner keeps it up to date. */
export interface SlotMask {
  /** Slot s is bit s & 7 of byte s >> 3. */
  readonly bytes: Uint8Array;
  readonly count: number;
}

class LiveMask implements SlotMask {
  bytes: Uint8Array = new Uint8Array(0);
  count = 0;
  idleBatches = 0;
  users = 0;

  constructor(
    readonly test: PointTest,
    readonly needsHeads: boolean,
  ) {}

  has(slot: number): boolean {
    return (((this.bytes[slot >> 3] ?? 0) >> (slot & 7)) & 1) === 1;
  }

  set(slot: number): void {
    const at = slot >> 3;
    if (at >= this.bytes.length) {
      const larger = new Uint8Array(Math.max(at + 1, Math.ceil(this.bytes.length * 1.5)));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    if (this.has(slot)) return;
    this.bytes[at] = (this.bytes[at] as number) | (1 << (slot & 7));
    this.count++;
  }

  clear(slot: number): void {
    if (!this.has(slot)) return;
    this.bytes[slot >> 3] = (this.bytes[slot >> 3] as number) & ~(1 << (slot & 7));
    this.count--;
  }
}

/**
 * Which slots pass the filters that are asked for. A mask is made once, by a test of every point, and then follows each batch, so
 * that it is right at every moment: a search that takes it sees neither what came too late nor what was overwritten.
 */
export class Masks {
  readonly #source: MaskSource;
  /** By the text of the filter, in order of last use. */
  readonly #masks = new Map<string, { mask: LiveMask; ready: Promise<void> }>();

  constructor(source: MaskSource) {
    this.#source = source;
  }

  /** The slots that pass the filter now. Valid until the next turn of the event loop: what is read of it is read at once. */
  async of(filter: Filter, signal: Cancellation | undefined): Promise<SlotMask> {
    const key = printJson(filterToJson(filter));
    let entry = this.#masks.get(key);
    if (entry === undefined) {
      const mask = new LiveMask(compileFilter(filter), asksForVectors(filter));
      entry = { mask, ready: this.#fill(mask) };
      // The waiters are told; a mask that could not be made is not kept.
      entry.ready.catch(() => this.#masks.delete(key));
    } else {
      this.#masks.delete(key);
    }
    this.#masks.set(key, entry);
    this.#evict();
    const { mask, ready } = entry;
    mask.idleBatches = 0;
    mask.users++;
    try {
      await ready;
    } finally {
      mask.users--;
    }
    if (signal?.aborted) throw abortReason(signal);
    return mask;
  }

  /** Names of the fields that a point has a vector of. */
  vectorsOf(head: Head): { has(name: string): boolean } {
    const { fields } = this.#source.schema;
    return { has: (name) => fields.some((field) => field.name === name && head.hasVector(field.number)) };
  }

  /** Brings all masks up to date with a batch, in the step in which it becomes visible. */
  apply({ insertedSlots, insertedPoints, tombstoneSlots, updatedSlots, updatedPoints }: RowChanges): void {
    if (this.#masks.size === 0) return;
    for (const { mask } of this.#masks.values()) for (const slot of tombstoneSlots) mask.clear(slot);
    for (let i = 0; i < insertedSlots.length && this.#masks.size > 0; i++) {
      const slot = insertedSlots[i] as number;
      const point = this.#filterPointOf(insertedPoints[i] as TouchedPoint);
      for (const { mask } of this.#masks.values()) if (mask.test(point)) mask.set(slot);
    }
    for (let i = 0; i < updatedSlots.length && this.#masks.size > 0; i++) {
      const slot = updatedSlots[i] as number;
      const point = this.#filterPointOf(updatedPoints[i] as TouchedPoint);
      for (const { mask } of this.#masks.values()) {
        if (mask.test(point)) mask.set(slot);
        else mask.clear(slot);
      }
    }
  }

  #filterPointOf(point: TouchedPoint): StoredFilterPoint {
    const { fields } = this.#source.schema;
    const names = {
      has: (name: string): boolean => fields.some((field) => field.name === name && hasVector(point, field.number)),
    };
    return new StoredFilterPoint(point.id, payloadOf(point), names);
  }

  /** Told of each batch: masks that nobody asks for are not kept for ever. */
  age(): void {
    for (const [key, { mask }] of this.#masks) {
      if (mask.users === 0 && ++mask.idleBatches > idleBatchesMax) this.#masks.delete(key);
    }
  }

  /** Forgets what a change of the schema makes wrong. */
  changeSchema(): void {
    for (const [key, { mask }] of this.#masks) if (mask.needsHeads) this.#masks.delete(key);
  }

  #evict(): void {
    for (const [key, { mask }] of this.#masks) {
      if (this.#masks.size <= masksMax) return;
      if (mask.users === 0) this.#masks.delete(key);
    }
  }

  /** Tests every point that is there now; what comes and goes meanwhile is told by `apply`. */
  async #fill(mask: LiveMask): Promise<void> {
    const { slots, stopped } = this.#source;
    const { end } = slots;
    mask.bytes = new Uint8Array((end + 7) >> 3);
    for (let from = 0; from < end; from += chunkPoints) {
      const chunk: { slot: number; id: IdKey; version: number }[] = [];
      for (let slot = from; slot < Math.min(end, from + chunkPoints); slot++) {
        if (slots.isAlive(slot)) chunk.push({ slot, id: slots.idOf(slot), version: slots.versionOf(slot) });
      }
      if (chunk.length === 0) continue;
      const points = await this.#read(
        mask,
        chunk.map(({ slot }) => slot),
        chunk.map(({ id }) => id),
      );
      if (stopped.aborted) throw abortReason(stopped);
      for (const [i, { slot, id, version }] of chunk.entries()) {
        // A point that was overwritten meanwhile has another slot, and the slot may be another point's.
        const isStill =
          slots.isAlive(slot) && slots.versionOf(slot) === version && idMapKey(slots.idOf(slot)) === idMapKey(id);
        const point = points[i];
        if (isStill && point !== undefined && mask.test(point)) mask.set(slot);
      }
    }
  }

  async #read(
    mask: LiveMask,
    slots: readonly number[],
    ids: readonly IdKey[],
  ): Promise<(StoredFilterPoint | undefined)[]> {
    const { store, slots: table } = this.#source;
    if (mask.needsHeads) {
      const records = await store.read(ids, { payload: true, fields: [] });
      return records.map(
        (record) => record && new StoredFilterPoint(record.id, record.payload, this.vectorsOf(record.head)),
      );
    }
    const withPayload = ids.filter((_, i) => table.hasPayload(slots[i] as number));
    const payloads = withPayload.length === 0 ? [] : await store.payloads(withPayload);
    let at = 0;
    return ids.map((id, i) => {
      const payload = table.hasPayload(slots[i] as number) ? payloads[at++]?.value : undefined;
      return new StoredFilterPoint(id, payload ?? noBytes, noVectors);
    });
  }
}

const noBytes = new Uint8Array(0);
const noVectors = new Set<string>();

/** Whether the test must know which vectors a point has. */
export function asksForVectors(filter: Filter): boolean {
  const asks = (condition: Condition): boolean => {
    if (condition.kind === "hasVector") return true;
    return condition.kind === "filter" || condition.kind === "nested" ? asksForVectors(condition.filter) : false;
  };
  const { must, should, mustNot, minShould } = filter;
  return [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])].some(asks);
}
