import { type Database, type DatabaseSnapshot, storeError } from "./database.js";
import { metaKey } from "./keys.js";
import { checkedBody } from "./values.js";

/** A store as of one moment; what is written meanwhile is not seen. Close it. */
export class StoreView {
  protected readonly snapshot: DatabaseSnapshot;

  constructor(
    protected readonly database: Database,
    protected readonly directory: string,
  ) {
    try {
      this.snapshot = database.snapshot();
    } catch (error) {
      throw storeError(error, directory);
    }
  }

  /** CORRUPT_DATA where it is damaged. */
  async getMeta(name: string): Promise<Uint8Array | undefined> {
    const key = metaKey(name);
    try {
      const value = await this.database.get(key, { snapshot: this.snapshot });
      return value && checkedBody(key, value);
    } catch (error) {
      throw storeError(error, this.directory);
    }
  }

  /** Never rejects: a store that was closed has closed its snapshots. */
  async close(): Promise<void> {
    await this.snapshot.close().catch(() => undefined);
  }
}
