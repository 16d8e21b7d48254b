export interface CatalogEntry {
  key: string;
  /** UTF-8 JSON. */
  value: string;
  /** Grows with every change of this key, unless the store is put back to an earlier state; the fencing token of compare-and-set. */
  revision: number;
}

/**
 * "put": with `reset` the entry counts though a higher revision was told before: the server's store was put back to an earlier state.
 * "delete": the key is there no more, up to `revision`: an entry with a higher one was made since. It may have been deleted, have expired,
 * or been lost with the server's store.
 */
export type CatalogChange =
  | { kind: "put"; entry: CatalogEntry; reset?: true }
  | { kind: "delete"; key: string; revision: number };

export interface CatalogWatch {
  close(): Promise<void>;
}

/**
 * Cluster metadata: small JSON values under keys of [A-Za-z0-9_-] parts joined by dots. Every change is compare-and-set. Two adapters:
 * NATS KV and embedded (LevelDB), one conformance suite. CATALOG_UNAVAILABLE while the server is away.
 */
export interface Catalog {
  get(key: string): Promise<CatalogEntry | undefined>;
  /** All entries whose key starts with `prefix` + "." (or all, for ""), in key order. */
  list(prefix: string): Promise<CatalogEntry[]>;
  /** ALREADY_EXISTS where the key exists. `ttlMs`: the key vanishes unless it is updated within that time. */
  create(key: string, value: string, options?: { ttlMs?: number }): Promise<CatalogEntry>;
  /** REVISION_MISMATCH where the key's revision is another or the key is gone. A `ttlMs` starts anew. */
  update(key: string, value: string, revision: number, options?: { ttlMs?: number }): Promise<CatalogEntry>;
  /** REVISION_MISMATCH where the key's revision is another; no error if the key is gone already. */
  delete(key: string, revision: number): Promise<void>;
  /**
   * Delivers the present entries under `prefix` first, then `onReady`, then every change in order. Survives
   * reconnections: whatever was missed meanwhile is delivered as changes (state is re-read every 30–60 s as well).
   * What counts is the newest state: of a key that changes faster than it is delivered, values in between may be left out.
   */
  watch(prefix: string, handlers: { onChange(change: CatalogChange): void; onReady?(): void }): CatalogWatch;
  readonly available: boolean;
  onAvailability(listener: (available: boolean) => void): () => void;
  close(): Promise<void>;
}
