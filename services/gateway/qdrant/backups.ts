import { createHash } from "node:crypto";
import { KithError, sleep } from "../../../libs/base/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, isTrue, tell } from "./api.js";

/*
 * Snapshots are Kith's backups, where the server keeps those that name no place.
 */

export const service = pb.BackupsService;
export const here = "";
const pollMs = 50;

/** Of snapshots it is the other way around than of writes: who says nothing waits. */
export function isWaiting({ params }: Ask): boolean {
  const wait = params.get("wait");
  return wait === undefined || isTrue(wait, "wait");
}

/** Begins a full backup. */
export function begin(ask: Ask, collection: string, group?: pb.BackupGroup): Promise<pb.CreateBackupResponse> {
  return tell(ask, service.create, { collection, location: here, full: true, maxBytesPerSecond: 0, group });
}

/** Of one collection, or of all; of one group, or of whichever and none. Newest first. */
export async function listed(ask: Ask, of: { collection?: string; group?: string }): Promise<pb.Backup[]> {
  const { collection = "", group = "" } = of;
  return (await tell(ask, service.list, { location: here, collection, group })).backups;
}

export function createdAt({ endedAt, startedAt }: pb.Backup): string | undefined {
  return (endedAt ?? startedAt)?.toISOString().slice(0, 19);
}

/** SHA-256, in hexadecimal, of what backups hold by the digests of their shards: they are no file that could have one. */
export function checksumOf(...backups: readonly pb.Backup[]): string {
  const hash = createHash("sha256");
  for (const { id, collectionId, shards } of backups) {
    hash.update(`${id} ${collectionId}`);
    for (const { shard, firstSlot, lastSlot, sequence, digest } of shards) {
      hash.update(`\n${shard} ${firstSlot} ${lastSlot} ${sequence} ${digest}`);
    }
  }
  return hash.digest("hex");
}

/** INVALID_ARGUMENT where a caller expects another one. */
export function compareChecksum(snapshot: string, found: string, expected: string): void {
  if (found === expected) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `Snapshot checksum mismatch: expected ${expected}, the snapshot ${snapshot} has ${found}`,
    { details: { field: "checksum" } },
  );
}

/** Resolves when the operation is done. FAILED_PRECONDITION where it failed or was cancelled. */
export async function ended(ask: Ask, id: string): Promise<void> {
  for (;;) {
    const { operation } = await tell(ask, pb.ClusterService.getOperation, { id });
    if (operation === undefined || operation.state === "done") return;
    if (operation.state === "failed" || operation.state === "cancelled") {
      throw new KithError("FAILED_PRECONDITION", `the operation ${id} ${operation.state}: ${operation.error}`);
    }
    await sleep(ask.call.clock, pollMs, ask.call.signal);
  }
}
