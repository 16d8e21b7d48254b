import { copyFile, link, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { KithError, makeFolder, toKithError } from "../base/index.js";
import { type LevelDatabase, openDatabase, storeError } from "./database.js";
import { encryptionMeta } from "./encrypted-database.js";
import { metaKey } from "./keys.js";
import { checkedBody, checkedValue } from "./values.js";

const tableName = /^\d+\.(?:ldb|sst)$/;
/** What makes up a database that is closed; others are its lock and its own log of what it did. */
const ownName = /^(?:CURRENT|MANIFEST-\d+|\d+\.(?:ldb|sst|log))$/;
/** Tables come and go while they are linked; then it is begun anew. */
const attemptsMax = 8;

/** Whether it may be the name of a file of a store. */
export function isStoreFile(name: string): boolean {
  return ownName.test(name);
}

/** Whether it is a file of entries: see checkTable. */
export function isTable(name: string): boolean {
  return tableName.test(name);
}

/**
 * Puts the files of the store in `directory`, which is open in this process, into another folder of the same disk: as of one moment, with all that was
 * flushed before the call. Tables are never changed, and get a second name; what names them is copied. Gives these metas as they are there.
 */
export async function linkStore(directory: string, folder: string, names: readonly string[]): Promise<StoreMetas> {
  try {
    for (let attempt = 1; ; attempt++) {
      await rm(folder, { recursive: true, force: true });
      await makeFolder(folder);
      await linkTables(directory, folder);
      const current = (await readFile(join(directory, "CURRENT"), "utf8")).trim();
      if (!ownName.test(current)) throw new KithError("CORRUPT_DATA", `${directory} has no list of its tables`);
      // Its last record may be cut off: LevelDB passes over that as after the death of a process.
      await copyFile(join(directory, current), join(folder, current));
      await writeFile(join(folder, "CURRENT"), `${current}\n`);
      // Those that have come since the first look.
      await linkTables(directory, folder);
      try {
        // LevelDB looks for all tables that the list names. It first removes others, which would have to be done before anything is written: a table has two names.
        return await opened(folder, (database) => metasOf(database, names));
      } catch (error) {
        if (toKithError(error).code !== "CORRUPT_DATA" || attempt >= attemptsMax) throw error;
      }
    }
  } catch (error) {
    throw storeError(error, directory);
  }
}

async function linkTables(directory: string, folder: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!tableName.test(name)) continue;
    try {
      await link(join(directory, name), join(folder, name));
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      // It has gone meanwhile, or was linked before.
      if (!["ENOENT", "EEXIST"].includes(code)) throw error;
    }
  }
}

/** Metas of a store, by name; those that it has. */
export type StoreMetas = ReadonlyMap<string, Uint8Array>;

async function metasOf(database: LevelDatabase, names: readonly string[]): Promise<StoreMetas> {
  const found = new Map<string, Uint8Array>();
  for (const name of names) {
    const key = metaKey(name);
    const value = await database.get(key);
    if (value !== undefined) found.set(name, checkedBody(key, value));
  }
  return found;
}

async function opened<T>(directory: string, work: (database: LevelDatabase) => Promise<T>): Promise<T> {
  const database = await openDatabase(directory);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/**
 * Makes the files of a store that were copied one of this node's, on the disk and closed; gives its metas to `change`, which gives those that are other here.
 * CORRUPT_DATA where they are no store, and what `change` throws.
 */
export async function adoptStore(
  directory: string,
  names: readonly string[],
  change: (metas: StoreMetas) => StoreMetas,
): Promise<void> {
  try {
    // LevelDB would make a new one.
    if (!(await readdir(directory)).includes("CURRENT")) {
      throw new KithError("CORRUPT_DATA", "the copy is not complete: the list of its tables is missing");
    }
    await opened(directory, async (database) => {
      const metas = await metasOf(database, [...names, encryptionMeta]);
      if (metas.has(encryptionMeta))
        throw new KithError("CORRUPT_DATA", "the copy is encrypted with another node's keys");
      const batch = database.batch();
      for (const [name, body] of change(metas)) batch.put(metaKey(name), checkedValue(metaKey(name), body));
      await batch.write({ sync: true });
    });
    await syncDirectory(directory);
  } catch (error) {
    throw storeError(error, directory);
  }
}

/** So that the names in it survive a loss of power. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
