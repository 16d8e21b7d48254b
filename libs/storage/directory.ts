import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { KithError } from "../base/index.js";

/** Bytes of all files below a directory; files that go away meanwhile count as nothing. */
export async function directoryBytes(directory: string): Promise<number> {
  let total = 0;
  const counted = new Set<number>();
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true }).catch(ifMissing([]))) {
    if (!entry.isFile()) continue;
    const found = await stat(join(entry.parentPath, entry.name)).catch(ifMissing(undefined));
    // A file with two names, as while a snapshot is given out, takes its place once.
    if (found === undefined || (found.nlink > 1 && counted.has(found.ino))) continue;
    counted.add(found.ino);
    total += found.size;
  }
  return total;
}

/** Removes a store and everything in its directory. */
export async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
}

function ifMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return value;
    throw new KithError("INTERNAL", `the directory cannot be read: ${(error as Error).message}`, { cause: error });
  };
}
