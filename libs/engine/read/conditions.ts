import type { Condition, Filter, HasIdCondition, IdKey } from "../../model/index.js";

/** All conditions of a filter, those of filters within it among them. */
function* conditionsOf({ must, should, mustNot, minShould }: Filter): Generator<Condition> {
  for (const condition of [...must, ...should, ...mustNot, ...(minShould?.conditions ?? [])]) {
    yield condition;
    if (condition.kind === "filter" || condition.kind === "nested") yield* conditionsOf(condition.filter);
  }
}

/** Whether the test must know which vectors a point has. */
export function asksForVectors(filter: Filter): boolean {
  for (const { kind } of conditionsOf(filter)) if (kind === "hasVector") return true;
  return false;
}

/** The values of the partition key that conditions name, each once. */
export function namedPartitions(filter: Filter): string[] {
  const names = new Set<string>();
  for (const each of conditionsOf(filter)) if (each.kind === "partition") names.add(each.partition);
  return [...names];
}

/** The ids that conditions name. */
export function namedIds(filter: Filter): IdKey[] {
  const conditions = [...conditionsOf(filter)].filter((each): each is HasIdCondition => each.kind === "hasId");
  return conditions.flatMap(({ ids }) => ids);
}
