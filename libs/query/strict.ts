import { KithError } from "../base/index.js";
import { sizeOfFilter, unindexedConditions } from "../filter/index.js";
import {
  checkStrict,
  checkStrictExact,
  type Collection,
  type Expression,
  type Filter,
  type QueryStage,
  strictLimitName,
} from "../model/index.js";
import { operandsOf } from "./check.js";

/** What a collection allows, and what it has an index of. */
type Allowing = Pick<Collection, "strictMode" | "payloadIndexes">;

/** COLLECTION_LIMIT for a query beyond what its collection allows, naming the node. `results`: those wanted, with the offset. */
export function checkStrictQuery(collection: Allowing, stage: QueryStage, results: number): void {
  const { strictMode: strict } = collection;
  if (strict === undefined) return;
  const visit = (each: QueryStage, path: string, wanted: number, depth: number): void => {
    checkStrict(strict, "maxLimit", wanted, depth === 0 ? "limit + offset" : `${path}limit`);
    checkStrict(strict, "maxEf", each.ef, `${path}ef`);
    checkStrictExact(strict, each.exact, `${path}exact`);
    checkStrict(strict, "maxPrefetchDepth", depth, `the depth of ${path === "" ? "the query" : path.slice(0, -1)}`);
    checkStrictFilter(collection, each.filter, `${path}filter`);
    if (each.query?.kind === "formula")
      checkConditions(collection, each.query.formula.expression, `${path}query.formula.expression`);
    each.prefetch.forEach((inner, i) => visit(inner, `${path}prefetch[${i}].`, inner.limit, depth + 1));
  };
  visit(stage, "", results, 0);
}

/**
 * COLLECTION_LIMIT for a filter that selects points with more conditions, or deeper, than its collection allows, or with conditions that need an
 * index and have none.
 */
export function checkStrictFilter(collection: Allowing, filter: Filter | undefined, path: string): void {
  if (collection.strictMode === undefined || filter === undefined) return;
  checkStrictCondition(collection, filter, path);
  if (collection.strictMode.refuseUnindexed !== true) return;
  const [first] = unindexedConditions(filter, collection.payloadIndexes, path);
  if (first === undefined) return;
  const limit = strictLimitName("refuseUnindexed");
  const kinds = first.kinds.join(", ");
  throw new KithError(
    "COLLECTION_LIMIT",
    `${first.at} is a condition on "${first.path}", of which there is no index that answers it; this collection allows none (${limit}): create an index of "${first.path}" of one of the kinds ${kinds}`,
    { details: { limit, path: first.at, field: first.path, kinds } },
  );
}

/** As `checkStrictFilter`, for a filter that is tested on points that are read anyway: it needs no index. */
export function checkStrictCondition(
  { strictMode: strict }: Pick<Collection, "strictMode">,
  filter: Filter | undefined,
  path: string,
): void {
  if (strict === undefined || filter === undefined) return;
  const { conditions, depth } = sizeOfFilter(filter);
  checkStrict(strict, "maxFilterConditions", conditions, `the number of conditions of ${path}`);
  checkStrict(strict, "maxFilterDepth", depth, `the depth of ${path}`);
}

function checkConditions(collection: Allowing, node: Expression, path: string): void {
  if (node.kind === "condition") checkStrictCondition(collection, node.filter, `${path}.condition`);
  for (const [name, inner] of operandsOf(node)) checkConditions(collection, inner, `${path}.${name}`);
}
