import { getOwn, KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { CollectionsView } from "../../../libs/cluster/index.js";
import {
  checkCollectionName,
  checkLabels,
  checkRecallTarget,
  checkReplicationFactor,
  type Collection,
  fieldOf,
} from "../../../libs/model/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { askActive, openStatus } from "../routing/active.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { tokenSequences } from "../query/read-options.js";
import { collectionTo, strictFrom } from "./collection-wire.js";
import type { Outages } from "./outage.js";
import { Creation, type CreationOptions } from "./creation.js";
import { hintsOf } from "./hints.js";
import { recallsOf } from "./recalls.js";
import { isVisible, notFound } from "../access.js";
import { namedCollection, ownName } from "./named.js";

/** The Collections service: the catalog's records, and what the shards say of themselves. */
export class Collections {
  readonly #view: CollectionsView;
  readonly #routingTable: RoutingTable;
  readonly #creation: Creation;
  readonly #options: CreationOptions;
  readonly #outages: Outages;

  constructor(options: CreationOptions & { outages: Outages }) {
    this.#options = options;
    this.#outages = options.outages;
    this.#view = options.view;
    this.#routingTable = options.routingTable;
    this.#creation = new Creation(options);
  }

  create(request: pb.CreateCollectionRequest, call: CallContext): Promise<pb.CreateCollectionResponse> {
    return this.#outages.guard(call, (guarded) => this.#creation.create(request, guarded));
  }

  get(request: pb.GetCollectionRequest, call: CallContext): pb.GetCollectionResponse {
    return { collection: this.#shown(namedCollection(this.#view, request.name, call).record) };
  }

  /** Those that the caller may know of. */
  list(call: CallContext): pb.ListCollectionsResponse {
    return {
      collections: this.#view.naming
        .all()
        .filter(({ record }) => record.state !== "deleting" && isVisible(call, record.name))
        .map(({ record }) => this.#shown(record)),
    };
  }

  /** One whose replicas are placed, but could not be opened so far, is not ready for those who want to use it. */
  #shown(record: Collection): pb.Collection {
    const routed = this.#routingTable.find(record.name);
    const isOpen = routed === undefined || routed.record.id !== record.id || routed.shards.every(isOpened);
    return collectionTo(isOpen ? record : { ...record, state: "creating" }, this.#view.naming);
  }

  exists(request: pb.ExistsCollectionRequest, call: CallContext): pb.ExistsCollectionResponse {
    checkCollectionName(request.name);
    const record = this.#view.naming.find(request.name)?.record;
    return { exists: record !== undefined && record.state !== "deleting" && isVisible(call, record.name) };
  }

  update(request: pb.UpdateCollectionRequest, call: CallContext): Promise<pb.UpdateCollectionResponse> {
    return this.#outages.guard(call, () => this.#update(request, call));
  }

  async #update(request: pb.UpdateCollectionRequest, call: CallContext): Promise<pb.UpdateCollectionResponse> {
    const { key, record: before } = namedCollection(this.#view, request.name, call);
    for (const [name, ef] of Object.entries(request.efSearch)) {
      fieldOf(before, name);
      if (ef < 1 || ef > limits.efMax) {
        throw new KithError("LIMIT_OUT_OF_RANGE", `ef_search of "${name}" is ${ef}; it must be in 1..${limits.efMax}`, {
          details: { field: name, value: ef, min: 1, max: limits.efMax },
        });
      }
    }
    if (request.replicationFactor !== undefined) this.#checkReplicas(request.replicationFactor);
    if (request.recallTarget) checkRecallTarget(request.recallTarget, "recall_target");
    const changed = await this.#modify(key, before.name, (record) => {
      if (record.id !== before.id || record.state === "deleting") throw notFound(request.name);
      const labels = { ...record.labels, ...request.labels };
      for (const [key, value] of Object.entries(request.labels)) if (value === "") delete labels[key];
      checkLabels(labels);
      const fields = record.fields.map((field) => ({
        ...field,
        efSearch: getOwn(request.efSearch, field.name) ?? field.efSearch,
      }));
      const { strictMode, recallTarget: targetBefore, ...rest } = record;
      const recallTarget = request.recallTarget ?? targetBefore ?? 0;
      const strict = request.strictMode === undefined ? strictMode : strictFrom(request.strictMode);
      const { replicationFactor = record.replicationFactor } = request;
      return {
        ...{ ...rest, fields, labels, replicationFactor },
        ...(strict && { strictMode: strict }),
        ...(recallTarget > 0 && { recallTarget }),
      };
    });
    return { collection: collectionTo({ ...changed, name: before.name }, this.#view.naming) };
  }

  delete({ name }: pb.DeleteCollectionRequest, call: CallContext): Promise<pb.DeleteCollectionResponse> {
    return this.#outages.guard(call, async ({ signal }) => {
      const { key, record: own } = ownName(this.#view, name, call);
      await this.#modify(key, name, (record) => (record.id === own.id ? { ...record, state: "deleting" } : undefined));
      await this.#view.until(key, (record) => record?.id !== own.id, signal);
      return {};
    });
  }

  stats(request: pb.CollectionStatsRequest, call: CallContext): Promise<pb.CollectionStatsResponse> {
    return this.#routingTable.epochs.retrying(request.name, call, () => this.#stats(request, call));
  }

  async #stats(request: pb.CollectionStatsRequest, call: CallContext): Promise<pb.CollectionStatsResponse> {
    const collection = this.#routingTable.resolve(request.name, call);
    const statuses = await Promise.all(
      collection.shards.map((shard) => askActive(shard, 0, call, (api, context) => openStatus(api, shard.id, context))),
    );
    const shards = statuses.map(([status], i) => ({
      shard: collection.shards[i]?.id.shard ?? 0,
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
      ...hintsOf(collection.record.payloadIndexes, statuses),
      recalls: recallsOf(statuses.flat()),
    };
  }

  waitIndexed(request: pb.WaitIndexedRequest, call: CallContext): Promise<pb.WaitIndexedResponse> {
    return this.#routingTable.epochs.retrying(request.name, call, () => this.#waitIndexed(request, call));
  }

  async #waitIndexed(request: pb.WaitIndexedRequest, call: CallContext): Promise<pb.WaitIndexedResponse> {
    const collection = this.#routingTable.resolve(request.name, call);
    const { token } = request;
    const minSequenceOf = token === undefined ? () => 0 : tokenSequences(collection, token, request.name);
    const counts = await Promise.all(
      collection.shards.map(async (shard) => {
        const sequence = minSequenceOf(shard.id.shard);
        const answers = await askActive(shard, sequence, call, async (api, context) => {
          if (sequence > 0) await api.wait(shard.id, sequence, [], context);
          return api.waitIndexed(shard.id, context);
        });
        return Math.max(...answers);
      }),
    );
    return { indexedVectorCount: counts.reduce((sum, count) => sum + count, 0) };
  }

  /** FAILED_PRECONDITION where there are fewer nodes than replicas: a shard has one replica on a node at most. */
  #checkReplicas(replicas: number): void {
    checkReplicationFactor(replicas);
    const { nodes, logKind } = this.#options;
    const live = nodes.all().filter(({ id, roles }) => roles.includes("shard") && nodes.stateOf(id) === "up").length;
    const count = logKind === "embedded" ? 1 : live;
    if (replicas <= count) return;
    throw new KithError(
      "FAILED_PRECONDITION",
      `${replicas} replicas of a shard need as many shard nodes, and ${count} can take one; start more shard nodes, or ask for at most ${count}`,
      { details: { replicas, shardNodes: count } },
    );
  }

  async #modify(
    key: string,
    name: string,
    change: (record: Collection) => Collection | undefined,
  ): Promise<Collection> {
    try {
      return await this.#view.modify(key, change);
    } catch (error) {
      throw toKithError(error).code === "NOT_FOUND" ? notFound(name, error) : error;
    }
  }
}

/** False where all replicas of the shard are known not to be open; those that cannot be asked may be. */
function isOpened({ replicas }: RoutedShard): boolean {
  // One that is not open has no schema.
  return !replicas.every(({ status }) => status?.schemaVersion === 0 && status.state !== "active");
}
