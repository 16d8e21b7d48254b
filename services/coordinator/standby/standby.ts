import { KithError, type Runtime, sleep, toKithError, withTimeout } from "../../../libs/base/index.js";
import {
  type CollectionsView,
  deletionIdOf,
  type FollowedLog,
  type FollowersView,
  followerTellMs,
  type NodesView,
  type Operations,
  type StandbyView,
} from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { Collection, ReplicaStatus, ShardId, ShardPlacement } from "../../../libs/model/index.js";
import { placeReplicas } from "../../../libs/sharding/index.js";
import { type GaugeReport, type Logger, registerGauge } from "../../../libs/telemetry/index.js";
import type { Placements } from "../placements.js";
import { LogMirror } from "./log-mirror.js";
import { followedIn, type MirrorContext, mirrored, shownState } from "./mirrored.js";
import { fence, settled } from "./settle.js";

/** The cluster that is followed, as its NATS tells it. */
export interface PrimaryCluster {
  collections: CollectionsView;
  nodes: NodesView;
  operations: Operations;
  /** As it is stored: records are not decrypted. */
  log: Log;
  followers: FollowersView;
  close(): Promise<void>;
}

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
  statusOf: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  isHolder: () => boolean;
  logger: Logger;
}

/** How often what the primary has is compared with what is here, and the ends of its logs are looked at, at most. */
const passEveryMs = 250;
const endsEveryMs = 1_000;
/** Names are compared so often, and records of which nothing was heard. */
const namesEveryMs = 1_000;
const compareEveryMs = 10_000;
/** The same, of each log. */
const endsEveryMsOfLog = 5;
const looksMax = 8;
/** A promotion waits so long for what the primary still has, where that answers. */
const finishMs = 10_000;
const stepTimeoutMs = 5_000;
/** A shard that is to be copied from the primary in the place of one that followed another here. */
const restMs = 3_000;

/**
 * Makes this cluster what another one is, while it follows that one: the same collections and shards on nodes of its own, each log record by record. And
 * ends that when it is promoted. For the coordinator alone: one that was overtaken writes nothing that the next one would not.
 */
export class Standby {
  readonly #options: StandbyOptions & Around;
  readonly #mirrors = new Map<string, { name: ShardId; collection: string; mirror: LogMirror }>();
  readonly #closing = new AbortController();
  /** Shards with a replica that has been whole. */
  readonly #whole = new Set<string>();
  readonly #resting = new Map<string, number>();
  /** Keys of records that have changed here or there since they were compared, or are on their way to what the primary has. */
  readonly #changed = new Set<string>();
  #stopWatching: (() => void)[] = [];
  #comparedMs = Number.NEGATIVE_INFINITY;
  readonly #stopGauges: (() => void)[];
  #primary: PrimaryCluster | undefined;
  #opening: Promise<void> | undefined;
  #reason = "";
  #orphans: string[] = [];
  #passing: Promise<void> | undefined;
  #passedMs = Number.NEGATIVE_INFINITY;
  #endsMs = Number.NEGATIVE_INFINITY;
  #toldMs = Number.NEGATIVE_INFINITY;
  #namesMs = Number.NEGATIVE_INFINITY;

  constructor(options: StandbyOptions & Around) {
    this.#options = options;
    this.#stopGauges = [
      this.#gauge("kith.standby.lag", ({ sequence, primarySequence }) => primarySequence - sequence),
      this.#gauge("kith.standby.lag.time", ({ lagMs }) => lagMs && lagMs / 1_000),
    ];
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
    await this.#closeMirrors();
    await this.#disconnect();
    this.#whole.clear();
    this.#resting.clear();
  }

  async close(): Promise<void> {
    for (const stop of this.#stopGauges) stop();
    this.#closing.abort();
    await this.#passing;
    await this.#opening;
    await this.forget();
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
      await this.#readEnds(this.#primary);
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
        this.#comparedMs = Number.NEGATIVE_INFINITY;
        const note = (key: string): unknown => this.#changed.add(key);
        this.#stopWatching = [primary.collections, this.#options.collections].map((view) => view.onChange(note));
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
    for (const stop of this.#stopWatching) stop();
    this.#stopWatching = [];
    await primary?.close();
  }

  #say(reason: string, tell: () => void): void {
    if (reason === this.#reason) return;
    this.#reason = reason;
    tell();
  }

  /** Brings the catalog to what the primary's has, and repeats the logs of all shards. */
  async #reconcile(primary: PrimaryCluster): Promise<void> {
    const { collections, logger } = this.#options;
    const orphans: string[] = [];
    let reason = "";
    const trying = async (what: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        const { message } = toKithError(error);
        reason = `${what}: ${message}`;
      }
    };
    for (const key of this.#due(primary)) {
      const theirs = primary.collections.get(key)?.value;
      // What changes from here on is heard of.
      this.#changed.delete(key);
      if (theirs === undefined) continue;
      let isSettled = false;
      await trying(`the collection "${theirs.name}"`, async () => {
        await this.#mirrorRecord(key, theirs, primary);
        const ours = collections.get(key)?.value;
        const isThere = ours?.id === theirs.id && ours.shards.every(({ state }) => state === "active");
        isSettled = isThere || theirs.state !== "ready";
      });
      if (!isSettled) this.#changed.add(key);
    }
    for (const key of collections.names()) {
      const ours = collections.get(key)?.value;
      if (ours === undefined || ours.state !== "ready") continue;
      const theirs = primary.collections.get(key)?.value;
      if (theirs?.id === ours.id && theirs.state !== "deleting") continue;
      // A record that is merely gone may have been lost: that is no reason to delete anything here.
      const isDeleted = theirs !== undefined || primary.operations.get(deletionIdOf(ours.id)) !== undefined;
      if (isDeleted) await trying(`the collection "${ours.name}"`, () => this.#markDeleted(key, ours.id));
      else orphans.push(collections.naming.nameOf(ours.id) ?? ours.name);
    }
    this.#orphans = orphans;
    await trying("the names of collections", () => this.#mirrorNames(primary));
    await this.#matchMirrors(primary);
    this.#say(reason, () => reason !== "" && logger.warn(`not all of the primary cluster is followed: ${reason}`, {}));
  }

  /** Those that may differ. All of them now and then: where the primary's nodes are is in no record. */
  #due(primary: PrimaryCluster): string[] {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#comparedMs >= compareEveryMs) {
      this.#comparedMs = nowMs;
      for (const key of primary.collections.names()) this.#changed.add(key);
    }
    return [...this.#changed].sort();
  }

  async #mirrorRecord(key: string, theirs: Collection, primary: PrimaryCluster): Promise<void> {
    const { collections, isHolder } = this.#options;
    // One that is being made, restored or deleted there is not to be had yet, or no more.
    if (theirs.state !== "ready" || theirs.restoring !== undefined) return;
    const known = collections.get(key)?.value;
    if (known !== undefined && known.id !== theirs.id) return;
    const context = await this.#contextOf(known, primary);
    if (known === undefined) {
      if (isHolder()) await collections.create(key, mirrored(theirs, undefined, context));
      return;
    }
    if (isSame(mirrored(theirs, known, context), known)) return;
    const gone: number[] = [];
    await collections.modify(key, (found) => {
      gone.length = 0;
      if (!isHolder() || found.id !== theirs.id || found.state !== "ready") return undefined;
      const next = mirrored(theirs, found, context);
      const left = new Set(next.shards.map(({ shard }) => shard));
      gone.push(...found.shards.map(({ shard }) => shard).filter((shard) => !left.has(shard)));
      return isSame(next, found) ? undefined : next;
    });
    for (const shard of gone) await this.#dropLog({ collectionId: theirs.id, shard });
  }

  async #dropLog(name: ShardId): Promise<void> {
    const key = keyOf(name);
    const known = this.#mirrors.get(key);
    this.#mirrors.delete(key);
    this.#whole.delete(key);
    this.#resting.set(key, this.#options.clock.monotonicMs());
    await known?.mirror.close();
    await this.#options.stored.remove(name);
  }

  async #contextOf(ours: Collection | undefined, { nodes }: PrimaryCluster): Promise<MirrorContext> {
    const { placements, clock } = this.#options;
    const ready = new Set<number>();
    const cutOff = new Set<number>();
    for (const shard of ours?.shards ?? []) {
      if (shard.state !== "preparing" || ours === undefined) continue;
      if (await this.#isReady(ours, shard)) ready.add(shard.shard);
      const parent = followedIn(shard, ours.shards);
      if (parent !== undefined && this.#isCutOff({ collectionId: ours.id, shard: parent.shard }))
        cutOff.add(parent.shard);
    }
    return {
      place: (shards, replicationFactor) => {
        const candidates = placements.candidates();
        const count = Math.max(1, Math.min(replicationFactor, candidates.length));
        return placeReplicas(shards, count, candidates, { state: "active", sinceMs: clock.nowMs() });
      },
      sourcesOf: ({ replicas }) =>
        replicas
          .filter(({ state }) => state === "active")
          .flatMap(({ node }) => {
            const address = nodes.get(node)?.linkAddress ?? "";
            return address === "" ? [] : [{ node, address }];
          }),
      isReady: ({ shard }) => ready.has(shard),
      isCutOff: ({ shard }) => cutOff.has(shard),
      isResting: (shard) => {
        const sinceMs = this.#resting.get(keyOf({ collectionId: ours?.id ?? "", shard }));
        return sinceMs !== undefined && clock.monotonicMs() - sinceMs < restMs;
      },
      nowMs: clock.nowMs(),
    };
  }

  /** Whether a replica of a new shard has all that it took over. */
  async #isReady({ id: collectionId, shards }: Collection, shard: ShardPlacement): Promise<boolean> {
    const name = { collectionId, shard: shard.shard };
    const parent = followedIn(shard, shards);
    const sealedAt = parent && (await this.#options.stored.sealedAt({ collectionId, shard: parent.shard }));
    if (parent !== undefined && sealedAt === undefined) return false;
    const isMerge = shard.origin?.merge !== undefined;
    return (await this.#statusesOf(name, shard)).some((status) => {
      if (status.state !== "active") return false;
      if (isMerge) return (status.adoptedSequence ?? 0) > 0;
      return status.appliedSequence >= (sealedAt ?? 1);
    });
  }

  async #statusesOf(name: ShardId, { replicas }: ShardPlacement): Promise<ReplicaStatus[]> {
    const all = await Promise.all(
      replicas.map(({ node }) => this.#options.statusOf(node, name).catch(() => undefined)),
    );
    return all.filter((status) => status !== undefined);
  }

  /** The primary has removed a log that has not come to its end here. */
  #isCutOff(name: ShardId): boolean {
    const known = this.#mirrors.get(keyOf(name));
    if (known === undefined || known.mirror.state !== "waiting" || this.#primary === undefined) return false;
    const theirs = this.#primary.collections.findById(name.collectionId);
    return theirs !== undefined && !theirs.shards.some(({ shard }) => shard === name.shard);
  }

  async #markDeleted(key: string, id: string): Promise<void> {
    const { collections, isHolder } = this.#options;
    await collections.modify(key, (found) =>
      isHolder() && found.id === id && found.state === "ready" ? { ...found, state: "deleting" } : undefined,
    );
  }

  async #mirrorNames(primary: PrimaryCluster): Promise<void> {
    const { collections, isHolder } = this.#options;
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#namesMs < namesEveryMs) return;
    const theirs = await primary.collections.readDirectory();
    const ours = await collections.readDirectory();
    if (!isSame(theirs, ours) && isHolder()) await collections.changeDirectory(() => theirs);
    this.#namesMs = nowMs;
  }

  /** One mirror for each log that is to be repeated now. */
  async #matchMirrors(primary: PrimaryCluster): Promise<void> {
    const { collections, stored, clock, random, logger } = this.#options;
    const wanted = new Map<string, { name: ShardId; collection: string }>();
    for (const record of collections.values()) {
      if (record.state !== "ready") continue;
      for (const shard of record.shards) {
        const name = { collectionId: record.id, shard: shard.shard };
        const parent = followedIn(shard, record.shards);
        // What was written behind the end of another log is not to be had before that end.
        if (
          parent !== undefined &&
          (await stored.sealedAt({ ...name, shard: parent.shard }).catch(() => undefined)) === undefined
        )
          continue;
        if (shard.state !== "sealed") wanted.set(keyOf(name), { name, collection: record.name });
      }
    }
    for (const [key, { mirror }] of this.#mirrors) {
      if (wanted.has(key)) continue;
      this.#mirrors.delete(key);
      await mirror.close();
    }
    for (const [key, { name, collection }] of wanted) {
      if (this.#mirrors.has(key)) continue;
      const fields = { collection, shard: name.shard };
      const mirror = new LogMirror({
        ...{ name, theirs: primary.log, ours: stored, clock, random },
        onRestart: (reason) => {
          this.#whole.delete(key);
          logger.warn(
            `the log of shard ${name.shard} of "${collection}" is begun again, and its replicas copied: ${reason}`,
            fields,
          );
        },
        onFailure: ({ code, message }) =>
          logger.warn(`the log of shard ${name.shard} of "${collection}" cannot be repeated now: ${message}`, {
            ...fields,
            code,
          }),
      });
      this.#mirrors.set(key, { name, collection, mirror });
    }
  }

  /** Where the primary's logs end now: what is not here yet is the lag. */
  async #readEnds({ log }: PrimaryCluster): Promise<void> {
    const { clock } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#endsMs < Math.max(endsEveryMs, this.#mirrors.size * endsEveryMsOfLog)) return;
    this.#endsMs = nowMs;
    const left = [...this.#mirrors.values()].filter(({ mirror }) => mirror.state === "following");
    const work = async (): Promise<void> => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        const { name, mirror } = next;
        const askedMs = clock.monotonicMs();
        const state = await log.state(name).catch(() => undefined);
        if (state !== undefined) mirror.noteEnd(state.lastSequence, askedMs);
      }
    };
    await Promise.all(Array.from({ length: looksMax }, work));
  }

  async #tell(): Promise<void> {
    const { view, clock, cluster } = this.#options;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#toldMs < followerTellMs) return;
    this.#toldMs = nowMs;
    const logs: FollowedLog[] = [];
    for (const [key, { name, collection, mirror }] of this.#mirrors) {
      const { sequence, primarySequence, lagMs, reason } = mirror;
      const shard = this.#shardOf(name);
      const isWhole = this.#whole.has(key) || (await this.#noteWhole(key, name, shard));
      const state = shownState(mirror.state, shard?.state, isWhole);
      logs.push({
        ...name,
        collection,
        state,
        sequence,
        primarySequence,
        ...(lagMs !== undefined && { lagMs }),
        ...(reason !== "" && { reason }),
      });
    }
    const isReachable = this.#primary?.log.available === true;
    await view.tell({ atMs: clock.nowMs(), isReachable, reason: this.#reason, orphans: this.#orphans, logs });
    if (!isReachable) return;
    const places = [...this.#mirrors.values()].map(({ name, mirror }) => ({ ...name, sequence: mirror.sequence }));
    await this.#primary?.followers.tell(cluster, places);
  }

  #shardOf({ collectionId, shard }: ShardId): ShardPlacement | undefined {
    return this.#options.collections.findById(collectionId)?.shards.find((each) => each.shard === shard);
  }

  async #noteWhole(key: string, name: ShardId, shard: ShardPlacement | undefined): Promise<boolean> {
    const statuses = shard === undefined ? [] : await this.#statusesOf(name, shard);
    const isWhole = statuses.some(({ state }) => state === "active");
    if (isWhole) this.#whole.add(key);
    return isWhole;
  }

  /** Takes what the primary still has, where it answers; then follows no more, and lets this cluster go on by itself. */
  async #promote(): Promise<void> {
    const { view, collections, cluster, logger, clock, isHolder } = this.#options;
    await this.#finish();
    await this.#closeMirrors();
    for (const key of collections.names()) {
      const record = collections.get(key)?.value;
      if (record?.state === "ready" && isHolder()) await this.#settle(key, record.id);
    }
    if (!isHolder()) return;
    const followers = this.#primary?.followers;
    if (followers !== undefined && this.#primary?.log.available === true) {
      await withTimeout(clock, stepTimeoutMs, () => followers.remove(cluster)).catch(() => undefined);
    }
    await view.promoted();
    await this.#disconnect();
    logger.warn("this cluster was promoted: it follows its primary no more, and takes writes", {});
  }

  async #finish(): Promise<void> {
    const primary = this.#primary;
    const { clock } = this.#options;
    if (primary === undefined || !primary.log.available) return;
    const untilMs = clock.monotonicMs() + finishMs;
    const left = async ({ name, mirror }: { name: ShardId; mirror: LogMirror }): Promise<void> => {
      const end = await withTimeout(clock, stepTimeoutMs, () => primary.log.state(name)).catch(() => undefined);
      while (end !== undefined && mirror.state === "following" && mirror.sequence < end.lastSequence) {
        if (clock.monotonicMs() > untilMs || this.#closing.signal.aborted) return;
        await sleep(clock, 20);
      }
    };
    await Promise.all([...this.#mirrors.values()].map(left));
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

  async #closeMirrors(): Promise<void> {
    const all = [...this.#mirrors.values()];
    this.#mirrors.clear();
    await Promise.all(all.map(({ mirror }) => mirror.close()));
  }

  #gauge(name: Parameters<typeof registerGauge>[0], value: (mirror: LogMirror) => number | undefined): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const { name: shard, collection, mirror } of this.#mirrors.values()) {
        const now = value(mirror);
        if (now !== undefined) report(now, { "kith.collection": collection, "kith.shard": shard.shard });
      }
    });
  }
}

function keyOf({ collectionId, shard }: ShardId): string {
  return `${collectionId}/${shard}`;
}

function isSame(one: object, other: object): boolean {
  return JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
}

/** With the keys of objects in one order, whoever has written them. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, each]) => [key, sorted(each)]));
}
