import type { Clock } from "../base/index.js";
import type { Catalog } from "../catalog/index.js";
import { type Drain, DrainsView } from "./drains.js";
import { CatalogView } from "./view.js";

export type NodeState = "joining" | "up" | "draining" | "down" | "removed";

/** What a node says of itself in the catalog. */
export interface NodeRecord {
  id: string;
  /** host:port of its link; "" for a node without the shard role. */
  linkAddress: string;
  /** host:port of its public gRPC service; "" for a node without the router role. */
  address: string;
  zone: string;
  roles: string[];
  state: "joining" | "up" | "draining";
  startedAtMs: number;
  version: string;
  memoryBytes: number;
  diskFreeBytes: number;
  /** Grows with each renewal, so that the key's revision changes. */
  heartbeat: number;
}

export const heartbeatMs = 1_000;
/** A node whose key did not change for this long counts as down: within 5 s after its death, whenever it renewed its key last. */
export const downAfterMs = 4_500;

/**
 * The nodes of the cluster. Liveness is judged by the local monotonic time since a node's key last changed, so that no
 * two clocks are ever compared.
 */
export class NodesView {
  readonly #view: CatalogView<NodeRecord>;
  readonly #clock: Clock;
  readonly #seenMs = new Map<string, number>();
  readonly #drains: DrainsView;
  readonly #catalog: Catalog;

  constructor(catalog: Catalog, clock: Clock) {
    this.#catalog = catalog;
    this.#clock = clock;
    this.#drains = new DrainsView(catalog);
    this.#view = new CatalogView<NodeRecord>(catalog, "nodes", (json) => JSON.parse(json) as NodeRecord);
    this.#view.onChange((name, value) => {
      if (value === undefined) this.#seenMs.delete(name);
      else this.#seenMs.set(name, clock.monotonicMs());
    });
  }

  async start(signal?: AbortSignal): Promise<void> {
    await Promise.all([this.#view.start(signal), this.#drains.start(signal)]);
  }

  get(id: string): NodeRecord | undefined {
    return this.#view.get(id)?.value;
  }

  all(): NodeRecord[] {
    return this.#view.values();
  }

  stateOf(id: string): NodeState {
    const record = this.get(id);
    if (record === undefined) return "removed";
    const seenMs = this.#seenMs.get(id) ?? Number.NEGATIVE_INFINITY;
    if (this.#clock.monotonicMs() - seenMs > downAfterMs) return "down";
    return record.state === "up" && this.#drains.get(id) !== undefined ? "draining" : record.state;
  }

  /**
   * Whether a node does not renew its key although the catalog can be reached: it is dead, stands still, or is cut off, and so is its log. While
   * this process cannot reach the catalog nothing is known of anybody.
   */
  isSilent(id: string): boolean {
    return this.#catalog.available && this.stateOf(id) === "down";
  }

  /** Called after each change of a node's record, and when a node begins or ceases to be drained. Returns the unsubscriber. */
  onChange(listener: (id: string, record: NodeRecord | undefined) => void): () => void {
    const stops = [this.#view.onChange(listener), this.#drains.onChange((id) => listener(id, this.get(id)))];
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Why and since when a node is drained; undefined for one that is not. */
  drainOf(id: string): Drain | undefined {
    return this.#drains.get(id);
  }

  /** Asks for all replicas of a node to be moved to others. No error where that was asked for already. */
  async drain(id: string, by: { isOwn: boolean }): Promise<void> {
    await this.#drains.add(id, { sinceMs: this.#clock.nowMs(), ...by });
  }

  /** The node takes replicas again. What was moved away stays where it is. No error where it is not being drained. */
  async undrain(id: string): Promise<void> {
    await this.#drains.remove(id);
  }

  /** Writes this node's own record, whoever wrote it before: an id has one process, the newest. */
  async announce(record: NodeRecord): Promise<void> {
    if (this.#view.get(record.id) === undefined) {
      try {
        await this.#view.create(record.id, record);
        return;
      } catch {
        // The key exists and our view does not have it yet: fall through to the change by compare-and-set.
      }
    }
    await this.#view.modify(record.id, () => record);
  }

  /** Takes the record out: a node that was shut down in order is not "down" but gone until it is back. */
  async remove(id: string): Promise<void> {
    await this.#view.delete(id);
  }

  async close(): Promise<void> {
    await Promise.all([this.#view.close(), this.#drains.close()]);
  }
}
