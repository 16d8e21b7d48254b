import { KithError } from "../../../libs/base/index.js";
import type { JsonValue } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, collectionOf, describe, type Operation, tell } from "./api.js";
import { begin, checksumOf, compareChecksum, createdAt, ended, here, isWaiting, listed, service } from "./backups.js";
import { ofFullSnapshot } from "./full-snapshots.js";
import { accepted, InvalidValue, optional, type Reply, required, textOf } from "./values.js";

/*
 * Snapshots of one collection each: their names are the ids of the backups. Backups of groups are parts of snapshots of the whole storage.
 */

/** Unless the caller does not wait, it is answered when it is there. */
export const createSnapshot: Operation = async (ask) => {
  const { name } = await describe(ask);
  const { id, operation } = await begin(ask, name);
  if (!isWaiting(ask)) return accepted;
  await ended(ask, operation);
  const found = (await backupsOf(ask, name)).find((each) => each.id === id);
  return found === undefined ? { name: id, size: 0 } : printBackup(found);
};

async function backupsOf(ask: Ask, collection: string): Promise<pb.Backup[]> {
  return (await listed(ask, { collection })).filter(({ group }) => group === undefined);
}

function printBackup(backup: pb.Backup): Reply {
  const { id, sizeBytes } = backup;
  return { name: id, creation_time: createdAt(backup), size: sizeBytes, checksum: checksumOf(backup) };
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
 * that one that cannot be restored costs nothing. Of a snapshot of the whole storage it is what that has of the collection.
 */
export const recoverSnapshot: Operation = async (ask) => {
  const name = collectionOf(ask);
  const named = idIn(required(ask.body, "location", "", textOf));
  const checksum = optional(ask.body, "checksum", "", checksumText);
  const ofFull = await ofFullSnapshot(ask, named, name);
  const id = ofFull?.id ?? named;
  if (checksum !== undefined) compareChecksum(named, ofFull?.checksum ?? (await checksumOfId(ask, id)), checksum);
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

/** Whichever collection it is of. */
async function checksumOfId(ask: Ask, id: string): Promise<string> {
  const found = (await listed(ask, {})).find((each) => each.id === id);
  if (found !== undefined) return checksumOf(found);
  throw new KithError("NOT_FOUND", `there is no snapshot ${JSON.stringify(id.slice(0, 80))}`);
}
