import { open, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { KithError, makeFolder, type Random, toKithError } from "../../base/index.js";
import { type FileStore, storedBytesMax, type StoredFile, storedTooLarge } from "./port.js";

/** What is not whole yet; a process that died may leave some, which nobody reads. */
const partialSuffix = ".partial";

/** Files below a folder. */
export class FolderStore implements FileStore {
  readonly description: string;
  readonly #root: string;
  readonly #random: Random;

  constructor(root: string, random: Random) {
    this.#root = resolve(root);
    this.#random = random;
    this.description = `the folder ${root}`;
  }

  /** No key leads out of the folder, whoever made it. */
  #pathOf(key: string): string {
    const path = join(this.#root, key);
    if (path === this.#root || path.startsWith(`${this.#root}${sep}`)) return path;
    throw new KithError("INVALID_ARGUMENT", `${JSON.stringify(key.slice(0, 200))} leads out of ${this.description}`);
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    const path = this.#pathOf(key);
    // Two coordinators may write the same file for a moment, each a partial one of its own.
    const partial = `${path}-${this.#random.bytes(6).toString("hex")}${partialSuffix}`;
    try {
      await makeFolder(dirname(path));
      const file = await open(partial, "w");
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(partial, path);
      await syncFolder(dirname(path));
    } catch (error) {
      await rm(partial, { force: true }).catch(() => undefined);
      throw this.#failed(`${key} cannot be written`, error);
    }
  }

  async get(key: string): Promise<Buffer> {
    try {
      const file = await open(this.#pathOf(key), "r");
      try {
        if ((await file.stat()).size > storedBytesMax) throw storedTooLarge(key, this.description);
        return await file.readFile();
      } finally {
        await file.close();
      }
    } catch (error) {
      throw this.#failed(`${key} cannot be read`, error);
    }
  }

  async *list(prefix: string): AsyncGenerator<StoredFile> {
    let entries;
    try {
      entries = await readdir(this.#pathOf(prefix), { withFileTypes: true });
    } catch (error) {
      if (isMissing(error)) return;
      throw this.#failed(`${prefix} cannot be listed`, error);
    }
    for (const entry of entries) {
      const key = `${prefix}${entry.name}`;
      if (entry.isDirectory()) yield* this.list(`${key}/`);
      else if (entry.isFile() && !entry.name.endsWith(partialSuffix)) {
        const found = await stat(this.#pathOf(key)).catch((error: unknown) => {
          if (isMissing(error)) return undefined;
          throw this.#failed(`${key} cannot be read`, error);
        });
        if (found !== undefined) yield { key, sizeBytes: found.size };
      }
    }
  }

  async remove(key: string): Promise<void> {
    const path = this.#pathOf(key);
    try {
      await rm(path, { force: true });
    } catch (error) {
      throw this.#failed(`${key} cannot be removed`, error);
    }
    // The last one leaves no empty folder behind.
    await rmdir(dirname(path)).catch(() => undefined);
  }

  #failed(what: string, error: unknown): KithError {
    if (error instanceof KithError) return error;
    const known = toKithError(error);
    const message = `${what} in ${this.description}: ${known.message}`;
    if (isMissing(error)) return new KithError("NOT_FOUND", `${what}: there is no such file in ${this.description}`);
    return new KithError(known.code, message, { cause: error, details: { folder: this.#root } });
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
