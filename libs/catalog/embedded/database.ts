import type { ClassicLevel } from "classic-level";
import { openLevel } from "../../base/index.js";

export type CatalogDatabase = ClassicLevel;
export type OpenDatabase = (directory: string) => Promise<CatalogDatabase>;

/** All entries are in memory anyway: LevelDB's own caches (4 and 8 MiB) have nothing to hold. */
const options = { writeBufferSize: 1024 * 1024, cacheSize: 256 * 1024 };

/** FAILED_PRECONDITION when another process has the directory, CORRUPT_DATA when LevelDB cannot read it. */
export function openCatalogDatabase(directory: string): Promise<CatalogDatabase> {
  return openLevel<string, string>(directory, options);
}
