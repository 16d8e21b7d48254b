import type { EmbeddedCatalogOptions } from "./embedded/catalog.js";
import type { NatsCatalogOptions } from "./nats/catalog.js";
import type { Catalog } from "./port.js";

// Each adapter is loaded where it is used.

/** LevelDB, every change fsynced; see embedded/index.ts. */
export async function openEmbeddedCatalog(options: EmbeddedCatalogOptions): Promise<Catalog> {
  return (await import("./embedded/index.js")).openEmbeddedCatalog(options);
}

/** A bucket of NATS KV; see nats/index.ts. */
export async function openNatsCatalog(options: NatsCatalogOptions): Promise<Catalog> {
  return (await import("./nats/index.js")).openNatsCatalog(options);
}

export type { Catalog, CatalogChange, CatalogEntry, CatalogWatch } from "./port.js";
