import type { Clock } from "../../base/index.js";
import type { ConditionReport, UnindexedCondition } from "../../filter/index.js";
import type { PointStore } from "../../storage/index.js";
import type { IndexSet } from "../index/index-set.js";
import type { SlotTable } from "../index/slots.js";
import type { Schema } from "../recover/schema.js";
import type { IndexUsage } from "./index-usage.js";

/** What is tested: an open replica. */
export interface MaskSource {
  readonly store: PointStore;
  readonly slots: SlotTable;
  readonly indexes: IndexSet;
  readonly schema: Schema;
  readonly fieldCounts: readonly number[];
  readonly pointCount: number;
  readonly writeEpoch: number;
  readonly writing: Promise<void>;
  /** Told of each filter that is asked for. */
  readonly usage: IndexUsage;
  readonly context: { readonly clock: Clock };
  /** Aborted when the open replica ends. */
  readonly stopped: AbortSignal;
}

/** How a mask was made. */
export interface MaskMaking {
  /** Points expected to pass, before any work. */
  readonly estimated: number;
  readonly conditions: readonly ConditionReport[];
  readonly unindexed: readonly UnindexedCondition[];
  readonly testedPoints: number;
  readonly testedBytes: number;
  readonly indexUs: number;
  readonly testUs: number;
}

/** The slots that pass a filter, as of now and for as long as its owner keeps it up to date. */
export interface SlotMask {
  /** Slot s is bit s & 7 of byte s >> 3. Never changed: those of another moment are others. */
  readonly bytes: Uint8Array;
  /** The same as words: bit s & 31 of word s >> 5. */
  readonly words: Uint32Array<ArrayBuffer>;
  readonly count: number;
  readonly making: MaskMaking;
}

export type MaskState = "cached" | "built" | "awaited";
