import { KithError } from "../../base/index.js";
import type { SnapshotWanted, TakenSnapshot } from "../../model/index.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { fromJson, storeFormat, type StoreState } from "./schema.js";

/** The content of an open replica as of now; the applier goes on. SHARD_UNAVAILABLE where it is not what is wanted. */
export async function takeSnapshot(replica: OpenReplica, wanted: SnapshotWanted): Promise<TakenSnapshot> {
  const { incarnation } = replica.identity;
  if (incarnation !== wanted.incarnation) {
    throw unfit(`it follows the log ${incarnation || "of nobody yet"}, not ${wanted.incarnation}`);
  }
  const store = replica.store.snapshot();
  try {
    const body = await store.getMeta("state");
    if (body === undefined) throw new KithError("CORRUPT_DATA", "the store has lost its state");
    const { appliedSequence, pointCount } = fromJson<StoreState>(body);
    if (appliedSequence < wanted.minSequence) {
      throw unfit(`it has applied ${appliedSequence} records, and ${wanted.minSequence} are needed`);
    }
    return {
      manifest: {
        format: storeFormat,
        incarnation,
        sequence: appliedSequence,
        pointCount,
        sizeBytes: await store.sizeBytes(),
        ...(wanted.withChanges && { withChanges: true }),
      },
      chunks: (after) => store.chunks(after, wanted.withChanges),
      close: () => store.close(),
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Why a snapshot is of no use to the one that asks. */
export function unfit(why: string): KithError {
  return new KithError("SHARD_UNAVAILABLE", `the replica cannot give a snapshot: ${why}`, { retryAfterMs: 1_000 });
}
