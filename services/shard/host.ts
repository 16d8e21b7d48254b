import { deferred, KithError, sleep, type Timer, toKithError } from "../../libs/base/index.js";
import type { Replica } from "../../libs/engine/index.js";
import { type Handover, type HandoverPart, type ReplicaContent, type ReplicaFiles } from "../../libs/engine/index.js";
import {
  type Collection,
  type OperationOutcome,
  type ReplicaStatus,
  type ShardId,
  type Snapshot,
  type SnapshotWanted,
} from "../../libs/model/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../../libs/shard-api/index.js";
import type { SnapshotApi } from "../../libs/link/index.js";
import type { CallContext } from "../../libs/call/index.js";
import { Comparer, othersOf } from "./comparer.js";
import { SnapshotShelf } from "./shelf.js";
import { type Hosted, keyOf, unopened } from "./hosted.js";
import { ReplicaOpener } from "./opener.js";
import type { ShardHostOptions } from "./options.js";
import { ReplicaFolders } from "./replica-folders.js";
import { ReplicaGauges } from "./replica-gauges.js";

const stallCheckMs = 500;
/** A process that did not run for so long was stopped or starved: others may have taken it for dead. */
const stallMaxMs = 3_000;
/** How often a start looks whether the replicas have caught up. */
const caughtUpPollMs = 20;

/** Hosts the replicas that the catalog places on this node, and answers routers for them. */
export class ShardHost implements ShardApi, SnapshotApi {
  readonly #options: ShardHostOptions;
  readonly #hosted = new Map<string, Hosted>();
  /** By the key of a collection's record: its keys in `#hosted`. */
  readonly #hostedOf = new Map<string, Set<string>>();
  /** Keys of records that have changed since replicas were last matched with them. */
  readonly #changed = new Set<string>();
  readonly #closing = new AbortController();
  readonly #shelf: SnapshotShelf;
  readonly #folders: ReplicaFolders;
  readonly #opener: ReplicaOpener;
  #comparer: Comparer | undefined;
  #stopWatching: (() => void) | undefined;
  #gauges: ReplicaGauges | undefined;
  #stallTimer: Timer | undefined;
  /** When this process was last seen to run, in monotonic milliseconds. */
  #stallMs = 0;
  #reconciling: Promise<void> = Promise.resolve();

  constructor(options: ShardHostOptions) {
    this.#options = options;
    const { nodeId, clock, random } = options;
    this.#shelf = new SnapshotShelf(nodeId, clock, random);
    this.#folders = new ReplicaFolders(options);
    this.#opener = new ReplicaOpener(options, this.#folders, {
      find: (name) => this.#hosted.get(keyOf(name)),
      snapshot: (name, wanted) => this.snapshot(name, wanted),
    });
  }

  /**
   * Begins to open what the catalog says this node holds; resolves when requests can be taken, also for replicas that are
   * still being opened: these get SHARD_UNAVAILABLE. See `settled`.
   */
  async start(): Promise<void> {
    await this.#folders.setOrphansAside();
    const { collections, log, clock } = this.#options;
    this.#stopWatching = collections.onChange((key, record) => {
      if (record?.state === "deleting") this.#noteDeletion(key, record.id);
      this.#reconcileSoon(key);
    });
    for (const key of collections.names()) this.#reconcileSoon(key);
    await this.#reconciling;
    this.#gauges = new ReplicaGauges({ hosted: () => this.#hosted.values(), collections, log, clock });
    this.#comparer = this.#compareReplicas();
    this.#stallMs = clock.monotonicMs();
    this.#stallTimer = clock.every(() => this.#checkStall(), stallCheckMs).unref();
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
    this.#gauges?.close();
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
    const hosted = this.#hosted.get(keyOf(name));
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

  #replica(collectionId: string, shard: number): Replica {
    const hosted = this.#hosted.get(keyOf({ collectionId, shard }));
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
        wanted.set(keyOf({ collectionId: record.id, shard }), { name: { collectionId: record.id, shard }, record });
      }
      for (const hosted of this.#hostedUnder(recordKey)) {
        const { collectionId, shard } = hosted.name;
        const key = keyOf({ collectionId, shard });
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
      replica: this.#opener.open(name, record, AbortSignal.any([dropped.signal, this.#closing.signal]), (failure) => {
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

  async #drop({ name, collection, replica, dropped }: Hosted, isMeant: boolean): Promise<void> {
    dropped.abort();
    const open = await replica.catch(() => undefined);
    await open?.close();
    await this.#folders.drop(name, collection, isMeant);
  }
}
