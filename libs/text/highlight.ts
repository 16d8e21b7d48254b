import { KithError, setOwn } from "../base/index.js";
import type { Bm25Options, JsonObject } from "../model/index.js";
import { type Analyzer, analyzerOf, type PlacedToken } from "./analyzer.js";
import type { ParsedText, TextTerm } from "./parse.js";
import { editDistance } from "./distance.js";
import { FieldTexts } from "./texts.js";

export interface HighlightOptions {
  /** Before and after what was found. Default: "<em>" and "</em>". */
  before?: string;
  after?: string;
  /** About so many characters each. Default: 160. */
  fragmentLength?: number;
  /** At most. Default: 3. */
  fragmentCount?: number;
  /** Characters of the text that mean something in HTML are written as references (&lt; for <). Default: false. */
  escapeHtml?: boolean;
}

/** What was found, in UTF-16 units, and the term or phrase that it was found by. */
interface Hit {
  start: number;
  end: number;
  by: unknown;
}

interface Fragment {
  from: number;
  to: number;
  hits: Hit[];
}

/** A part begins and ends between words where one ends within so many characters. */
const wordMax = 20;

/**
 * By path, the parts of the texts of an index in which words of a query stand, with these marked; only of fields where some do.
 * INVALID_ARGUMENT as of `highlight`.
 */
export function highlightPayload(
  payload: JsonObject,
  query: ParsedText,
  { fields, analyzer: options }: Bm25Options,
  how: HighlightOptions = {},
): Record<string, string[]> {
  const analyzer = analyzerOf(options);
  const texts = new FieldTexts({ fields }).of(payload);
  const found: Record<string, string[]> = {};
  for (const [i, { path }] of fields.entries()) {
    const fragments = highlight(texts[i] ?? [], query, analyzer, how);
    if (fragments.length > 0) setOwn(found, path, fragments);
  }
  return found;
}

/**
 * The parts of the texts of a field in which most of the query's terms stand, best first, with these marked; none has what another one has. Words of a phrase are
 * marked where they stand in it. INVALID_ARGUMENT for lengths and counts that are no whole numbers above 0.
 */
export function highlight(
  texts: readonly string[],
  query: ParsedText,
  analyzer: Analyzer,
  options: HighlightOptions = {},
): string[] {
  const { before = "<em>", after = "</em>", fragmentLength = 160, fragmentCount = 3, escapeHtml = false } = options;
  check("fragmentLength", fragmentLength);
  check("fragmentCount", fragmentCount);
  const shown = escapeHtml ? escaped : (part: string): string => part;
  const score = ({ hits }: Fragment): number => new Set(hits.map(({ by }) => by)).size;
  // In the order of the texts, which sorting keeps.
  const scored = texts.flatMap((text) =>
    fragmentsOf(text, hitsOf(analyzer.placed(text), query), fragmentLength).map((fragment) => ({
      text,
      fragment,
      score: score(fragment),
    })),
  );
  scored.sort((a, b) => b.score - a.score);
  return scored.slice(0, fragmentCount).map(({ text, fragment: { from, to, hits } }) => {
    let marked = "";
    let at = from;
    for (let i = 0; i < hits.length; ) {
      const { start } = hits[i] as Hit;
      let { end } = hits[i++] as Hit;
      // What overlaps is one mark.
      for (let next = hits[i]; next !== undefined && next.start < end; next = hits[++i]) end = Math.max(end, next.end);
      marked += `${shown(text.slice(at, start))}${before}${shown(text.slice(start, end))}${after}`;
      at = end;
    }
    return marked + shown(text.slice(at, to));
  });
}

function check(name: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new KithError("INVALID_ARGUMENT", `${name} is ${value}; it must be a whole number of at least 1`, {
    details: { field: name, value },
  });
}

/** In the order of the text. */
function hitsOf(placed: readonly PlacedToken[], query: ParsedText): Hit[] {
  const { exact, others } = looseTerms(query);
  const byPlace = new Array<unknown>(placed.length);
  // A text has most of its words more than once.
  const known = new Map<string, unknown>();
  for (const [i, { token }] of placed.entries()) {
    if (!known.has(token)) {
      const like = others.find(({ kind, text: wanted, distance }) =>
        kind === "prefix" ? token.startsWith(wanted) : editDistance(wanted, token, distance) <= distance,
      );
      known.set(token, exact.get(token) ?? like);
    }
    byPlace[i] = known.get(token);
  }
  for (const phrase of query.phrases) {
    const { tokens, isExcluded } = phrase;
    if (isExcluded) continue;
    for (let i = 0; i + tokens.length <= placed.length; i++) {
      if (tokens.every((token, j) => token === placed[i + j]?.token)) {
        for (let j = 0; j < tokens.length; j++) byPlace[i + j] ??= tokens[j];
      }
    }
  }
  return placed.flatMap(({ start, end }, i) => (byPlace[i] === undefined ? [] : [{ start, end, by: byPlace[i] }]));
}

/** Terms that are looked for wherever they stand: those of phrases are clauses as well, which count once for each time that a phrase has them. */
function looseTerms({ clauses, phrases }: ParsedText): { exact: Map<string, TextTerm>; others: TextTerm[] } {
  const inPhrases = new Map<string, number>();
  for (const { tokens, isExcluded } of phrases) {
    if (!isExcluded) for (const token of tokens) inPhrases.set(token, (inPhrases.get(token) ?? 0) + 1);
  }
  const exact = new Map<string, TextTerm>();
  const others: TextTerm[] = [];
  for (const { kind, terms } of clauses) {
    if (kind === "mustNot") continue;
    for (const term of terms) {
      if (term.kind !== "term") others.push(term);
      else if (kind !== "must" || terms.length > 1 || term.boost !== inPhrases.get(term.text))
        exact.set(term.text, term);
    }
  }
  return { exact, others };
}

function fragmentsOf(text: string, hits: readonly Hit[], length: number): Fragment[] {
  const fragments: Fragment[] = [];
  let least = 0;
  for (let i = 0; i < hits.length; ) {
    const first = hits[i] as Hit;
    let { end } = first;
    let next = i + 1;
    for (let hit = hits[next]; hit !== undefined && hit.end <= first.start + length; hit = hits[++next]) {
      end = Math.max(end, hit.end);
    }
    const room = Math.max(0, length - (end - first.start));
    const from = wordStart(text, Math.max(least, first.start - Math.floor(room / 2)), first.start);
    let to = wordEnd(text, Math.min(text.length, end + Math.ceil(room / 2)));
    // What begins in it is marked in it.
    for (let hit = hits[next]; hit !== undefined && hit.start < to; hit = hits[++next]) to = Math.max(to, hit.end);
    fragments.push({ from, to, hits: hits.slice(i, next) });
    least = to;
    i = next;
  }
  return fragments;
}

function wordStart(text: string, from: number, most: number): number {
  const end = Math.min(most, from + wordMax);
  for (let at = from; at <= end; at++) if (at === 0 || isSpace(text, at - 1)) return at;
  return from < most && isInPair(text, from) ? from + 1 : from;
}

function wordEnd(text: string, to: number): number {
  const end = Math.min(text.length, to + wordMax);
  for (let at = to; at <= end; at++) if (at === text.length || isSpace(text, at)) return at;
  return isInPair(text, to) ? to + 1 : to;
}

function isSpace(text: string, at: number): boolean {
  return /\s/.test(text.charAt(at));
}

/** Whether the place is between both halves of a character beyond the first 65,536. */
function isInPair(text: string, at: number): boolean {
  return /[\udc00-\udfff]/.test(text.charAt(at)) && /[\ud800-\udbff]/.test(text.charAt(at - 1));
}

const references: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => references[character] ?? character);
}
