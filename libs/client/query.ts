import { KithError, type Random } from "../base/index.js";
import type { SpanCollector } from "../telemetry/index.js";
import { emptyFloats, type pb } from "../wire/index.js";
import { givenBoolean, givenList, givenNumber } from "./given.js";
import { vectorToWire } from "./vectors.js";
import { filterOf } from "./filter.js";
import { wholeNumber } from "./numbers.js";
import { idToWire } from "./ids.js";
import { onlyKeys } from "./only-keys.js";
import { highlightKeys } from "./option-keys.js";
import { partitionOf } from "./partition.js";
import { expressionOfQuery, lookupToWire, prefetchToWire, textToWire } from "./query-tree.js";
import type { Session } from "./token.js";
import { wellFormed } from "./well-formed.js";
import type { SelectOptions } from "./types/points.js";
import type { HighlightInput, QueryInput, QueryOptions, QueryResult } from "./types/queries.js";

const defaultLimit = 10;

export function selectToWire(options: SelectOptions | undefined): pb.Select {
  const { withPayload = true, withVectors = false } = options ?? {};
  const all = withVectors === true;
  const isList: boolean = Array.isArray(withVectors);
  if (typeof withVectors !== "boolean" && !isList) {
    throw new KithError("INVALID_ARGUMENT", "withVectors is neither true or false nor an array of names", {
      details: { field: "withVectors" },
    });
  }
  const vectors = typeof withVectors === "boolean" ? [] : [...withVectors];
  const select: pb.Select = { payload: withPayload !== false, vectors, allVectors: all, include: [], exclude: [] };
  if (typeof withPayload === "boolean") return select;
  onlyKeys(withPayload, ["include", "exclude"], "withPayload");
  if ("include" in withPayload) {
    select.include = givenList(withPayload.include, "withPayload.include").map((path, i) =>
      wellFormed(path, `withPayload.include[${i}]`),
    );
    // Nothing is included; on the wire an empty list is the whole payload.
    if (select.include.length === 0) select.payload = false;
  } else {
    select.exclude = givenList(withPayload.exclude, "withPayload.exclude").map((path, i) =>
      wellFormed(path, `withPayload.exclude[${i}]`),
    );
  }
  return select;
}

const queryKeys = [
  "query",
  "prefetch",
  "lookup",
  "vector",
  "sparse",
  "point",
  "limit",
  "offset",
  "filter",
  "using",
  "ef",
  "recallTarget",
  "exact",
  "exactScores",
  "oversampling",
  "rescore",
  "highlight",
  "scoreThreshold",
  "consistency",
  "partition",
  "allowPartial",
  "trace",
  "explain",
  "withPayload",
  "withVectors",
  "signal",
  "deadlineMs",
] as const satisfies readonly (keyof QueryOptions)[];

/**
 * A query of the SDK on the wire.
 *
 * @param moreKeys options of the caller that are no part of the query, for the error that lists what is known
 */
export function queryToWire(
  collection: string,
  query: QueryInput,
  session: Session,
  moreKeys: readonly string[] = [],
): pb.QueryRequest {
  onlyKeys(query, queryKeys, "query", moreKeys);
  const { vector, sparse, point, prefetch = [], using = "", limit = defaultLimit, offset = 0 } = query;
  const { scoreThreshold } = query;
  const given = [vector, sparse, point, query.query].filter((each) => each !== undefined).length;
  if (given !== 1) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `a query needs either "vector" or "sparse" or "point" or "query", and this one has ${given === 0 ? "none" : "more than one"}`,
    );
  }
  const expression = sparse === undefined ? query.query : { nearest: sparse };
  // 0 is "the default" on the wire, and nobody asks for no results on purpose.
  if (limit === 0) throw new KithError("LIMIT_OUT_OF_RANGE", "limit is 0; ask for at least one result");
  if (scoreThreshold !== undefined) givenNumber(scoreThreshold, "scoreThreshold");
  const { values, rows }: pb.Vector =
    vector === undefined ? { values: emptyFloats, indices: [] } : vectorToWire(vector, using);
  return {
    collection,
    vector: values,
    ...(rows !== undefined && { vectorRows: rows }),
    using: wellFormed(using, "using"),
    limit: wholeNumber(limit, "limit"),
    select: selectToWire(query),
    ef: wholeNumber(query.ef ?? 0, "ef"),
    exact: givenBoolean(query.exact ?? false, "exact"),
    scoreThreshold,
    consistency: session.consistency(query.consistency),
    allowPartial: givenBoolean(query.allowPartial ?? false, "allowPartial"),
    trace: givenBoolean(query.trace ?? false, "trace"),
    point: point === undefined ? undefined : idToWire(point),
    filter: filterOf(query.filter),
    prefetch: givenList(prefetch, "prefetch").map((each, i) => prefetchToWire(each, `prefetch[${i}]`)),
    query: expression === undefined ? undefined : expressionOfQuery(expression, using, "query"),
    offset: wholeNumber(offset, "offset"),
    lookup: lookupToWire(query.lookup, "lookup"),
    explain: givenBoolean(query.explain ?? false, "explain"),
    exactScores: givenBoolean(query.exactScores ?? false, "exactScores"),
    oversampling: query.oversampling === undefined ? 0 : givenNumber(query.oversampling, "oversampling"),
    ...(query.rescore !== undefined && { rescore: givenBoolean(query.rescore, "rescore") }),
    ...(query.recallTarget !== undefined && { recallTarget: givenNumber(query.recallTarget, "recallTarget") }),
    ...(query.highlight !== undefined && query.highlight !== false && { highlight: highlightToWire(query.highlight) }),
    ...partitionOf(query),
  };
}

function highlightToWire(given: true | HighlightInput): pb.Highlight {
  const options = given === true ? {} : given;
  onlyKeys(options, highlightKeys, "highlight");
  const { text, using = "", fields = [], before, after, fragmentLength, fragmentCount, escapeHtml = false } = options;
  return {
    text: text === undefined ? undefined : textToWire(text, "highlight.text"),
    using: wellFormed(using, "highlight.using"),
    fields: givenList(fields, "highlight.fields").map((path, i) => wellFormed(path, `highlight.fields[${i}]`)),
    ...(before !== undefined && { before: wellFormed(before, "highlight.before") }),
    ...(after !== undefined && { after: wellFormed(after, "highlight.after") }),
    fragmentLength: sizeOf(fragmentLength, "highlight.fragmentLength"),
    fragmentCount: sizeOf(fragmentCount, "highlight.fragmentCount"),
    escapeHtml: givenBoolean(escapeHtml, "highlight.escapeHtml"),
  };
}

/** 0, "the default" on the wire, is nothing that anybody asks for. */
function sizeOf(value: number | undefined, name: string): number {
  if (value === 0)
    throw new KithError("LIMIT_OUT_OF_RANGE", `${name} is 0; ask for at least 1`, { details: { field: name } });
  return wholeNumber(value ?? 0, name);
}

/** The beginning of a trace that is to be recorded: https://www.w3.org/TR/trace-context */
export function newTraceparent(random: Random): string {
  return `00-${random.bytes(16).toString("hex")}-${random.bytes(8).toString("hex")}-01`;
}

/** Puts the client's spans above the server's, whose roots have no parent where no context came with the query. */
export function withClientSpans<P>(result: QueryResult<P>, collector: SpanCollector): QueryResult<P> {
  // Spans are collected as they end: the last one is around all others.
  const own = [...collector.spans].reverse();
  const root = own[0];
  if (root === undefined) return result;
  const known = new Set([...own, ...result.trace].map((span) => span.spanId));
  const below = [...own.slice(1), ...result.trace].map((span) =>
    known.has(span.parentSpanId) ? span : { ...span, parentSpanId: root.spanId },
  );
  return { ...result, trace: [{ ...root, parentSpanId: "" }, ...below] };
}
