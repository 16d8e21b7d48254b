import { limits, type Runtime, sleep, toKithError } from "../../libs/base/index.js";
import {
  type ClusterSettings,
  type CollectionsView,
  creationIdOf,
  type FollowersView,
  heartbeatMs,
  isLive,
  type Lease,
  leaseRenewMs,
  type NewOperation,
  type NodesView,
  type Operations,
  type SettingsView,
} from "../../libs/cluster/index.js";
import type { Log } from "../../libs/log/index.js";
import type { Collection, ReplicaStatus, ShardId } from "../../libs/model/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { AwayNodes } from "./away.js";
import { Balancer } from "./balancer.js";
import { Chooser, type TrialOf } from "./chooser.js";
import { Jobs } from "./jobs.js";
import { LogKeeper } from "./log-keeper.js";
import { type BackupContext, operationFor } from "./operations/index.js";
import { Placements } from "./placements.js";
import { Standby, type StandbyOptions } from "./standby/index.js";
import { Resharder, type ReshardingPace } from "./resharder.js";
import { OperationRunner } from "./runner.js";
import { Upkeep } from "./upkeep.js";

export interface CoordinatorOptions extends Runtime {
  lease: Lease;
  collections: CollectionsView;
  operations: Operations;
  nodes: NodesView;
  settings: SettingsView;
  log: Log;
  backups: Pick<BackupContext, "locations" | "run">;
  /** What a replica says of itself; rejects, within some seconds, where its node cannot be asked. */
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  trialOf: TrialOf;
  logger: Logger;
  /** The clusters that follow this one; missing: none do. */
  followers?: FollowersView;
  /** Of a cluster that follows another one. */
  standby?: StandbyOptions;
  /** Of splits and merges by size; missing: as usual. */
  reshardingPace?: ReshardingPace;
}

/** How soon another coordinator is asked for the lease again, and how often the state is looked at without a change. */
const idleMs = 1_000;
/** How often it is planned at most what is to be moved. */
const planEveryMs = 500;
/** So many more operations than are kept may have ended before the oldest are forgotten. */
const pruneSlack = 32;

/**
 * Runs the operations of the cluster while it holds the lease. A collection that is to be created or deleted has a record that says so; its
 * operation begins here, so that no crash of a router comes between the two. Every change is compare-and-set, and each step is harmless
 * when repeated: a holder that was overtaken, or died half way, does no damage.
 */
export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #closing = new AbortController();
  readonly #runner: OperationRunner;
  /** Work of operations that goes on between their steps. */
  readonly #jobs: Jobs;
  readonly #away: AwayNodes;
  readonly #placements: Placements;
  readonly #upkeep: Upkeep;
  readonly #balancer: Balancer;
  readonly #resharder: Resharder;
  readonly #chooser: Chooser;
  readonly #logs: LogKeeper;
  readonly #standby: Standby | undefined;
  readonly #nodeStates = new Map<string, string>();
  /** By name: the collections that are being created or deleted. */
  readonly #unsettled = new Map<string, Collection>();
  #renewedMs = Number.NEGATIVE_INFINITY;
  #plannedMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();
  #pruning: Promise<void> | undefined;
  /** Something has changed since the state was looked at last. */
  #isStirred = false;
  #wake: (() => void) | undefined;
  #stopWatching: (() => void)[] = [];

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    const { lease, collections, nodes, operations, settings: view, log, clock, random, logger, statusOf } = options;
    const placements = new Placements(collections, nodes, clock);
    this.#placements = placements;
    const isHolder = (): boolean => lease.held;
    const settings = (): ClusterSettings => view.current;
    const away = new AwayNodes(clock, (node) => nodes.stateOf(node));
    this.#away = away;
    this.#upkeep = new Upkeep({ collections, operations, nodes, placements, away, settings, isHolder, clock, logger });
    this.#jobs = new Jobs({ clock, random });
    const backups = { ...options.backups, nodes, jobs: this.#jobs };
    this.#balancer = new Balancer({ collections, operations, nodes, settings, statusOf, clock, logger });
    const pace = options.reshardingPace;
    this.#resharder = new Resharder({ collections, operations, settings, statusOf, clock, logger, pace });
    const { trialOf } = options;
    this.#chooser = new Chooser({ collections, statusOf, trialOf, isHolder, clock, logger });
    const around = { collections, operations, placements, statusOf, isHolder, clock, random, logger };
    this.#standby = options.standby && new Standby({ ...options.standby, ...around });
    const { followers } = options;
    const isFollowing = (): boolean => this.#isReadOnly;
    this.#logs = new LogKeeper({
      ...{ collections, operations, log, settings, statusOf, isHolder, clock, logger },
      ...{ followers, isFollowing },
    });
    const context = {
      collections,
      log,
      clock,
      placements,
      backups,
      settings,
      isHolder,
      stateOf: (node: string) => nodes.stateOf(node),
      awayMs: (node: string) => away.ms(node),
      statusOf,
      liveOperations: () => operations.list().filter(isLive).reverse(),
      isRead: (shard: ShardId, through: number) =>
        followers?.placesOf(shard).every(({ sequence, isThere }) => !isThere || sequence >= through) ?? true,
    };
    this.#runner = new OperationRunner({ operations, context, clock, random, logger, onRest: () => this.#stir() });
  }

  start(): void {
    const { collections, nodes, operations, settings } = this.#options;
    for (const record of collections.values()) this.#note(record.name, record);
    const stir = (): void => this.#stir();
    this.#stopWatching = [
      collections.onChange((name, record) => this.#note(name, record)),
      nodes.onChange(stir),
      operations.onChange(stir),
      settings.onChange(() => this.#runner.hurry()),
      ...(this.#options.standby === undefined ? [] : [this.#options.standby.view.onChange(stir)]),
    ];
    this.#running = this.#run();
  }

  /** Ends after the steps in hand and gives the lease up. */
  async close(): Promise<void> {
    for (const stop of this.#stopWatching) stop();
    this.#closing.abort();
    this.#stir();
    await this.#running;
    await Promise.all([this.#runner.close(), this.#jobs.close()]);
    await this.#pruning;
    await this.#upkeep.close();
    await this.#balancer.close();
    await this.#resharder.close();
    await this.#chooser.close();
    await this.#logs.close();
    await this.#standby?.close();
    this.#placements.close();
    await this.#options.lease.release();
  }

  #note(name: string, record: Collection | undefined): void {
    const operation = record && operationFor(record);
    if (record === undefined || operation === undefined) this.#unsettled.delete(name);
    else {
      this.#unsettled.set(name, record);
      // A deletion ends the waiting of a creation that it undoes.
      for (const id of [operation.id, creationIdOf(record.id)]) this.#runner.hurry(id);
    }
    this.#stir();
  }

  #stir(): void {
    this.#isStirred = true;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    const { logger } = this.#options;
    let held = false;
    while (!this.#closing.signal.aborted) {
      this.#isStirred = false;
      try {
        const isHeld = await this.#holdLease();
        if (isHeld !== held) {
          held = isHeld;
          this.#away.forget();
          this.#logs.forget();
          await this.#standby?.forget();
          logger.info(held ? "this node is the coordinator now" : "this node is the coordinator no more", {});
        }
        if (held) this.#look();
        else {
          this.#runner.hurry();
          // Whoever is the coordinator now does it.
          this.#jobs.abortAll();
        }
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

  /** Until something changes, an operation is due again, or `ms` have passed. */
  async #pause(ms: number): Promise<void> {
    if (this.#isStirred) return;
    const wait = new AbortController();
    this.#wake = () => wait.abort();
    const untilDueMs = this.#runner.nextAttemptMs - this.#options.clock.monotonicMs();
    const pauseMs = Math.max(1, Math.min(ms, untilDueMs));
    await sleep(this.#options.clock, pauseMs, AbortSignal.any([wait.signal, this.#closing.signal])).catch(
      () => undefined,
    );
    this.#wake = undefined;
  }

  /** Whether this cluster follows another one: what there is comes from that one. */
  get #isReadOnly(): boolean {
    return this.#standby?.isReadOnly === true;
  }

  #look(): void {
    this.#noteNodes();
    this.#standby?.look();
    this.#logs.look();
    this.#runner.start([...this.#drafts(), ...this.#plan()]);
    this.#prune();
  }

  /** Operations that collections ask for and that are not under way. */
  *#drafts(): Iterable<NewOperation> {
    const { operations } = this.#options;
    const isUnderWay = (id: string): boolean => {
      const known = operations.get(id)?.value;
      return known !== undefined && isLive(known);
    };
    for (const record of this.#unsettled.values()) {
      const draft = operationFor(record);
      // What is changed elsewhere comes from there.
      if (this.#isReadOnly && draft?.kind !== "delete_collection") continue;
      // A creation that is under way undoes what it has done when it finds its collection being deleted.
      if (draft !== undefined && !isUnderWay(draft.id) && !isUnderWay(creationIdOf(record.id))) yield draft;
    }
  }

  /** Nodes renew their keys all the time: what is placed where is not looked through for each of them. */
  #plan(): NewOperation[] {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#plannedMs < planEveryMs) return [];
    this.#plannedMs = nowMs;
    this.#upkeep.clearLost();
    const moves = this.#upkeep.plan();
    // What a cluster that follows another one has comes from that one.
    if (!this.#isReadOnly) this.#chooser.look();
    const reshardings = this.#isReadOnly ? [] : this.#resharder.plan();
    return [...moves, ...this.#balancer.plan(moves.length === 0), ...reshardings];
  }

  #prune(): void {
    const { operations, logger } = this.#options;
    if (this.#pruning !== undefined || operations.endedCount <= limits.endedOperations + pruneSlack) return;
    this.#pruning = operations
      .prune(limits.endedOperations)
      .catch((error: unknown) => {
        const { code, message } = toKithError(error);
        logger.warn(`operations that have ended could not be forgotten: ${message}`, { code });
      })
      .finally(() => (this.#pruning = undefined));
  }

  /** Says in the log when a node comes or goes. What waits for nodes is tried again then. */
  #noteNodes(): void {
    const { nodes, logger } = this.#options;
    for (const node of nodes.all()) {
      const state = nodes.stateOf(node.id);
      const before = this.#nodeStates.get(node.id);
      if (before === state) continue;
      this.#nodeStates.set(node.id, state);
      this.#runner.hurry();
      if (state === "down") logger.warn(`node ${node.id} is down: it has not renewed its key`, { node: node.id });
      else if (before !== undefined) logger.info(`node ${node.id} is ${state}`, { node: node.id });
    }
  }
}
