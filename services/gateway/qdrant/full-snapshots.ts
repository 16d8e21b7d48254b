import { KithError, toKithError } from "../../../libs/base/index.js";
import { pb } from "../../../libs/wire/index.js";
import { type Ask, type Operation, tell } from "./api.js";
import { begin, checksumOf, createdAt, ended, here, isWaiting, listed, service } from "./backups.js";
import { accepted, type Reply } from "./values.js";

/*
 * Snapshots of the whole storage are groups of backups, one of each collection: each of a moment of its own, all begun together. Their names are those
 * of the groups, and only groups that are whole are there.
 */

/** Unless the caller does not wait, it is answered when all are there. Where one cannot be made, the others are deleted. */
export const createFullSnapshot: Operation = async (ask) => {
  const { collections } = await tell(ask, pb.CollectionsService.list, {});
  if (collections.length === 0) {
    throw new KithError("FAILED_PRECONDITION", "there is no collection that a snapshot could be made of");
  }
  const group = { name: newName(ask), size: collections.length };
  const begun: pb.CreateBackupResponse[] = [];
  try {
    for (const { name } of collections) begun.push(await begin(ask, name, group));
    if (!isWaiting(ask)) return accepted;
    for (const { operation } of begun) await ended(ask, operation);
  } catch (error) {
    // A caller that has gone has them go on, as with snapshots of one collection.
    if (!ask.call.signal.aborted) await drop(ask, begun);
    throw error;
  }
  return print(await listed(ask, { group: group.name }));
};

function newName({ self: { random }, call: { clock } }: Ask): string {
  const time = new Date(clock.nowMs()).toISOString().slice(0, 19).replaceAll(/[T:]/g, "-");
  return `full-snapshot-${time}-${random.bytes(4).toString("hex")}`;
}

async function drop(ask: Ask, begun: readonly pb.CreateBackupResponse[]): Promise<void> {
  for (const { id, operation } of begun) {
    try {
      await ended(ask, operation);
      await tell(ask, service.delete, { location: here, id });
    } catch (error) {
      // It has failed, or was deleted meanwhile: what the caller is told is why there is no snapshot.
      ask.self.warn(`the backup ${id} of a snapshot that failed was not deleted: ${toKithError(error).message}`);
    }
  }
}

function print(backups: readonly pb.Backup[]): Reply {
  const [newest] = backups as [pb.Backup, ...pb.Backup[]];
  const size = backups.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return { name: newest.group?.name ?? "", creation_time: createdAt(newest), size, checksum: checksumOf(...backups) };
}

export const listFullSnapshots: Operation = async (ask) => {
  const groups = new Map<string, pb.Backup[]>();
  for (const backup of await listed(ask, {})) {
    if (backup.group === undefined) continue;
    const group = groups.get(backup.group.name);
    if (group === undefined) groups.set(backup.group.name, [backup]);
    else group.push(backup);
  }
  return [...groups.values()].filter(isWhole).map(print);
};

function isWhole(backups: readonly pb.Backup[]): boolean {
  return new Set(backups.map(({ collectionId }) => collectionId)).size === backups[0]?.group?.size;
}

/** Also what is left of one that was not deleted to its end. */
export const deleteFullSnapshot: Operation = async (ask) => {
  const name = ask.path["snapshot_name"] ?? "";
  const backups = name === "" ? [] : await listed(ask, { group: name });
  if (backups.length === 0) {
    throw new KithError("NOT_FOUND", `there is no snapshot ${JSON.stringify(name.slice(0, 140))} of the whole storage`);
  }
  for (const { id } of backups) await tell(ask, service.delete, { location: here, id });
  return isWaiting(ask) ? true : accepted;
};

/** What a snapshot of the whole storage has of a collection; undefined where there is no such snapshot. NOT_FOUND where it does not have that collection. */
export async function ofFullSnapshot(
  ask: Ask,
  name: string,
  collection: string,
): Promise<{ id: string; checksum: string } | undefined> {
  const backups = name === "" ? [] : await listed(ask, { group: name });
  if (backups.length === 0) return undefined;
  const found = backups.find((each) => each.collection === collection);
  if (found !== undefined) return { id: found.id, checksum: checksumOf(...backups) };
  throw new KithError("NOT_FOUND", `the snapshot ${name} does not have the collection "${collection}"`);
}
