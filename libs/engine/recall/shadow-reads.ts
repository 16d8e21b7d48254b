import { type Clock, sleep } from "../../base/index.js";
import type { Filter, GenerationShadow, Metric } from "../../model/index.js";
import type { PointStore, StoredField } from "../../storage/index.js";
import type { SlotTable } from "../index/slots.js";
import { type MeasuredGeneration, nearestSlots } from "./recall.js";

/** A search of a client that a generation has answered. */
export interface AnsweredSearch {
  field: string;
  query: Float32Array;
  k: number;
  /** Beam width that it was answered with. */
  ef: number;
  /** Rows scored by the vectors as they were written; 0: none; undefined: what is usual. */
  scored: number | undefined;
  filter: Filter | undefined;
}

export interface NumberedGeneration extends MeasuredGeneration {
  number: number;
}

/** Both generations of a field, as they are now. */
export interface GenerationPair {
  stored: StoredField;
  metric: Metric;
  answering: NumberedGeneration;
  other: NumberedGeneration;
}

export interface ShadowReadsOptions {
  clock: Clock;
  store: PointStore;
  slots: SlotTable;
  /** Undefined where there are not two that are whole. */
  pairOf(field: string): GenerationPair | undefined;
  /** The slots that pass now. */
  maskOf(filter: Filter, signal: AbortSignal): Promise<Uint8Array>;
  /** Told of what ends a comparison. */
  onError(error: unknown): void;
  signal: AbortSignal;
}

/** Sums over the searches that were compared, of one generation. */
interface Sums {
  recall: number;
  searchUs: number;
}

interface Comparison {
  /** By number of the generation: which of them answers may change meanwhile. */
  sums: ReadonlyMap<number, Sums>;
  samples: number;
  k: number;
  overlap: number;
  /** Of the differences of both recalls, the one of the larger number less the other, and of their squares. */
  difference: number;
  squares: number;
  waiting: AnsweredSearch[];
  /** Searches since the last one that was taken. */
  passed: number;
}

/** Searches of one field that wait to be compared. */
const waitingMax = 8;
/** Results that are compared of one search: with more, what an exact search takes tells no more. */
const comparedMax = 100;
/** So many samples are wanted soon; then one of so many searches is taken. */
const samplesWanted = 200;
const sampledEvery = 10;
/** With so many, what was found before counts half. */
const samplesMax = 2_000;
/** Share of one thread that comparing takes, while there are few samples and later. */
const earlyShare = 0.1;
const steadyShare = 0.02;

/**
 * Compares the generations of an index on searches of clients, while there are two that are whole: each of a sample is run again in both, with the beam
 * width and filter that it was answered with, and exactly. One at a time, and with pauses.
 */
export class ShadowReads {
  readonly #options: ShadowReadsOptions;
  readonly #comparisons = new Map<string, Comparison>();
  #comparing: Promise<void> | undefined;

  constructor(options: ShadowReadsOptions) {
    this.#options = options;
  }

  /** Tells of a search that was answered; it may be run again later. */
  answered(search: AnsweredSearch): void {
    const pair = this.#options.pairOf(search.field);
    if (pair === undefined) {
      this.#comparisons.delete(search.field);
      return;
    }
    const comparison = this.#comparisonOf(search.field, pair);
    comparison.passed++;
    const { samples, waiting, passed } = comparison;
    if ((samples >= samplesWanted && passed < sampledEvery) || waiting.length >= waitingMax) return;
    comparison.passed = 0;
    // The caller's memory may be used again.
    waiting.push({ ...search, query: search.query.slice() });
    this.#wake();
  }

  /** What the generation with this number came to, beside the one that answers; undefined where nothing was compared. */
  status(field: string, number: number): GenerationShadow | undefined {
    const pair = this.#options.pairOf(field);
    const comparison = this.#comparisons.get(field);
    if (pair?.other.number !== number || comparison === undefined || !isOf(comparison, pair)) return undefined;
    const { samples, sums, k, overlap, difference, squares } = comparison;
    const [own, baseline] = [sums.get(number), sums.get(pair.answering.number)];
    if (samples === 0 || own === undefined || baseline === undefined) return undefined;
    const mean = difference / samples;
    const variance = Math.max(0, squares / samples - mean * mean);
    return {
      samples,
      k: k / samples,
      overlap: overlap / samples,
      recall: own.recall / samples,
      baseline: baseline.recall / samples,
      margin: 1.96 * Math.sqrt(variance / samples),
      searchUs: own.searchUs / samples,
      baselineUs: baseline.searchUs / samples,
    };
  }

  /** Resolves when nothing waits to be compared. For tests. */
  async settled(): Promise<void> {
    while (this.#comparing !== undefined) await this.#comparing;
  }

  #comparisonOf(field: string, pair: GenerationPair): Comparison {
    const known = this.#comparisons.get(field);
    if (known !== undefined && isOf(known, pair)) return known;
    const numbers = [pair.answering.number, pair.other.number];
    const sums = new Map(numbers.map((number) => [number, { recall: 0, searchUs: 0 }]));
    const zeros = { samples: 0, k: 0, overlap: 0, difference: 0, squares: 0, passed: 0 };
    const comparison: Comparison = { sums, ...zeros, waiting: [] };
    this.#comparisons.set(field, comparison);
    return comparison;
  }

  #wake(): void {
    if (this.#comparing !== undefined || this.#options.signal.aborted) return;
    this.#comparing = this.#compareAll().finally(() => {
      this.#comparing = undefined;
    });
  }

  async #compareAll(): Promise<void> {
    const options = this.#options;
    const { clock, signal } = options;
    for (;;) {
      const due = [...this.#comparisons.values()].filter(({ waiting }) => waiting.length > 0);
      due.sort((a, b) => a.samples - b.samples);
      const [comparison] = due;
      const search = comparison?.waiting.shift();
      if (comparison === undefined || search === undefined || signal.aborted) return;
      const startMs = clock.monotonicMs();
      try {
        await this.#compare(comparison, search);
        const share = comparison.samples < samplesWanted ? earlyShare : steadyShare;
        await sleep(clock, (clock.monotonicMs() - startMs) * (1 / share - 1), signal);
      } catch (error) {
        if (signal.aborted) return;
        const pair = options.pairOf(search.field);
        // A generation that is dropped meanwhile is closed under the searches.
        if (pair === undefined || !isOf(comparison, pair)) continue;
        comparison.waiting.length = 0;
        options.onError(error);
      }
    }
  }

  async #compare(comparison: Comparison, { field, query, filter, scored, ...search }: AnsweredSearch): Promise<void> {
    const options = this.#options;
    const { store, slots, signal } = options;
    const pair = options.pairOf(field);
    if (pair === undefined || !isOf(comparison, pair)) return;
    const k = Math.min(search.k, comparedMax);
    const ef = Math.max(search.ef, k);
    const mask = filter === undefined ? undefined : await options.maskOf(filter, signal);
    const generations = [pair.answering, pair.other].sort((a, b) => a.number - b.number);
    const scope = { store, slots, field: pair.stored, metric: pair.metric, k, signal, filter: mask };
    const truth = await nearestSlots(query, generations, scope);
    if (truth.size === 0) return;
    const rescoring = scored === undefined ? {} : scored === 0 ? { codesOnly: true } : { scored: Math.max(scored, k) };
    const how = { k, ef, signal, ...(mask !== undefined && { filter: mask }), ...rescoring };
    const wanted = Math.min(k, truth.size);
    const found = new Map<number, { slots: Uint32Array; searchUs: number; recall: number }>();
    // In turns: the first of two finds the caches cold.
    for (const { number, generation } of comparison.samples % 2 === 0 ? generations : generations.toReversed()) {
      const result = await generation.search(query, how);
      const hits = result.slots.reduce((count, slot) => count + (truth.has(slot) ? 1 : 0), 0);
      found.set(number, {
        slots: result.slots,
        searchUs: result.searchUs,
        recall: Math.min(hits, wanted) / wanted,
      });
    }
    const [first, second] = generations.map(({ number }) => found.get(number));
    if (first === undefined || second === undefined) return;
    if (comparison.samples >= samplesMax) halve(comparison);
    for (const [number, { recall, searchUs }] of found) {
      const sums = comparison.sums.get(number);
      if (sums === undefined) continue;
      sums.recall += recall;
      sums.searchUs += searchUs;
    }
    const inFirst = new Set(first.slots);
    const shared = second.slots.reduce((count, slot) => count + (inFirst.has(slot) ? 1 : 0), 0);
    const difference = second.recall - first.recall;
    comparison.samples++;
    comparison.k += k;
    comparison.overlap += shared / Math.max(1, first.slots.length, second.slots.length);
    comparison.difference += difference;
    comparison.squares += difference * difference;
  }
}

function isOf({ sums }: Comparison, { answering, other }: GenerationPair): boolean {
  return sums.has(answering.number) && sums.has(other.number);
}

function halve(comparison: Comparison): void {
  for (const sums of comparison.sums.values()) {
    sums.recall /= 2;
    sums.searchUs /= 2;
  }
  for (const key of ["samples", "k", "overlap", "difference", "squares"] as const) comparison[key] /= 2;
}
