import type { SearchOptions, SearchResult } from "../../ann/index.js";
import type { Cancellation } from "../../base/index.js";
import { beamLadder } from "./curve.js";

/** An index whose searches are measured. */
export interface Measured {
  search(query: Float32Array, options: SearchOptions): Promise<SearchResult>;
}

export interface MeasuredQuery {
  query: Float32Array;
  k: number;
  /** Of the slots that may be found; undefined: all. */
  filter: Uint8Array | undefined;
  /** A row that is no result: that of the query itself. */
  own?: number;
}

/** A row is as near as the last of the nearest where its distance is within this share of it. */
const tieShare = 1e-6;

/**
 * recall@k of one query at each beam width of the ladder, until nothing is missed; undefined where there is nothing to find. Searches one after the other,
 * the exact one first; a distance counts, whichever row has it.
 */
export async function recallsOf(
  index: Measured,
  { query, k, filter, own }: MeasuredQuery,
  signal: Cancellation,
): Promise<number[] | undefined> {
  const wanted = k + (own === undefined ? 0 : 1);
  const scope = { k: wanted, ...(filter !== undefined && { filter }), signal };
  const nearest = distancesOf(await index.search(query, { ...scope, ef: 1, exact: true }), own, k);
  const last = nearest.at(-1);
  if (last === undefined) return undefined;
  const limit = last + Math.abs(last) * tieShare;
  const recalls: number[] = [];
  for (const width of beamLadder) {
    if (width < wanted && width !== beamLadder.at(-1)) {
      recalls.push(0);
      continue;
    }
    const found = distancesOf(await index.search(query, { ...scope, ef: Math.max(width, wanted) }), own, k);
    const hits = found.filter((distance) => distance <= limit).length;
    recalls.push(Math.min(hits, nearest.length) / nearest.length);
    if (hits >= nearest.length) break;
  }
  return recalls;
}

function distancesOf({ slots, distances }: SearchResult, own: number | undefined, k: number): number[] {
  return Array.from(distances)
    .filter((_, i) => slots[i] !== own)
    .slice(0, k);
}
