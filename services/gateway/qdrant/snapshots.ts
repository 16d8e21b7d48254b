import { createHash } from "node:crypto";
import { KithError, sleep } from "../../../libs/base/index.js";
import type { JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, isTrue, type Operation, tell, unimplemented } from "./api.js";
import { accepted, InvalidValue, optional, type Reply, required, textOf } from "./values.js";

/*
 * Snapshots are Kith's backups, where the server keeps those that name no place. Their names are the ids of the backups.
 */

const service = pb.BackupsService;
const pollMs = 50;
const here = "";

/** Unless the caller does not wait, it is answered when it is there. */
export const createSnapshot: Operation = async (ask) => {
  const { name } = await describe(ask);
  const { id, operation } = await tell(ask, service.create, {
    collection: name,
    location: here,
    full: true,
    maxBytesPerSecond: 0,
  });
  if (!isWaiting(ask)) return accepted;
  await ended(ask, operation);
  const found = (await backupsOf(ask, name)).find((each) => each.id === id);
  return found === undefined ? { name: id, size: 0 } : printBackup(found);
};

/** Of snapshots it is the other way around than of writes: who says nothing waits. */
function isWaiting({ params }: Ask): boolean {
  const wait = params.get("wait");
  return wait === undefined || isTrue(wait, "wait");
}

async function backupsOf(ask: Ask, collection: string): Promise<pb.Backup[]> {
  return (await tell(ask, service.list, { location: here, collection })).backups;
}

function printBackup(backup: pb.Backup): Reply {
  const { id, sizeBytes } = backup;
  return { name: id, creation_time: createdAt(backup), size: sizeBytes, checksum: checksumOf(backup) };
}

function createdAt({ endedAt, startedAt }: pb.Backup): string | undefined {
  return (endedAt ?? startedAt)?.toISOString().slice(0, 19);
}

/** SHA-256, in hexadecimal, of what the snapshot holds by the digests of its shards: backups are no file that could have one. */
function checksumOf({ id, collectionId, shards }: pb.Backup): string {
  const hash = createHash("sha256").update(`${id} ${collectionId}`);
  for (const { shard, firstSlot, lastSlot, sequence, digest } of shards) {
    hash.update(`\n${shard} ${firstSlot} ${lastSlot} ${sequence} ${digest}`);
  }
  return hash.digest("hex");
}

export const listSnapshots: Operation = async (ask) => {
  const { name } = await describe(ask);
  return (await backupsOf(ask, name)).map(printBackup);
};

export const deleteSnapshot: Operation = async (ask) => {
  const { name } = await describe(ask);
  const id = ask.path["snapshot_name"] ?? "";
  await backupOf(ask, name, id);
  await tell(ask, service.delete, { location: here, id });
  return isWaiting(ask) ? true : accepted;
};

async function backupOf(ask: Ask, collection: string, id: string): Promise<pb.Backup> {
  const found = (await backupsOf(ask, collection)).find((each) => each.id === id);
  if (found !== undefined) return found;
  throw new KithError("NOT_FOUND", `there is no snapshot ${JSON.stringify(id.slice(0, 80))} of "${collection}"`);
}

/** The snapshot that a location names last, whatever server it was of: "http://host/collections/films/snapshots/ID", "file:///snapshots/ID", "ID". */
function idIn(location: string): string {
  return location.split("?")[0]?.split("/").pop() ?? location;
}

/**
 * Puts what a snapshot holds into the place of the collection: restored beside it under another name, and when it is whole the names change, so
 * that one that cannot be restored costs nothing.
 */
export const recoverSnapshot: Operation = async (ask) => {
  const name = collectionOf(ask);
  const id = idIn(required(ask.body, "location", "", textOf));
  const checksum = optional(ask.body, "checksum", "", checksumText);
  if (checksum !== undefined) await checkSum(ask, id, checksum);
  const collections = pb.CollectionsService;
  const { exists } = await tell(ask, collections.exists, { name });
  const target = exists ? `${name}-${id}`.slice(0, 128) : name;
  const restored = await tell(ask, service.restore, {
    ...pb.RestoreBackupRequest.create({ location: here, id }),
    collection: target,
  });
  await ended(ask, restored.operation);
  if (!exists) return isWaiting(ask) ? true : accepted;
  await tell(ask, collections.delete, { name });
  await tell(ask, collections.rename, { name: target, newName: name });
  return isWaiting(ask) ? true : accepted;
};

function checksumText(value: JsonValue | undefined, at: string): string {
  const text = textOf(value, at).toLowerCase();
  if (/^[0-9a-f]{64}$/.test(text)) return text;
  throw new InvalidValue(at, "is no SHA-256 in hexadecimal");
}

/** Whichever collection it is of; one that is missing is told by the restore. */
async function checkSum(ask: Ask, id: string, checksum: string): Promise<void> {
  const found = (await backupsOf(ask, "")).find((each) => each.id === id);
  if (found === undefined || checksumOf(found) === checksum) return;
  throw new KithError(
    "INVALID_ARGUMENT",
    `Snapshot checksum mismatch: expected ${checksum}, the snapshot ${id} has ${checksumOf(found)}`,
    { details: { field: "checksum" } },
  );
}

async function ended(ask: Ask, id: string): Promise<void> {
  for (;;) {
    const { operation } = await tell(ask, pb.ClusterService.getOperation, { id });
    if (operation === undefined || operation.state === "done") return;
    if (operation.state === "failed" || operation.state === "cancelled") {
      throw new KithError("FAILED_PRECONDITION", `the operation ${id} ${operation.state}: ${operation.error}`);
    }
    await sleep(ask.call.clock, pollMs, ask.call.signal);
  }
}

const whole = "snapshots are of one collection each: make one for every collection";

/** Snapshots of everything, of which there are none. */
export const fullSnapshots = {
  list: (): Promise<Reply> => Promise.resolve([]),
  create: unimplemented(whole),
  get: unimplemented(whole),
  delete: unimplemented(whole),
};
