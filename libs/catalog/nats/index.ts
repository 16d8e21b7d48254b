import type { Catalog } from "../port.js";
import { NatsCatalog, type NatsCatalogOptions } from "./catalog.js";

/**
 * Opens the catalog of a cluster in the NATS KV bucket KITH_<cluster>, which is made if it is not there. Rejects with
 * CATALOG_UNAVAILABLE while the server is away, INVALID_CONFIG when the bucket or its replicas will not do. The
 * connection is made by `connectNats` and may be shared with the log.
 */
export function openNatsCatalog(options: NatsCatalogOptions): Promise<Catalog> {
  return NatsCatalog.open(options);
}
