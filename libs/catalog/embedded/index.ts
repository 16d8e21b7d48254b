import type { Catalog } from "../port.js";
import { EmbeddedCatalog, type EmbeddedCatalogOptions } from "./catalog.js";

/**
 * Opens the catalog that needs no other software: LevelDB, every change fsynced. Rejects with FAILED_PRECONDITION when
 * another process has the directory, CORRUPT_DATA when it is damaged.
 */
export function openEmbeddedCatalog(options: EmbeddedCatalogOptions): Promise<Catalog> {
  return EmbeddedCatalog.open(options);
}
