import { KithError, limits, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import type { CatalogView, NodesView } from "../../../libs/cluster/index.js";
import {
  checkCollectionName,
  checkCollectionSpec,
  checkLabels,
  type Collection,
  type CollectionSpec,
  fieldOf,
  indexDefaults,
  type Metric,
  type Datatype,
  type VectorField,
} from "../../../libs/model/index.js";
import { newShards } from "../../../libs/sharding/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { pb } from "../../../libs/wire/index.js";
import { askActive } from "../routing/active.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { askAll } from "../query/reads.js";

const metricOf: Record<number, Metric | undefined> = {
  [pb.Metric.COSINE]: "cosine",
  [pb.Metric.DOT]: "dot",
  [pb.Metric.L2]: "l2",
};
const datatypeOf: Record<number, Datatype | undefined> = {
  [pb.Datatype.UNSPECIFIED]: "f32",
  [pb.Datatype.F32]: "f32",
  [pb.Datatype.F16]: "f16",
  [pb.Datatype.BF16]: "bf16",
  [pb.Datatype.I8]: "i8",
};
const metricNumber: Record<Metric, pb.Metric> = { cosine: pb.Metric.COSINE, dot: pb.Metric.DOT, l2: pb.Metric.L2 };
const datatypeNumber: Record<Datatype, pb.Datatype> = {
  f32: pb.Datatype.F32,
  f16: pb.Datatype.F16,
  bf16: pb.Datatype.BF16,
  i8: pb.Datatype.I8,
};
const stateNumber: Record<Collection["state"], pb.CollectionState> = {
  creating: pb.CollectionState.CREATING,
  ready: pb.CollectionState.READY,
  deleting: pb.CollectionState.DELETING,
};

/** How long a creation waits for the shard nodes that it needs: those of a cluster that is starting join within that time. */
const joinMs = 5_000;
const joinPollMs = 50;

export interface CollectionsOptions extends Runtime {
  view: CatalogView<Collection>;
  nodes: NodesView;
  routingTable: RoutingTable;
  logKind: "embedded" | "jetstream";
  /** Replicas of a collection that asks for none. */
  defaultReplicationFactor: number;
}

/** The Collections service: the catalog's records, and what the shards say of themselves. */
export class Collections {
  readonly #options: CollectionsOptions;

  constructor(options: CollectionsOptions) {
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
    const record: Collection = {
      id: random.bytes(10).toString("hex"),
      name: spec.name,
      fields: spec.fields,
      replicationFactor: spec.replicationFactor,
      epoch: 1,
      createdAtMs: clock.nowMs(),
      labels: spec.labels,
      state: "creating",
      nextShard: spec.shardCount,
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
      const { code } = toKithError(error);
      throw new KithError(
        code,
        `the collection "${spec.name}" is registered, but its ${spec.shardCount} × ${spec.replicationFactor} replicas are not placed yet: is a coordinator running, and are there ${spec.replicationFactor} shard nodes? (kith cluster)`,
        { cause: error },
      );
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
            ? "a process with an embedded log holds one replica of each shard: ask for 1, or start a cluster (kith up)"
            : `start more shard nodes, or ask for at most ${count} (kith cluster nodes shows them)`;
        throw new KithError(
          "FAILED_PRECONDITION",
          `${replicas} replicas of a shard need as many shard nodes, and ${count} can take one; ${fix}`,
          { details: { replicas, shardNodes: count } },
        );
      }
      await sleep(clock, joinPollMs, call.signal);
    }
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
    for (;;) {
      try {
        return await shard.ask(call, async (api, context) => {
          const { state } = await api.status(shard.id, 0, context);
          if (state !== "active") throw new KithError("SHARD_UNAVAILABLE", `the replica is ${state}`);
        });
      } catch (error) {
        this.#created(created);
        if (toKithError(error).code !== "SHARD_UNAVAILABLE") throw error;
        await sleep(this.#options.clock, 20, call.signal);
      }
    }
  }

  get(request: pb.GetCollectionRequest): pb.GetCollectionResponse {
    return { collection: collectionTo(this.#record(request.name)) };
  }

  list(): pb.ListCollectionsResponse {
    const { view } = this.#options;
    return {
      collections: view
        .values()
        .filter((record) => record.state !== "deleting")
        .map(collectionTo),
    };
  }

  exists(request: pb.ExistsCollectionRequest): pb.ExistsCollectionResponse {
    checkCollectionName(request.name);
    const record = this.#options.view.get(request.name)?.value;
    return { exists: record !== undefined && record.state !== "deleting" };
  }

  async update(request: pb.UpdateCollectionRequest): Promise<pb.UpdateCollectionResponse> {
    const before = this.#record(request.name);
    for (const [name, ef] of Object.entries(request.efSearch)) {
      fieldOf(before, name);
      if (ef < 1 || ef > limits.efMax) {
        throw new KithError("LIMIT_OUT_OF_RANGE", `ef_search of "${name}" is ${ef}; it must be in 1..${limits.efMax}`, {
          details: { field: name, value: ef, min: 1, max: limits.efMax },
        });
      }
    }
    const changed = await this.#modify(request.name, (record) => {
      if (record.id !== before.id || record.state === "deleting") throw notFound(request.name);
      const labels = { ...record.labels, ...request.labels };
      for (const [key, value] of Object.entries(request.labels)) if (value === "") delete labels[key];
      checkLabels(labels);
      const fields = record.fields.map((field) => ({
        ...field,
        efSearch: request.efSearch[field.name] ?? field.efSearch,
      }));
      return { ...record, fields, labels };
    });
    return { collection: collectionTo(changed) };
  }

  async delete(request: pb.DeleteCollectionRequest, call: CallContext): Promise<pb.DeleteCollectionResponse> {
    const { id } = this.#record(request.name);
    const { view } = this.#options;
    await this.#modify(request.name, (record) => (record.id === id ? { ...record, state: "deleting" } : undefined));
    await view.until(request.name, (record) => record?.id !== id, call.signal);
    return {};
  }

  async stats(request: pb.CollectionStatsRequest, call: CallContext): Promise<pb.CollectionStatsResponse> {
    const collection = this.#options.routingTable.resolve(request.name);
    const statuses = await askAll(collection, (shard) =>
      shard.ask(call, (api, context) => api.status(shard.id, 0, context)),
    );
    const shards = statuses.map((status) => ({
      shard: status.shard,
      pointCount: status.pointCount,
      appliedSequence: status.appliedSequence,
      indexedVectorCount: status.indexedVectorCount,
      unindexedVectorCount: status.unindexedVectorCount,
      memoryBytes: status.memoryBytes,
      diskBytes: status.diskBytes,
    }));
    const sum = (pick: (shard: pb.ShardStats) => number): number =>
      shards.reduce((total, shard) => total + pick(shard), 0);
    return {
      pointCount: sum((shard) => shard.pointCount),
      indexedVectorCount: sum((shard) => shard.indexedVectorCount),
      unindexedVectorCount: sum((shard) => shard.unindexedVectorCount),
      memoryBytes: sum((shard) => shard.memoryBytes),
      diskBytes: sum((shard) => shard.diskBytes),
      shards,
    };
  }

  async waitIndexed(request: pb.WaitIndexedRequest, call: CallContext): Promise<pb.WaitIndexedResponse> {
    const collection = this.#options.routingTable.resolve(request.name);
    const counts = await Promise.all(
      collection.shards.map(async (shard) =>
        Math.max(...(await askActive(shard, 0, call, (api, context) => api.waitIndexed(shard.id, context)))),
      ),
    );
    return { indexedVectorCount: counts.reduce((sum, count) => sum + count, 0) };
  }

  async #modify(name: string, change: (record: Collection) => Collection | undefined): Promise<Collection> {
    try {
      return await this.#options.view.modify(name, change);
    } catch (error) {
      throw toKithError(error).code === "NOT_FOUND" ? notFound(name, error) : error;
    }
  }

  #record(name: string): Collection {
    checkCollectionName(name);
    const record = this.#options.view.get(name)?.value;
    if (record === undefined || record.state === "deleting") throw notFound(name);
    return record;
  }
}

function notFound(name: string, cause?: unknown): KithError {
  return new KithError("COLLECTION_NOT_FOUND", `there is no collection "${name}"`, {
    details: { collection: name },
    cause,
  });
}

function fieldFrom(field: pb.VectorField): VectorField {
  const metric = metricOf[field.metric];
  if (metric === undefined) {
    throw new KithError("INVALID_SCHEMA", `the vector field "${field.name}" has no metric; choose COSINE, DOT or L2`, {
      details: { field: field.name, metric: field.metric },
    });
  }
  const datatype = datatypeOf[field.datatype];
  if (datatype === undefined) {
    throw new KithError(
      "INVALID_SCHEMA",
      `the vector field "${field.name}" has the unknown datatype ${field.datatype}`,
      {
        details: { field: field.name, datatype: field.datatype },
      },
    );
  }
  return {
    name: field.name,
    dimension: field.dimension,
    metric,
    datatype,
    m: field.m === 0 ? indexDefaults.m : field.m,
    efConstruction: field.efConstruction === 0 ? indexDefaults.efConstruction : field.efConstruction,
    efSearch: field.efSearch === 0 ? indexDefaults.efSearch : field.efSearch,
  };
}

function collectionTo(record: Collection): pb.Collection {
  return {
    id: record.id,
    name: record.name,
    vectors: record.fields.map((field) => ({
      ...field,
      metric: metricNumber[field.metric],
      datatype: datatypeNumber[field.datatype],
    })),
    shardCount: record.shards.length,
    replicationFactor: record.replicationFactor,
    epoch: record.epoch,
    createdAt: new Date(record.createdAtMs),
    labels: record.labels,
    state: stateNumber[record.state],
  };
}
