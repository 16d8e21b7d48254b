import { KithError, limits, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import { type CatalogView, creationIdOf, type NodesView, type Operations } from "../../../libs/cluster/index.js";
import { checkCollectionSpec, type Collection, type CollectionSpec } from "../../../libs/model/index.js";
import { newShards } from "../../../libs/sharding/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { collectionTo, fieldFrom, strictFrom } from "./collection-wire.js";

/** How long a creation waits for the shard nodes that it needs: those of a cluster that is starting join within that time. */
const joinMs = 5_000;
const joinPollMs = 50;
/** Longest pause between two questions whether a new replica is active. */
const activePollMaxMs = 20;

export interface CreationOptions extends Runtime {
  view: CatalogView<Collection>;
  operations: Operations;
  nodes: NodesView;
  routingTable: RoutingTable;
  logKind: "embedded" | "jetstream";
  /** Replicas of a collection that asks for none. */
  defaultReplicationFactor: number;
}

/** The creation of collections: a record in the catalog, and then waiting until the coordinator has placed it and the replicas answer. */
export class Creation {
  readonly #options: CreationOptions;

  constructor(options: CreationOptions) {
    this.#options = options;
  }

  async create(request: pb.CreateCollectionRequest, call: CallContext): Promise<pb.CreateCollectionResponse> {
    const { view, clock, random, defaultReplicationFactor } = this.#options;
    const spec: CollectionSpec = {
      name: request.name,
      fields: request.vectors.map(fieldFrom),
      shardCount: request.shardCount === 0 ? 1 : request.shardCount,
      replicationFactor: request.replicationFactor === 0 ? defaultReplicationFactor : request.replicationFactor,
      labels: request.labels,
    };
    checkCollectionSpec(spec);
    if (view.get(spec.name) !== undefined) throw this.#taken(spec.name);
    if (view.names().length >= limits.collectionsMax) {
      throw new KithError(
        "RESOURCE_EXHAUSTED",
        `there are ${limits.collectionsMax} collections already; delete one first`,
        {
          details: { limit: limits.collectionsMax },
        },
      );
    }
    await this.#untilPlaceable(spec.replicationFactor, call);
    const strictMode = strictFrom(request.strictMode);
    const record: Collection = {
      id: random.bytes(10).toString("hex"),
      name: spec.name,
      fields: spec.fields,
      replicationFactor: spec.replicationFactor,
      epoch: 1,
      createdAtMs: clock.nowMs(),
      labels: spec.labels,
      ...(strictMode && { strictMode }),
      state: "creating",
      nextShard: spec.shardCount,
      payloadIndexes: [],
      schemaVersion: 1,
      shards: newShards(spec.shardCount),
    };
    try {
      await view.create(spec.name, record);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      throw this.#taken(spec.name, error);
    }
    try {
      await view.until(spec.name, (value) => value?.id !== record.id || value.state === "ready", call.signal);
    } catch (error) {
      throw this.#notPlaced(record, toKithError(error));
    }
    const placed = this.#created(record);
    await this.#untilReplicasAnswer(placed, call);
    return { collection: collectionTo(placed) };
  }

  /**
   * FAILED_PRECONDITION where there are too few shard nodes for the replicas, while nothing is written yet. An embedded
   * log has one node for ever; the nodes of a cluster may be about to join.
   */
  async #untilPlaceable(replicas: number, call: CallContext): Promise<void> {
    const { nodes, clock, logKind } = this.#options;
    const untilMs = clock.monotonicMs() + (logKind === "embedded" ? 0 : joinMs);
    for (;;) {
      const live = nodes.all().filter(({ id, roles }) => roles.includes("shard") && nodes.stateOf(id) === "up").length;
      const count = logKind === "embedded" ? 1 : live;
      if (replicas <= count) return;
      if (clock.monotonicMs() >= untilMs) {
        const fix =
          logKind === "embedded"
            ? "a process with an embedded log holds one replica of each shard: ask for 1, or run a cluster of several nodes"
            : `start more shard nodes, or ask for at most ${count}`;
        throw new KithError(
          "FAILED_PRECONDITION",
          `${replicas} replicas of a shard need as many shard nodes, and ${count} can take one; ${fix}`,
          { details: { replicas, shardNodes: count } },
        );
      }
      await sleep(clock, joinPollMs, call.signal);
    }
  }

  #notPlaced({ id, name, shards, replicationFactor }: Collection, cause: KithError): KithError {
    const operation = this.#options.operations.get(creationIdOf(id))?.value;
    const why =
      operation === undefined
        ? "no coordinator has begun to; is one running?"
        : (operation.error?.message ?? "the coordinator is at it");
    const replicas = `${shards.length} × ${replicationFactor} replicas`;
    return new KithError(
      cause.code,
      `the collection "${name}" is registered, but its ${replicas} are not placed yet: ${why}`,
      { details: { collection: name, operation: creationIdOf(id) }, cause },
    );
  }

  #taken(name: string, cause?: unknown): KithError {
    const details = { collection: name };
    if (this.#options.view.get(name)?.value.state === "deleting") {
      const message = `the collection "${name}" is being deleted; try again in a moment`;
      return new KithError("COLLECTION_NOT_READY", message, { details, cause, retryAfterMs: 200 });
    }
    return new KithError("COLLECTION_EXISTS", `a collection "${name}" exists already`, { details, cause });
  }

  /** The record as it is now; COLLECTION_NOT_FOUND where the collection was deleted again, whatever has its name by now. */
  #created({ name, id }: Collection): Collection {
    const record = this.#options.view.get(name)?.value;
    if (record?.id === id && record.state !== "deleting") return record;
    throw new KithError(
      "COLLECTION_NOT_FOUND",
      `the collection "${name}" was created as ${id}, and deleted again by somebody before it could be used`,
      { details: { collection: name, collectionId: id } },
    );
  }

  /** A created collection can be used at once: every shard has an active replica. */
  async #untilReplicasAnswer(created: Collection, call: CallContext): Promise<void> {
    const collection = this.#options.routingTable.resolve(created.name);
    await Promise.all(collection.shards.map((shard) => this.#untilOneIsActive(shard, created, call)));
  }

  async #untilOneIsActive(shard: RoutedShard, created: Collection, call: CallContext): Promise<void> {
    for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, activePollMaxMs)) {
      try {
        return await shard.ask(call, async (api, context) => {
          const { state } = await api.status(shard.id, 0, context);
          if (state !== "active") throw new KithError("SHARD_UNAVAILABLE", `the replica is ${state}`);
        });
      } catch (error) {
        this.#created(created);
        if (toKithError(error).code !== "SHARD_UNAVAILABLE") throw error;
        await sleep(this.#options.clock, pauseMs, call.signal);
      }
    }
  }
}
