/**
 * Adds the counts of `other` to those of `counts`, both of one source in the form of Istanbul, but through different compilers: these agree where a
 * statement begins, and not always where it ends. What only `other` has is left out: `counts` says what there is.
 */
export function addCounts(counts, other) {
  addByStart(counts.statementMap, counts.s, other.statementMap, other.s, (each) => each.start);
  addByStart(counts.fnMap, counts.f, other.fnMap, other.f, (each) => each.loc.start);
  const places = placesOf(counts.branchMap, keyOfBranch);
  for (const [id, branch] of Object.entries(other.branchMap)) {
    const mine = counts.b[places.get(keyOfBranch(branch))];
    const theirs = other.b[id];
    if (mine?.length === theirs.length) for (let i = 0; i < mine.length; i++) mine[i] += theirs[i];
  }
}

function addByStart(map, hits, otherMap, otherHits, startOf) {
  const places = placesOf(map, (each) => keyOf(startOf(each)));
  for (const [id, each] of Object.entries(otherMap)) {
    const mine = places.get(keyOf(startOf(each)));
    if (mine !== undefined) hits[mine] += otherHits[id];
  }
}

function placesOf(map, keyOfEach) {
  return new Map(Object.entries(map).map(([id, each]) => [keyOfEach(each), id]));
}

function keyOfBranch({ type, loc }) {
  return `${type} ${keyOf(loc.start)}`;
}

function keyOf({ line, column }) {
  return `${line}:${column}`;
}
