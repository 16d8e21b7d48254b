import type { Bm25Options, JsonObject } from "../model/index.js";
import { analyzerOf, FieldTexts, highlight, type HighlightOptions, parseText } from "../text/index.js";

export type { HighlightOptions };

/**
 * The parts of a payload in which the words of a query stand, with these marked; by field of the index, as `info` gives it, and only of
 * fields where some do.
 */
export function highlightOf(
  payload: JsonObject,
  query: string,
  index: { path: string; bm25?: Bm25Options },
  options: HighlightOptions = {},
): Record<string, string[]> {
  const { bm25 } = index;
  if (bm25 === undefined) return {};
  const analyzer = analyzerOf(bm25.analyzer);
  const parsed = parseText(query, analyzer, false);
  const texts = new FieldTexts(bm25).of(payload);
  const found = bm25.fields.map(({ path }, i): [string, string[]] => [
    path,
    (texts[i] ?? []).flatMap((text) => highlight(text, parsed, analyzer, options)),
  ]);
  return Object.fromEntries(found.filter(([, fragments]) => fragments.length > 0));
}
