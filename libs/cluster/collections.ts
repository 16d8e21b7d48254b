import type { Catalog } from "../catalog/index.js";
import { type Collection, parseCollection } from "../model/index.js";
import { CatalogView } from "./view.js";

/** The collections of the cluster, by name. */
export function collectionsView(catalog: Catalog): CatalogView<Collection> {
  return new CatalogView(catalog, "collections", parseCollection);
}
