import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, KithError, sleep, toKithError } from "../../libs/base/index.js";
import type { CatalogView } from "../../libs/cluster/index.js";
import { type IndexFactory, Replica } from "../../libs/engine/index.js";
import type { Log } from "../../libs/log/index.js";
import type {
  Collection,
  IdKey,
  OperationOutcome,
  ReplicaStatus,
  Select,
  ShardQuery,
  ShardCount,
  ShardPage,
  ShardPoints,
  ShardQueryResult,
} from "../../libs/model/index.js";
import type { ReplicaName, ShardApi } from "../../libs/rpc/index.js";
import {
  type CallContext,
  type GaugeReport,
  type Logger,
  metricsEnabled,
  registerGauge,
} from "../../libs/telemetry/index.js";

export interface ShardHostOptions {
  nodeId: string;
  /** Folder of this node; replicas lie in replicas/<collection id>/<shard>. */
  data: string;
  collections: CatalogView<Collection>;
  log: Log;
  clock: Clock;
  indexes: IndexFactory;
  logger: Logger;
}

interface Hosted {
  name: ReplicaName;
  collection: string;
  replica: Promise<Replica>;
  /** The replica once it is open, for the hot path. */
  open: Replica | undefined;
  /** End of the shard's log when it was last asked for the lag; 0 before. */
  logSequence: number;
}

const lagEveryMs = 5_000;
const reopenAfterMs = { initial: 500, max: 15_000 };

/** Hosts the replicas that the catalog places on this node, and answers routers for them. */
export class ShardHost implements ShardApi {
  readonly #options: ShardHostOptions;
  readonly #hosted = new Map<string, Hosted>();
  readonly #closing = new AbortController();
  #stopWatching: (() => void) | undefined;
  #stopGauges: (() => void)[] = [];
  #lagTimer: NodeJS.Timeout | undefined;
  #reconciling: Promise<void> = Promise.resolve();

  constructor(options: ShardHostOptions) {
    this.#options = options;
  }

  /** Opens what the catalog says this node holds; resolves when all of it can be asked. */
  async start(): Promise<void> {
    await mkdir(this.#root, { recursive: true });
    await this.#setOrphansAside();
    this.#stopWatching = this.#options.collections.onChange(() => this.#reconcileSoon());
    this.#reconcileSoon();
    await this.#reconciling;
    this.#stopGauges = [
      this.#gauge("kith.replica.applied_sequence", (status) => status.appliedSequence),
      this.#gauge("kith.replica.lag", (status, hosted) => Math.max(0, hosted.logSequence - status.appliedSequence)),
      this.#gauge("kith.replica.points", (status) => status.pointCount),
      this.#gauge("kith.replica.unindexed", (status) => status.unindexedVectorCount),
    ];
    if (metricsEnabled()) this.#lagTimer = setInterval(() => void this.#readLogs(), lagEveryMs).unref();
    await Promise.all([...this.#hosted.values()].map((hosted) => hosted.replica.catch(() => undefined)));
  }

  /** Checkpoints and closes every replica. */
  async close(): Promise<void> {
    this.#stopWatching?.();
    for (const stop of this.#stopGauges) stop();
    clearInterval(this.#lagTimer);
    this.#closing.abort(new KithError("SHUTTING_DOWN", `node ${this.#options.nodeId} is shutting down`));
    await this.#reconciling;
    const hosted = [...this.#hosted.values()];
    this.#hosted.clear();
    await Promise.all(
      hosted.map((each) =>
        each.replica.then(
          (replica) => replica.close(),
          () => undefined,
        ),
      ),
    );
  }

  query({ collectionId, shard }: ReplicaName, query: ShardQuery, call: CallContext): Promise<ShardQueryResult> {
    return this.#replica(collectionId, shard).query(query, call);
  }

  async get(
    name: ReplicaName,
    ids: readonly IdKey[],
    select: Select,
    atLeast: number,
    call: CallContext,
  ): Promise<ShardPoints> {
    return this.#replica(name.collectionId, name.shard).get(ids, select, atLeast, call);
  }

  async scroll(
    name: ReplicaName,
    after: IdKey | undefined,
    limit: number,
    select: Select,
    atLeast: number,
    call: CallContext,
  ): Promise<ShardPage> {
    return this.#replica(name.collectionId, name.shard).scroll(after, limit, select, atLeast, call);
  }

  async count(name: ReplicaName, atLeast: number, call: CallContext): Promise<ShardCount> {
    return this.#replica(name.collectionId, name.shard).count(atLeast, call);
  }

  async wait(
    name: ReplicaName,
    sequence: number,
    operationIds: readonly Uint8Array[],
    call: CallContext,
  ): Promise<OperationOutcome[]> {
    return this.#replica(name.collectionId, name.shard).wait(sequence, operationIds, call);
  }

  async waitIndexed(name: ReplicaName, call: CallContext): Promise<number> {
    return this.#replica(name.collectionId, name.shard).waitIndexed(call);
  }

  async status(name: ReplicaName, _call: CallContext): Promise<ReplicaStatus> {
    return this.#replica(name.collectionId, name.shard).status();
  }

  #gauge(
    name: Parameters<typeof registerGauge>[0],
    value: (status: ReplicaStatus, hosted: Hosted) => number,
  ): () => void {
    return registerGauge(name, (report: GaugeReport) => {
      for (const hosted of this.#hosted.values()) {
        const attributes = { "kith.collection": hosted.collection, "kith.shard": hosted.name.shard };
        if (hosted.open) report(value(hosted.open.status(), hosted), attributes);
      }
    });
  }

  async #readLogs(): Promise<void> {
    const { log } = this.#options;
    const read = async (hosted: Hosted): Promise<void> => {
      hosted.logSequence = (await log.state(hosted.name)).lastSequence;
    };
    // While the log is away its end is not known, and the last one that was known stands.
    await Promise.allSettled([...this.#hosted.values()].map(read));
  }

  get #root(): string {
    return join(this.#options.data, "replicas");
  }

  #directory({ collectionId, shard }: ReplicaName): string {
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

  #reconcileSoon(): void {
    this.#reconciling = this.#reconciling
      .then(() => this.#reconcile())
      .catch((error: unknown) => {
        this.#options.logger.error("replicas could not be matched with the catalog", {
          error: toKithError(error).message,
        });
      });
  }

  /** Opens replicas that the catalog places here, drops those that it places here no more. */
  async #reconcile(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    const wanted = new Map<string, { name: ReplicaName; record: Collection }>();
    for (const record of this.#options.collections.values()) {
      if (record.state !== "ready") continue;
      for (const { shard, nodes } of record.shards) {
        if (nodes.includes(this.#options.nodeId)) {
          wanted.set(keyOf(record.id, shard), { name: { collectionId: record.id, shard }, record });
        }
      }
    }
    const unwanted = [...this.#hosted].filter(([key]) => !wanted.has(key));
    for (const [key] of unwanted) this.#hosted.delete(key);
    await Promise.all(unwanted.map(([, hosted]) => this.#drop(hosted)));
    for (const [key, { name, record }] of wanted) {
      if (this.#hosted.has(key)) continue;
      const hosted: Hosted = {
        name,
        collection: record.name,
        replica: this.#openWithRetry(name, record),
        open: undefined,
        logSequence: 0,
      };
      this.#hosted.set(key, hosted);
      hosted.replica.then(
        (replica) => {
          hosted.open = replica;
        },
        () => undefined, // The host was closed before the replica could be opened; #openWithRetry has logged every failure.
      );
    }
  }

  async #openWithRetry(name: ReplicaName, record: Collection): Promise<Replica> {
    const { log, clock, indexes, logger } = this.#options;
    const fields = { collection: record.name, shard: name.shard };
    for (let delayMs = reopenAfterMs.initial; ; delayMs = Math.min(delayMs * 2, reopenAfterMs.max)) {
      try {
        const startMs = clock.monotonicMs();
        const replica = await Replica.open({
          directory: this.#directory(name),
          collection: record,
          shard: name.shard,
          log,
          clock,
          indexes,
          onAlarm: ({ kind, message }) => {
            // The log of a collection that is being deleted may vanish before its replicas are closed.
            if (this.#wanted(name)) logger.error(`replica alarm: ${message}`, { ...fields, alarm: kind });
          },
        });
        logger.info(`replica opened in ${Math.round(clock.monotonicMs() - startMs)} ms`, {
          ...fields,
          applied: replica.appliedSequence,
        });
        return replica;
      } catch (error) {
        if (this.#closing.signal.aborted || !this.#wanted(name)) throw error;
        logger.error(`the replica cannot be opened, next try in ${delayMs} ms: ${toKithError(error).message}`, fields);
        await sleep(delayMs, this.#closing.signal);
      }
    }
  }

  #wanted({ collectionId, shard }: ReplicaName): boolean {
    return this.#hosted.has(keyOf(collectionId, shard));
  }

  async #drop(hosted: Hosted): Promise<void> {
    const replica = await hosted.replica.catch(() => undefined);
    await replica?.close();
    await rm(this.#directory(hosted.name), { recursive: true, force: true });
    this.#options.logger.info("replica dropped", { collection: hosted.collection, shard: hosted.name.shard });
  }

  /**
   * Replicas on disk that the catalog does not know (a collection deleted while this node was down, or a catalog that
   * lost its data) are moved aside, never deleted: a wrong catalog must not cost a single point.
   */
  async #setOrphansAside(): Promise<void> {
    const { collections, data, clock, logger } = this.#options;
    const known = new Set(collections.values().map((record) => record.id));
    for (const id of await readdir(this.#root)) {
      if (known.has(id)) continue;
      const aside = join(data, "orphans", `${id}-${clock.nowMs()}`);
      await mkdir(join(data, "orphans"), { recursive: true });
      await rename(join(this.#root, id), aside);
      logger.warn(
        `the catalog does not know the collection ${id}: its replicas were moved to ${aside}; delete them when they are not missed`,
        {},
      );
    }
  }
}

function keyOf(collectionId: string, shard: number): string {
  return `${collectionId}/${shard}`;
}
