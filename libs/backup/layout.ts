import { KithError } from "../base/index.js";

/*
 * What lies in a location (docs/backup.md):
 *
 *     backups/<id>.json                  a backup that is whole
 *     begun/<id>.json                    one that is being written, with the backup that it builds upon
 *     parts/<id>/<shard>.json            what a backup has of a shard
 *     partial/<id>/<shard>.json          what was written of a part so far
 *     outcomes/<id>/<shard>.bin          what the last operations of a shard did
 *     points/<id>/<shard>/<number>.bin   points; also used by later backups
 *     chunks/<id>/<shard>/<hash>.bin     parts of a replica's files, by their content; also used by later backups
 */
const idPattern = /^[0-9]{8}t[0-9]{9}z-[0-9a-f]{8}$/;

/** A new id; those of later backups come later in order. */
export function newBackupId(nowMs: number, random: { bytes(count: number): Uint8Array }): string {
  const time = new Date(nowMs).toISOString().replaceAll(/[-:.]/g, "").toLowerCase();
  return `${time}-${Buffer.from(random.bytes(4)).toString("hex")}`;
}

/** NOT_FOUND for what is no id: it would be a part of a path. */
export function checkBackupId(id: string): void {
  if (idPattern.test(id)) return;
  throw new KithError("NOT_FOUND", `there is no backup ${JSON.stringify(id.slice(0, 80))}`, {
    details: { backup: id.slice(0, 80) },
  });
}

export const backupsPrefix = "backups/";
export const begunPrefix = "begun/";

export function backupKey(id: string): string {
  return `${backupsPrefix}${id}.json`;
}
export function begunKey(id: string): string {
  return `${begunPrefix}${id}.json`;
}
export function partKey(id: string, shard: number): string {
  return `parts/${id}/${shard}.json`;
}
export function partialKey(id: string, shard: number): string {
  return `partial/${id}/${shard}.json`;
}
export function outcomesKey(id: string, shard: number): string {
  return `outcomes/${id}/${shard}.bin`;
}
export function pointsKey(id: string, shard: number, number: number): string {
  return `${pointsPrefix(id)}${shard}/${String(number).padStart(6, "0")}.bin`;
}
export function pointsPrefix(id: string): string {
  return `points/${id}/`;
}
export function chunkKey(id: string, shard: number, hash: string): string {
  return `${chunksPrefix(id, shard)}${hash}.bin`;
}
export function chunksPrefix(id: string, shard: number): string {
  return `chunks/${id}/${shard}/`;
}
/** Where what later backups may use as well lies. */
export function sharedPrefixesOf(id: string): string[] {
  return [pointsPrefix(id), `chunks/${id}/`];
}
/** Where all that belongs to one backup lies, but for its record. */
export function prefixesOf(id: string): string[] {
  return [`parts/${id}/`, `partial/${id}/`, `outcomes/${id}/`, ...sharedPrefixesOf(id)];
}

/** The backup for which the file of points, or the chunk, was written. */
export function ownerOf(file: string): string {
  return file.split("/")[1] ?? "";
}
