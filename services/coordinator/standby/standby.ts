import { KithError, type Runtime, sleep, toKithError, withTimeout } from "../../../libs/base/index.js";
import {
  type CollectionsView,
  followerTellMs,
  type Operations,
  type StandbyView,
} from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Logger } from "../../../libs/telemetry/index.js";
import type { Placements } from "../placements.js";
import { CatalogMirror } from "./catalog-mirror.js";
import { FollowedLogs, type StatusOf } from "./followed-logs.js";
import type { PrimaryCluster } from "./primary.js";
import { fence, settled } from "./settle.js";

/** What a coordinator needs to follow another cluster. */
export interface StandbyOptions {
  view: StandbyView;
  /** Name of the primary in the settings; undefined where these name none. */
  primary: string | undefined;
  /** Name of this cluster. */
  cluster: string;
  /** Connects; rejects where the primary does not answer. */
  open: (signal: AbortSignal) => Promise<PrimaryCluster>;
  /** This cluster's, as it is stored. */
  stored: Log;
  /** The same, which encrypts what it is given. */
  log: Log;
}

interface Around extends Runtime {
  collections: CollectionsView;
  operations: Operations;
  placements: Placements;
  statusOf: StatusOf;
  isHolder: () => boolean;
  logger: Logger;
}

/** How often what the primary has is compared with what is here, at most. */
const passEveryMs = 250;
const removalTimeoutMs = 5_000;
const listTimeoutMs = 5_000;
/** A promotion waits so long for a primary that does not answer: it may be well, and have what is not here. */
const reconnectMs = 5_000;

/**
 * Makes this cluster what another one is, while it follows that one: the same collections and shards on nodes of its own, each log record by record. And
 * ends that when it is promoted. For the coordinator alone: one that was overtaken writes nothing that the next one would not.
 */
export class Standby {
  readonly #options: StandbyOptions & Around;
  readonly #logs: FollowedLogs;
  readonly #catalog: CatalogMirror;
  readonly #closing = new AbortController();
  #stopWatching: () => void = () => undefined;
  #primary: PrimaryCluster | undefined;
  #opening: Promise<void> | undefined;
  #reason = "";
  #passing: Promise<void> | undefined;
  #passedMs = Number.NEGATIVE_INFINITY;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(options: StandbyOptions & Around) {
    this.#options = options;
    this.#logs = new FollowedLogs(options);
    this.#catalog = new CatalogMirror({ ...options, logs: this.#logs });
  }

  /** Whether this cluster takes no changes of its own. */
  get isReadOnly(): boolean {
    return this.#options.view.refusal !== undefined;
  }

  /** To be called again and again by the holder of the lease. */
  look(): void {
    const { clock, logger } = this.#options;
    const nowMs = clock.monotonicMs();
    if (!this.isReadOnly || this.#passing !== undefined || nowMs - this.#passedMs < passEveryMs) return;
    this.#passedMs = nowMs;
    this.#passing = this.#pass()
      .catch((error: unknown) => {
        const { code, message } = toKithError(error);
        this.#say(message, () => logger.warn(`the primary cluster cannot be followed now: ${message}`, { code }));
      })
      .finally(() => (this.#passing = undefined));
  }

  /** Another coordinator follows from now on. */
  async forget(): Promise<void> {
    await this.#logs.forget();
    await this.#disconnect();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#passing;
    await this.#opening;
    await this.#logs.close();
    await this.#disconnect();
  }

  async #pass(): Promise<void> {
    const { view, primary, collections } = this.#options;
    const phase = view.state?.phase;
    if (phase === undefined) {
      if (primary === undefined) return;
      if (collections.size > 0) {
        throw new KithError(
          "FAILED_PRECONDITION",
          "this cluster has collections of its own, and follows no other one before they are deleted: take standby out of its settings to do so",
        );
      }
      await view.begin(primary);
      return;
    }
    if (phase === "promoting") return this.#promote();
    this.#connect();
    if (this.#primary !== undefined && this.#primary.log.available) {
      await this.#reconcile(this.#primary);
      await this.#logs.readEnds(this.#primary.log);
    }
    await this.#tell();
  }

  #connect(): void {
    const { open, logger, clock } = this.#options;
    if (this.#primary !== undefined || this.#opening !== undefined) return;
    this.#opening = open(this.#closing.signal)
      .then((primary) => {
        this.#primary = primary;
        this.#reason = "";
        this.#stopWatching = this.#catalog.watch(primary);
        logger.info("this cluster follows its primary", {});
      })
      .catch(async (error: unknown) => {
        const { code, message } = toKithError(error);
        if (this.#closing.signal.aborted) return;
        this.#say(message, () => logger.warn(`the primary cluster cannot be reached: ${message}`, { code }));
        await sleep(clock, passEveryMs, this.#closing.signal).catch(() => undefined);
      })
      .finally(() => (this.#opening = undefined));
  }

  async #disconnect(): Promise<void> {
    const primary = this.#primary;
    this.#primary = undefined;
    this.#stopWatching();
    this.#stopWatching = () => undefined;
    await primary?.close();
  }

  #say(reason: string, tell: () => void): void {
    if (reason === this.#reason) return;
    this.#reason = reason;
    tell();
  }

  /** Brings the catalog to what the primary's has, and repeats the logs of all shards. */
  async #reconcile(primary: PrimaryCluster): Promise<void> {
    const reason = await this.#catalog.reconcile(primary);
    await this.#logs.match(primary.log);
    const { logger } = this.#options;
    this.#say(reason, () => reason !== "" && logger.warn(`not all of the primary cluster is followed: ${reason}`, {}));
  }

  async #tell(): Promise<void> {
    const { view, clock, cluster } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#toldMs < followerTellMs) return;
    this.#toldMs = nowMs;
    // Of what it has not seen yet, it knows what the coordinator before it has told.
    const logs = this.#logs.isMatched ? await this.#logs.shown() : (view.progress?.logs ?? []);
    const isReachable = this.#primary?.log.available === true;
    const { orphans } = this.#catalog;
    await view.tell({ atMs: clock.nowMs(), isReachable, reason: this.#reason, orphans: [...orphans], logs });
    if (isReachable) await this.#primary?.followers.tell(cluster, this.#logs.places);
  }

  /** Takes what the primary still has, where it answers; then follows no more, and lets this cluster go on by itself. */
  async #promote(): Promise<void> {
    const { view, collections, cluster, logger, clock, isHolder } = this.#options;
    if (view.state?.hasRest !== true) {
      await this.#takeRest();
      if (!isHolder()) return;
      // From here on the catalog goes its own way, whoever goes on with this.
      await view.tookRest();
    }
    await this.#logs.stop();
    for (const key of collections.names()) {
      const record = collections.get(key)?.value;
      if (record?.state === "ready" && isHolder()) await this.#settle(key, record.id);
    }
    if (!isHolder()) return;
    const followers = this.#primary?.followers;
    if (followers !== undefined && this.#primary?.log.available === true) {
      await withTimeout(clock, removalTimeoutMs, () => followers.remove(cluster)).catch(() => undefined);
    }
    await view.promoted();
    await this.#disconnect();
    logger.warn("this cluster was promoted: it follows its primary no more, and takes writes", {});
  }

  /** What the primary has and is not here yet, of its catalog and of its logs, where it answers. */
  async #takeRest(): Promise<void> {
    const primary = await this.#answering();
    if (primary === undefined) return;
    // Of what changed a moment ago, its watch may not have told yet.
    await withTimeout(this.#options.clock, listTimeoutMs, () => primary.collections.refresh()).catch(() => undefined);
    await this.#reconcile(primary);
    await this.#logs.finish(primary.log, this.#closing.signal);
  }

  /** The primary, once it answers: a coordinator that has just taken over follows nothing yet, and a connection may have been cut a moment ago. */
  async #answering(): Promise<PrimaryCluster | undefined> {
    const { clock } = this.#options;
    const untilMs = clock.monotonicMs() + reconnectMs;
    for (;;) {
      this.#connect();
      await this.#opening;
      if (this.#primary?.log.available === true) return this.#primary;
      if (clock.monotonicMs() > untilMs || this.#closing.signal.aborted) return undefined;
      await sleep(clock, passEveryMs);
    }
  }

  async #settle(key: string, id: string): Promise<void> {
    const { collections, operations, log, clock, isHolder } = this.#options;
    const before = await collections.read(key);
    if (before === undefined || before.value.id !== id || before.value.state !== "ready") return;
    const own = before.value.shards.filter(({ state }) => state === "active");
    for (const { shard } of own) await fence({ collectionId: id, shard }, before.value.epoch, log, clock.nowMs());
    const sealedAt = (shard: number): Promise<number | undefined> => log.sealedAt({ collectionId: id, shard });
    const plan = await settled(before.value, sealedAt);
    if (!isHolder()) return;
    // An operation that does not find its shards takes the collection for deleted: they are there first.
    await collections.replace(key, plan.record, before.revision);
    for (const operation of plan.operations) {
      await operations.create(operation).catch((error: unknown) => {
        if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      });
    }
    for (const shard of plan.dropped) await log.remove({ collectionId: id, shard });
  }
}
