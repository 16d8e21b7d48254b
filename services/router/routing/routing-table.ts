import { setMaxListeners } from "node:events";
import { KithError, type Runtime, type Timer, withTimeout } from "../../../libs/base/index.js";
import type { CollectionsView } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { counterOf, type Logger, silentLogger, untraced } from "../../../libs/telemetry/index.js";
import { checkCollectionName, type Collection, type ShardPlacement } from "../../../libs/model/index.js";
import { accessOf, checkAllowed, notFound } from "../access.js";
import { WriteLane } from "../write/write-lane.js";
import { Epochs } from "./epochs.js";
import { ReplicaHandle, type ShardNode } from "./replica-handle.js";
import { Rates } from "../rates.js";
import { RoutedCollection } from "./routed-collection.js";
import { RoutedShard } from "./routed-shard.js";

/** Gives the node behind an id; one object per node for the life of the router. */
export type NodeFinder = (nodeId: string) => ShardNode;

export interface RoutingTableOptions extends Runtime {
  collections: CollectionsView;
  log: Log;
  zone: string;
  findNode: NodeFinder;
  logger?: Logger;
}

const statusEveryMs = 1_000;
const statusTimeoutMs = 2_000;

const diverged = counterOf("kith.replica.diverged");

/** Collections by name, resolved once per change of the catalog; keeps the replicas' states fresh. */
export class RoutingTable {
  readonly #options: RoutingTableOptions;
  /** By the keys of their records. */
  readonly #resolved = new Map<string, RoutedCollection>();
  readonly #stopWatching: (() => void)[];
  readonly #timer: Timer;
  /** Those whose replicas differ, and have been reported. */
  readonly #diverged = new WeakSet<RoutedShard>();
  #polling = false;
  /** The `buildCount` of the names that the resolved collections have. */
  #seenBuild = -1;
  /** Calls to collections that allow so many a second. */
  readonly rates: Rates;
  /** What lets calls go on where shards are split or merged. */
  readonly epochs: Epochs;

  constructor(options: RoutingTableOptions) {
    this.#options = options;
    this.rates = new Rates(options.clock);
    const { collections, clock } = options;
    this.epochs = new Epochs({ collections, clock, find: (name) => this.find(name) });
    for (const record of collections.values()) this.#update(record.name, record);
    this.#stopWatching = [
      collections.onChange((key, record) => {
        this.#update(key, record);
        // As a rule a record's change gives no other collection another name.
        if (collections.naming.buildCount !== this.#seenBuild) this.#rename();
      }),
      collections.directory.onChange(() => this.#rename()),
    ];
    this.#timer = options.clock.every(() => void this.#pollStatus(), statusEveryMs).unref();
  }

  /** Of the router. */
  get runtime(): Runtime {
    return this.#options;
  }

  /**
   * By name or alias, for a caller that may do with the collection what it calls for. COLLECTION_NOT_FOUND, or COLLECTION_NOT_READY while its replicas
   * are being placed; PERMISSION_DENIED.
   */
  resolve(name: string, call: CallContext): RoutedCollection {
    const found = this.find(name);
    if (found !== undefined) {
      checkAllowed(call, found.record.name, name);
      return found;
    }
    checkCollectionName(name);
    const record = this.#options.collections.naming.find(name)?.record;
    if (record === undefined || record.state === "deleting") {
      throw notFound(name);
    }
    checkAllowed(call, record.name, name);
    const doing = record.restoring === undefined ? "created" : "restored";
    throw new KithError("COLLECTION_NOT_READY", `the collection "${name}" is being ${doing}; try again in a moment`, {
      details: { collection: name },
      retryAfterMs: 200,
    });
  }

  /** As `resolve`, before a call is answered: undefined for what the caller may not do, too, so that nothing is done otherwise on its account. */
  findFor(name: string, call: CallContext): RoutedCollection | undefined {
    const found = this.find(name);
    return found !== undefined && accessOf(call).decide(found.record.name).isAllowed ? found : undefined;
  }

  /** Whoever asks; undefined where there is none that is ready. What it tells must not come to callers. */
  find(name: string): RoutedCollection | undefined {
    const named = this.#options.collections.naming.find(name);
    return named && this.#resolved.get(named.key);
  }

  all(): RoutedCollection[] {
    return [...this.#resolved.values()].sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  close(): void {
    this.#timer.close();
    for (const stop of this.#stopWatching) stop();
    for (const collection of this.#resolved.values()) {
      for (const lane of collection.lanes())
        lane.close(new KithError("SHUTTING_DOWN", "the router is shutting down; try another"));
    }
  }

  /** Collections that have another name than when they were resolved. */
  #rename(): void {
    const { collections } = this.#options;
    this.#seenBuild = collections.naming.buildCount;
    for (const [key, { record }] of this.#resolved) {
      if (collections.naming.nameOf(record.id) !== record.name) this.#update(key, collections.get(key)?.value);
    }
  }

  #update(key: string, stored: Collection | undefined): void {
    const before = this.#resolved.get(key);
    const name = (stored && this.#options.collections.naming.nameOf(stored.id)) ?? before?.record.name ?? key;
    const record = stored?.name === name ? stored : stored && { ...stored, name };
    const isReady = record?.state === "ready" && record.restoring === undefined;
    const same = isReady && before?.record.id === record.id ? before : undefined;
    // The name may be given to another collection already: what became of this one while the watch was away is not told.
    if (same === undefined) {
      for (const lane of before?.lanes() ?? []) {
        lane.close(
          new KithError("COLLECTION_NOT_FOUND", `the collection "${name}" was deleted`, {
            details: { collection: name },
          }),
        );
      }
    }
    if (!isReady) {
      this.#resolved.delete(key);
      return;
    }
    const shards = record.shards.map((placement) => this.#route(record.id, placement, same?.find(placement.shard)));
    const lanes = this.#lanesOf(record, shards, same);
    const routed = new RoutedCollection(record, shards, lanes);
    this.#resolved.set(key, routed);
    this.epochs.change();
    // Only this one: a poll of all at each change would make the creation of many collections quadratic.
    void this.#pollOne(routed);
  }

  /** Where nothing has moved, the shard goes on with all that is known of it; else with what is known of the replicas that stay. */
  #route(collectionId: string, placement: ShardPlacement, old: RoutedShard | undefined): RoutedShard {
    if (old?.isPlacedAs(placement) === true) return old;
    const { zone, findNode } = this.#options;
    const replicas = placement.replicas.map((each) => {
      const known = old?.replicas.find((replica) => replica.node.id === each.node);
      if (known === undefined) return new ReplicaHandle(findNode(each.node), each);
      known.placement = each;
      return known;
    });
    return new RoutedShard({ collectionId, shard: placement.shard }, placement, replicas, zone, this.#options);
  }

  /** A lane for each shard that owns slots. Those of shards that have lost them to others are closed: their writers find the new way. */
  #lanesOf(
    record: Collection,
    shards: readonly RoutedShard[],
    same: RoutedCollection | undefined,
  ): Map<number, WriteLane> {
    const { log, clock, random } = this.#options;
    const before = new Map(Array.from(same?.lanes() ?? [], (lane) => [lane.shard, lane]));
    const lanes = new Map<number, WriteLane>();
    for (const shard of shards) {
      if (shard.placement.state !== "active") continue;
      const lane =
        before.get(shard.id.shard) ?? new WriteLane({ log, clock, random, id: shard.id, collection: record.name });
      lane.route(shard, record.epoch, record.name);
      lanes.set(shard.id.shard, lane);
      before.delete(shard.id.shard);
    }
    for (const [shard, lane] of before) {
      const message = `shard ${shard} of "${record.name}" has passed its hash slots on to other shards; try again`;
      lane.close(new KithError("STALE_EPOCH", message, { details: { shard }, retryAfterMs: 100 }));
    }
    return lanes;
  }

  /** Asks every replica of these shards for its state now. Never rejects. */
  async poll(shards: readonly RoutedShard[], parent?: AbortSignal): Promise<void> {
    const askAll = async (signal: AbortSignal): Promise<void> => {
      // All requests wait for one signal, and their number is bounded by the replicas.
      setMaxListeners(0, signal);
      await Promise.all(shards.flatMap((shard) => shard.replicas.map((replica) => refresh(shard, replica, signal))));
    };
    await withTimeout(this.#options.clock, statusTimeoutMs, askAll, parent);
  }

  async #pollOne(collection: RoutedCollection): Promise<void> {
    await this.poll(collection.allShards());
    for (const shard of collection.allShards()) this.#judge(collection, shard);
  }

  /** Asks every replica for its state, so that stale ones leave the rotation before a query meets them. */
  async #pollStatus(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    try {
      await Promise.all(this.all().map((collection) => this.#pollOne(collection)));
    } finally {
      this.#polling = false;
    }
  }

  #judge(collection: RoutedCollection, shard: RoutedShard): void {
    shard.judgeLag();
    const [one, other] = shard.diverged() ?? [];
    if (one === undefined || other === undefined || this.#diverged.has(shard)) return;
    this.#diverged.add(shard);
    const fields = { collection: collection.record.name, shard: shard.id.shard };
    diverged.add(1, { "kith.collection": fields.collection, "kith.shard": fields.shard });
    const { logger = silentLogger } = this.#options;
    logger.error(
      `the replicas of shard ${fields.shard} of "${fields.collection}" on the nodes ${one.node.id} and ${other.node.id} differ at sequence ${one.status?.appliedSequence} ` +
        `(digests ${one.status?.digest} and ${other.status?.digest}): one of them is not what its log says. Build both anew, one after the other: stop the node, ` +
        `delete replicas/${shard.id.collectionId}/${fields.shard} in its data directory, start it and wait until the replica is active`,
      fields,
    );
  }
}

async function refresh(shard: RoutedShard, replica: ReplicaHandle, signal: AbortSignal): Promise<void> {
  if (!replica.node.usable) {
    replica.status = undefined;
    return;
  }
  try {
    replica.status = await replica.node.api.status(shard.id, 0, { signal, trace: untraced });
  } catch {
    // A node that cannot tell is not known to be fit: the next call decides.
    replica.status = undefined;
  }
}
