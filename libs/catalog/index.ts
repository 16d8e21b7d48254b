export { openEmbeddedCatalog } from "./embedded/index.js";
export { openNatsCatalog } from "./nats/index.js";
export type { Catalog, CatalogChange, CatalogEntry, CatalogWatch } from "./port.js";
