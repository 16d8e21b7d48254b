import { abortReason, type Clock, KithError, limits } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { parsePayload } from "../../../libs/filter/index.js";
import type { Bm25Options, Collection, Hit, QueryStage, TextQuery } from "../../../libs/model/index.js";
import {
  analyzerOf,
  highlightPayload,
  type HighlightOptions,
  parseText,
  type ParsedText,
} from "../../../libs/text/index.js";
import { type pb, textQueryFrom } from "../../../libs/wire/index.js";
import { bm25IndexOf } from "./text-statistics.js";

/** What is marked in the payloads of results, and how. */
export interface Highlighting {
  words: ParsedText;
  /** The index, with the fields that are wanted alone. */
  index: Bm25Options;
  options: HighlightOptions;
  /** Whether the payloads come back too. */
  keepsPayload: boolean;
}

/** UTF-8 of payloads after which others have the event loop. */
const turnBytes = 64 * 1024;
const noPayload = new Uint8Array(0);

/**
 * What the request says is to be marked; `limit`: results that it may have. INVALID_ARGUMENT for a text, an index or fields that there are not,
 * LIMIT_OUT_OF_RANGE.
 */
export function highlightingOf(
  collection: Collection,
  { highlight }: Pick<pb.QueryRequest, "highlight">,
  stage: QueryStage,
  limit: number,
  keepsPayload: boolean,
): Highlighting | undefined {
  if (highlight === undefined) return undefined;
  inRange("limit of a query with highlight", limit, limits.highlightResults);
  const { text, using } = wordsOf(highlight, stage);
  const { bm25 } = bm25IndexOf(collection, using);
  const words = parseText(text.text, analyzerOf(text.analyzer ?? bm25.analyzer), text.plain);
  const loose = words.clauses.flatMap(({ terms }) => terms).filter(({ kind }) => kind !== "term").length;
  inRange("number of words with * or ~ of highlight", loose, limits.highlightWords);
  const { fields, before = "<em>", after = "</em>", escapeHtml } = highlight;
  for (const [name, mark] of [
    ["before", before],
    ["after", after],
  ] as const)
    inRange(`length of highlight.${name}`, mark.length, limits.highlightMarkLength);
  const fragmentLength = highlight.fragmentLength === 0 ? 160 : highlight.fragmentLength;
  const fragmentCount = highlight.fragmentCount === 0 ? 3 : highlight.fragmentCount;
  inRange("highlight.fragment_length", fragmentLength, limits.highlightLength);
  inRange("highlight.fragment_count", fragmentCount, limits.highlightFragments);
  return {
    words,
    index: { ...bm25, fields: chosen(bm25, fields) },
    options: { before, after, fragmentLength, fragmentCount, escapeHtml },
    keepsPayload,
  };
}

function inRange(what: string, value: number, max: number): void {
  if (value <= max) return;
  throw new KithError("LIMIT_OUT_OF_RANGE", `the ${what} is ${value}; it must be at most ${max}`, {
    details: { field: what.split(" ").at(-1) ?? what, value, max },
  });
}

function wordsOf({ text, using }: pb.Highlight, stage: QueryStage): { text: TextQuery; using: string } {
  if (text !== undefined) return { text: textQueryFrom(text, "highlight.text"), using };
  const texts = new Map(textsOf(stage).map((each) => [JSON.stringify(each.text), each]));
  const [only] = texts.values();
  if (only === undefined)
    throw wrong("highlight.text", "is missing, and the query has no text: say which words to mark");
  if (texts.size > 1)
    throw wrong("highlight.text", `is missing, and the query has ${texts.size} texts: say which words to mark`);
  return { text: only.text, using: using === "" ? only.using : using };
}

function textsOf({ query, using, prefetch }: QueryStage): { text: TextQuery; using: string }[] {
  const own = query?.kind === "text" ? [{ text: query.text, using }] : [];
  return [...own, ...prefetch.flatMap(textsOf)];
}

function chosen({ fields }: Bm25Options, wanted: readonly string[]): Bm25Options["fields"] {
  if (wanted.length === 0) return fields;
  for (const [i, path] of wanted.entries()) {
    if (fields.some((field) => field.path === path)) continue;
    const known = fields.map((field) => `"${field.path}"`).join(", ");
    throw wrong(`highlight.fields[${i}]`, `"${path.slice(0, 64)}" is no field of the index; it has ${known}`);
  }
  return fields.filter(({ path }) => wanted.includes(path));
}

function wrong(path: string, what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `${path} ${what}`, { details: { path } });
}

/** The hits with what is marked in their payloads, made in turns of the event loop. LIMIT_OUT_OF_RANGE where that is too much for one answer. */
export async function highlighted(
  hits: readonly Hit[],
  { words, index, options, keepsPayload }: Highlighting,
  { cancellation, signal }: CallContext,
  clock: Clock,
): Promise<Hit[]> {
  const marked: Hit[] = [];
  let sizeUnits = 0;
  let readBytes = 0;
  for (const hit of hits) {
    const { payload } = hit;
    const highlights = payload.length === 0 ? {} : highlightPayload(parsePayload(payload), words, index, options);
    for (const fragments of Object.values(highlights)) for (const each of fragments) sizeUnits += each.length;
    if (sizeUnits > limits.highlightAnswer) {
      throw new KithError(
        "LIMIT_OUT_OF_RANGE",
        `the marked parts of the texts have more than ${limits.highlightAnswer} characters; ask for fewer results, or for fewer and shorter fragments`,
        { details: { field: "highlight", max: limits.highlightAnswer } },
      );
    }
    marked.push({ ...hit, payload: keepsPayload ? payload : noPayload, highlights });
    readBytes += payload.length;
    if (readBytes < turnBytes) continue;
    readBytes = 0;
    await new Promise<void>((resolve) => clock.soon(resolve));
    const cancelled = cancellation ?? signal;
    if (cancelled?.aborted) throw abortReason(cancelled);
  }
  return marked;
}
