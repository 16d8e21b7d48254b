import { type ErrorCode, KithError, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import { type CollectionsView, creationIdOf, type NodesView, type Operations } from "../../../libs/cluster/index.js";
import {
  checkCollectionSpec,
  checkRecallTarget,
  checkPartitionKey,
  type Collection,
  type CollectionSpec,
} from "../../../libs/model/index.js";
import { newShards } from "../../../libs/sharding/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { pb } from "../../../libs/wire/index.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { collectionTo, fieldFrom, sparseFrom, strictFrom } from "./collection-wire.js";
import { checkMayName } from "../access.js";
import { checkCollectionRoom, checkFree, taken } from "./named.js";
import { checkOnlyOne, keyOf } from "./record-key.js";

/** How long a creation waits for the shard nodes that it needs: those of a cluster that is starting join within that time. */
const joinMs = 5_000;
const joinPollMs = 50;
/**
 * Pauses between two questions whether a new replica is active: half of the time that it has taken so far, so that many creations that wait
 * for each other do not spend the processor on asking.
 */
const activePollMinMs = 1;
const activePollMaxMs = 100;
/** Replicas that an error names, of those that are not active. */
const statesShown = 5;
/** What a node lacks, of which others may give back: the creation is told at once, and the node goes on trying. */
const lacks: readonly (ErrorCode | undefined)[] = ["RESOURCE_EXHAUSTED", "DISK_FULL"];
export interface CreationOptions extends Runtime {
  view: CollectionsView;
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
      sparseFields: request.sparseVectors.map(sparseFrom),
      shardCount: request.shardCount === 0 ? 1 : request.shardCount,
      replicationFactor: request.replicationFactor === 0 ? defaultReplicationFactor : request.replicationFactor,
      labels: request.labels,
      partitionKey: request.partitionKey === "" ? undefined : request.partitionKey,
    };
    checkCollectionSpec(spec, request.payloadOnly);
    if (request.recallTarget !== undefined) checkRecallTarget(request.recallTarget, "recall_target");
    checkMayName(call, spec.name);
    checkFree(view, spec.name, call);
    checkCollectionRoom(view, spec.shardCount);
    await this.#untilPlaceable(spec.replicationFactor, call);
    const strictMode = strictFrom(request.strictMode);
    const { recallTarget } = request;
    const id = random.bytes(10).toString("hex");
    const key = await keyOf(view, clock, spec.name, id, call);
    const { sparseFields = [] } = spec;
    const record: Collection = {
      id,
      name: key,
      fields: spec.fields,
      ...(sparseFields.length > 0 && { sparseFields }),
      replicationFactor: spec.replicationFactor,
      epoch: 1,
      createdAtMs: clock.nowMs(),
      labels: spec.labels,
      ...(strictMode && { strictMode }),
      ...(recallTarget !== undefined && { recallTarget }),
      ...(spec.partitionKey !== undefined && { partitionKey: checkPartitionKey(spec.partitionKey).text }),
      state: "creating",
      nextShard: spec.shardCount,
      payloadIndexes: [],
      schemaVersion: 1,
      shards: newShards(spec.shardCount),
    };
    try {
      await view.create(key, record);
    } catch (error) {
      if (toKithError(error).code !== "ALREADY_EXISTS") throw error;
      throw taken(spec.name, view.get(key)?.value.state === "deleting", "", error);
    }
    const named = { ...record, name: spec.name };
    const placed = view
      .until(key, (value) => value?.id !== id || value.state === "ready", call.signal)
      .catch((error: unknown) => {
        throw this.#notPlaced(named, toKithError(error));
      });
    // The coordinator has begun already.
    await Promise.all([checkOnlyOne(view, clock, spec.name, record), placed]);
    const created = this.#created(key, named);
    await this.#untilReplicasAnswer(key, created, call);
    return { collection: collectionTo(created, view.naming) };
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

  /** The record as it is now; COLLECTION_NOT_FOUND where the collection was deleted again, whatever has its name by now. */
  #created(key: string, { name, id }: Collection): Collection {
    const record = this.#options.view.get(key)?.value;
    if (record?.id === id && record.state !== "deleting") return { ...record, name };
    throw new KithError(
      "COLLECTION_NOT_FOUND",
      `the collection "${name}" was created as ${id}, and deleted again by somebody before it could be used`,
      { details: { collection: name, collectionId: id } },
    );
  }

  /** A created collection can be used at once: every shard has an active replica. */
  async #untilReplicasAnswer(key: string, created: Collection, call: CallContext): Promise<void> {
    const { routingTable, clock } = this.#options;
    const startMs = clock.monotonicMs();
    for (let waiting = routingTable.resolve(created.name, call).shards; ; ) {
      await routingTable.poll(waiting, call.signal);
      this.#created(key, created);
      waiting = waiting.filter(({ replicas }) => !replicas.some(({ status }) => status?.state === "active"));
      if (waiting.length === 0) return;
      for (const shard of waiting) this.#refuseWhatLacks(created, shard);
      const pauseMs = (clock.monotonicMs() - startMs) / 2;
      await sleep(clock, Math.min(activePollMaxMs, Math.max(activePollMinMs, pauseMs)), call.signal).catch(
        (error: unknown) => {
          throw this.#notAnswering(created, waiting, toKithError(error));
        },
      );
    }
  }

  /** RESOURCE_EXHAUSTED or DISK_FULL where no replica of the shard can be opened for the want of something. */
  #refuseWhatLacks({ name, id }: Collection, { id: { shard }, replicas }: RoutedShard): void {
    const [first] = replicas;
    const status = first?.status;
    if (status?.faultCode === undefined || !replicas.every((each) => lacks.includes(each.status?.faultCode))) return;
    throw new KithError(
      status.faultCode,
      `the collection "${name}" is registered, but not ready: node ${first?.node.id} lacks what its shard ${shard} needs, and goes on trying: ${status.fault}`,
      { details: { collection: name, collectionId: id, shard }, retryAfterMs: 1_000 },
    );
  }

  #notAnswering({ name }: Collection, waiting: readonly RoutedShard[], cause: KithError): KithError {
    const states = waiting.flatMap(({ id: { shard }, replicas }) =>
      replicas.map(({ node, status }) => {
        const fault = status === undefined || status.fault === "" ? "" : `: ${status.fault}`;
        return `shard ${shard} on node ${node.id} ${status === undefined ? "does not answer" : `is ${status.state}`}${fault}`;
      }),
    );
    const shown = `${states.slice(0, statesShown).join("; ")}${states.length > statesShown ? "; and others" : ""}`;
    return new KithError(cause.code, `the collection "${name}" is placed, but not ready yet: ${shown}`, {
      details: { collection: name },
      cause,
    });
  }
}
