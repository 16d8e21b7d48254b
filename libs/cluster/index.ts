import { parseCollection, type Collection } from "../model/index.js";
import type { Catalog } from "../catalog/index.js";
import { CatalogView } from "./view.js";

export * from "./lease.js";
export * from "./nodes.js";
export type { CatalogView };

/** The collections of the cluster, by name. */
export function collectionsView(catalog: Catalog): CatalogView<Collection> {
  return new CatalogView(catalog, "collections", parseCollection);
}
