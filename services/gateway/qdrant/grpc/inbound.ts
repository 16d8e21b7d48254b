import { isJsonObject, type JsonObject, type JsonValue } from "../../../../libs/model/index.js";
import { asJson, floatsIn, wrong } from "../values.js";

/*
 * Messages whose JSON in the REST API is another than their fields by name. A form gets the fields that are on the wire, and those that have no
 * presence with their zeros; messages within are in their form already.
 */
type Form = (message: JsonObject) => JsonValue;

/** The first of these members that is there; null where none is. */
function oneOf(message: JsonObject, names: readonly string[]): JsonValue {
  for (const name of names) {
    const value = message[name];
    if (value !== undefined) return value;
  }
  return null;
}

const one =
  (...names: string[]): Form =>
  (message) =>
    oneOf(message, names);

/** The member of a oneof under its name, which some have another of in JSON. */
function named(message: JsonObject, names: Readonly<Record<string, string>>): JsonValue {
  for (const [name, word] of Object.entries(names)) {
    const value = message[name];
    if (value !== undefined) return { [word]: value };
  }
  return {};
}

const vectorKinds = ["dense", "sparse", "multi_dense", "document", "image", "object"];

/** Numbers of older clients: sparse with indices, several vectors with their count. */
function olderVector({ data, indices, vectors_count: count }: JsonObject): JsonValue {
  const floats = floatsIn(data) ?? new Float32Array(0);
  if (indices !== undefined) return { indices, values: Array.from(floats) };
  if (typeof count !== "number" || count < 1) return asJson(floats);
  const size = floats.length / count;
  // More vectors than numbers would be empty ones, as many as the request names.
  if (!Number.isInteger(size) || size < 1)
    throw wrong("vectors_count", `${floats.length} numbers are no ${count} vectors of a size`);
  return Array.from({ length: count }, (_, i) => Array.from(floats.subarray(i * size, (i + 1) * size)));
}

const vector: Form = (message) => {
  const found = oneOf(message, vectorKinds);
  return found === null ? olderVector(message) : found;
};

const field: Form = ({ key, range, datetime_range: datetimes, ...others }) => {
  const bounds = range ?? datetimes;
  return { key: key ?? "", ...others, ...(bounds !== undefined && { range: bounds }) };
};

const condition: Form = (message) => {
  const { field: own, has_id: ids, has_vector: vectorName, filter } = message;
  return own ?? ids ?? vectorName ?? filter ?? named(message, sameNames("is_empty", "is_null", "nested", "slice"));
};

function sameNames(...names: string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, name]));
}

const matches = {
  keyword: "value",
  integer: "value",
  boolean: "value",
  text: "text",
  phrase: "phrase",
  text_any: "text_any",
  prefix: "prefix",
  substring: "substring",
  keywords: "any",
  integers: "any",
  except_integers: "except",
  except_keywords: "except",
};

/** seconds and nanos since 1970 as RFC 3339 in UTC. */
const timestamp: Form = ({ seconds, nanos }) => {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) throw wrong("", "the seconds of a timestamp are no datetime");
  return date.toISOString().replace(/\.\d+Z$/, `.${String(Number(nanos)).padStart(9, "0")}Z`);
};

const query: Form = (message) => {
  const { formula, nearest_with_mmr: mmr } = message;
  if (isJsonObject(mmr)) return mmr;
  if (isJsonObject(formula)) return { formula: formula["expression"] ?? null, defaults: formula["defaults"] ?? {} };
  return message;
};

const expression: Form = (message) => {
  const { constant, variable, condition: own, mult, sum, max, min, ...others } = message;
  return constant ?? variable ?? own ?? mult ?? sum ?? max ?? min ?? others;
};

/** Points by id, or those that pass a filter. */
const selector: Form = (message) => named(message, sameNames("points", "filter"));

/** A write with the points that it is about, and the names of vectors, where REST has them. */
const targeted: Form = ({ points_selector: given, points, vectors, ...others }) => {
  const target = given ?? points;
  return { ...others, ...(isJsonObject(target) && target), ...(vectors !== undefined && { vector: vectors }) };
};

const operation: Form = (message) =>
  named(message, {
    ...sameNames("upsert", "set_payload", "overwrite_payload", "delete_payload", "update_vectors", "delete_vectors"),
    delete_points: "delete",
    delete_deprecated: "delete",
    clear_payload: "clear_payload",
    clear_payload_deprecated: "clear_payload",
  });

/** The vector of a search with the name of its field. */
const search: Form = ({ vector: given, vector_name: name, sparse_indices: indices, ...others }) => {
  const floats = floatsIn(given) ?? new Float32Array(0);
  const value = indices === undefined ? asJson(floats) : { indices, values: Array.from(floats) };
  return {
    ...others,
    vector: name === undefined && indices === undefined ? value : { name: name ?? "", vector: value },
  };
};

/** Examples by id and by vector, which are one list. */
const recommend: Form = ({ positive_vectors: positive, negative_vectors: negative, ...others }) => ({
  ...others,
  positive: [...listIn(others["positive"]), ...listIn(positive)],
  negative: [...listIn(others["negative"]), ...listIn(negative)],
});

function listIn(value: JsonValue | undefined): JsonValue[] {
  return Array.isArray(value) ? value : [];
}

const lookup: Form = ({ collection_name: collection, vector_name: name, ...others }) => ({
  ...others,
  collection: collection ?? "",
  ...(name !== undefined && { vector: name }),
});

const shardKeys: Form = ({ shard_keys: keys, fallback }) => {
  const [first, ...others] = listIn(keys);
  if (fallback !== undefined) return { target: first ?? null, fallback };
  return others.length === 0 ? (first ?? null) : (keys ?? null);
};

const indexKinds = ["keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"];

const index: Form = (message) => {
  for (const type of indexKinds) {
    const params = message[`${type}_index_params`];
    if (isJsonObject(params)) return { type, ...params };
  }
  return null;
};

const stemmer: Form = ({ snowball, disabled }) =>
  isJsonObject(snowball) ? { type: "snowball", ...snowball } : disabled !== undefined ? { type: "none" } : null;

const quantization: Form = (message) => {
  if (message["disabled"] !== undefined) return "Disabled";
  return named(message, { ...sameNames("scalar", "product", "binary"), turboquant: "turbo" });
};

const createIndex: Form = ({ field_type: type, field_index_params: params, ...others }) => ({
  ...others,
  field_schema: params ?? type ?? null,
});

const createVectorName: Form = ({ dense_config: dense, sparse_config: sparse, ...others }) => ({
  ...others,
  ...(dense !== undefined && { dense }),
  ...(sparse !== undefined && { sparse }),
});

/** Nothing is no metadata. */
const withMetadata: Form = ({ metadata, ...others }) =>
  isJsonObject(metadata) && Object.keys(metadata).length > 0 ? { ...others, metadata } : others;

const clusterSetup: Form = ({ create_shard_key: create, delete_shard_key: drop, ...others }) => ({
  ...others,
  ...(create !== undefined && { create_sharding_key: create }),
  ...(drop !== undefined && { drop_sharding_key: drop }),
});

const inner: Form = ({ request, ...others }) => ({ ...others, ...(isJsonObject(request) && request) });

/** By the name of the message. */
export const inbound: Readonly<Record<string, Form | undefined>> = {
  PointId: one("num", "uuid"),
  ShardKey: one("keyword", "number"),
  ShardKeySelector: shardKeys,
  WriteOrdering: one("type"),
  ReadConsistency: one("type", "factor"),

  Vectors: one("vector", "vectors"),
  NamedVectors: one("vectors"),
  Vector: vector,
  VectorInput: one("id", ...vectorKinds),
  DenseVector: one("data"),
  MultiDenseVector: ({ vectors }) => listIn(vectors).map((each) => Array.from(floatsIn(each) ?? [])),
  SparseIndices: one("data"),
  VectorExample: one("id", "vector"),
  TargetVector: one("single"),

  Condition: condition,
  HasIdCondition: (message) => ({ has_id: message["has_id"] ?? [] }),
  HasVectorCondition: (message) => ({ has_vector: message["has_vector"] ?? "" }),
  FieldCondition: field,
  Match: (message) => named(message, matches),
  RepeatedStrings: one("strings"),
  RepeatedIntegers: one("integers"),
  "google.protobuf.Timestamp": timestamp,

  PointsSelector: selector,
  PointsIdsList: one("ids"),
  VectorsSelector: one("names"),
  DeletePoints: targeted,
  DeletePointVectors: targeted,
  SetPayloadPoints: targeted,
  DeletePayloadPoints: targeted,
  ClearPayloadPoints: targeted,
  PointsUpdateOperation: operation,
  "PointsUpdateOperation.SetPayload": targeted,
  "PointsUpdateOperation.OverwritePayload": targeted,
  "PointsUpdateOperation.DeletePayload": targeted,
  "PointsUpdateOperation.DeleteVectors": targeted,
  "PointsUpdateOperation.DeletePoints": targeted,
  "PointsUpdateOperation.ClearPayload": targeted,
  CreateFieldIndexCollection: createIndex,
  CreateVectorNameRequest: createVectorName,

  WithPayloadSelector: (message) => message["enable"] ?? named(message, sameNames("include", "exclude")),
  PayloadIncludeSelector: one("fields"),
  PayloadExcludeSelector: one("fields"),
  WithVectorsSelector: one("enable", "include"),
  StartFrom: one("float", "integer", "timestamp", "datetime"),

  Query: query,
  TextQuery: ({ query: text, bm25 }) => ({ query: text ?? "", ...(bm25 !== undefined && { scoring: { bm25 } }) }),
  ContextInput: one("pairs"),
  Expression: expression,
  LookupLocation: lookup,
  SearchPoints: search,
  SearchPointGroups: search,
  RecommendPoints: recommend,
  RecommendPointGroups: recommend,

  VectorsConfig: one("params", "params_map"),
  VectorParamsMap: one("map"),
  VectorsConfigDiff: ({ params, params_map: map }) => (params === undefined ? (map ?? {}) : { "": params }),
  VectorParamsDiffMap: one("map"),
  SparseVectorConfig: one("map"),
  QuantizationConfig: quantization,
  QuantizationConfigDiff: quantization,
  BinaryQuantizationQueryEncoding: one("setting"),
  MaxOptimizationThreads: one("value", "setting"),
  StrictModeMultivectorConfig: one("multivector_config"),
  StrictModeSparseConfig: one("sparse_config"),
  PayloadIndexParams: index,
  StemmingAlgorithm: stemmer,
  CreateCollection: withMetadata,
  UpdateCollection: withMetadata,
  UpdateCollectionClusterSetupRequest: clusterSetup,
  CreateShardKeyRequest: inner,
  DeleteShardKeyRequest: inner,
};
