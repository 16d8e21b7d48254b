import type { Clock } from "../../base/index.js";
import type { MaskMaking, SlotMask } from "./mask.js";
import type { SlotTable } from "../index/slots.js";

interface Entry {
  atMs: number;
  slot: number;
}

/** Entries of the heap that no slot has any more, before it is made again. */
const garbageMax = 1_024;

/** Of a mask that no filter asked for. */
const unmade: MaskMaking = {
  estimated: 0,
  conditions: [],
  unindexed: [],
  testedPoints: 0,
  testedBytes: 0,
  indexUs: 0,
  testUs: 0,
};

/**
 * When points expire, by slot, and which of them have expired by this node's clock and are not removed yet: reads pass over these.
 * What is written is decided without it, by the times of records. About 60 bytes for each point that expires.
 */
export class Expiries {
  readonly #clock: Clock;
  readonly #slots: SlotTable;
  readonly #atMs = new Map<number, number>();
  /** A binary heap, the earliest first; entries that are not in `#atMs` as they are count for nothing. */
  #heap: Entry[] = [];
  readonly #over = new Set<number>();
  #newestMs = 0;

  constructor(clock: Clock, slots: SlotTable) {
    this.#clock = clock;
    this.#slots = slots;
  }

  /** The clock, which here never goes back: what was passed over does not appear again. */
  get nowMs(): number {
    this.#newestMs = Math.max(this.#newestMs, this.#clock.nowMs());
    return this.#newestMs;
  }

  /** Slots of points that have expired. */
  get over(): ReadonlySet<number> {
    if (this.#heap.length === 0) return this.#over;
    const { nowMs } = this;
    for (let first = this.#heap[0]; first !== undefined && first.atMs <= nowMs; first = this.#heap[0]) {
      this.#pop();
      if (this.#atMs.get(first.slot) === first.atMs) this.#over.add(first.slot);
    }
    return this.#over;
  }

  isPast(expiresAtMs: number | undefined): boolean {
    return expiresAtMs !== undefined && expiresAtMs <= this.nowMs;
  }

  /** Points that have expired for who writes at `ms`, and are stored still. */
  countPast(ms: number): number {
    let count = 0;
    for (const atMs of this.#atMs.values()) if (atMs <= ms) count++;
    return count;
  }

  /** No point is left. */
  clear(): void {
    this.#atMs.clear();
    this.#over.clear();
    this.#heap = [];
  }

  /** `atMs`: undefined for a point that does not expire. */
  set(slot: number, atMs: number | undefined): void {
    if (this.#atMs.get(slot) === atMs) return;
    this.delete(slot);
    if (atMs === undefined) return;
    this.#atMs.set(slot, atMs);
    this.#push({ atMs, slot });
    if (this.#heap.length > 2 * this.#atMs.size + garbageMax) this.#rebuild();
  }

  delete(slot: number): void {
    if (this.#atMs.delete(slot)) this.#over.delete(slot);
  }

  /** The mask without what has expired; of all points where none is given, and undefined where these are all. */
  visible(mask: SlotMask | undefined): SlotMask | undefined {
    const { over } = this;
    if (over.size === 0) return mask;
    const source = mask?.bytes ?? this.#slots.aliveMask();
    const words = new Uint32Array((source.length + 3) >> 2);
    const bytes = new Uint8Array(words.buffer);
    bytes.set(source);
    let count = mask?.count ?? this.#slots.aliveCount;
    for (const slot of over) {
      const bit = 1 << (slot & 7);
      if (((bytes[slot >> 3] ?? 0) & bit) === 0) continue;
      bytes[slot >> 3] = (bytes[slot >> 3] as number) & ~bit;
      count--;
    }
    return { bytes, words, count, making: mask?.making ?? unmade };
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as Entry).atMs <= entry.atMs) break;
      heap[at] = heap[parent] as Entry;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as Entry).atMs < (heap[child] as Entry).atMs) child++;
      if ((heap[child] as Entry).atMs >= last.atMs) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = last;
  }

  #rebuild(): void {
    this.#heap = [];
    for (const [slot, atMs] of this.#atMs) if (!this.#over.has(slot)) this.#push({ atMs, slot });
  }
}
