import { type Clock, KithError, toKithError } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";

const key = "leases.coordinator";

export const leaseTtlMs = 16_000;
export const leaseRenewMs = 5_000;

export interface LeaseHolder {
  holder: string;
}

/**
 * The coordinator's lease: one key that vanishes unless it is renewed. Its revision is the fencing token. A holder whose
 * renewal is late by its own monotonic clock considers the lease lost before the catalog gives it to another.
 */
export class Lease {
  readonly #catalog: Catalog;
  readonly #holder: string;
  readonly #clock: Clock;
  #revision: number | undefined;
  #renewedMs = 0;

  constructor(catalog: Catalog, holder: string, clock: Clock) {
    this.#catalog = catalog;
    this.#holder = holder;
    this.#clock = clock;
  }

  /** Whether this process may act as the holder now. */
  get held(): boolean {
    return this.#revision !== undefined && this.#clock.monotonicMs() - this.#renewedMs < leaseTtlMs - leaseRenewMs;
  }

  /** Takes or renews the lease; true when it is held afterwards. */
  async tick(): Promise<boolean> {
    const beforeMs = this.#clock.monotonicMs();
    const value = JSON.stringify({ holder: this.#holder } satisfies LeaseHolder);
    try {
      const entry =
        this.#revision === undefined
          ? await this.#catalog.create(key, value, { ttlMs: leaseTtlMs })
          : await this.#catalog.update(key, value, this.#revision, { ttlMs: leaseTtlMs });
      this.#revision = entry.revision;
      this.#renewedMs = beforeMs;
      return true;
    } catch (error) {
      const { code } = toKithError(error);
      if (code === "ALREADY_EXISTS") {
        await this.#retakeOwn();
      } else if (code === "REVISION_MISMATCH") {
        this.#revision = undefined;
      } else if (code !== "CATALOG_UNAVAILABLE") {
        throw error;
      }
      return this.held;
    }
  }

  /** A restarted process finds its own lease: it may continue it at once. */
  async #retakeOwn(): Promise<void> {
    const present = await this.#catalog.get(key);
    if (present !== undefined && (JSON.parse(present.value) as LeaseHolder).holder === this.#holder) {
      this.#revision = present.revision;
      this.#renewedMs = Number.NEGATIVE_INFINITY;
    }
  }

  /** Gives the lease up, so that another takes it without waiting. */
  async release(): Promise<void> {
    if (this.#revision === undefined) return;
    const revision = this.#revision;
    this.#revision = undefined;
    try {
      await this.#catalog.delete(key, revision);
    } catch (error) {
      // Somebody else has it already, or the catalog is away and the key will vanish by itself.
      if (!(error instanceof KithError)) throw error;
    }
  }
}

/** Who holds the coordinator's lease; "" for nobody. */
export async function leaseHolder(catalog: Catalog): Promise<string> {
  const present = await catalog.get(key);
  return present === undefined ? "" : (JSON.parse(present.value) as LeaseHolder).holder;
}
