import { compareIds, type Hit } from "../model/index.js";

/** A value that points are grouped by. */
export type GroupValue = string | number | bigint;

export interface Group<T> {
  value: GroupValue;
  /** Best first. */
  hits: T[];
}

/**
 * The groups of hits that come best first. A point with several values is in several groups, one without a value in
 * none. Groups are in order of their best hit; where these tie, by value: numbers before text.
 *
 * @param valuesOf the values of a hit, each once
 * @param rankOf what tells how good a hit is, as numbers that differ where one hit is better: its score, unless said otherwise
 */
export function groupHits<T extends { hit: Hit }>(
  hits: readonly T[],
  valuesOf: (hit: T) => readonly GroupValue[],
  groupCount: number,
  groupSize: number,
  rankOf: (hit: Hit, place: number) => number = ({ score }) => score,
): Group<T>[] {
  const groups = new Map<GroupValue, Group<T> & { rank: number }>();
  for (const [place, hit] of hits.entries()) {
    for (const value of valuesOf(hit)) {
      const key = typeof value === "bigint" && BigInt(Number(value)) === value ? Number(value) : value;
      let group = groups.get(key);
      if (group === undefined) {
        group = { value: key, hits: [], rank: rankOf(hit.hit, place) };
        groups.set(key, group);
      }
      if (group.hits.length < groupSize) group.hits.push(hit);
    }
  }
  const sorted = [...groups.values()];
  const rankAt = (place: number): number | undefined => sorted[place]?.rank;
  // Stable: only groups whose best hits tie change places.
  for (let start = 0; start < sorted.length; ) {
    let end = start + 1;
    while (end < sorted.length && rankAt(end) === rankAt(start)) end++;
    const tied = sorted.slice(start, end).sort((a, b) => compareValues(a.value, b.value));
    sorted.splice(start, tied.length, ...tied);
    start = end;
  }
  return sorted.slice(0, groupCount).map(({ value, hits: inside }) => ({ value, hits: inside }));
}

/** Numbers before text, each in its order. */
export function compareValues(a: GroupValue, b: GroupValue): number {
  if (typeof a === "string" || typeof b === "string") {
    if (typeof a !== "string") return -1;
    if (typeof b !== "string") return 1;
    return Buffer.compare(Buffer.from(a), Buffer.from(b));
  }
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A point in an order by payload: of a value, ties by id. */
export interface Ordered {
  id: Hit["id"];
  value: number;
}

/** The first of several lists in one order, at most `limit`. */
export function mergeOrdered<T extends Ordered>(
  lists: readonly (readonly T[])[],
  direction: "ascending" | "descending",
  limit: number,
): T[] {
  const sign = direction === "ascending" ? 1 : -1;
  return lists
    .flat()
    .sort((a, b) => sign * (a.value - b.value) || compareIds(a.id, b.id))
    .slice(0, limit);
}

/** How often each value stands, over all shards: most first, ties by value. */
export function mergeFacets(
  lists: readonly (readonly { value: GroupValue | boolean; count: number }[])[],
  limit: number,
): { value: GroupValue | boolean; count: number }[] {
  const counts = new Map<GroupValue | boolean, number>();
  for (const { value, count } of lists.flat()) counts.set(value, (counts.get(value) ?? 0) + count);
  const rank = (value: GroupValue | boolean): GroupValue => (typeof value === "boolean" ? Number(value) : value);
  return Array.from(counts, ([value, count]) => ({ value, count }))
    .sort((a, b) => b.count - a.count || compareValues(rank(a.value), rank(b.value)))
    .slice(0, limit);
}
