export { type EmbeddedCatalogOptions, openEmbeddedCatalog } from "./embedded/index.js";
export { type NatsCatalogOptions, openNatsCatalog } from "./nats/index.js";
export type { Catalog, CatalogChange, CatalogEntry, CatalogWatch } from "./port.js";
