import type { RecallStatus, ReplicaStatus } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** What the active replicas of all shards know of the recall of queries that ask for one, by kind: each has measured on the data of its shard. */
export function recallsOf(replicas: readonly ReplicaStatus[]): pb.RecallStats[] {
  const kinds = new Map<string, RecallStatus[]>();
  for (const each of replicas.flatMap(({ recalls = [] }) => recalls)) {
    const key = `${each.field} ${each.k} ${each.share}`;
    const known = kinds.get(key);
    if (known === undefined) kinds.set(key, [each]);
    else known.push(each);
  }
  const kindsInOrder = [...kinds.values()].map(together);
  return kindsInOrder.sort((a, b) =>
    a.vector < b.vector ? -1 : a.vector > b.vector ? 1 : a.k - b.k || b.share - a.share,
  );
}

/** Each counts by its samples; the interval is that of a mean of independent ones. */
function together(known: readonly RecallStatus[]): pb.RecallStats {
  const [first] = known as readonly [RecallStatus];
  const samples = known.reduce((sum, each) => sum + each.samples, 0);
  const weightOf = (each: RecallStatus): number => (samples === 0 ? 1 / known.length : each.samples / samples);
  return {
    vector: first.field,
    k: first.k,
    share: first.share,
    target: Math.max(...known.map(({ target }) => target)),
    ef: Math.max(...known.map(({ ef }) => ef)),
    recall: known.reduce((sum, each) => sum + weightOf(each) * each.recall, 0),
    margin: Math.sqrt(known.reduce((sum, each) => sum + (weightOf(each) * each.margin) ** 2, 0)),
    samples,
    held: known.every(({ isHeld }) => isHeld),
  };
}
