import { type Clock, sleep, toKithError } from "../../libs/base/index.js";
import { type CatalogView, heartbeatMs, type Lease, leaseRenewMs, type NodesView } from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import type { Collection } from "../../libs/model/index.js";
import { type PlacementNode, placeReplicas } from "../../libs/sharding/index.js";
import type { Logger } from "../../libs/telemetry/index.js";

export interface CoordinatorOptions {
  lease: Lease;
  collections: CatalogView<Collection>;
  nodes: NodesView;
  log: Log;
  clock: Clock;
  logger: Logger;
}

/** How soon another coordinator is asked for the lease again, and how often the state is looked at without a change. */
const idleMs = 1_000;

/**
 * Places the replicas of new collections and clears away deleted ones, while it holds the lease. Every step reads the
 * present record and changes it by compare-and-set, and each is harmless when repeated: a holder that was overtaken, or died half way, does no damage.
 */
export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #closing = new AbortController();
  readonly #nodeStates = new Map<string, string>();
  /** What was said of each collection that could not be worked on when its turn was last, by id. */
  #problems = new Map<string, string>();
  #renewedMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  #stopWatching: (() => void)[] = [];

  constructor(options: CoordinatorOptions) {
    this.#options = options;
  }

  start(): void {
    const wake = (): void => this.#wake?.();
    this.#stopWatching = [this.#options.collections.onChange(wake), this.#options.nodes.onChange(wake)];
    this.#running = this.#run();
  }

  /** Ends after the step in hand and gives the lease up. */
  async close(): Promise<void> {
    for (const stop of this.#stopWatching) stop();
    this.#closing.abort();
    this.#wake?.();
    await this.#running;
    await this.#options.lease.release();
  }

  async #run(): Promise<void> {
    const { logger } = this.#options;
    let held = false;
    while (!this.#closing.signal.aborted) {
      try {
        const isHeld = await this.#holdLease();
        if (isHeld !== held) {
          held = isHeld;
          logger.info(held ? "this node is the coordinator now" : "this node is the coordinator no more", {});
        }
        if (held) await this.#step();
      } catch (error) {
        const { code, message } = toKithError(error);
        logger.warn(`a step of the coordinator failed and will be repeated: ${message}`, { code });
      }
      await this.#pause(held ? heartbeatMs : idleMs);
    }
  }

  /** Takes the lease, or renews it where that is due; whether it is held. */
  async #holdLease(): Promise<boolean> {
    const { lease, clock } = this.#options;
    if (!lease.held || clock.monotonicMs() - this.#renewedMs >= leaseRenewMs) {
      if (await lease.tick()) this.#renewedMs = clock.monotonicMs();
    }
    return lease.held;
  }

  /** Until something changes, or `ms` have passed. */
  async #pause(ms: number): Promise<void> {
    const wait = new AbortController();
    this.#wake = () => wait.abort();
    await sleep(this.#options.clock, ms, AbortSignal.any([wait.signal, this.#closing.signal])).catch(() => undefined);
    this.#wake = undefined;
  }

  async #step(): Promise<void> {
    this.#noteNodes();
    const records = this.#options.collections.values();
    const problems = new Map<string, string>();
    // What is deleted makes room for what is new.
    for (const state of ["deleting", "creating"] as const) {
      for (const record of records) {
        if (record.state !== state) continue;
        // The logs of those before may have taken their time to fail.
        if (this.#closing.signal.aborted || !(await this.#holdLease())) return;
        await this.#work(record, problems);
      }
    }
    this.#problems = problems;
  }

  /** One that fails is tried again with the next step and holds up no other; it is said when it begins, and when the reason changes. */
  async #work(record: Collection, problems: Map<string, string>): Promise<void> {
    const isNew = record.state === "creating";
    try {
      await (isNew ? this.#place(record) : this.#clear(record));
    } catch (error) {
      const { code, message } = toKithError(error);
      problems.set(record.id, message);
      if (this.#problems.get(record.id) === message) return;
      const what = isNew ? "placed" : "deleted";
      const fields = { collection: record.name, code };
      this.#options.logger.warn(`the collection "${record.name}" cannot be ${what} yet: ${message}`, fields);
    }
  }

  async #place(record: Collection): Promise<void> {
    const { collections, log, logger, lease, clock } = this.#options;
    const shards = placeReplicas(record.shards, record.replicationFactor, this.#shardNodes(), {
      state: "active",
      sinceMs: clock.nowMs(),
    });
    // All of them come to an end before this does: a log that is made late would outlive a collection deleted meanwhile.
    const created = await Promise.allSettled(shards.map(({ shard }) => log.create({ collectionId: record.id, shard })));
    for (const each of created) if (each.status === "rejected") throw each.reason;
    const present = await collections
      .modify(record.name, (found) =>
        lease.held && found.id === record.id && found.state === "creating"
          ? { ...found, shards, state: "ready" }
          : undefined,
      )
      .catch((error: unknown) => {
        if (toKithError(error).code === "NOT_FOUND") return undefined;
        throw error;
      });
    if (present?.id !== record.id || present.state === "deleting") {
      // It was deleted meanwhile, and its logs may have been cleared away before they were made here.
      await this.#removeLogs(record);
    } else if (present.state === "ready") {
      logger.info(`placed ${shards.length} shards of "${record.name}"`, { collection: record.name });
    }
  }

  async #clear(record: Collection): Promise<void> {
    const { collections, lease, logger } = this.#options;
    await this.#removeLogs(record);
    // The view may be late: the name may be another collection's by now.
    const isOver = (present: Collection): boolean =>
      lease.held && present.id === record.id && present.state === "deleting";
    if (await collections.delete(record.name, isOver)) {
      logger.info(`deleted the collection "${record.name}"`, { collection: record.name });
    }
  }

  /** Of a collection that is being deleted, or gone: its id never comes back, so nobody else can need them. */
  async #removeLogs({ id, shards }: Collection): Promise<void> {
    await Promise.all(shards.map(({ shard }) => this.#options.log.remove({ collectionId: id, shard })));
  }

  #shardNodes(): PlacementNode[] {
    const { nodes, collections } = this.#options;
    const replicaCounts = new Map<string, number>();
    for (const record of collections.values()) {
      for (const placement of record.shards) {
        for (const { node } of placement.replicas) replicaCounts.set(node, (replicaCounts.get(node) ?? 0) + 1);
      }
    }
    return nodes
      .all()
      .filter((node) => node.roles.includes("shard") && nodes.stateOf(node.id) === "up")
      .map((node) => ({ id: node.id, zone: node.zone, replicaCount: replicaCounts.get(node.id) ?? 0 }));
  }

  /** Says in the log when a node comes or goes. */
  #noteNodes(): void {
    const { nodes, logger } = this.#options;
    for (const node of nodes.all()) {
      const state = nodes.stateOf(node.id);
      const before = this.#nodeStates.get(node.id);
      if (before === state) continue;
      this.#nodeStates.set(node.id, state);
      if (state === "down") logger.warn(`node ${node.id} is down: it has not renewed its key`, { node: node.id });
      else if (before !== undefined) logger.info(`node ${node.id} is ${state}`, { node: node.id });
    }
  }
}
