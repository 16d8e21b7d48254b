import { toKithError } from "../base/index.js";
import { checkCollectionName, checkLabels } from "../model/index.js";
import { pb } from "../wire/index.js";
import { collectionFromWire, statsFromWire, strictToWire, vectorFieldToWire } from "./decode.js";
import { givenBoolean, givenNumber, givenObject } from "./given.js";
import { wholeNumber } from "./numbers.js";
import { payloadIndexInfosFromWire, payloadIndexToWire } from "./payload-index.js";
import {
  alteredFromWire,
  alterPayloadIndexToWire,
  alterVectorFieldToWire,
  generationsFromWire,
  otherOf,
  textGenerationsFromWire,
} from "./generations.js";
import { specsOf } from "./points.js";
import { optionKeys } from "./option-keys.js";
import { onlyKeys } from "./only-keys.js";
import { checkSameSchema } from "./same-schema.js";
import { sparseFieldToWire } from "./sparse.js";
import type { PayloadIndexKind } from "../model/index.js";
import type { CallOptions } from "./types/calls.js";
import type {
  CollectionInfo,
  CollectionStats,
  CreateOptions,
  SparseSpec,
  UpdateOptions,
  VectorSpec,
} from "./types/collections.js";
import type {
  AlterPayloadIndexOptions,
  AlterVectorFieldOptions,
  AlteredVectorField,
  GenerationInfo,
  GenerationOptions,
  PromoteGenerationOptions,
  TextGenerationInfo,
} from "./types/generations.js";
import type { CreatePayloadIndexOptions, PayloadIndexInfo } from "./types/payload-indexes.js";
import type { CollectionCalls } from "./collection-calls.js";
import { wellFormed } from "./well-formed.js";

/** Building the rest of a graph takes minutes where a large import has just ended. */
const waitIndexedDeadlineMs = 600_000;

const { CollectionsService: collections } = pb;

/** The collection itself: its life, schema, indexes and generations. */
export abstract class CollectionSchema {
  readonly name: string;
  /** @internal */
  protected readonly calls: CollectionCalls;

  protected constructor(name: string, calls: CollectionCalls) {
    checkCollectionName(name);
    this.name = name;
    this.calls = calls;
  }

  /** Creates the collection and waits until its shards are placed. COLLECTION_EXISTS where the name is taken, but see `ifNotExists`. */
  async create(options: CreateOptions): Promise<CollectionInfo> {
    onlyKeys(options, optionKeys.create, "options");
    if (options.ifNotExists !== true) return this.#create(options);
    const { signal, deadlineMs } = options;
    const call = { ...(signal && { signal }), ...(deadlineMs !== undefined && { deadlineMs }) };
    try {
      return await this.#create(options);
    } catch (error) {
      if (toKithError(error).code !== "COLLECTION_EXISTS") throw error;
    }
    const info = await this.info(call);
    checkSameSchema(info, options);
    return info;
  }

  async #create(options: CreateOptions): Promise<CollectionInfo> {
    const request: pb.CreateCollectionRequest = {
      name: this.name,
      vectors: specsOf(options).map(([name, spec]) => vectorFieldToWire(name, spec)),
      sparseVectors: Object.entries(options.sparse ?? {}).map(([name, spec]) => sparseFieldToWire(name, spec)),
      shardCount: wholeNumber(options.shards ?? 0, "shards"),
      replicationFactor: wholeNumber(options.replicas ?? 0, "replicas"),
      labels: labelsToWire(options.labels),
      strictMode: strictToWire(options.strictMode),
      ...(options.recallTarget !== undefined && { recallTarget: givenNumber(options.recallTarget, "recallTarget") }),
      ...(options.partitionKey !== undefined && { partitionKey: wellFormed(options.partitionKey, "partitionKey") }),
    };
    // Not repeated by itself: after a lost answer, a second try would report the client's own collection as taken.
    const { collection } = await this.calls.call("create", options, (call) =>
      this.calls.transport.unary(collections.create, request, call),
    );
    const info = collectionFromWire(collection);
    this.calls.session.begin(info.id);
    return info;
  }

  /** COLLECTION_NOT_FOUND where there is none. */
  async info(options?: CallOptions): Promise<CollectionInfo> {
    return collectionFromWire(
      (await this.calls.read("info", collections.get, { name: this.name }, options)).collection,
    );
  }

  async exists(options?: CallOptions): Promise<boolean> {
    return (await this.calls.read("exists", collections.exists, { name: this.name }, options)).exists;
  }

  /** Changes search defaults, labels, limits and the number of replicas. */
  async update(options: UpdateOptions): Promise<CollectionInfo> {
    onlyKeys(options, optionKeys.update, "options");
    const { efSearch = {} } = options;
    const byField = typeof efSearch === "number" ? { "": efSearch } : { ...efSearch };
    for (const value of Object.values(byField)) wholeNumber(value, "efSearch");
    const request = {
      name: this.name,
      efSearch: byField,
      labels: labelsToWire(options.labels),
      strictMode: strictToWire(options.strictMode),
      ...(options.recallTarget !== undefined && { recallTarget: givenNumber(options.recallTarget, "recallTarget") }),
      ...(options.replicas !== undefined && { replicationFactor: wholeNumber(options.replicas, "replicas") }),
    };
    return collectionFromWire((await this.calls.read("update", collections.update, request, options)).collection);
  }

  /** Deletes the collection with all its points. COLLECTION_NOT_FOUND where there is none. */
  async drop(options?: CallOptions): Promise<void> {
    const { epoch } = this.calls.session;
    await this.calls.call("drop", options, (call) =>
      this.calls.transport.unary(collections.delete, { name: this.name }, call),
    );
    this.calls.session.clear(epoch);
  }

  /**
   * Gives the collection another name, at once and as a whole; `client.collection(newName)` is its handle from then on. COLLECTION_EXISTS or
   * ALREADY_EXISTS where a collection or an alias has the name.
   */
  async rename(newName: string, options?: CallOptions): Promise<CollectionInfo> {
    checkCollectionName(newName);
    const { epoch } = this.calls.session;
    const { collection } = await this.calls.call("rename", options, (call) =>
      this.calls.transport.unary(collections.rename, { name: this.name, newName }, call),
    );
    this.calls.session.clear(epoch);
    return collectionFromWire(collection);
  }

  /** Counts and sizes, summed over the shards and by shard. */
  async stats(options?: CallOptions): Promise<CollectionStats> {
    return statsFromWire(await this.calls.read("stats", collections.stats, { name: this.name }, options));
  }

  /**
   * Returns when every point that this client has written, or that was applied before the call, is in the graph, with their number.
   * Default deadline: 10 minutes.
   */
  async waitIndexed(options?: CallOptions): Promise<number> {
    const patient = { ...options, deadlineMs: options?.deadlineMs ?? waitIndexedDeadlineMs };
    return this.calls.afresh(async () => {
      const request = { name: this.name, token: this.calls.session.written };
      return (await this.calls.read("waitIndexed", collections.waitIndexed, request, patient)).indexedVectorCount;
    });
  }

  /**
   * Adds an index of a field of the payload (`genre`, `address.city`, `cast[].name`); queries and writes go on while it is built, and filter
   * rightly without it. No error where the field has exactly this index. Default deadline: 10 minutes.
   */
  async createPayloadIndex(
    path: string,
    kind: PayloadIndexKind,
    options: CreatePayloadIndexOptions = {},
  ): Promise<CollectionInfo> {
    const index = payloadIndexToWire(path, kind, givenObject(options, "options"));
    const request = { collection: this.name, index, wait: givenBoolean(options.wait ?? false, "wait") };
    const patient = { ...options, deadlineMs: options.deadlineMs ?? waitIndexedDeadlineMs };
    const method = collections.createPayloadIndex;
    return collectionFromWire((await this.calls.read("createPayloadIndex", method, request, patient)).collection);
  }

  /** Drops the index of a field. INVALID_SCHEMA where it has none. */
  async dropPayloadIndex(path: string, options?: CallOptions): Promise<CollectionInfo> {
    const request = { collection: this.name, path: wellFormed(path, "path") };
    const { collection } = await this.calls.call("dropPayloadIndex", options, (call) =>
      this.calls.transport.unary(collections.dropPayloadIndex, request, call),
    );
    return collectionFromWire(collection);
  }

  /** The payload indexes, with what the replicas say of them. */
  async listPayloadIndexes(options?: CallOptions): Promise<PayloadIndexInfo[]> {
    const request = { collection: this.name };
    const method = collections.listPayloadIndexes;
    return payloadIndexInfosFromWire((await this.calls.read("listPayloadIndexes", method, request, options)).indexes);
  }

  /** Adds a vector field. Points get vectors of it by writes that come afterwards. INVALID_SCHEMA where there is one of the name. */
  async addVectorField(name: string, spec: VectorSpec, options?: CallOptions): Promise<CollectionInfo> {
    const request = { collection: this.name, field: vectorFieldToWire(name, spec), sparse: undefined };
    const { collection } = await this.calls.call("addVectorField", options, (call) =>
      this.calls.transport.unary(collections.addVectorField, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Adds a sparse field. INVALID_SCHEMA where there is a vector field of the name. */
  async addSparseField(name: string, options: SparseSpec & CallOptions = {}): Promise<CollectionInfo> {
    const { modifier } = options;
    const sparse = sparseFieldToWire(name, modifier === undefined ? {} : { modifier });
    const request = { collection: this.name, field: undefined, sparse };
    const { collection } = await this.calls.call("addSparseField", options, (call) =>
      this.calls.transport.unary(collections.addVectorField, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Drops a vector field of either kind, with the vectors that points have of it. UNKNOWN_VECTOR where there is none. */
  async dropVectorField(name: string, options?: CallOptions): Promise<CollectionInfo> {
    const { collection } = await this.calls.call("dropVectorField", options, (call) =>
      this.calls.transport.unary(collections.dropVectorField, { collection: this.name, name }, call),
    );
    return collectionFromWire(collection);
  }

  /**
   * Begins another generation of the index of a vector field ("" for the unnamed one): another datatype or graph, built in the background while queries go
   * on with the one before. It answers by itself once it is whole on every replica and its recall holds, and the one before is kept for `rollbackGeneration`.
   * No error where the field is built like that, or being built. FAILED_PRECONDITION while another generation is being built. Default deadline: 10 minutes.
   */
  async alterVectorField(field: string, options: AlterVectorFieldOptions): Promise<AlteredVectorField> {
    const request = alterVectorFieldToWire(this.name, field, options);
    const patient = { ...options, deadlineMs: options.deadlineMs ?? waitIndexedDeadlineMs };
    return alteredFromWire(await this.calls.read("alterVectorField", collections.alterVectorField, request, patient));
  }

  /** The generations of the indexes of all vector fields, with what the replicas say of them. */
  async listGenerations(options?: CallOptions): Promise<GenerationInfo[]> {
    const request = { collection: this.name };
    const method = collections.listGenerations;
    return generationsFromWire((await this.calls.read("listGenerations", method, request, options)).generations);
  }

  /**
   * Begins another generation of an index by BM25: another analyzer, other fields, weights, `k1` or `b`; what is left out is the default, as in
   * `createPayloadIndex`. It answers by itself once it is whole on every replica, and the one before is kept for `rollbackGeneration`. No error where the
   * index is built like that, or being built. FAILED_PRECONDITION while another generation is being built. Default deadline: 10 minutes.
   */
  async alterPayloadIndex(path: string, options: AlterPayloadIndexOptions): Promise<AlteredVectorField> {
    const request = alterPayloadIndexToWire(this.name, path, options);
    const patient = { ...options, deadlineMs: options.deadlineMs ?? waitIndexedDeadlineMs };
    return alteredFromWire(await this.calls.read("alterPayloadIndex", collections.alterPayloadIndex, request, patient));
  }

  /** The generations of those indexes by BM25 that have two, with what the replicas say of them. */
  async listTextGenerations(options?: CallOptions): Promise<TextGenerationInfo[]> {
    const request = { collection: this.name };
    const method = collections.listGenerations;
    return textGenerationsFromWire(
      (await this.calls.read("listTextGenerations", method, request, options)).textGenerations,
    );
  }

  /** Has the generation that is being built answer now. FAILED_PRECONDITION, with the numbers, while it is not whole or its recall is too low. */
  async promoteGeneration(field = "", options?: PromoteGenerationOptions): Promise<CollectionInfo> {
    const request = { ...otherOf(this.name, field, options), force: givenBoolean(options?.force ?? false, "force") };
    const { collection } = await this.calls.call("promoteGeneration", options, (call) =>
      this.calls.transport.unary(collections.promoteGeneration, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Has the generation that is kept answer again, and keeps the other one. FAILED_PRECONDITION where none is kept. */
  async rollbackGeneration(field = "", options?: GenerationOptions): Promise<CollectionInfo> {
    const request = otherOf(this.name, field, options);
    const { collection } = await this.calls.call("rollbackGeneration", options, (call) =>
      this.calls.transport.unary(collections.rollbackGeneration, request, call),
    );
    return collectionFromWire(collection);
  }

  /** Drops the generation that does not answer: one that is being built, or the one that is kept. FAILED_PRECONDITION where there is none. */
  async dropGeneration(field = "", options?: GenerationOptions): Promise<CollectionInfo> {
    const request = otherOf(this.name, field, options);
    const { collection } = await this.calls.call("dropGeneration", options, (call) =>
      this.calls.transport.unary(collections.dropGeneration, request, call),
    );
    return collectionFromWire(collection);
  }
}

function labelsToWire(labels: CreateOptions["labels"]): Record<string, string> {
  const own = { ...labels };
  checkLabels(own);
  return own;
}
