import { compareIds, type Hit } from "../model/index.js";
import type { Order } from "./score.js";

/** Order of results: by score, ties by id, so that every router gives the same answer. */
export function compareHits(a: Hit, b: Hit, order: Order): number {
  return (order === "lower" ? a.score - b.score : b.score - a.score) || compareIds(a.id, b.id);
}

/** The k best of several sorted lists. Lists are short (k each) and few (one per shard), so a linear choice of the head is enough. */
export function mergeHits(lists: readonly (readonly Hit[])[], k: number, order: Order): Hit[] {
  if (lists.length === 1) return (lists[0] as readonly Hit[]).slice(0, k);
  const heads = new Uint32Array(lists.length);
  const merged: Hit[] = [];
  while (merged.length < k) {
    let best: Hit | undefined;
    let from = -1;
    for (let i = 0; i < lists.length; i++) {
      const hit = (lists[i] as readonly Hit[])[heads[i] as number];
      if (hit !== undefined && (best === undefined || compareHits(hit, best, order) < 0)) {
        best = hit;
        from = i;
      }
    }
    if (best === undefined) break;
    merged.push(best);
    (heads[from] as number)++;
  }
  return merged;
}
