import type { PostingsResult, SearchResult } from "../../ann/index.js";
import type { Clock } from "../../base/index.js";
import type { CodesExplain, ReadExplain, ReadStage } from "../../shard-api/index.js";
import type { MaskState, SlotMask } from "./mask.js";

type Stage = { -readonly [K in keyof ReadStage]: ReadStage[K] };

/**
 * Takes down what a replica does for one read that is to be explained: stages of which each ends where the next one begins, so that
 * no time is left out.
 */
export class ReadNotes {
  readonly #clock: Clock;
  readonly #pointCount: number;
  readonly #startMs: number;
  readonly #stages: Stage[] = [];
  #stage: Stage = { name: "prepare", startUs: 0, durationUs: 0 };
  #readPoints = 0;
  #readBytes = 0;
  #retries = 0;

  constructor(clock: Clock, pointCount: number) {
    this.#clock = clock;
    this.#pointCount = pointCount;
    this.#startMs = clock.monotonicMs();
  }

  #now(): number {
    return (this.#clock.monotonicMs() - this.#startMs) * 1000;
  }

  /** What is done from now on. */
  enter(name: string): void {
    const nowUs = this.#now();
    this.#end(nowUs);
    this.#stage = { name, startUs: nowUs, durationUs: 0 };
  }

  #end(nowUs: number): void {
    this.#stage.durationUs = nowUs - this.#stage.startUs;
    const { durationUs, mask, search, points } = this.#stage;
    if (durationUs > 0 || mask !== undefined || search !== undefined || points !== undefined)
      this.#stages.push(this.#stage);
  }

  /** Takes down where a mask came from, and how it was made. Nothing awaits between the mask and who asked for it. */
  async mask(ask: (note: (state: MaskState) => void) => Promise<SlotMask>): Promise<SlotMask> {
    this.enter("mask");
    let state: MaskState = "cached";
    const mask = await ask((now) => (state = now));
    const { estimated, conditions, unindexed, testedPoints, testedBytes, indexUs, testUs } = mask.making;
    const waitedUs = this.#now() - this.#stage.startUs;
    const { count } = mask;
    this.#stage.mask = {
      ...{ state, estimated, count, testedPoints, testedBytes },
      ...{ conditions, unindexed, waitedUs, indexUs, testUs },
    };
    this.enter("collect");
    return mask;
  }

  /** A search that was what this stage did. `rowBytes`: of a row in the index. */
  search(
    field: string,
    codes: CodesExplain,
    k: number,
    ef: number,
    exact: boolean,
    result: SearchResult,
    rowBytes: number,
  ): void {
    const { plan, computed, queueUs, searchUs, explanation } = result;
    const decision = explanation?.decision;
    const stage = this.#stage;
    stage.bytes = computed * rowBytes;
    stage.search = {
      field,
      codes,
      plan,
      reason: reasonOf(exact, explanation),
      k,
      ef,
      graphEstimateUs: decision?.walkUs ?? 0,
      scanEstimateUs: decision?.scanUs ?? 0,
      computed,
      queueUs,
      searchUs,
      waitUs: Math.max(0, this.#now() - stage.startUs - queueUs - searchUs),
    };
  }

  /** A search in postings that was what this stage did. */
  postings(index: string, k: number, { postings, decodedBlocks, scoredRows, queueUs, searchUs }: PostingsResult): void {
    const stage = this.#stage;
    stage.search = {
      ...{ field: index, plan: "postings", k, ef: 0, graphEstimateUs: 0, scanEstimateUs: 0, computed: scoredRows },
      reason: `${postings} postings of the terms: ${decodedBlocks} blocks of them read, ${scoredRows} rows scored`,
      ...{ queueUs, searchUs, waitUs: Math.max(0, this.#now() - stage.startUs - queueUs - searchUs) },
    };
  }

  /** Points that were read from the store in this stage. */
  read(points: number, bytes: number): void {
    this.#stage.points = (this.#stage.points ?? 0) + points;
    this.#stage.bytes = (this.#stage.bytes ?? 0) + bytes;
    this.#readPoints += points;
    this.#readBytes += bytes;
  }

  /** Rows that an index listed in this stage. */
  listed(rows: number): void {
    this.#stage.points = rows;
  }

  retry(): void {
    this.#retries++;
    this.enter("writes");
  }

  end(plan: ReadExplain["plan"]): ReadExplain {
    const totalUs = this.#now();
    this.#end(totalUs);
    return {
      plan,
      pointCount: this.#pointCount,
      stages: this.#stages,
      readPoints: this.#readPoints,
      readBytes: this.#readBytes,
      retries: this.#retries,
      totalUs,
    };
  }
}

/** As if the replica had waited before. */
export function afterWaiting(explain: ReadExplain, waitedUs: number): ReadExplain {
  const later = explain.stages.map((stage) => ({ ...stage, startUs: stage.startUs + waitedUs }));
  const stages = [{ name: "wait", startUs: 0, durationUs: waitedUs }, ...later];
  return { ...explain, stages, totalUs: explain.totalUs + waitedUs };
}

function reasonOf(exact: boolean, explanation: SearchResult["explanation"]): string {
  if (explanation?.reason !== undefined) return explanation.reason;
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

/** The answer with how it came about, where that was asked for. */
export function explained<T extends object>(
  answer: T,
  notes: ReadNotes | undefined,
  plan: ReadExplain["plan"],
): T & { explain?: ReadExplain } {
  return notes === undefined ? answer : { ...answer, explain: notes.end(plan) };
}
