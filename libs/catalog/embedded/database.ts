import { openLevel } from "../../base/index.js";

type Operation = { type: "put"; key: string; value: string } | { type: "del"; key: string };

/** What the catalog asks of its database: LevelDB, or for tests the same in memory. */
export interface CatalogDatabase {
  readonly location: string;
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string, options: { sync: true }): Promise<void>;
  batch(operations: Operation[], options: { sync: true }): Promise<void>;
  iterator(range: { gte: string; lt: string }): AsyncIterable<[string, string]>;
  close(): Promise<void>;
}

export type OpenDatabase = (directory: string) => Promise<CatalogDatabase>;

/** All entries are in memory anyway: LevelDB's own caches (4 and 8 MiB) have nothing to hold. */
const options = { writeBufferSize: 1024 * 1024, cacheSize: 256 * 1024 };

/** FAILED_PRECONDITION when another process has the directory, CORRUPT_DATA when LevelDB cannot read it. */
export function openCatalogDatabase(directory: string): Promise<CatalogDatabase> {
  return openLevel<string, string>(directory, options);
}
