import { KithError } from "../base/index.js";
import type { SpanCollector } from "../telemetry/index.js";
import { filterFromJson, parseFilter, validateFilter } from "../filter/index.js";
import { emptyFloats, filterToWire, type pb } from "../wire/index.js";
import { toFloats } from "./columns.js";
import { wholeNumber } from "./decode.js";
import { idToWire } from "./ids.js";
import type { Session } from "./token.js";
import type { FilterInput, QueryInput, QueryResult, SelectOptions } from "./types.js";

const defaultLimit = 10;

export function selectToWire(options: SelectOptions | undefined): pb.Select {
  const { withPayload = true, withVectors = false } = options ?? {};
  if (typeof withVectors === "boolean") return { payload: withPayload, vectors: [], allVectors: withVectors };
  return { payload: withPayload, vectors: [...withVectors], allVectors: false };
}

export function queryToWire(collection: string, query: QueryInput, session: Session): pb.QueryRequest {
  const { vector, point, using = "", limit = defaultLimit, scoreThreshold, offset = 0 } = query;
  if ((vector === undefined) === (point === undefined)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `a query needs either "vector" or "point", and this one has ${vector === undefined ? "neither" : "both"}`,
    );
  }
  // 0 is "the default" on the wire, and nobody asks for no results on purpose.
  if (limit === 0) throw new KithError("LIMIT_OUT_OF_RANGE", "limit is 0; ask for at least one result");
  if (scoreThreshold !== undefined && !Number.isFinite(scoreThreshold)) {
    throw new KithError("INVALID_ARGUMENT", `scoreThreshold is ${scoreThreshold}; it must be a finite number`);
  }
  return {
    collection,
    vector: vector === undefined ? emptyFloats : toFloats(vector, using),
    using,
    limit: wholeNumber(limit, "limit"),
    select: selectToWire(query),
    ef: wholeNumber(query.ef ?? 0, "ef"),
    exact: query.exact ?? false,
    scoreThreshold,
    consistency: session.consistency(query.consistency),
    allowPartial: query.allowPartial ?? false,
    trace: query.trace ?? false,
    point: point === undefined ? undefined : idToWire(point),
    filter: filterOf(query.filter),
    prefetch: [],
    query: undefined,
    offset: wholeNumber(offset, "offset"),
    lookup: undefined,
  };
}

/** A filter as JSON or in its textual form, on the wire; INVALID_FILTER says what is wrong, and where. */
export function filterOf(filter: FilterInput | undefined): pb.Filter | undefined {
  if (filter === undefined) return undefined;
  const tree = typeof filter === "string" ? parseFilter(filter) : filterFromJson(filter);
  validateFilter(tree);
  return filterToWire(tree);
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
