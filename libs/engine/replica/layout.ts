import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { removeDirectory, StoreCopy } from "../../storage/index.js";

/**
 * What lies in a replica's directory, and nothing else knows:
 *
 *     db/                     the store
 *     index-<kind>-<key>/     the checkpoint of a derived index
 *     log-incarnation         the log that the store was filled from
 *     db.copy/                another replica's store, while it comes
 *     db.copy.json            where that comes from
 *     replaced-<n>/db/        a store that a copy has replaced, kept where nothing else may hold what it holds
 */
const storeName = "db";
const copyName = "db.copy";
const originName = "db.copy.json";
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
  await removeOthers(directory, [copyName, incarnationName]);
  await takeCopy(directory);
}

/**
 * Ends what a process before this one was about: takes its copy where that is whole and the old content is gone. One that is not whole is
 * gone on with where there is no content and it is known where it comes from, and else removed.
 */
export async function endCopy(directory: string): Promise<void> {
  const copy = copyDirectory(directory);
  const names = await readdir(directory);
  const isAlone = !names.includes(storeName) && names.includes(copyName);
  if (isAlone && (await StoreCopy.isWhole(copy))) await takeCopy(directory);
  else if (!isAlone || !names.includes(originName)) await removeCopy(directory);
}

/** Removes what has come of a copy. */
export async function removeCopy(directory: string): Promise<void> {
  await rm(copyOriginPath(directory), { force: true });
  await removeDirectory(copyDirectory(directory));
}

async function removeOthers(directory: string, spared: readonly string[]): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith(replacedPrefix) || spared.includes(name)) continue;
    await rm(join(directory, name), { recursive: true, force: true });
  }
}

async function takeCopy(directory: string): Promise<void> {
  await rm(copyOriginPath(directory), { force: true });
  await rename(copyDirectory(directory), storeDirectory(directory));
  await syncDirectory(directory);
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
