import { JsonFloat } from "../../../../libs/model/index.js";
import { isSourceObject, type Source, type SourceObject, textIn } from "./source.js";

/* Messages whose JSON in the REST API is another than their fields by name: the fields of each, from its JSON. */

type Form = (value: Source) => SourceObject;

function objectIn(value: Source): SourceObject {
  return isSourceObject(value) ? value : {};
}

function numberIn(value: Source): number {
  return value instanceof JsonFloat ? value.value : Number(value);
}

function isSparse(value: Source): boolean {
  return isSourceObject(value) && Object.hasOwn(value, "indices") && Object.hasOwn(value, "values");
}

function isList(value: Source): value is readonly Source[] {
  return Array.isArray(value);
}

/** One vector: numbers, indices with values, or several vectors. */
function isVector(value: Source): boolean {
  return value instanceof Float32Array || isList(value) || isSparse(value);
}

const vectorOutput: Form = (value) => {
  if (isSparse(value)) return { sparse: value };
  const [first] = isList(value) ? value : [];
  const isSeveral = first instanceof Float32Array || isList(first);
  return isSeveral ? { multi_dense: { vectors: value } } : { dense: value };
};

const byType: Form = (value) => {
  const { type, ...params } = objectIn(value);
  return { [`${textIn(type)}_index_params`]: params };
};

const stemmer: Form = (value) => {
  const { type, ...params } = objectIn(value);
  return type === "none" ? { disabled: {} } : { [textIn(type)]: params };
};

/** A word stands for the list of a language. */
const stopwords: Form = (value) => (typeof value === "string" ? { languages: [value] } : objectIn(value));

const group: Form = (value) => {
  if (typeof value === "string") return { string_value: value };
  return numberIn(value) < 0 ? { integer_value: value } : { unsigned_value: value };
};

const facet: Form = (value) => {
  if (typeof value === "string") return { string_value: value };
  return typeof value === "boolean" ? { bool_value: value } : { integer_value: value };
};

const timestamp: Form = (value) => {
  const ms = Date.parse(textIn(value).replace(/Z?$/, "Z"));
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
};

/** By the name of the message. */
export const outbound: Readonly<Record<string, Form | undefined>> = {
  PointId: (value) => (typeof value === "string" ? { uuid: value } : { num: value }),
  ShardKey: (value) => (typeof value === "string" ? { keyword: value } : { number: value }),
  VectorsOutput: (value) => (isVector(value) ? { vector: value } : { vectors: { vectors: value } }),
  VectorOutput: vectorOutput,
  DenseVector: (value) => ({ data: value }),
  OrderValue: (value) => (Number.isSafeInteger(value) || typeof value === "bigint" ? { int: value } : { float: value }),
  GroupId: group,
  FacetValue: facet,
  OptimizerStatus: (value) => (value === "ok" ? { ok: true } : { ok: false, ...objectIn(value) }),
  VectorsConfig: (value) =>
    Object.hasOwn(objectIn(value), "size") ? { params: value } : { params_map: { map: value } },
  SparseVectorConfig: (value) => ({ map: value }),
  QuantizationConfig: (value) => {
    const { turbo: turboquant, ...others } = objectIn(value);
    return { ...others, turboquant };
  },
  BinaryQuantizationQueryEncoding: (value) => ({ setting: value }),
  MaxOptimizationThreads: (value) => (typeof value === "string" ? { setting: value } : { value }),
  StrictModeMultivectorConfig: (value) => ({ multivector_config: value }),
  StrictModeSparseConfig: (value) => ({ sparse_config: value }),
  PayloadIndexParams: byType,
  StemmingAlgorithm: stemmer,
  StopwordsSet: stopwords,
  "google.protobuf.Timestamp": timestamp,
};
