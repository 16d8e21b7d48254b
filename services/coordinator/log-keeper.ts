import { toKithError } from "../../libs/base/index.js";
import {
  type CollectionsView,
  type ClusterSettings,
  type FollowersView,
  isLive,
  type OperationRecord,
  type Operations,
} from "../../libs/cluster/index.js";
import type { Clock } from "../../libs/base/index.js";
import type { Log, LogState } from "../../libs/log/index.js";
import type { Collection, ReplicaStatus, ShardId, ShardPlacement } from "../../libs/model/index.js";
import { counterOf, type Logger } from "../../libs/telemetry/index.js";
import { LogMender } from "./log-mender.js";
import { beginOfRetention } from "./log-retention.js";

export interface LogKeeperOptions {
  collections: CollectionsView;
  operations: Operations;
  log: Log;
  settings: () => ClusterSettings;
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  /** Whether this process still is the coordinator. */
  isHolder: () => boolean;
  /** The clusters that follow this one. */
  followers?: FollowersView | undefined;
  /** Whether this cluster follows another one: its logs are mended there. */
  isFollowing?: () => boolean;
  clock: Clock;
  logger: Logger;
}

/** How often all logs are looked at, at most: the less often the more there are. */
const lookEveryMs = 15_000;
/** While one of them looks wrong. */
const doubtEveryMs = 2_000;
const lookEveryMsOfLog = 20;
/** Logs that are looked at at once. */
const looksMax = 4;
/** A trim that takes less than this share of a log is left for later. */
const worthShare = 1 / 16;
/** Operations that need nothing of a log that its replicas do not need. */
const undemandingKinds: ReadonlySet<string> = new Set(["move_replica", "change_schema", "promote_generation"]);

const trimmed = counterOf("kith.log.trimmed");

/**
 * Mends the logs (LogMender), and trims them: each up to what all replicas of its shard have flushed to their disks, less the retention. Nothing is trimmed where no active
 * replica answers. What is not active, or cannot be asked, holds back what it has not flushed, but not for ever: a replica that finds its log
 * trimmed takes a copy of another one.
 */
export class LogKeeper {
  readonly #options: LogKeeperOptions;
  readonly #mender: LogMender;
  #lookedMs: number;
  #looking: Promise<void> | undefined;
  /** By holder: since when it has held a log back, in monotonic milliseconds. */
  #heldSinceMs = new Map<string, number>();
  /** What each replica has flushed, as it said last. */
  #durable = new Map<string, number>();

  constructor(options: LogKeeperOptions) {
    this.#options = options;
    this.#mender = new LogMender(options);
    this.#lookedMs = options.clock.monotonicMs();
  }

  /** To be called again and again. */
  look(): void {
    const { clock, collections, settings, logger } = this.#options;
    if (this.#looking !== undefined) return;
    const nowMs = clock.monotonicMs();
    const everyMs = Math.min(this.#mender.doubts ? doubtEveryMs : lookEveryMs, settings().replicaFlushMs);
    if (nowMs - this.#lookedMs < everyMs) return;
    this.#lookedMs = nowMs;
    const all = collections
      .values()
      .filter(({ state }) => state === "ready")
      .flatMap((record) => record.shards.map((shard) => ({ record, shard })));
    this.#looking = this.#lookAt(all)
      .catch((error: unknown) => {
        const { code, message } = toKithError(error);
        logger.warn(`the logs could not be looked at: ${message}`, { code });
      })
      .finally(() => {
        this.#looking = undefined;
        this.#lookedMs = Math.max(this.#lookedMs, nowMs + all.length * lookEveryMsOfLog - everyMs);
      });
  }

  async close(): Promise<void> {
    await this.#looking;
  }

  /** What this process knows of who holds logs back, of a time in which it was not the coordinator. */
  forget(): void {
    this.#mender.forget();
    this.#heldSinceMs.clear();
    this.#durable.clear();
  }

  async #lookAt(all: readonly { record: Collection; shard: ShardPlacement }[]): Promise<void> {
    const { logger, isHolder } = this.#options;
    this.#mender.keep(new Set(all.map(({ record, shard }) => `${record.id}/${shard.shard}`)));
    const left = [...all];
    const holders = new Set<string>();
    const work = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined && isHolder(); next = left.pop()) {
        const { record, shard } = next;
        try {
          const state = shard.state === "active" ? await this.#stateOf(record, shard) : undefined;
          if (state !== undefined) await this.#trim(record, shard, state, holders);
        } catch (error) {
          const { code, message } = toKithError(error);
          const fields = { collection: record.name, shard: shard.shard, code };
          if (code !== "LOG_UNAVAILABLE") logger.warn(`a log could not be looked after: ${message}`, fields);
        }
      }
    };
    await Promise.all(Array.from({ length: looksMax }, work));
    for (const holder of this.#heldSinceMs.keys()) if (!holders.has(holder)) this.#heldSinceMs.delete(holder);
  }

  /** Undefined where it is not what it should be. */
  async #stateOf(record: Collection, shard: ShardPlacement): Promise<LogState | undefined> {
    const { log, isFollowing } = this.#options;
    if (isFollowing?.() !== true) return this.#mender.look(record, shard);
    try {
      return await log.state({ collectionId: record.id, shard: shard.shard });
    } catch (error) {
      if (toKithError(error).code === "NOT_FOUND") return undefined;
      throw error;
    }
  }

  async #trim(record: Collection, shard: ShardPlacement, state: LogState, holders: Set<string>): Promise<void> {
    const { log, settings, isHolder, logger, clock } = this.#options;
    const name = { collectionId: record.id, shard: shard.shard };
    const retained = await beginOfRetention(log, name, state, settings(), clock.nowMs());
    if (retained - state.firstSequence < worthShare * (state.lastSequence - state.firstSequence + 1)) return;
    if (this.#operationHolds(record.id, holders)) return;
    const through = Math.min(retained - 1, await this.#durableOfAll(record, shard, state, holders));
    if (through < state.firstSequence || !isHolder()) return;
    await log.trim(name, through);
    const count = through - state.firstSequence + 1;
    trimmed.add(count, { "kith.collection": record.name, "kith.shard": shard.shard });
    logger.info(`the log of shard ${shard.shard} of "${record.name}" was trimmed up to record ${through}`, {
      collection: record.name,
      shard: shard.shard,
      records: count,
    });
  }

  /** What every replica has flushed, apart from those that have held the log back for too long; 0 where no active one answers. */
  async #durableOfAll(
    { id }: Collection,
    { shard, replicas }: ShardPlacement,
    { incarnation }: LogState,
    holders: Set<string>,
  ): Promise<number> {
    const { statusOf } = this.#options;
    const name = { collectionId: id, shard };
    const answers = await Promise.all(
      replicas.map(async ({ node }) => {
        const status = await statusOf(node, name).catch(() => undefined);
        return { holder: `${id}/${shard}/${node}`, status };
      }),
    );
    let least = Number.POSITIVE_INFINITY;
    let hasActive = false;
    // A cluster that follows this one takes what it lacks from its log; when it is away, for as long as a replica.
    for (const { name: follower, sequence, isThere } of this.#options.followers?.placesOf(name) ?? []) {
      if (isThere || this.#holds(`${id}/${shard}/follower/${follower}`, holders)) least = Math.min(least, sequence);
    }
    for (const { holder, status } of answers) {
      const follows = status?.incarnation === incarnation;
      if (follows) this.#durable.set(holder, status.durableSequence ?? 0);
      const durable = this.#durable.get(holder) ?? 0;
      if (follows && status.state === "active") {
        hasActive = true;
        least = Math.min(least, durable);
      } else if (this.#holds(holder, holders)) least = Math.min(least, durable);
    }
    return hasActive ? least : 0;
  }

  /** A backup or a restoration reads logs, and a shard that is being changed is left alone. */
  #operationHolds(collectionId: string, holders: Set<string>): boolean {
    const { operations } = this.#options;
    return operations.list().some((operation) => {
      if (!isLive(operation) || undemandingKinds.has(operation.kind)) return false;
      if (operation.subject.collectionId !== collectionId && !readsOtherLogs(operation)) return false;
      return this.#holds(`operation/${operation.id}`, holders);
    });
  }

  /** Whether it may still hold a log back. */
  #holds(holder: string, holders: Set<string>): boolean {
    const { clock, settings } = this.#options;
    const nowMs = clock.monotonicMs();
    holders.add(holder);
    const sinceMs = this.#heldSinceMs.get(holder) ?? nowMs;
    this.#heldSinceMs.set(holder, sinceMs);
    return nowMs - sinceMs < settings().logHoldMs;
  }
}

/** A restoration reads the logs of the collection that was backed up, which its record does not name. */
function readsOtherLogs({ kind }: OperationRecord): boolean {
  return kind === "restore_collection";
}
