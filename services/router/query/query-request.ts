import { KithError, limits } from "../../../libs/base/index.js";
import { validateFilter } from "../../../libs/filter/index.js";
import {
  checkRecallTarget,
  type Collection,
  type Expression,
  type IdKey,
  type Path,
  type Query,
  type QueryStage,
  type QueryTree,
  readPath,
  type Select,
} from "../../../libs/model/index.js";
import {
  filterFromWire,
  lookupFromWire,
  type pb,
  type QueryReaders,
  queryFromWire,
  stageFromWire,
} from "../../../libs/wire/index.js";
import { keyOf } from "../ids.js";
import { secondsOf } from "./collection-source.js";

/** An id as points are stored under it. */
type Stored = (id: IdKey) => IdKey;

/** Whether a request asks for more than the nearest vectors, of the whole collection or of what passes a filter. */
export function isTree({ prefetch, query, offset, lookup, highlight }: pb.QueryRequest): boolean {
  return query !== undefined || highlight !== undefined || lookup !== undefined || offset !== 0 || prefetch.length > 0;
}

/** A path into payloads; INVALID_ARGUMENT names where it stood. */
export function pathAt(text: string, where: string): Path {
  const path = readPath(text);
  if ("steps" in path) return path;
  throw new KithError(
    "INVALID_ARGUMENT",
    `${where} ${JSON.stringify(text.slice(0, limits.pathLength))} is not valid: ${path.problem}, at character ${path.at + 1}`,
    { details: { path: where, character: path.at + 1 } },
  );
}

/** The request as a tree of stages; INVALID_ARGUMENT, INVALID_ID and INVALID_FILTER name the node at fault. */
export function treeOf(request: pb.QueryRequest, select: Select, stored: Stored): QueryTree {
  const readers: QueryReaders = { idOf: (id, where) => stored(keyOf(id, where)), secondsOf };
  const { using, limit, offset, ef, exact, scoreThreshold } = request;
  return {
    prefetch: request.prefetch.map((each, i) => stageFromWire(each, readers, `prefetch[${i}].`)),
    query: queryOf(request, readers),
    using,
    filter: request.filter && filterFromWire(request.filter),
    limit,
    offset,
    scoreThreshold,
    ef,
    exact,
    lookup: lookupFromWire(request.lookup),
    select,
  };
}

function queryOf({ vector, point, query }: pb.QueryRequest, readers: QueryReaders): Query {
  if ([vector.length > 0, point !== undefined, query !== undefined].filter(Boolean).length > 1) {
    throw new KithError("INVALID_ARGUMENT", "the query has more than one of vector, point and query; give one of them");
  }
  if (query !== undefined) return queryFromWire(query, readers, "query");
  if (point !== undefined)
    return { kind: "nearest", example: { kind: "point", id: readers.idOf(point, () => "point") } };
  if (vector.length > 0) return { kind: "nearest", example: { kind: "vector", vector } };
  throw new KithError("INVALID_ARGUMENT", "the query has none of vector, point and query; give one of them");
}

/** Refuses filters that cannot be used, wherever they stand. */
export function checkFilters(stage: QueryStage, path: string): void {
  if (stage.filter !== undefined) validateFilter(stage.filter, `${path}filter`);
  if (stage.query?.kind === "formula")
    checkExpression(stage.query.formula.expression, `${path}query.formula.expression`);
  stage.prefetch.forEach((each, i) => checkFilters(each, `${path}prefetch[${i}].`));
}

function checkExpression(node: Expression, path: string): void {
  switch (node.kind) {
    case "condition":
      return validateFilter(node.filter, `${path}.condition`);
    case "sum":
    case "product":
    case "max":
    case "min":
      return node.operands.forEach((operand, i) => checkExpression(operand, `${path}.${node.kind}[${i}]`));
    case "negate":
    case "absolute":
    case "sqrt":
    case "exp":
    case "ln":
    case "log10":
    case "acosh":
      return checkExpression(node.operand, `${path}.${node.kind}`);
    case "divide":
      checkExpression(node.left, `${path}.divide.left`);
      return checkExpression(node.right, `${path}.divide.right`);
    case "power":
      checkExpression(node.base, `${path}.power.base`);
      return checkExpression(node.exponent, `${path}.power.exponent`);
    case "linearDecay":
    case "exponentialDecay":
    case "gaussDecay":
      checkExpression(node.x, `${path}.${node.kind}.x`);
      if (node.target !== undefined) checkExpression(node.target, `${path}.${node.kind}.target`);
      return;
    default:
  }
}

/** Results of a query that names no limit; at least the smallest of what the server takes for it. */
export const defaultResults = 10;

/** The recall that the query asks for, or the collection does for it. LIMIT_OUT_OF_RANGE. */
export function recallTargetOf(
  { recallTarget: ofCollection }: Collection,
  { recallTarget, ef, exact }: Pick<pb.QueryRequest, "recallTarget" | "ef" | "exact">,
): number | undefined {
  if (recallTarget === undefined) return ef > 0 || exact ? undefined : ofCollection;
  checkRecallTarget(recallTarget, "recall_target");
  return exact ? undefined : recallTarget;
}
