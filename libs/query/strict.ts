import { sizeOfFilter } from "../filter/index.js";
import {
  checkStrict,
  checkStrictExact,
  type Expression,
  type Filter,
  type QueryStage,
  type StrictMode,
} from "../model/index.js";
import { operandsOf } from "./check.js";

/** COLLECTION_LIMIT for a query beyond what its collection allows, naming the node. `results`: those wanted, with the offset. */
export function checkStrictQuery(strict: StrictMode | undefined, stage: QueryStage, results: number): void {
  if (strict === undefined) return;
  const visit = (each: QueryStage, path: string, wanted: number, depth: number): void => {
    checkStrict(strict, "maxLimit", wanted, depth === 0 ? "limit + offset" : `${path}limit`);
    checkStrict(strict, "maxEf", each.ef, `${path}ef`);
    checkStrictExact(strict, each.exact, `${path}exact`);
    checkStrict(strict, "maxPrefetchDepth", depth, `the depth of ${path === "" ? "the query" : path.slice(0, -1)}`);
    checkStrictFilter(strict, each.filter, `${path}filter`);
    if (each.query?.kind === "formula")
      checkConditions(strict, each.query.formula.expression, `${path}query.formula.expression`);
    each.prefetch.forEach((inner, i) => visit(inner, `${path}prefetch[${i}].`, inner.limit, depth + 1));
  };
  visit(stage, "", results, 0);
}

/** COLLECTION_LIMIT for a filter with more conditions, or deeper, than its collection allows. */
export function checkStrictFilter(strict: StrictMode | undefined, filter: Filter | undefined, path: string): void {
  if (strict === undefined || filter === undefined) return;
  const { conditions, depth } = sizeOfFilter(filter);
  checkStrict(strict, "maxFilterConditions", conditions, `the number of conditions of ${path}`);
  checkStrict(strict, "maxFilterDepth", depth, `the depth of ${path}`);
}

function checkConditions(strict: StrictMode, node: Expression, path: string): void {
  if (node.kind === "condition") checkStrictFilter(strict, node.filter, `${path}.condition`);
  for (const [name, inner] of operandsOf(node)) checkConditions(strict, inner, `${path}.${name}`);
}
