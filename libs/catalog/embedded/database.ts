import type { ClassicLevel } from "classic-level";
import { openLevel } from "../../base/index.js";

export type CatalogDatabase = ClassicLevel;
export type OpenDatabase = (directory: string) => Promise<CatalogDatabase>;

/** FAILED_PRECONDITION when another process has the directory, CORRUPT_DATA when LevelDB cannot read it. */
export function openCatalogDatabase(directory: string): Promise<CatalogDatabase> {
  return openLevel<string, string>(directory, {});
}
