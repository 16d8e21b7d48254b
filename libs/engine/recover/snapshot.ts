import { KithError, toKithError } from "../../base/index.js";
import type { FilePlace, SnapshotBlock, SnapshotFile, SnapshotWanted, TakenSnapshot } from "../../model/index.js";
import { textOf } from "../replica/faults.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { GivenFiles } from "./given-files.js";
import { fromJson, storeFormat, type StoreIdentity, type StoreState } from "./schema.js";

/**
 * The content of an open replica as of now; the applier goes on. By its files, where that is wanted and can be done. SHARD_UNAVAILABLE where it is not what is wanted.
 *
 * @param checkpoint writes checkpoints of the indexes
 */
export async function takeSnapshot(
  replica: OpenReplica,
  wanted: SnapshotWanted,
  checkpoint: () => Promise<void>,
): Promise<TakenSnapshot> {
  checkFit(replica.identity.incarnation, replica.appliedSequence, wanted);
  // What is encrypted is so with keys of this store alone.
  if (wanted.takesFiles === true && replica.store.encryption === undefined) {
    try {
      return await takeFiles(replica, wanted, checkpoint);
    } catch (error) {
      if (replica.stopped.aborted || toKithError(error).code === "SHARD_UNAVAILABLE") throw error;
      const message = `a snapshot is given by its entries, since its files cannot be: ${textOf(error)}`;
      replica.context.onAlarm({ kind: "files_not_given", message });
    }
  }
  return takeEntries(replica, wanted);
}

async function takeFiles(
  replica: OpenReplica,
  wanted: SnapshotWanted,
  checkpoint: () => Promise<void>,
): Promise<TakenSnapshot> {
  const given = await GivenFiles.take(replica, checkpoint, ["identity", "state"]);
  try {
    const [identity, state] = [given.metas.get("identity"), given.metas.get("state")];
    if (identity === undefined || state === undefined)
      throw new KithError("CORRUPT_DATA", "the store has lost its state");
    const { incarnation, format } = fromJson<StoreIdentity>(identity);
    const { appliedSequence, pointCount } = fromJson<StoreState>(state);
    checkFit(incarnation, appliedSequence, wanted);
    return {
      manifest: {
        ...{ format, incarnation, sequence: appliedSequence, pointCount },
        ...{ sizeBytes: given.sizeBytes, withChanges: true, files: given.files },
      },
      chunks: nothing,
      blocks: (from) => given.blocks(from),
      close: () => given.close(),
    };
  } catch (error) {
    await given.close();
    throw error;
  }
}

/** The files of a replica as of one moment, with what it says of itself. Close it. */
export interface ReplicaFiles {
  incarnation: string;
  /** Of the store: storeFormat. */
  format: number;
  state: StoreState;
  /** As they are stored. */
  stateBody: Uint8Array;
  schemaBody: Uint8Array;
  files: readonly SnapshotFile[];
  sizeBytes: number;
  /** All files, or what follows a place. */
  blocks(from?: FilePlace): AsyncGenerator<SnapshotBlock>;
  /** Never rejects. */
  close(): Promise<void>;
}

/**
 * The files of an open replica as of now; the applier goes on. FAILED_PRECONDITION where it is encrypted, with keys of its own.
 *
 * @param checkpoint writes checkpoints of the indexes
 */
export async function takeReplicaFiles(replica: OpenReplica, checkpoint: () => Promise<void>): Promise<ReplicaFiles> {
  if (replica.store.encryption !== undefined) {
    throw new KithError("FAILED_PRECONDITION", "the files of an encrypted replica can be read with its own keys alone");
  }
  const given = await GivenFiles.take(replica, checkpoint, ["identity", "state", "schema"]);
  try {
    const [identity, stateBody, schemaBody] = ["identity", "state", "schema"].map((name) => given.metas.get(name));
    if (identity === undefined || stateBody === undefined || schemaBody === undefined)
      throw new KithError("CORRUPT_DATA", "the store has lost its state or its schema");
    const { incarnation, format } = fromJson<StoreIdentity>(identity);
    return {
      ...{ incarnation, format, state: fromJson<StoreState>(stateBody), stateBody, schemaBody },
      ...{ files: given.files, sizeBytes: given.sizeBytes },
      blocks: (from) => given.blocks(from),
      close: () => given.close(),
    };
  } catch (error) {
    await given.close();
    throw error;
  }
}

async function* nothing(): AsyncGenerator<never> {
  // Files come in the place of entries.
}

function checkFit(incarnation: string, appliedSequence: number, wanted: SnapshotWanted): void {
  if (incarnation !== wanted.incarnation) {
    throw unfit(`it follows the log ${incarnation || "of nobody yet"}, not ${wanted.incarnation}`);
  }
  if (appliedSequence < wanted.minSequence) {
    throw unfit(`it has applied ${appliedSequence} records, and ${wanted.minSequence} are needed`);
  }
}

async function takeEntries(replica: OpenReplica, wanted: SnapshotWanted): Promise<TakenSnapshot> {
  const { incarnation } = replica.identity;
  const store = replica.store.snapshot();
  try {
    const body = await store.getMeta("state");
    if (body === undefined) throw new KithError("CORRUPT_DATA", "the store has lost its state");
    const { appliedSequence, pointCount } = fromJson<StoreState>(body);
    checkFit(incarnation, appliedSequence, wanted);
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
