import { mkdir } from "node:fs/promises";
import { ClassicLevel } from "classic-level";
import { levelError } from "../../base/index.js";

export type CatalogDatabase = ClassicLevel;
export type OpenDatabase = (directory: string) => Promise<CatalogDatabase>;

/** FAILED_PRECONDITION when another process has the directory, CORRUPT_DATA when LevelDB cannot read it. */
export async function openCatalogDatabase(directory: string): Promise<CatalogDatabase> {
  await mkdir(directory, { recursive: true });
  const database: CatalogDatabase = new ClassicLevel(directory);
  try {
    await database.open();
  } catch (error) {
    throw levelError(error, directory);
  }
  return database;
}
