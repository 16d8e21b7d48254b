import type { ScorerOf } from "../../model/index.js";
import { attractorsOf, combineSimilarities, examplesOf } from "../../query/index.js";
import type { FoundRows } from "./hydrator.js";

/** How many more points are looked at near each example than results are wanted. */
export const overfetch = 4;

/** Up to so many rows, all are scored where a score is made of several comparisons; beyond it, those near to an example. */
const scoredRowsMax = 20_000;

/** For each slot that has a vector: how alike it is to each example. */
export type Similarities = Map<number, Float64Array>;

/** How the vectors of one field are compared with examples. */
export interface Comparing<V> {
  /** Slots of the rows in scope that are nearest to an example. */
  near(example: V): Promise<Uint32Array>;
  compare(examples: readonly V[], slots: Uint32Array): Promise<Similarities>;
}

export interface ScoredScope {
  /** Rows in scope. */
  count: number;
  /** Their slots. */
  slots: () => Promise<Uint32Array>;
  /** All of them are scored, however many there are. */
  exact: boolean;
  /** Results wanted. */
  k: number;
  /** Order of slots whose scores are the same. */
  byId: (a: number, b: number) => number;
}

/** Rows by a score of several comparisons, best first, as "distances" the scores with the sign turned; and the slots that were compared. */
export async function scoreRows<V>(
  scorer: ScorerOf<V>,
  { count, slots, exact, k, byId }: ScoredScope,
  comparing: Comparing<V>,
): Promise<FoundRows & { compared: Uint32Array }> {
  let compared: Uint32Array;
  if (exact || count <= scoredRowsMax) {
    compared = await slots();
  } else {
    const attractors = attractorsOf(scorer);
    const around = attractors.length > 0 ? attractors : examplesOf(scorer);
    const found = await Promise.all(around.map((each) => comparing.near(each)));
    compared = Uint32Array.from(new Set(found.flatMap((each) => [...each])));
  }
  const similarities = await comparing.compare(examplesOf(scorer), compared);
  const scored: { slot: number; score: number }[] = [];
  for (const slot of compared) {
    const row = similarities.get(slot);
    // One without a vector of the field.
    if (row !== undefined) scored.push({ slot, score: Math.fround(combineSimilarities(scorer, row)) });
  }
  scored.sort((a, b) => b.score - a.score || byId(a.slot, b.slot));
  const best = scored.slice(0, k);
  return {
    slots: Uint32Array.from(best, ({ slot }) => slot),
    distances: best.map(({ score }) => -score),
    compared,
  };
}
