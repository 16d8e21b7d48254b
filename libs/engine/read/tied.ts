import type { SearchOptions, SearchResult } from "../../ann/index.js";
import { limits } from "../../base/index.js";
import type { Found } from "./hydrator.js";

/** Rows that are looked at beyond the last place, where they are as near as the row there. More that are as near may be left out by chance. */
const tiedMost = 64;

/** Rows that an index is asked for, so that it shows whether the row behind the last place is as near. */
export function askedFor(k: number): number {
  return Math.min(k + 1, limits.shardResults);
}

/**
 * Asks again for more rows where the one behind the last of `k` places is as near as the one there: an index decides by slot which
 * of them it returns, and slots differ between replicas. `options` are those of the search that gave `result`.
 */
export async function withTied(
  result: SearchResult,
  k: number,
  options: SearchOptions,
  search: (options: SearchOptions) => Promise<SearchResult>,
): Promise<SearchResult> {
  const again = await search({ ...options, k: Math.min(k + tiedMost, limits.shardResults) });
  const queueUs = result.queueUs + again.queueUs;
  const searchUs = result.searchUs + again.searchUs;
  return { ...again, queueUs, searchUs };
}

/** Whether the row behind the last of `k` places is as near as the one there. */
export function isTied({ distances }: SearchResult, k: number): boolean {
  return distances.length > k && distances[k] === distances[k - 1];
}

/** Leaves the first `k`, which are in order by now. */
export function keepFirst({ hits, slots }: Found, k: number): void {
  if (hits.length <= k) return;
  hits.length = k;
  slots.length = k;
}
