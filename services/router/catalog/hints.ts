import type { PayloadIndex, ReplicaStatus, UnindexedField } from "../../../libs/model/index.js";
import { type pb, unindexedFieldTo } from "../../../libs/wire/index.js";

/** Fields without an index that are told of. */
const fieldsMax = 64;

/**
 * What the active replicas of all shards know of the use of payload indexes, as hints for the collection. A filter asks one replica of each shard:
 * conditions are summed up over the replicas of a shard, and the shard with the most tells how many there were.
 */
export function hintsOf(
  indexes: readonly PayloadIndex[],
  shards: readonly (readonly ReplicaStatus[])[],
): Pick<pb.CollectionStatsResponse, "unindexedFields" | "unusedIndexes"> {
  const fields = new Map<string, UnindexedField>();
  for (const replicas of shards) {
    const ofShard = new Map<string, UnindexedField>();
    for (const field of replicas.flatMap(({ unindexedFields }) => unindexedFields)) {
      const known = ofShard.get(field.path);
      ofShard.set(field.path, { ...field, count: field.count + (known?.count ?? 0) });
    }
    for (const [path, field] of ofShard) if (field.count > (fields.get(path)?.count ?? 0)) fields.set(path, field);
  }
  const unused = indexes.flatMap(({ path }): pb.UnusedIndex[] => {
    const said = shards.flat().flatMap(({ payloadIndexes }) => payloadIndexes.filter((index) => index.path === path));
    // As long as all that are there have counted.
    const sinceMs = Math.max(0, ...said.map(({ countedSinceMs }) => countedSinceMs));
    return said.length === 0 || said.some(({ useCount }) => useCount > 0) ? [] : [{ path, since: new Date(sinceMs) }];
  });
  return {
    unindexedFields: [...fields.values()]
      .sort((a, b) => b.count - a.count || (a.path < b.path ? -1 : 1))
      .slice(0, fieldsMax)
      .map(unindexedFieldTo),
    unusedIndexes: unused,
  };
}
