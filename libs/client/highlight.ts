import type { Bm25Options, JsonObject } from "../model/index.js";
import { analyzerOf, highlightPayload, type HighlightOptions, parseText } from "../text/index.js";

export type { HighlightOptions };

/**
 * The parts of a payload in which the words of a query stand, with these marked; by field of the index, as `info` gives it, and only of
 * fields where some do. Queries with `highlight` have it from the server.
 */
export function highlightOf(
  payload: JsonObject,
  query: string,
  { bm25 }: { path: string; bm25?: Bm25Options },
  options: HighlightOptions = {},
): Record<string, string[]> {
  if (bm25 === undefined) return {};
  return highlightPayload(payload, parseText(query, analyzerOf(bm25.analyzer), false), bm25, options);
}
