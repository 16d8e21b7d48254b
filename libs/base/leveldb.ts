import { createRequire } from "node:module";
import type { ClassicLevel, DatabaseOptions } from "classic-level";
import type * as ClassicLevelModule from "classic-level";
import { makeFolder } from "./folder.js";
import { KithError, toKithError } from "./errors.js";

/** LevelDB's binding wraps what it was told in an error of its own, more than once. */
const causesMax = 8;

/** What the operating system says of files that another user has, and of disks that are mounted for reading. */
const forbidden = ["EACCES", "EPERM", "EROFS"];

/** The codes and the text of an error and of its causes. */
export function errorChain(error: unknown): { codes: string[]; text: string } {
  const codes: string[] = [];
  const texts: string[] = [];
  for (let at = error; at instanceof Error && texts.length < causesMax; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (code !== undefined) codes.push(code);
    texts.push(at.message);
  }
  return { codes, text: texts.join(": ") };
}

/**
 * What LevelDB threw over the database in `directory`, as a KithError: FAILED_PRECONDITION (another process has it), CORRUPT_DATA,
 * DISK_FULL, or INTERNAL for other input/output errors.
 */
export function levelError(error: unknown, directory: string): KithError {
  if (error instanceof KithError) return error;
  const { codes, text } = errorChain(error);
  const options = { cause: error, details: { directory } };
  if (codes.includes("LEVEL_LOCKED")) {
    return new KithError(
      "FAILED_PRECONDITION",
      `the directory ${directory} is in use by another process; stop it or give this one another directory`,
      options,
    );
  }
  // LevelDB reports a file of its own that is gone or shorter than it should be as an input/output error.
  const lostBytes = codes.includes("LEVEL_IO_ERROR") && /: (No such file or directory|Invalid argument)$/.test(text);
  if (codes.includes("LEVEL_CORRUPTION") || lostBytes || /^Corruption:|: Corruption:/.test(text)) {
    return new KithError("CORRUPT_DATA", `the database in ${directory} is damaged: ${text}`, options);
  }
  if (codes.includes("ENOSPC") || /No space left|Disk quota exceeded/i.test(text)) {
    return new KithError("DISK_FULL", `the disk of ${directory} is full: ${text}; free space`, options);
  }
  if (/: (Too many open files|Too many open files in system|Cannot allocate memory)$/.test(text)) {
    return new KithError(
      "RESOURCE_EXHAUSTED",
      `the database in ${directory} cannot be used now: ${text}; raise the limit of the process (ulimit -n), or delete what is not needed`,
      options,
    );
  }
  if (
    codes.some((code) => forbidden.includes(code)) ||
    /: (Permission denied|Operation not permitted|Read-only file system)$/.test(text)
  ) {
    return new KithError(
      "FAILED_PRECONDITION",
      `the database in ${directory} may not be read and written by this user: ${text}; give it to the user that this process runs as`,
      options,
    );
  }
  const other = toKithError(error);
  if (other.code !== "INTERNAL") return other;
  return new KithError("INTERNAL", `the database in ${directory} failed: ${text}`, options);
}

/**
 * Opens the database in `directory`, which is made if it is not there. FAILED_PRECONDITION when another process has it, CORRUPT_DATA
 * when LevelDB cannot read it; see levelError.
 */
export async function openLevel<K, V>(directory: string, options: DatabaseOptions<K, V>): Promise<ClassicLevel<K, V>> {
  // Here and not above: routers and clients have no database, and need not load LevelDB.
  const { ClassicLevel: Database } = createRequire(import.meta.url)("classic-level") as typeof ClassicLevelModule;
  try {
    await makeFolder(directory);
    const database = new Database<K, V>(directory, options);
    await database.open();
    return database;
  } catch (error) {
    throw levelError(error, directory);
  }
}
