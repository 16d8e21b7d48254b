import { KithError, systemRuntime } from "../../base/index.js";
import { EmbeddedCatalog } from "../embedded/catalog.js";
import type { OpenDatabase } from "../embedded/database.js";
import type { Catalog, CatalogEntry, CatalogWatch } from "../port.js";
import { memoryDatabase } from "./memory-database.js";

/**
 * The embedded catalog in memory, which can be cut off from those who use it, and whose watches can lag. `put` and `remove` are what
 * others do to it: they reach it always.
 */
export class FakeCatalog implements Catalog {
  readonly #storage: Catalog;
  readonly #listeners = new Set<(available: boolean) => void>();
  #isReachable = true;
  #isQuiet = false;
  /** What the watches are not told yet, in order. */
  #untold: (() => void)[] = [];

  /** @param storage where the entries are; closed with this */
  constructor(storage: Catalog) {
    this.#storage = storage;
  }

  static async open(open: OpenDatabase = memoryDatabase()): Promise<FakeCatalog> {
    return new FakeCatalog(await EmbeddedCatalog.open({ directory: "memory", ...systemRuntime }, open));
  }

  get available(): boolean {
    return this.#isReachable && this.#storage.available;
  }

  /** While it is not: CATALOG_UNAVAILABLE to all calls, and the watches are told afterwards what they missed. */
  set available(isReachable: boolean) {
    if (this.#isReachable === isReachable) return;
    this.#isReachable = isReachable;
    for (const listener of this.#listeners) listener(isReachable);
    if (isReachable) this.#tellAll();
  }

  async get(key: string): Promise<CatalogEntry | undefined> {
    return this.#reached().get(key);
  }

  async list(prefix: string): Promise<CatalogEntry[]> {
    return this.#reached().list(prefix);
  }

  async create(key: string, value: string, options?: { ttlMs?: number }): Promise<CatalogEntry> {
    return this.#reached().create(key, value, options);
  }

  async update(key: string, value: string, revision: number, options?: { ttlMs?: number }): Promise<CatalogEntry> {
    return this.#reached().update(key, value, revision, options);
  }

  async delete(key: string, revision: number): Promise<void> {
    return this.#reached().delete(key, revision);
  }

  watch(prefix: string, handlers: Parameters<Catalog["watch"]>[1]): CatalogWatch {
    let isClosed = false;
    const tell = (event: () => void): void => {
      this.#untold.push(() => {
        if (!isClosed) event();
      });
      if (this.#isReachable && !this.#isQuiet) this.#tellAll();
    };
    const watch = this.#storage.watch(prefix, {
      onChange: (change) => tell(() => handlers.onChange(change)),
      onReady: () => tell(() => handlers.onReady?.()),
    });
    return {
      close: async () => {
        isClosed = true;
        await watch.close();
      },
    };
  }

  onAvailability(listener: (available: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): Promise<void> {
    return this.#storage.close();
  }

  async put(key: string, value: string): Promise<CatalogEntry> {
    const present = await this.#storage.get(key);
    if (present === undefined) return this.#storage.create(key, value);
    return this.#storage.update(key, value, present.revision);
  }

  async remove(key: string): Promise<void> {
    await this.#storage.delete(key, (await this.#storage.get(key))?.revision ?? 0);
  }

  /** The watches lag: what happens within they are told when something else happens. */
  async quiet(change: () => Promise<unknown>): Promise<void> {
    this.#isQuiet = true;
    try {
      await change();
    } finally {
      this.#isQuiet = false;
    }
  }

  #tellAll(): void {
    for (const event of this.#untold.splice(0)) event();
  }

  #reached(): Catalog {
    if (this.#isReachable) return this.#storage;
    throw new KithError("CATALOG_UNAVAILABLE", "the catalog cannot be reached");
  }
}
