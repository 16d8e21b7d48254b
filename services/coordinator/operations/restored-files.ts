import type { BackupRecord } from "../../../libs/backup/index.js";
import { type ErrorCode, KithError, sleep } from "../../../libs/base/index.js";
import type { Operation } from "../../../libs/cluster/index.js";
import type { Collection, ReplicaStatus, ShardPlacement } from "../../../libs/model/index.js";
import type { OperationContext, Outcome } from "./machine.js";

type Restore = Operation<"restore_collection">;

/** What no further attempt can change. */
export const hopeless: readonly ErrorCode[] = [
  "CORRUPT_DATA",
  "NOT_FOUND",
  "FAILED_PRECONDITION",
  "INVALID_ARGUMENT",
  "UNIMPLEMENTED",
];

/** How often replicas are asked how far they are. */
const pollMs = 100;

/** How far a shard is. */
interface ShardProgress {
  isWhole: boolean;
  points: number;
  bytes: number;
}

/**
 * The replicas of a collection that is restored by files copy these by themselves, each on its node, as they would copy another replica. The step waits for
 * all whose nodes are up, and for one of each shard at least, and compares what they say that they hold with the backup.
 */
export async function awaitFiles(
  { id, data }: Restore,
  record: Collection,
  backup: BackupRecord,
  context: OperationContext,
): Promise<Outcome<"restore_collection">> {
  const { backups, clock, collections } = context;
  const looked = await backups.jobs.look(id, data, async ({ signal, keep }) => {
    for (;;) {
      // Replicas are moved meanwhile. Of a collection that is gone the next step knows.
      const found = collections.get(record.name)?.value;
      const present = found?.id === record.id ? found : record;
      const shards = await Promise.all(present.shards.map((shard) => lookAt(shard, record, backup, context)));
      const [points, bytes] = [sumOf(shards.map((each) => each.points)), sumOf(shards.map((each) => each.bytes))];
      keep({ ...data, progress: { points, bytes, totalPoints: backup.pointCount } });
      if (shards.every(({ isWhole }) => isWhole)) return;
      await sleep(clock, pollMs, signal);
    }
  });
  return { kind: "next", step: looked.isDone ? "open" : "feed", data: looked.state };
}

async function lookAt(
  { shard, replicas }: ShardPlacement,
  { id: collectionId, restoring }: Collection,
  { parts }: BackupRecord,
  { backups, statusOf }: OperationContext,
): Promise<ShardProgress> {
  const part = parts.find((each) => each.shard === restoring?.parts?.[shard]?.shard);
  if (part === undefined) throw new KithError("NOT_FOUND", `the backup has no part for shard ${shard}`);
  const up = replicas.filter(({ node }) => backups.nodes.stateOf(node) === "up");
  const found: ShardProgress = { isWhole: up.length > 0, points: 0, bytes: 0 };
  const statuses = await Promise.all(
    up.map(({ node }) => statusOf(node, { collectionId, shard }).catch(() => undefined)),
  );
  for (const [i, status] of statuses.entries()) {
    const isThere = status !== undefined && has(status, part, `the replica of shard ${shard} on ${up[i]?.node}`);
    const { copiedBytes = 0, totalBytes = 0 } = status?.copy ?? {};
    const points = isThere ? part.pointCount : Math.floor((part.pointCount * copiedBytes) / Math.max(1, totalBytes));
    found.isWhole &&= isThere;
    found.points = Math.max(found.points, points);
    found.bytes = Math.max(found.bytes, isThere ? part.sizeBytes : copiedBytes);
  }
  return found;
}

/** Whether the replica has taken the files. Throws where it never will, or holds something else. */
function has(status: ReplicaStatus, part: BackupRecord["parts"][number], what: string): boolean {
  const { state, appliedSequence, pointCount, digest, fault, faultCode } = status;
  if (faultCode !== undefined && hopeless.includes(faultCode)) throw new KithError(faultCode, `${what}: ${fault}`);
  if (state !== "active" || appliedSequence < part.sequence) return false;
  // Points that expire are removed by further records.
  const isSame = appliedSequence > part.sequence || (pointCount === part.pointCount && digest === part.digest);
  if (isSame) return true;
  throw new KithError(
    "CORRUPT_DATA",
    `${what} holds ${pointCount} points with the digest ${digest}; the backup has ${part.pointCount} with ${part.digest}`,
  );
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, each) => sum + each, 0);
}
