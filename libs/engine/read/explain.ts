import type { SearchResult } from "../../ann/index.js";
import type { Clock } from "../../base/index.js";
import type { MaskExplain, ReadExplain, SearchExplain } from "../../shard-api/index.js";
import type { MaskState, SlotMask } from "./mask.js";

/** Takes down what a replica does for one read that is to be explained. */
export class ReadNotes {
  readonly #clock: Clock;
  readonly #pointCount: number;
  readonly #startMs: number;
  readonly #searches: SearchExplain[] = [];
  #mask: MaskExplain | undefined;
  #readPoints = 0;
  #readUs = 0;
  #workUs = 0;
  #retries = 0;

  constructor(clock: Clock, pointCount: number) {
    this.#clock = clock;
    this.#pointCount = pointCount;
    this.#startMs = clock.monotonicMs();
  }

  /** Microseconds, on a clock of its own. */
  now(): number {
    return this.#clock.monotonicMs() * 1000;
  }

  /** Takes down where a mask came from, and how it was made. Nothing awaits between the mask and who asked for it. */
  async mask(ask: (note: (state: MaskState) => void) => Promise<SlotMask>): Promise<SlotMask> {
    const startUs = this.now();
    let state: MaskState = "cached";
    const mask = await ask((now) => (state = now));
    const { estimated, conditions, unindexed, testedPoints, indexUs, testUs } = mask.making;
    const waitedUs = this.now() - startUs;
    this.#mask = {
      state,
      estimated,
      count: mask.count,
      testedPoints,
      conditions,
      unindexed,
      waitedUs,
      indexUs,
      testUs,
    };
    return mask;
  }

  /** A search that began at `startUs`. */
  search(field: string, k: number, ef: number, exact: boolean, result: SearchResult, startUs: number): void {
    const { plan, computed, queueUs, searchUs, explanation } = result;
    const decision = explanation?.decision;
    this.#searches.push({
      field,
      plan,
      reason: reasonOf(exact, explanation),
      k,
      ef,
      graphEstimateUs: decision?.walkUs ?? 0,
      scanEstimateUs: decision?.scanUs ?? 0,
      computed,
      queueUs,
      searchUs,
      waitUs: Math.max(0, this.now() - startUs - queueUs - searchUs),
    });
  }

  /** Points that were read from the store since `startUs`. */
  read(points: number, startUs: number): void {
    this.#readPoints += points;
    this.#readUs += this.now() - startUs;
  }

  /** Work of the plan's own since `startUs`. */
  work(startUs: number): void {
    this.#workUs += this.now() - startUs;
  }

  retry(): void {
    this.#retries++;
  }

  end(plan: ReadExplain["plan"]): ReadExplain {
    return {
      plan,
      pointCount: this.#pointCount,
      ...(this.#mask && { mask: this.#mask }),
      searches: this.#searches,
      readPoints: this.#readPoints,
      readUs: this.#readUs,
      workUs: this.#workUs,
      retries: this.#retries,
      totalUs: (this.#clock.monotonicMs() - this.#startMs) * 1000,
    };
  }
}

function reasonOf(exact: boolean, explanation: SearchResult["explanation"]): string {
  if (exact) return "an exact search was asked for";
  if (explanation === undefined) return "";
  const { plan, visitedRows, walkedRows, scannedRows, decision } = explanation;
  const done = `${visitedRows} rows visited, ${walkedRows} measured on the walk, ${scannedRows} by a scan`;
  if (decision === undefined) return plan === "scan" ? `few rows: ${done}` : `the whole graph: ${done}`;
  const { allowedRows, walkUs, scanUs, twoHopsUs } = decision;
  const hops = twoHopsUs === undefined ? "" : `, a walk by two hops ${Math.round(twoHopsUs)} us`;
  const expected = `${allowedRows} rows allowed; a walk was expected to take ${Math.round(walkUs)} us, a scan ${Math.round(scanUs)} us${hops}`;
  if (twoHopsUs !== undefined && plan !== "two_hop_walk" && plan !== "walk_then_scan") {
    return `${expected}, but few of these rows are near the query: ${done}`;
  }
  return plan === "walk_then_scan"
    ? `${expected}; the walk cost too much and was given up: ${done}`
    : `${expected}: ${done}`;
}
