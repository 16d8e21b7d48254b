import type { Analyzer } from "./analyzer.js";
import type { ParsedText } from "./parse.js";
import { editDistance } from "./distance.js";

export interface HighlightOptions {
  /** Before and after what was found. Default: "<em>" and "</em>". */
  before?: string;
  after?: string;
  /** About so many characters each. Default: 160. */
  fragmentLength?: number;
  /** At most. Default: 3. */
  fragmentCount?: number;
}

/** The parts of a text in which most of the query's terms stand, best first, with these marked. */
export function highlight(
  text: string,
  query: ParsedText,
  analyzer: Analyzer,
  options: HighlightOptions = {},
): string[] {
  const { before = "<em>", after = "</em>", fragmentLength = 160, fragmentCount = 3 } = options;
  const terms = query.clauses.flatMap(({ kind, terms: each }) => (kind === "mustNot" ? [] : each));
  const found = analyzer.placed(text).flatMap(({ token, start, end }) => {
    const term = terms.find(({ kind, text: wanted, distance }) => {
      if (kind === "prefix") return token.startsWith(wanted);
      return kind === "fuzzy" ? editDistance(wanted, token, distance) <= distance : token === wanted;
    });
    return term === undefined ? [] : [{ start, end, term }];
  });
  const fragments: { from: number; to: number; score: number; hits: typeof found }[] = [];
  for (let i = 0; i < found.length; ) {
    const first = found[i] as (typeof found)[number];
    const hits = found.slice(i).filter(({ end }) => end <= first.start + fragmentLength || end === first.end);
    const room = Math.max(0, fragmentLength - ((hits.at(-1)?.end ?? first.end) - first.start));
    const from = wordStart(text, Math.max(0, first.start - Math.floor(room / 2)), first.start);
    const to = wordEnd(text, Math.min(text.length, (hits.at(-1)?.end ?? first.end) + Math.ceil(room / 2)));
    fragments.push({ from, to, score: new Set(hits.map(({ term }) => term)).size, hits });
    i += hits.length;
  }
  fragments.sort((a, b) => b.score - a.score || a.from - b.from);
  return fragments.slice(0, fragmentCount).map(({ from, to, hits }) => {
    let marked = "";
    let at = from;
    for (const { start, end } of hits) {
      if (start < at) continue;
      marked += `${text.slice(at, start)}${before}${text.slice(start, end)}${after}`;
      at = end;
    }
    return marked + text.slice(at, to);
  });
}

function wordStart(text: string, from: number, most: number): number {
  let at = from;
  if (at > 0) while (at < most && !/\s/.test(text[at - 1] ?? " ")) at++;
  return at;
}

function wordEnd(text: string, to: number): number {
  let at = to;
  while (at < text.length && at < to + 20 && !/\s/.test(text[at] ?? " ")) at++;
  return at;
}
