import { existsSync } from "node:fs";
import { readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  deferred,
  type Deferred,
  KithError,
  type Runtime,
  sleep,
  type Timer,
  toKithError,
  makeFolder,
} from "../../libs/base/index.js";
import type { CollectionsView } from "../../libs/cluster/index.js";
import {
  type Handover,
  type HandoverPart,
  type IndexFactory,
  Replica,
  type ReplicaContent,
  type ReplicaFiles,
  type ReplicaOptions,
} from "../../libs/engine/index.js";
import type { Log, LogState } from "../../libs/log/index.js";
import {
  type Collection,
  type FilePlace,
  type FollowedShard,
  followedBy,
  type OperationOutcome,
  type ReplicaPlacement,
  type RecallStatus,
  type ReplicaStatus,
  type ShardId,
  type Snapshot,
  type SnapshotWanted,
} from "../../libs/model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../../libs/shard-api/index.js";
import type { SnapshotApi } from "../../libs/link/index.js";
import type { CallContext } from "../../libs/call/index.js";
import { type GaugeReport, type Logger, metricsEnabled, registerGauge, untraced } from "../../libs/telemetry/index.js";
import { type FetchSnapshot, PlacedPeers } from "./peers.js";
import type { RestoredFiles } from "./backup/part-files.js";
import { type CountHandles, countHandles, leaveHandles } from "./file-handles.js";
import { Comparer, othersOf } from "./comparer.js";
import { Pace } from "./pace.js";
import { Semaphore } from "./semaphore.js";
import { SnapshotShelf } from "./shelf.js";

export interface ShardHostOptions extends Runtime {
  nodeId: string;
  /** Folder of this node; replicas lie in replicas/<collection id>/<shard>. */
  data: string;
  collections: CollectionsView;
  log: Log;
  indexes: IndexFactory;
  logger: Logger;
  /** Undefined where there are no other nodes. */
  fetchSnapshot?: FetchSnapshot;
  /** What shards begin with that are restored by files; undefined where no backups are. */
  restoredFiles?: RestoredFiles;
  /** What a replica of another node says of itself; undefined where there are no other nodes. */
  statusOf?: (node: string, replica: ShardId) => Promise<ReplicaStatus>;
  /** How often replicas are compared, and verified; for tests. Milliseconds. */
  compareEveryMs?: number;
  verifyEveryMs?: number;
  /** What this node may take of copies, in bytes a second; 0 and missing: no limit. */
  copyBytesPerSecond?: () => number;
  /** How often replicas flush what they have applied, at least. Milliseconds. */
  flushEveryMs?: () => number;
  /** For each replica. */
  tuning?: ReplicaOptions["tuning"];
  store?: ReplicaOptions["store"];
  /** Of this process where it is missing. */
  countHandles?: CountHandles;
}

interface Hosted {
  readonly name: ShardId;
  readonly collection: string;
  /** Rejects where the replica was dropped, or the host closed, before it could be opened. */
  replica: Promise<Replica>;
  /** Resolves when the replica is open, or could not be opened at the first try. */
  readonly tried: Deferred<void>;
  readonly dropped: AbortController;
  /** The replica once it is open, for the hot path. */
  open: Replica | undefined;
  /** Why the last try to open it failed. */
  failure: KithError | undefined;
  /** Whether its collection was seen being deleted. */
  deleting: boolean;
  /** The shard's log when it was last asked; undefined before. */
  log: LogState | undefined;
}

const lagEveryMs = 5_000;
/** Alarms that are as it should be where a replica joins. */
const expectedOfJoining: ReadonlySet<string> = new Set(["copy_started", "copied"]);
const stallCheckMs = 500;
/** A process that did not run for so long was stopped or starved: others may have taken it for dead. */
const stallMaxMs = 3_000;
/** A replica that cannot tell what operations did is asked again after so long. */
const tellAgainMs = 100;
/** How often a start looks whether the replicas have caught up. */
const caughtUpPollMs = 20;
const reopenAfterMs = { initial: 500, max: 15_000 };
/**
 * Replicas that are opened at once. Each of them fills a LevelDB's caches and walks through all its points, and loads every
 * vector field on a native thread of its own: hundreds at once would cost more memory and threads than they save time.
 */
export const opensMax = 4;
/** Replicas without anything on disk that are opened at once: they have nothing to walk through or to load. */
export const freshOpensMax = 16;

/** Hosts the replicas that the catalog places on this node, and answers routers for them. */
export class ShardHost implements ShardApi, SnapshotApi {
  readonly #options: ShardHostOptions;
  readonly #hosted = new Map<string, Hosted>();
  /** By the key of a collection's record: its keys in `#hosted`. */
  readonly #hostedOf = new Map<string, Set<string>>();
  /** Keys of records that have changed since replicas were last matched with them. */
  readonly #changed = new Set<string>();
  readonly #closing = new AbortController();
  readonly #opens = new Semaphore(opensMax);
  readonly #freshOpens = new Semaphore(freshOpensMax);
  readonly #shelf: SnapshotShelf;
  readonly #pace: Pace;
  #comparer: Comparer | undefined;
  #stopWatching: (() => void) | undefined;
  #stopGauges: (() => void)[] = [];
  #lagTimer: Timer | undefined;
  #stallTimer: Timer | undefined;
  /** When this process was last seen to run, in monotonic milliseconds. */
  #stallMs = 0;
  #reconciling: Promise<void> = Promise.resolve();

  constructor(options: ShardHostOptions) {
    this.#options = options;
    const { nodeId, clock, random, copyBytesPerSecond = () => 0 } = options;
    this.#shelf = new SnapshotShelf(nodeId, clock, random);
    this.#pace = new Pace(clock, copyBytesPerSecond);
  }

  /**
   * Begins to open what the catalog says this node holds; resolves when requests can be taken, also for replicas that are
   * still being opened: these get SHARD_UNAVAILABLE. See `settled`.
   */
  async start(): Promise<void> {
    await makeFolder(this.#root);
    await this.#setOrphansAside();
    const { collections } = this.#options;
    this.#stopWatching = collections.onChange((key, record) => {
      if (record?.state === "deleting") this.#noteDeletion(key, record.id);
      this.#reconcileSoon(key);
    });
    for (const key of collections.names()) this.#reconcileSoon(key);
    await this.#reconciling;
    this.#stopGauges = [
      this.#gauge("kith.replica.applied_sequence", (status) => status.appliedSequence),
      this.#gauge("kith.replica.lag", (status, hosted) =>
        Math.max(0, (hosted.log?.lastSequence ?? 0) - status.appliedSequence),
      ),
      this.#gauge("kith.replica.points", (status) => status.pointCount),
      this.#gauge("kith.replica.unindexed", (status) => status.unindexedVectorCount),
      this.#gauge("kith.replica.memory", (status) => status.memoryBytes),
      this.#gauge("kith.replica.disk", (status) => status.diskBytes),
      this.#gauge("kith.replica.store.memory", (_, { open }) => open?.storeMemoryBytes ?? 0),
      this.#gauge("kith.replica.durable_sequence", (status) => status.durableSequence ?? 0),
      this.#recallGauge("kith.recall", ({ recall }) => recall),
      this.#recallGauge("kith.recall.margin", ({ margin }) => margin),
      this.#recallGauge("kith.recall.samples", ({ samples }) => samples),
      this.#recallGauge("kith.recall.held", ({ isHeld }) => (isHeld ? 1 : 0)),
      this.#logGauge("kith.log.size", ({ sizeBytes }) => sizeBytes),
      this.#logGauge("kith.log.first_sequence", ({ firstSequence }) => firstSequence),
      this.#logGauge("kith.log.last_sequence", ({ lastSequence }) => lastSequence),
      registerGauge("kith.replica.count", (report) => this.#countStates(report)),
    ];
    this.#comparer = this.#compareReplicas();
    this.#stallMs = this.#options.clock.monotonicMs();
    this.#stallTimer = this.#options.clock.every(() => this.#checkStall(), stallCheckMs).unref();
    if (metricsEnabled()) {
      this.#lagTimer = this.#options.clock.every(() => void this.#readLogs(), lagEveryMs).unref();
    }
  }

  /** Resolves when each replica is open or has failed to open once: one that cannot be opened does not hold up the others. */
  async settled(): Promise<void> {
    await Promise.all([...this.#hosted.values()].map((hosted) => hosted.tried.promise));
  }

  /** Whether no replica still replays its log. One that could not be opened, or has met a fault, is not waited for: its log says why. */
  get isCaughtUp(): boolean {
    return [...this.#hosted.values()].every((hosted) => {
      if (hosted.open === undefined) return hosted.failure !== undefined;
      return hosted.open.state !== "catching_up" && hosted.open.state !== "initializing";
    });
  }

  /** Resolves when `isCaughtUp`, or this host is closed. */
  async caughtUp(): Promise<void> {
    const { clock } = this.#options;
    while (!this.isCaughtUp && !this.#closing.signal.aborted) {
      // The only rejection is our own closing, which the loop's condition sees.
      await sleep(clock, caughtUpPollMs, this.#closing.signal).catch(() => undefined);
    }
  }

  /** Checkpoints and closes every replica. */
  async close(): Promise<void> {
    this.#stopWatching?.();
    for (const stop of this.#stopGauges) stop();
    this.#lagTimer?.close();
    this.#stallTimer?.close();
    this.#closing.abort(new KithError("SHUTTING_DOWN", `node ${this.#options.nodeId} is shutting down`));
    await this.#reconciling;
    await this.#comparer?.close();
    await this.#shelf.close();
    const hosted = [...this.#hosted.values()];
    this.#hosted.clear();
    this.#hostedOf.clear();
    await Promise.all(
      hosted.map((each) =>
        each.replica.then(
          (replica) => replica.close(),
          () => undefined,
        ),
      ),
    );
  }

  async read<K extends ReadKind>(
    kind: K,
    { collectionId, shard }: ShardId,
    request: ReadRequest<K>,
    call: CallContext,
  ): Promise<ReadAnswer<K>> {
    return this.#replica(collectionId, shard).read(kind, request, call);
  }

  async wait(
    name: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]> {
    return this.#replica(name.collectionId, name.shard).wait(sequence, operationIds, call);
  }

  async waitIndexed(name: ShardId, call: CallContext): Promise<number> {
    return this.#replica(name.collectionId, name.shard).waitIndexed(call);
  }

  async status(name: ShardId, minSequence: number, _call: CallContext): Promise<ReplicaStatus> {
    const hosted = this.#hosted.get(keyOf(name.collectionId, name.shard));
    if (hosted !== undefined && hosted.open === undefined && !this.#closing.signal.aborted) return unopened(hosted);
    return this.#replica(name.collectionId, name.shard).status(minSequence);
  }

  async snapshot({ collectionId, shard }: ShardId, wanted: SnapshotWanted): Promise<Snapshot> {
    const replica = this.#replica(collectionId, shard);
    const name = { collectionId, shard };
    if (wanted.resume !== undefined) return this.#shelf.resume(name, wanted.resume);
    return this.#shelf.give(name, () => replica.snapshot(wanted));
  }

  /** All that an active replica of this node holds now. Close it. */
  async content({ collectionId, shard }: ShardId): Promise<ReplicaContent> {
    return this.#replica(collectionId, shard).content();
  }

  /** The files that an active replica of this node has now. Close them. */
  async files({ collectionId, shard }: ShardId): Promise<ReplicaFiles> {
    return this.#replica(collectionId, shard).files();
  }

  /** The next part of what an active replica of this node holds, for the shard that its own is merged into. */
  handover({ collectionId, shard }: ShardId, reader: Handover, signal: AbortSignal): Promise<HandoverPart | undefined> {
    return this.#replica(collectionId, shard).handover(reader, signal);
  }

  #gauge(
    name: Parameters<typeof registerGauge>[0],
    value: (status: ReplicaStatus, hosted: Hosted) => number,
  ): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#hosted.values()) {
        const attributes = { "kith.collection": this.#nameOf(hosted), "kith.shard": hosted.name.shard };
        if (hosted.open) report(value(hosted.open.status(), hosted), attributes);
      }
    });
  }

  #recallGauge(name: Parameters<typeof registerGauge>[0], value: (recall: RecallStatus) => number): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#hosted.values()) {
        const attributes = { "kith.collection": this.#nameOf(hosted), "kith.shard": hosted.name.shard };
        for (const recall of hosted.open?.status().recalls ?? []) {
          const { field, k, share } = recall;
          report(value(recall), { ...attributes, "kith.field": field, "kith.k": k, "kith.share": share });
        }
      }
    });
  }

  /** Of the logs of the replicas here, as of some seconds ago. */
  #logGauge(name: Parameters<typeof registerGauge>[0], value: (log: LogState) => number): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#hosted.values()) {
        const { log, name: shard } = hosted;
        if (log !== undefined)
          report(value(log), { "kith.collection": this.#nameOf(hosted), "kith.shard": shard.shard });
      }
    });
  }

  #compareReplicas(): Comparer {
    const { nodeId, collections, clock, logger, compareEveryMs, verifyEveryMs } = this.#options;
    const away = (node: string): never => {
      throw new KithError("SHARD_UNAVAILABLE", `node ${node} cannot be asked`);
    };
    return new Comparer({
      ...{ clock, logger, signal: this.#closing.signal },
      ...(compareEveryMs !== undefined && { compareEveryMs }),
      ...(verifyEveryMs !== undefined && { verifyEveryMs }),
      statusOf: this.#options.statusOf ?? (async (node) => away(node)),
      replicas: () => {
        return [...this.#hosted.values()].flatMap(({ name, collection, open }) => {
          const others = othersOf(collections.findById(name.collectionId), name.shard, nodeId);
          return open === undefined ? [] : [{ name, collection, replica: open, others }];
        });
      },
    });
  }

  /** Timers run before sockets are read: what was asked meanwhile is answered by a replica that knows that it is behind. */
  #checkStall(): void {
    const { clock, logger } = this.#options;
    const stoodMs = clock.monotonicMs() - this.#stallMs;
    this.#stallMs += stoodMs;
    if (stoodMs < stallMaxMs) return;
    logger.warn(`this process stood still for ${Math.round(stoodMs)} ms: its replicas catch up before they answer`, {});
    for (const { open } of this.#hosted.values()) void open?.recheck();
  }

  /** The present name of its collection. */
  #nameOf({ name, collection }: Hosted): string {
    return this.#options.collections.naming.nameOf(name.collectionId) ?? collection;
  }

  #countStates(report: GaugeReport): void {
    const counts = new Map<string, Map<string, number>>();
    for (const hosted of this.#hosted.values()) {
      const { state } = hosted.open?.status() ?? unopened(hosted);
      const collection = this.#nameOf(hosted);
      const ofCollection = counts.get(collection) ?? new Map<string, number>();
      counts.set(collection, ofCollection.set(state, (ofCollection.get(state) ?? 0) + 1));
    }
    for (const [collection, states] of counts) {
      for (const [state, count] of states) {
        report(count, { "kith.collection": collection, "kith.replica.state": state });
      }
    }
  }

  async #readLogs(): Promise<void> {
    const { log } = this.#options;
    const read = async (hosted: Hosted): Promise<void> => {
      hosted.log = await log.state(hosted.name);
    };
    // While the log is away its end is not known, and the last one that was known stands.
    await Promise.allSettled([...this.#hosted.values()].map(read));
  }

  get #root(): string {
    return join(this.#options.data, "replicas");
  }

  #directory({ collectionId, shard }: ShardId): string {
    return join(this.#root, collectionId, String(shard));
  }

  #replica(collectionId: string, shard: number): Replica {
    const hosted = this.#hosted.get(keyOf(collectionId, shard));
    if (hosted?.open !== undefined) return hosted.open;
    if (this.#closing.signal.aborted)
      throw new KithError("SHUTTING_DOWN", `node ${this.#options.nodeId} is shutting down`);
    throw new KithError(
      "SHARD_UNAVAILABLE",
      hosted === undefined
        ? `node ${this.#options.nodeId} does not hold shard ${shard} of the collection with id ${collectionId}`
        : `node ${this.#options.nodeId} is still opening shard ${shard} of "${hosted.collection}"`,
      { details: { node: this.#options.nodeId, shard }, retryAfterMs: 100 },
    );
  }

  #reconcileSoon(key: string): void {
    this.#changed.add(key);
    // The look that is due takes it too.
    if (this.#changed.size > 1) return;
    this.#reconciling = this.#reconciling
      .then(() => this.#reconcile())
      .catch((error: unknown) => {
        this.#options.logger.error("replicas could not be matched with the catalog", {
          error: toKithError(error).message,
        });
      });
  }

  #noteDeletion(recordKey: string, collectionId: string): void {
    for (const hosted of this.#hostedUnder(recordKey)) {
      if (hosted.name.collectionId === collectionId) hosted.deleting = true;
    }
  }

  #hostedUnder(recordKey: string): Hosted[] {
    const keys = [...(this.#hostedOf.get(recordKey) ?? [])];
    return keys.map((key) => this.#hosted.get(key)).filter((hosted) => hosted !== undefined);
  }

  /**
   * Opens replicas that the catalog places here, drops those that it places here no more: of the collections whose records have changed. Looking
   * at all of them for each change would make the creation of many quadratic.
   */
  async #reconcile(): Promise<void> {
    const changed = [...this.#changed];
    this.#changed.clear();
    if (this.#closing.signal.aborted) return;
    const wanted = new Map<string, { name: ShardId; record: Collection }>();
    const drops: Promise<void>[] = [];
    for (const recordKey of changed) {
      const stored = this.#options.collections.get(recordKey)?.value;
      const record = stored?.state === "ready" ? stored : undefined;
      for (const { shard, replicas } of record?.shards ?? []) {
        // A replica follows its log while it is joining or leaving as well.
        if (record === undefined || !replicas.some(({ node }) => node === this.#options.nodeId)) continue;
        wanted.set(keyOf(record.id, shard), { name: { collectionId: record.id, shard }, record });
      }
      for (const hosted of this.#hostedUnder(recordKey)) {
        const { collectionId, shard } = hosted.name;
        const key = keyOf(collectionId, shard);
        if (wanted.has(key)) continue;
        this.#hosted.delete(key);
        this.#hostedOf.get(recordKey)?.delete(key);
        // Every deletion passes through the state "deleting", and a placement elsewhere is written in the record. A record
        // that is merely gone may as well have been lost.
        drops.push(this.#drop(hosted, hosted.deleting || record?.id === collectionId));
      }
      if (this.#hostedOf.get(recordKey)?.size === 0) this.#hostedOf.delete(recordKey);
    }
    try {
      await Promise.all(drops);
    } finally {
      for (const [key, { name, record }] of wanted) if (!this.#hosted.has(key)) this.#host(key, name, record);
    }
  }

  #host(key: string, name: ShardId, record: Collection): void {
    const tried = deferred<void>();
    const dropped = new AbortController();
    const hosted: Hosted = {
      name,
      collection: record.name,
      tried,
      dropped,
      replica: this.#openWithRetry(name, record, AbortSignal.any([dropped.signal, this.#closing.signal]), (failure) => {
        hosted.failure = failure;
        tried.resolve();
      }),
      open: undefined,
      failure: undefined,
      deleting: false,
      log: undefined,
    };
    this.#hosted.set(key, hosted);
    const ofRecord = this.#hostedOf.get(record.name);
    if (ofRecord === undefined) this.#hostedOf.set(record.name, new Set([key]));
    else ofRecord.add(key);
    hosted.replica
      .then(
        (replica) => {
          hosted.open = replica;
        },
        () => undefined, // It was dropped, or the host closed, before it could be opened; every failure has been logged.
      )
      .finally(() => tried.resolve());
  }

  async #openWithRetry(
    name: ShardId,
    record: Collection,
    ended: AbortSignal,
    onFailure: (failure: KithError) => void,
  ): Promise<Replica> {
    const { logger, clock } = this.#options;
    const fields = { collection: record.name, shard: name.shard };
    for (let delayMs = reopenAfterMs.initial; ; delayMs = Math.min(delayMs * 2, reopenAfterMs.max)) {
      try {
        // The place is given back between two tries: one that cannot be opened does not hold up the others.
        const opens = existsSync(this.#directory(name)) ? this.#opens : this.#freshOpens;
        return await opens.run(() => this.#open(name, record), ended);
      } catch (error) {
        if (ended.aborted) throw error;
        const failure = toKithError(error);
        logger.error(`the replica cannot be opened, next try in ${delayMs} ms: ${failure.message}`, fields);
        onFailure(failure);
        await sleep(clock, delayMs, ended);
      }
    }
  }

  async #open(name: ShardId, record: Collection): Promise<Replica> {
    const { nodeId, collections, log, clock, random, indexes, logger, fetchSnapshot, tuning, store } = this.#options;
    const { flushEveryMs } = this.#options;
    const fields = { collection: record.name, shard: name.shard };
    await leaveHandles(this.#options.countHandles ?? countHandles);
    const startMs = clock.monotonicMs();
    const isJoining = this.#isJoining(name, record);
    const isRestored = record.restoring?.parts !== undefined;
    const follows = (): FollowedShard | undefined => {
      const shards = collections.findById(record.id)?.shards ?? record.shards;
      return followedBy(shards, name.shard);
    };
    const replica = await Replica.open({
      directory: this.#directory(name),
      collection: record,
      shard: name.shard,
      log,
      clock,
      random,
      indexes,
      ...(flushEveryMs && { flushEveryMs }),
      ...(tuning && { tuning }),
      ...(store && { store }),
      ...((fetchSnapshot !== undefined || follows() !== undefined || isRestored) && {
        peers: new PlacedPeers(
          nodeId,
          name,
          collections,
          (...asked) => this.#fetchSnapshot(...asked),
          (...asked) => this.#restored(name, ...asked),
        ),
      }),
      follows,
      beginsBehind: record.shards.find(({ shard }) => shard === name.shard)?.origin?.merge?.beginsBehind,
      told: (shard, ...asked) => this.#told({ ...name, shard }, ...asked),
      startsAsCopy: isJoining || isRestored,
      // The collection answers nobody before: nothing is to be spared.
      pace: (sizeBytes, signal) =>
        collections.findById(record.id)?.restoring === undefined
          ? this.#pace.pass(sizeBytes, signal)
          : Promise.resolve(),
      onAlarm: ({ kind, message }) => {
        // The log of a collection that is being deleted may vanish before its replicas are closed.
        if (!this.#wanted(name)) return;
        if ((isJoining || isRestored) && expectedOfJoining.has(kind)) logger.info(message, fields);
        else logger.error(`replica alarm: ${message}`, { ...fields, alarm: kind });
      },
    });
    logger.info(`replica opened in ${Math.round(clock.monotonicMs() - startMs)} ms`, {
      ...fields,
      applied: replica.appliedSequence,
    });
    return replica;
  }

  /** Of another node, or of this one. */
  #fetchSnapshot(...[node, replica, wanted, signal, address]: Parameters<FetchSnapshot>): Promise<Snapshot> {
    const { nodeId, fetchSnapshot } = this.#options;
    if (node === nodeId && address === undefined) return this.snapshot(replica, wanted);
    if (fetchSnapshot !== undefined) return fetchSnapshot(node, replica, wanted, signal, address);
    return Promise.reject(new KithError("SHARD_UNAVAILABLE", `node ${nodeId} knows no other nodes`));
  }

  /** The files that a backup has of the shard; undefined where it is not restored by files, or is by now. */
  #restored(
    { collectionId, shard }: ShardId,
    incarnation: string,
    from: FilePlace | undefined,
  ): Promise<Snapshot> | undefined {
    const { collections, restoredFiles } = this.#options;
    const origin = collections.findById(collectionId)?.restoring;
    return origin?.parts === undefined ? undefined : restoredFiles?.(origin, shard, incarnation, from);
  }

  /** What operations of another shard did, as its replica here tells: a replica that follows that shard is where one of these is. */
  async #told(
    replica: ShardId,
    sequence: number,
    operationIds: readonly Uint8Array[],
    signal: AbortSignal,
  ): Promise<OperationOutcome[]> {
    for (;;) {
      const hosted = this.#hosted.get(keyOf(replica.collectionId, replica.shard));
      if (hosted === undefined) {
        const message = `node ${this.#options.nodeId} has no replica of shard ${replica.shard} any more`;
        return operationIds.map(() => new KithError("FAILED_PRECONDITION", message));
      }
      try {
        if (hosted.open !== undefined) {
          return await hosted.open.wait(sequence, operationIds, { signal, trace: untraced });
        }
      } catch (error) {
        if (signal.aborted) throw error;
      }
      await sleep(this.#options.clock, tellAgainMs, signal);
    }
  }

  #isJoining({ shard }: ShardId, { shards }: Collection): boolean {
    const placed = shards.find((each) => each.shard === shard)?.replicas;
    return placed?.some(({ node, state }) => node === this.#options.nodeId && state === "joining") === true;
  }

  #wanted({ collectionId, shard }: ShardId): boolean {
    return this.#hosted.has(keyOf(collectionId, shard));
  }

  /** Closes a replica and deletes its directory where that `isMeant`; otherwise moves it aside. */
  async #drop({ name, collection, replica, dropped }: Hosted, isMeant: boolean): Promise<void> {
    const { logger } = this.#options;
    const fields = { collection, shard: name.shard };
    dropped.abort();
    const open = await replica.catch(() => undefined);
    await open?.close();
    const directory = this.#directory(name);
    if (isMeant) {
      await rm(directory, { recursive: true, force: true });
      logger.info("replica dropped", fields);
    } else {
      const aside = join(this.#asideOf(name.collectionId), String(name.shard));
      await moveAside(directory, aside);
      logger.error(
        `replica alarm: the catalog has lost the collection "${collection}", which nobody had deleted: its replica was moved to ${aside}. ` +
          `Once the catalog is restored, stop this node, move the replica back to ${directory} and start; delete it when it is not missed`,
        { ...fields, alarm: "catalog_lost" },
      );
    }
    // Only the last one finds the collection's folder empty.
    await rmdir(dirname(directory)).catch(() => undefined);
  }

  #asideOf(collectionId: string): string {
    return join(this.#options.data, "orphans", `${collectionId}-${this.#options.clock.nowMs()}`);
  }

  /**
   * Replicas on disk that the catalog does not know (a collection deleted while this node was down, or a catalog that
   * lost its data) are moved aside, never deleted: a wrong catalog must not cost a single point. Those that were given to other nodes
   * meanwhile are deleted, where one of these is active.
   */
  async #setOrphansAside(): Promise<void> {
    const { collections, logger } = this.#options;
    for (const id of await readdir(this.#root)) {
      const record = collections.findById(id);
      if (record?.state === "deleting") await rm(join(this.#root, id), { recursive: true, force: true });
      else if (record?.state === "ready") await this.#deleteReplaced(record);
      if (record !== undefined) continue;
      const aside = this.#asideOf(id);
      await moveAside(join(this.#root, id), aside);
      logger.warn(
        `the catalog does not know the collection ${id}: its replicas were moved to ${aside}; delete them when they are not missed`,
        {},
      );
    }
  }

  async #deleteReplaced({ id, name, shards }: Collection): Promise<void> {
    const { nodeId, logger } = this.#options;
    for (const { shard, replicas } of shards) {
      const isElsewhere = !replicas.some(({ node }) => node === nodeId) && replicas.some(isActive);
      const directory = this.#directory({ collectionId: id, shard });
      if (!isElsewhere || !existsSync(directory)) continue;
      await rm(directory, { recursive: true, force: true });
      logger.info("replica dropped: other nodes have taken its place while this one was away", {
        collection: name,
        shard,
      });
    }
  }
}

function isActive({ state }: ReplicaPlacement): boolean {
  return state === "active";
}

async function moveAside(directory: string, aside: string): Promise<void> {
  await makeFolder(dirname(aside));
  await rename(directory, aside);
}

/** What is told of a replica that is not open yet. */
function unopened({ failure }: Hosted): ReplicaStatus {
  return {
    state: failure === undefined ? "initializing" : "stale",
    appliedSequence: 0,
    pointCount: 0,
    indexedVectorCount: 0,
    unindexedVectorCount: 0,
    memoryBytes: 0,
    diskBytes: 0,
    digest: "",
    digestFormat: 1,
    fault: failure === undefined ? "" : `it cannot be opened: ${failure.message}`,
    ...(failure && { faultCode: failure.code }),
    schemaVersion: 0,
    payloadIndexes: [],
    unindexedFields: [],
  };
}

function keyOf(collectionId: string, shard: number): string {
  return `${collectionId}/${shard}`;
}
