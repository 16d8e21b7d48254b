import type { Condition, Filter } from "../model/index.js";

/** Conditions of a filter with those of filters within it, and how deep these are: 1 for one without any. */
export function sizeOfFilter(filter: Filter): { conditions: number; depth: number } {
  let conditions = 0;
  let depth = 0;
  const visit = ({ must, should, mustNot, minShould }: Filter, level: number): void => {
    depth = Math.max(depth, level);
    for (const condition of [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])]) {
      conditions++;
      const inner = innerOf(condition);
      if (inner !== undefined) visit(inner, level + 1);
    }
  };
  visit(filter, 1);
  return { conditions, depth };
}

function innerOf(condition: Condition): Filter | undefined {
  return condition.kind === "filter" || condition.kind === "nested" ? condition.filter : undefined;
}
