import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { removeDirectory, StoreCopy, syncDirectory } from "../../storage/index.js";

/**
 * What lies in a replica's directory, and nothing else knows:
 *
 *     db/                     the store
 *     index-<kind>-<key>/     the checkpoint of a derived index
 *     log-incarnation         the log that the store was filled from
 *     db.copy/                another replica's store, while it comes by its entries
 *     files.copy/             another replica's store and indexes, while they come as files
 *     files.whole/            the same when all is there, until it is put in the place of what was before
 *     db.copy.json            where that comes from
 *     db.old/                 the store that a copy replaces, while it is being removed
 *     given-<id>/             second names of files that another replica copies
 *     replaced-<n>/db/        a store that a copy has replaced, kept where nothing else may hold what it holds
 */
const storeName = "db";
const copyName = "db.copy";
const filesCopyName = "files.copy";
const filesWholeName = "files.whole";
const originName = "db.copy.json";
const oldName = "db.old";
const givenPrefix = "given-";
const incarnationName = "log-incarnation";
const replacedPrefix = "replaced-";
const indexPrefix = "index-";

export function storeDirectory(directory: string): string {
  return join(directory, storeName);
}

/** Where a copy of another replica's store comes together. */
export function copyDirectory(directory: string): string {
  return join(directory, copyName);
}

/** Where another replica's files come together: what lies in its directory then. */
export function filesCopyDirectory(directory: string): string {
  return join(directory, filesCopyName);
}

/** Where files have second names while another replica copies them. */
export function givenDirectory(directory: string, id: string): string {
  return join(directory, `${givenPrefix}${id}`);
}

/** The names of the checkpoints of indexes in a replica's directory. */
export async function indexNames(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.startsWith(indexPrefix));
}

/** Says where a file of a copy belongs, by its name; undefined where no replica has such a file. */
export function copiedFile(name: string): { folder: "db" | "index"; file: string } | undefined {
  const [, folder = "", file = ""] =
    /^(db|index-[a-z]+-[0-9a-z]+)\/([A-Za-z0-9][A-Za-z0-9._-]{0,127})$/.exec(name) ?? [];
  return folder === "" ? undefined : { folder: folder === storeName ? "db" : "index", file };
}

/** Where it is written from where the copy comes. */
export function copyOriginPath(directory: string): string {
  return join(directory, originName);
}

/** Whether there is content, be it good or not. */
export async function hasContent(directory: string): Promise<boolean> {
  return (await readdir(directory)).includes(storeName);
}

export function incarnationPath(directory: string): string {
  return join(directory, incarnationName);
}

/** Of the checkpoint of a derived index: its kind, and what tells it apart within the kind. */
export interface IndexName {
  name: string;
  key: string;
}

export function indexDirectory(directory: string, { name, key }: IndexName): string {
  return join(directory, `${indexPrefix}${name}-${key}`);
}

/**
 * Removes the checkpoints of indexes that are not in use, which a process that was killed may have left behind. The first version had
 * one kind of index only, and named the checkpoints `index-<key>`: they are renamed.
 */
export async function tidyIndexes(directory: string, used: readonly IndexName[], firstKind: string): Promise<void> {
  const wanted = new Set(used.map((index) => indexDirectory(directory, index)));
  for (const found of await readdir(directory)) {
    if (!found.startsWith(indexPrefix)) continue;
    const path = join(directory, found);
    const [, key] = /^index-(\d+)$/.exec(found) ?? [];
    const renamed = key === undefined ? path : indexDirectory(directory, { name: firstKind, key });
    if (!wanted.has(renamed)) await removeDirectory(path);
    else if (renamed !== path) await replaceDirectory(path, renamed);
  }
}

async function replaceDirectory(from: string, to: string): Promise<void> {
  await removeDirectory(to);
  await rename(from, to);
}

/** Moves the store out of the way, and gives the folder that keeps it; undefined where there is no store. Its indexes can be built again. */
export async function keepContent(directory: string): Promise<string | undefined> {
  const names = await readdir(directory);
  if (!names.includes(storeName)) return undefined;
  let number = 1;
  while (names.includes(`${replacedPrefix}${number}`)) number++;
  const kept = join(directory, `${replacedPrefix}${number}`);
  await mkdir(kept);
  await rename(storeDirectory(directory), storeDirectory(kept));
  return kept;
}

/** Empties a replica's directory, apart from what was kept of former content. */
export async function removeContent(directory: string): Promise<void> {
  await removeOthers(directory, []);
}

/** Puts the whole copy in the place of the content; what tells of which log it is was written before. */
export async function replaceContent(directory: string): Promise<void> {
  // At once, so that a store is never left half removed. A copy of which some is in its place has no store any more.
  if (await hasContent(directory)) await rename(storeDirectory(directory), join(directory, oldName));
  await removeOthers(directory, [copyName, filesWholeName, incarnationName]);
  await takeCopy(directory);
}

/** All files of a copy are there, and on the disk. */
export async function endFilesCopy(directory: string): Promise<void> {
  await rename(filesCopyDirectory(directory), join(directory, filesWholeName));
  await syncDirectory(directory);
}

/**
 * Ends what a process before this one was about: takes its copy where that is whole and the old content is gone. One that is not whole is
 * gone on with where there is no content and it is known where it comes from, and else removed.
 */
export async function endCopy(directory: string): Promise<void> {
  const copy = copyDirectory(directory);
  const names = await readdir(directory);
  for (const name of names)
    if (name.startsWith(givenPrefix) || name === oldName) await removeDirectory(join(directory, name));
  const hasStore = names.includes(storeName);
  if (names.includes(filesWholeName)) {
    const isPut = !(await readdir(join(directory, filesWholeName))).includes(storeName);
    if (isPut || hasStore) await removeCopy(directory);
    // Indexes of what was before may still be there.
    else await replaceContent(directory);
    return;
  }
  const isAlone = !hasStore && (names.includes(copyName) || names.includes(filesCopyName));
  if (isAlone && names.includes(copyName) && (await StoreCopy.isWhole(copy))) await takeCopy(directory);
  else if (!isAlone || !names.includes(originName)) await removeCopy(directory);
}

/** Removes what has come of a copy. */
export async function removeCopy(directory: string): Promise<void> {
  await rm(copyOriginPath(directory), { force: true });
  for (const name of [copyName, filesCopyName, filesWholeName]) await removeDirectory(join(directory, name));
}

async function removeOthers(directory: string, spared: readonly string[]): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith(replacedPrefix) || spared.includes(name)) continue;
    await rm(join(directory, name), { recursive: true, force: true });
  }
}

async function takeCopy(directory: string): Promise<void> {
  await rm(copyOriginPath(directory), { force: true });
  const whole = join(directory, filesWholeName);
  if ((await readdir(directory)).includes(filesWholeName)) {
    // The store comes last: with it the copy is taken.
    for (const name of await indexNames(whole)) await rename(join(whole, name), join(directory, name));
    await syncDirectory(directory);
    await rename(storeDirectory(whole), storeDirectory(directory));
    await syncDirectory(directory);
    await removeDirectory(whole);
  } else await rename(copyDirectory(directory), storeDirectory(directory));
  await syncDirectory(directory);
}
