import { getOwn, KithError, setOwn, toKithError } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, printJson } from "../../../libs/model/index.js";
import { pb } from "../../../libs/wire/index.js";
import { collectionOf, describe, type Operation, tell, updated } from "./api.js";
import { indexInfos } from "./indexes.js";
import { codesOf, isUnquantized } from "./quantization.js";
import { keptSettings, merged, picked, settingsLabels } from "./settings.js";
import { shardKeyField } from "./shard-keys.js";
import { strictModeOf } from "./strict-mode.js";
import {
  atLeast,
  below,
  countOf,
  InvalidValue,
  JsonText,
  member,
  objectOf,
  optional,
  type Reply,
  required,
  wordOf,
} from "./values.js";

const service = pb.CollectionsService;

export const listCollections: Operation = async (ask) => {
  const { collections } = await tell(ask, service.list, {});
  return { collections: collections.map(({ name }) => ({ name })) };
};

export const collectionExists: Operation = async (ask) => {
  try {
    return { exists: (await tell(ask, service.exists, { name: collectionOf(ask) })).exists };
  } catch (error) {
    // A name that no collection of Kith can have.
    if (toKithError(error).code === "INVALID_NAME") return { exists: false };
    throw error;
  }
};

const distances = ["Cosine", "Euclid", "Dot", "Manhattan"] as const;
const metrics = { Cosine: pb.Metric.COSINE, Euclid: pb.Metric.L2, Dot: pb.Metric.DOT } as const;

function metricOf(value: JsonValue | undefined, at: string): pb.Metric {
  const distance = wordOf(distances)(value, at);
  if (distance !== "Manhattan") return metrics[distance];
  throw new KithError("UNIMPLEMENTED", `${at}: this version has no Manhattan distance; use Euclid, Cosine or Dot`);
}

const sizeMost = 65_536;

/** A size that Qdrant has; what Kith has no room for is refused by its own code. */
function sizeOf(value: JsonValue | undefined, at: string): number {
  const size = countOf(value, at);
  if (size >= 1 && size <= sizeMost) return size;
  throw new InvalidValue(at, `is ${size}; it must be from 1 to ${sizeMost}`);
}

/** A vector field, from its parameters and those of the collection that it inherits. */
function fieldOf(name: string, value: JsonValue | undefined, at: string, defaults: JsonObject): pb.VectorField {
  const params = objectOf(value, at);
  const multi = optional(params, "multivector_config", at, objectOf);
  if (multi !== undefined) required(multi, "comparator", `${at}.multivector_config`, wordOf(["max_sim"]));
  const metric = required(params, "distance", at, metricOf);
  const kind = { metric, ...(multi !== undefined && { multivector: pb.Multivector.MAX_SIM }) };
  return {
    name,
    dimension: required(params, "size", at, sizeOf),
    ...kind,
    ...codesOf(params, member(defaults, "quantization_config"), at, kind),
    ...graphOf(params, at, defaults),
    efSearch: 0,
  };
}

/** The graph of a field with these parameters in a collection with these settings; 0 where they do not say. */
function graphOf(params: JsonObject, at: string, defaults: JsonObject): { m: number; efConstruction: number } {
  const ofCollection = optional(defaults, "hnsw_config", "", objectOf) ?? {};
  const own = merged(ofCollection, optional(params, "hnsw_config", at, objectOf) ?? {});
  const m = optional(own, "m", `${at}.hnsw_config`, countOf) ?? 0;
  const efConstruct = optional(own, "ef_construct", `${at}.hnsw_config`, atLeast(4)) ?? 0;
  return {
    // A graph without links would be none.
    m: m < 2 ? 0 : Math.min(m, 128),
    efConstruction: efConstruct === 0 ? 0 : Math.min(Math.max(efConstruct, 8), 4_096),
  };
}

function sparseFieldsOf(body: JsonObject): pb.SparseVectorField[] {
  const sparse = optional(body, "sparse_vectors", "", objectOf) ?? {};
  return Object.entries(sparse).map(([name, params]) => sparseFieldOf(name, params, below("sparse_vectors", name)));
}

function sparseFieldOf(name: string, value: JsonValue | undefined, at: string): pb.SparseVectorField {
  const params = value === null || value === undefined ? {} : objectOf(value, at);
  const modifier = optional(params, "modifier", at, wordOf(["none", "idf"])) ?? "none";
  return { name, modifier: modifier === "idf" ? pb.SparseModifier.IDF : pb.SparseModifier.UNSPECIFIED };
}

function fieldsOf(body: JsonObject): pb.VectorField[] {
  const vectors = optional(body, "vectors", "", objectOf) ?? {};
  if (Object.hasOwn(vectors, "size")) return [fieldOf("", vectors, "vectors", body)];
  return Object.entries(vectors).map(([name, params]) => fieldOf(name, params, below("vectors", name), body));
}

/** Settings that are kept as they were given. */
const kept = [
  "hnsw_config",
  "optimizers_config",
  "wal_config",
  "quantization_config",
  "strict_mode_config",
  "metadata",
  "write_consistency_factor",
  "on_disk_payload",
  "payload",
  "id_tracker",
  "sharding_method",
];
/** Settings of vectors that are kept. */
const keptOfVectors = ["hnsw_config", "quantization_config", "on_disk", "memory", "datatype"];
/** The same of sparse vectors. */
const keptOfSparse = ["index"];

/** Settings without an effect in Kith, by which the warning is made. */
function withoutEffect(settings: JsonObject, fields: readonly pb.VectorField[]): string[] {
  const names = [
    "optimizers_config",
    "wal_config",
    "on_disk_payload",
    "payload",
    "id_tracker",
    "write_consistency_factor",
  ];
  const found = names.filter((name) => Object.hasOwn(settings, name));
  const vectors = isJsonObject(settings["vectors"]) ? Object.values(settings["vectors"]) : [];
  for (const name of ["on_disk", "memory"]) {
    if (vectors.some((each) => isJsonObject(each) && Object.hasOwn(each, name))) found.push(name);
  }
  if (isUnquantized(settings, fields)) found.push("quantization_config");
  return found;
}

function keptOf(body: JsonObject): JsonObject {
  const settings = picked(body, kept);
  const vectors = vectorSettings(member(body, "vectors"), keptOfVectors);
  if (Object.keys(vectors).length > 0) settings["vectors"] = vectors;
  const sparse = vectorSettings(member(body, "sparse_vectors"), keptOfSparse);
  if (Object.keys(sparse).length > 0) settings["sparse_vectors"] = sparse;
  return settings;
}

function vectorSettings(value: JsonValue | undefined, names: readonly string[]): JsonObject {
  if (!isJsonObject(value)) return {};
  const named: JsonObject = Object.hasOwn(value, "size") ? { "": value } : value;
  const result: JsonObject = {};
  for (const [name, params] of Object.entries(named)) {
    const own = isJsonObject(params) ? picked(params, names) : {};
    if (Object.keys(own).length > 0) setOwn(result, name, own);
  }
  return result;
}

export const createCollection: Operation = async (ask) => {
  const { body } = ask;
  const isCustom = optional(body, "sharding_method", "", wordOf(["auto", "custom"])) === "custom";
  const settings = keptOf(body);
  const fields = fieldsOf(body);
  await tell(ask, service.create, {
    name: collectionOf(ask),
    vectors: fields,
    sparseVectors: sparseFieldsOf(body),
    shardCount: optional(body, "shard_number", "", countOf) ?? 0,
    replicationFactor: optional(body, "replication_factor", "", countOf) ?? 0,
    labels: settingsLabels(settings),
    strictMode: strictModeOf(member(body, "strict_mode_config"), "strict_mode_config"),
    payloadOnly: true,
    ...(isCustom && { partitionKey: shardKeyField }),
  });
  const unused = withoutEffect(settings, fields);
  if (unused.length > 0) ask.self.warn(warningOf(unused));
  return true;
};

function warningOf(unused: readonly string[]): string {
  return `Kith keeps and reports these settings, which have no effect: ${unused.join(", ")}`;
}

export const updateCollection: Operation = async (ask) => {
  const { body } = ask;
  const collection = await describe(ask);
  const params = optional(body, "params", "", objectOf) ?? {};
  const replicas = optional(params, "replication_factor", "params", countOf);
  const changes = keptOf({ ...body, ...picked(params, keptOfParams) });
  const vectors = optional(body, "vectors", "", objectOf);
  if (vectors !== undefined) changes["vectors"] = changedVectors(vectors, collection);
  const settings = merged(keptSettings(collection.labels), changes);
  const builds = collection.vectors.map((field) => changedBuild(collection.name, field, changes, settings));
  const strict = isJsonObject(settings["strict_mode_config"]) ? settings["strict_mode_config"] : undefined;
  await tell(ask, service.update, {
    name: collectionOf(ask),
    efSearch: {},
    labels: settingsLabels(settings, collection.labels),
    strictMode:
      member(body, "strict_mode_config") === undefined
        ? undefined
        : (strictModeOf(strict, "strict_mode_config") ?? noLimits),
    ...(replicas !== undefined && { replicationFactor: replicas }),
  });
  for (const build of builds) if (build !== undefined) await tell(ask, service.alterVectorField, build);
  return true;
};

const keptOfParams = ["write_consistency_factor", "on_disk_payload", "payload", "id_tracker"];

/** The next generation of a field's index, where the changes say how it is built; those of what is as it was already begin none. */
function changedBuild(
  collection: string,
  field: pb.VectorField,
  changes: JsonObject,
  settings: JsonObject,
): pb.AlterVectorFieldRequest | undefined {
  const at = below("vectors", field.name);
  const changed = settingsOf(changes, field.name);
  const has = (name: string): boolean => Object.hasOwn(changes, name) || Object.hasOwn(changed, name);
  if (!has("hnsw_config") && !has("quantization_config")) return undefined;
  const params = settingsOf(settings, field.name);
  const codes = has("quantization_config")
    ? codesOf(params, member(settings, "quantization_config"), at, field)
    : { datatype: pb.Datatype.UNSPECIFIED };
  const graph = has("hnsw_config") ? graphOf(params, at, settings) : { m: 0, efConstruction: 0 };
  if (codes.datatype === pb.Datatype.UNSPECIFIED && graph.m === 0 && graph.efConstruction === 0) return undefined;
  return pb.AlterVectorFieldRequest.create({ collection, field: field.name, ...codes, ...graph });
}

/** What is kept of one vector field. */
function settingsOf(settings: JsonObject, name: string): JsonObject {
  const vectors = isJsonObject(settings["vectors"]) ? settings["vectors"] : {};
  const own = getOwn(vectors, name);
  return isJsonObject(own) ? own : {};
}

const noLimits = pb.StrictMode.create({});

function changedVectors(vectors: JsonObject, { vectors: fields, name }: pb.Collection): JsonObject {
  const result: JsonObject = {};
  for (const [field, params] of Object.entries(vectors)) {
    if (!fields.some((each) => each.name === field)) {
      throw new KithError("UNKNOWN_VECTOR", `the collection "${name}" has no vector field ${JSON.stringify(field)}`);
    }
    setOwn(result, field, picked(objectOf(params, below("vectors", field)), keptOfVectors));
  }
  return result;
}

/** False where there was none. */
export const deleteCollection: Operation = async (ask) => {
  try {
    await tell(ask, service.delete, { name: collectionOf(ask) });
    return true;
  } catch (error) {
    if (toKithError(error).code === "COLLECTION_NOT_FOUND") return false;
    throw error;
  }
};

const distanceNames: Readonly<Record<number, string>> = {
  [pb.Metric.COSINE]: "Cosine",
  [pb.Metric.L2]: "Euclid",
  [pb.Metric.DOT]: "Dot",
};

function json(value: JsonValue | undefined): JsonText | undefined {
  return value === undefined ? undefined : new JsonText(printJson(value));
}

function vectorParams(field: pb.VectorField, settings: JsonObject): Reply {
  const given = settingsOf(settings, field.name);
  const datatype = given["datatype"] ?? (field.datatype === pb.Datatype.F16 ? "float16" : undefined);
  return {
    size: field.dimension,
    distance: distanceNames[field.metric],
    multivector_config: field.multivector === pb.Multivector.MAX_SIM ? { comparator: "max_sim" } : undefined,
    hnsw_config: json(given["hnsw_config"]),
    quantization_config: json(given["quantization_config"]),
    on_disk: given["on_disk"] === true ? true : given["on_disk"] === false ? false : undefined,
    memory: json(given["memory"]),
    datatype: typeof datatype === "string" ? datatype : undefined,
  };
}

function sparseParams(field: pb.SparseVectorField, settings: JsonObject): Reply {
  const own = isJsonObject(settings["sparse_vectors"]) ? getOwn(settings["sparse_vectors"], field.name) : undefined;
  return {
    index: json(isJsonObject(own) ? own["index"] : undefined),
    ...(field.modifier === pb.SparseModifier.IDF && { modifier: "idf" }),
  };
}

function configOf(collection: pb.Collection, settings: JsonObject): Reply {
  const { vectors, sparseVectors } = collection;
  const [first] = vectors;
  const isUnnamed = vectors.length === 1 && first?.name === "";
  const within = (name: string, defaults: JsonObject): JsonText => {
    const given = settings[name];
    return new JsonText(printJson(merged(defaults, isJsonObject(given) ? given : {})));
  };
  const setting = settings["write_consistency_factor"];
  return {
    params: {
      vectors:
        isUnnamed && first !== undefined
          ? vectorParams(first, settings)
          : Object.fromEntries(vectors.map((field) => [field.name, vectorParams(field, settings)])),
      ...(sparseVectors.length > 0 && {
        sparse_vectors: Object.fromEntries(sparseVectors.map((field) => [field.name, sparseParams(field, settings)])),
      }),
      shard_number: collection.shardCount,
      replication_factor: collection.replicationFactor,
      write_consistency_factor: typeof setting === "number" ? setting : 1,
      on_disk_payload: settings["on_disk_payload"] !== false,
      payload: json(settings["payload"]),
      id_tracker: json(settings["id_tracker"]),
      sharding_method: settings["sharding_method"] === "custom" ? "custom" : undefined,
    },
    hnsw_config: within("hnsw_config", {
      m: first?.m ?? 16,
      ef_construct: first?.efConstruction ?? 100,
      full_scan_threshold: 10_000,
      max_indexing_threads: 0,
      on_disk: false,
    }),
    optimizer_config: within("optimizers_config", {
      deleted_threshold: 0.2,
      vacuum_min_vector_number: 1_000,
      default_segment_number: 0,
      max_segment_size: null,
      memmap_threshold: null,
      indexing_threshold: 10_000,
      flush_interval_sec: 5,
      max_optimization_threads: null,
    }),
    wal_config: within("wal_config", { wal_capacity_mb: 32, wal_segments_ahead: 0, wal_retain_closed: 1 }),
    quantization_config: settings["quantization_config"] === undefined ? null : json(settings["quantization_config"]),
    strict_mode_config: settings["strict_mode_config"] === undefined ? null : json(settings["strict_mode_config"]),
    metadata: json(settings["metadata"]),
  };
}

const statuses: Readonly<Record<number, string>> = { [pb.CollectionState.READY]: "green" };

export const collectionInfo: Operation = async (ask) => {
  const collection = await describe(ask);
  const settings = keptSettings(collection.labels);
  const isReady = collection.state === pb.CollectionState.READY;
  const stats = isReady ? await tell(ask, service.stats, { name: collection.name }) : undefined;
  const isIndexing = (stats?.unindexedVectorCount ?? 0) > unindexedMax;
  const unused = withoutEffect(settings, collection.vectors);
  return {
    status: isIndexing ? "yellow" : (statuses[collection.state] ?? "grey"),
    optimizer_status: "ok",
    ...(unused.length > 0 && { warnings: [{ message: warningOf(unused) }] }),
    indexed_vectors_count: stats?.indexedVectorCount ?? 0,
    points_count: stats?.pointCount ?? 0,
    segments_count: collection.shardCount,
    config: configOf(collection, settings),
    payload_schema: await indexInfos(ask, collection, settings, isReady),
    update_queue: { length: 0 },
    created_at: collection.createdAt?.toISOString(),
  };
};

/** Fewer vectors than this are scanned and never built into a graph, so that nobody waits for one. */
const unindexedMax = 10_000;

export const createVectorName: Operation = async (ask) => {
  const config = objectOf(ask.body, "");
  const name = ask.path["vector_name"] ?? "";
  const isSparse = member(config, "sparse") !== undefined;
  await tell(ask, service.addVectorField, {
    collection: collectionOf(ask),
    field: isSparse ? undefined : fieldOf(name, member(config, "dense"), "dense", {}),
    sparse: isSparse ? sparseFieldOf(name, member(config, "sparse"), "sparse") : undefined,
  });
  return updated(ask, undefined);
};

export const deleteVectorName: Operation = async (ask) => {
  await tell(ask, service.dropVectorField, { collection: collectionOf(ask), name: ask.path["vector_name"] ?? "" });
  return updated(ask, undefined);
};
