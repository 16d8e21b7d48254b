import { mkdir } from "node:fs/promises";
import { ClassicLevel } from "classic-level";
import { KithError } from "../../base/index.js";

export type CatalogDatabase = ClassicLevel;
export type OpenDatabase = (directory: string) => Promise<CatalogDatabase>;

/** FAILED_PRECONDITION when another process has the directory, CORRUPT_DATA when LevelDB cannot read it. */
export async function openCatalogDatabase(directory: string): Promise<CatalogDatabase> {
  await mkdir(directory, { recursive: true });
  const database: CatalogDatabase = new ClassicLevel(directory);
  try {
    await database.open();
  } catch (error) {
    throw databaseError(error, directory);
  }
  return database;
}

/** What LevelDB threw, as a KithError. */
export function databaseError(error: unknown, directory: string): KithError {
  if (error instanceof KithError) return error;
  const chain: Error[] = [];
  for (let at = error; at instanceof Error && chain.length < 8; at = at.cause) chain.push(at);
  const text = chain.map((part) => part.message).join(": ");
  const has = (code: string): boolean => chain.some((part) => (part as NodeJS.ErrnoException).code === code);
  const options = { cause: error, details: { directory } };
  if (has("LEVEL_LOCKED")) {
    return new KithError(
      "FAILED_PRECONDITION",
      `the directory ${directory} is in use by another process; stop it or give this one another directory`,
      options,
    );
  }
  if (has("ENOSPC") || /No space left|Disk quota exceeded/i.test(text)) {
    return new KithError("DISK_FULL", `the disk of ${directory} is full; free space and try again`, options);
  }
  const code = has("LEVEL_CORRUPTION") ? "CORRUPT_DATA" : "INTERNAL";
  return new KithError(code, `the catalog database in ${directory} failed: ${text}`, options);
}
