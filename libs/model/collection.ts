import { assert, KithError, limits } from "../base/index.js";
import { type Bm25Options, checkBm25 } from "./bm25.js";
import type { FieldChoice } from "./choice.js";
import { isWellFormed } from "./id.js";
import { type Datatype, keepsOriginals } from "./datatype.js";
import {
  type FieldBuild,
  type GenerationPlan,
  type OtherGeneration,
  withBuilding,
  withoutOther,
  withSwitched,
} from "./generation.js";
import { checkPartitionKey } from "./partition.js";
import type { StrictMode } from "./strict-mode.js";
import { checkNewPayloadIndex, type PayloadIndex, payloadIndexOf, type PayloadIndexRecord } from "./payload-index.js";
import { withoutOtherText, withoutTextGenerations, withTextBuilding, withTextSwitched } from "./text-generation.js";
import { currentPlacement, type ShardPlacement, type StoredPlacement } from "./placement.js";

export type Metric = "cosine" | "dot" | "l2";

/** Late interaction: the sum, over the rows of a query, of the similarity to the most similar row. */
export type Multivector = "maxSim";

export const metrics: readonly Metric[] = ["cosine", "dot", "l2"];

export interface VectorField {
  /** "" for the unnamed vector of a collection with one field. */
  name: string;
  dimension: number;
  metric: Metric;
  datatype: Datatype;
  /** Links per node of the graph (HNSW M). */
  m: number;
  /** Beam width of the build. */
  efConstruction: number;
  /** As in FieldBuild. */
  originals?: boolean;
  /** Beam width of a query that names none. */
  efSearch: number;
  /** Missing: a point has one vector in the field; else a matrix, which is compared so. */
  multivector?: Multivector | undefined;
  /** The number of the build of its index that answers; missing: 0, the first one. */
  generation?: number;
  /** The highest number that was ever given; missing: that of the one that answers. */
  generations?: number;
  other?: OtherGeneration;
  /** The recall@10 for which the datatype is to be picked by the data, once there are enough; only in the catalog. */
  autoRecall?: number;
  /** Of the other one, while it is being built; only in the catalog. */
  plan?: GenerationPlan;
  /** Which datatype was picked by the data, the last time that this was asked for; only in the catalog. */
  choice?: FieldChoice;
}

/** A field of sparse vectors: numbers by index, compared by their dot product. */
export interface SparseField {
  /** Never "". */
  name: string;
  /** idf: entries of queries are weighed by how rare their index is in the collection. */
  modifier?: "idf";
}

export type CollectionState = "creating" | "ready" | "deleting";

/** A collection as the catalog keeps it. */
export interface Collection {
  /** [a-z0-9]{1,32}; never reused, so that a deleted and re-created name is a different collection. */
  id: string;
  name: string;
  fields: VectorField[];
  /** The vector fields that it was made with, where these have changed since: a replay of a log begins with them. */
  initialFields?: VectorField[];
  /** Missing: none. Their names and those of `fields` are different. */
  sparseFields?: SparseField[];
  /** The sparse fields that it was made with, where these have changed since. */
  initialSparseFields?: SparseField[];
  payloadIndexes: PayloadIndexRecord[];
  /** 1 for the schema that it was made with; one more with each change that went through the logs. */
  schemaVersion: number;
  /** A change of the schema that is on its way through the logs of the shards. */
  change?: SchemaChange;
  /** It is being filled from a backup, and answers nobody before that is done. */
  restoring?: RestoreOrigin;
  replicationFactor: number;
  /** Version of the shard map; carried by every log record. */
  epoch: number;
  createdAtMs: number;
  labels: Record<string, string>;
  /** Missing: nothing but the limits of the server. */
  strictMode?: StrictMode;
  /** The recall that queries ask for which name neither one nor a beam width; missing: none. */
  recallTarget?: number;
  /** Path in payloads of the partition key; missing where points are put into shards by their ids. Never changes. */
  partitionKey?: string;
  state: CollectionState;
  /** The id of the next shard that is made. */
  nextShard: number;
  /** In no order that means anything; each id once. */
  shards: ShardPlacement[];
}

/** Where the points of a collection come from that is being restored. */
export interface RestoreOrigin {
  location: string;
  /** Id of the backup. */
  backup: string;
  /** A later state than that of the backup; sequences by id of the shard. */
  until?: { timeMs: number } | { sequences: Record<string, number> };
  /**
   * By the id of the shard: the shard of the backup whose files its replicas begin with, and the sequence that these are of, behind which its log begins.
   * Missing: the points are read out and put into the logs.
   */
  parts?: { shard: number; sequence: number }[];
}

/** One step of a collection's schema. */
export type SchemaChange = {
  /** Of the schema after it. */
  version: number;
} & (
  | { kind: "addVector"; field: VectorField }
  | { kind: "addSparse"; field: SparseField }
  /** Of whatever kind. */
  | { kind: "dropVector"; name: string }
  | { kind: "addPayloadIndex"; index: PayloadIndex }
  | { kind: "dropPayloadIndex"; path: string }
  | { kind: "beginGeneration"; name: string; build: FieldBuild; plan: GenerationPlan }
  | { kind: "switchGeneration" | "dropGeneration"; name: string; generation: number }
  | { kind: "beginTextGeneration"; path: string; bm25: Bm25Options; isManual: boolean }
  | { kind: "switchTextGeneration" | "dropTextGeneration"; path: string; generation: number }
);

/** The vector fields that a collection was made with. */
export function firstFields({ initialFields, fields }: Pick<Collection, "fields" | "initialFields">): VectorField[] {
  return initialFields ?? fields;
}

/** The sparse fields that a collection was made with. */
export function firstSparseFields({
  initialSparseFields,
  sparseFields = [],
}: Pick<Collection, "sparseFields" | "initialSparseFields">): SparseField[] {
  return initialSparseFields ?? sparseFields;
}

/** The collection after a change of its schema, which is checked. INVALID_SCHEMA, UNKNOWN_VECTOR. */
export function changedCollection(collection: Collection, change: SchemaChange): Collection {
  const { fields, sparseFields = [], payloadIndexes } = collection;
  const after: Collection = { ...collection, schemaVersion: change.version };
  delete after.change;
  switch (change.kind) {
    case "addVector": {
      const { field } = change;
      checkName(field.name, "vector field");
      checkVectorField(field);
      checkNewField(collection, field.name);
      return { ...after, initialFields: firstFields(collection), fields: [...fields, field] };
    }
    case "addSparse": {
      const { field } = change;
      checkSparseField(field);
      checkNewField(collection, field.name);
      return {
        ...after,
        initialSparseFields: firstSparseFields(collection),
        sparseFields: [...sparseFields, field],
      };
    }
    case "dropVector": {
      checkFieldName(collection, change.name);
      if (fields.length + sparseFields.length === 1) {
        throw new KithError(
          "INVALID_SCHEMA",
          `"${change.name}" is the only vector field; a collection needs at least one`,
          {
            details: { field: change.name },
          },
        );
      }
      if (isSparse(collection, change.name)) {
        return {
          ...after,
          initialSparseFields: firstSparseFields(collection),
          sparseFields: sparseFields.filter(({ name }) => name !== change.name),
        };
      }
      return {
        ...after,
        initialFields: firstFields(collection),
        fields: fields.filter(({ name }) => name !== change.name),
      };
    }
    case "addPayloadIndex":
      checkNewPayloadIndex(payloadIndexes, change.index);
      return { ...after, payloadIndexes: [...payloadIndexes, withoutTextGenerations(change.index)] };
    case "dropPayloadIndex": {
      const dropped = payloadIndexOf(payloadIndexes, change.path);
      return { ...after, payloadIndexes: payloadIndexes.filter((index) => index !== dropped) };
    }
    case "beginGeneration": {
      const field = { ...fieldOf(collection, change.name) };
      // What was to be picked by the data has been said.
      if (change.build.datatype !== field.datatype || change.build.originals === true) delete field.autoRecall;
      checkVectorField({ ...field, ...change.build });
      return withField(after, collection, { ...withBuilding(field, change.build), plan: change.plan });
    }
    case "switchGeneration": {
      const field = fieldOf(collection, change.name);
      return withField(after, collection, withSwitched(field, change.generation));
    }
    case "dropGeneration": {
      const field = fieldOf(collection, change.name);
      return withField(after, collection, withoutOther(field, change.generation));
    }
    case "beginTextGeneration": {
      const index = payloadIndexOf(payloadIndexes, change.path);
      checkBm25(change.bm25, change.path);
      const built = withTextBuilding(index, change.bm25);
      return withIndex(after, collection, change.isManual ? { ...built, isManual: true } : built);
    }
    case "switchTextGeneration": {
      const index = payloadIndexOf(payloadIndexes, change.path);
      return withIndex(after, collection, withTextSwitched(index, change.generation));
    }
    case "dropTextGeneration": {
      const index = payloadIndexOf(payloadIndexes, change.path);
      return withIndex(after, collection, withoutOtherText(index, change.generation));
    }
  }
}

/** `after`, with a field in the place of the one of its name. */
function withField(after: Collection, before: Collection, field: VectorField): Collection {
  const fields = before.fields.map((each) => (each.name === field.name ? field : each));
  return { ...after, initialFields: firstFields(before), fields };
}

/** `after`, with an index in the place of the one of its path. */
function withIndex(after: Collection, before: Collection, index: PayloadIndexRecord): Collection {
  return { ...after, payloadIndexes: before.payloadIndexes.map((each) => (each.path === index.path ? index : each)) };
}

/** INVALID_SCHEMA where a field of whatever kind has the name, or there are as many as there may be. */
function checkNewField({ fields, sparseFields = [] }: Pick<Collection, "fields" | "sparseFields">, name: string): void {
  if ([...fields, ...sparseFields].some((field) => field.name === name)) {
    throw new KithError("INVALID_SCHEMA", `there is a vector field "${name}" already`, { details: { field: name } });
  }
  const count = fields.length + sparseFields.length + 1;
  checkRange(count, 1, limits.vectorFieldsMax, "the number of vector fields");
}

export const indexDefaults = { m: 16, efConstruction: 128, efSearch: 64 } as const;

const namePattern = /^[A-Za-z0-9][A-Za-z0-9_-]*$/;
const fieldNamePattern = /^[A-Za-z0-9_][A-Za-z0-9_-]*$/;

/** Collection names become keys and folder names: letters, digits, "_" and "-", beginning with a letter or digit. */
export function checkCollectionName(name: string): void {
  checkName(name, "collection");
}

function checkName(name: string, what: "collection" | "vector field"): void {
  if (typeof name !== "string") {
    throw new KithError("INVALID_NAME", `the name of a ${what} is a text, not ${name === null ? "null" : typeof name}`);
  }
  if (name === "")
    throw new KithError("INVALID_NAME", `the name of a ${what} must not be empty`, { details: { name } });
  if (name.length > limits.nameLength) {
    throw new KithError(
      "INVALID_NAME",
      `the name of the ${what} has ${name.length} characters; at most ${limits.nameLength} are allowed`,
      { details: { name: name.slice(0, 80), limit: limits.nameLength } },
    );
  }
  if (!(what === "collection" ? namePattern : fieldNamePattern).test(name)) {
    const first = what === "collection" ? "beginning with a letter or digit" : 'not beginning with "-"';
    throw new KithError(
      "INVALID_NAME",
      `"${name}" is not a valid name for a ${what}: use letters, digits, "_" and "-", ${first}`,
      { details: { name } },
    );
  }
}

export interface CollectionSpec {
  name: string;
  fields: VectorField[];
  sparseFields?: SparseField[];
  shardCount: number;
  replicationFactor: number;
  labels: Record<string, string>;
  partitionKey?: string | undefined;
}

function checkRange(value: number, min: number, max: number, what: string): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new KithError("INVALID_SCHEMA", `${what} is ${value}; it must be a whole number in ${min}..${max}`, {
      details: { field: what, value, min, max },
    });
  }
}

/** Checks what a user asks for before anything is written. `isPayloadOnly`: it needs no vector field. */
export function checkCollectionSpec(spec: CollectionSpec, isPayloadOnly = false): void {
  checkCollectionName(spec.name);
  const { sparseFields = [] } = spec;
  const count = spec.fields.length + sparseFields.length;
  if (count === 0 && !isPayloadOnly) {
    throw new KithError(
      "INVALID_SCHEMA",
      "a collection needs at least one vector field: a dense one with a dimension and a metric, or a sparse one",
    );
  }
  checkRange(count, 0, limits.vectorFieldsMax, "the number of vector fields");
  const names = new Set<string>();
  for (const field of spec.fields) {
    if (field.name !== "" || spec.fields.length > 1) checkName(field.name, "vector field");
    checkOnce(names, field.name);
    checkVectorField(field);
  }
  for (const field of sparseFields) {
    checkSparseField(field);
    checkOnce(names, field.name);
  }
  checkRange(spec.shardCount, 1, limits.shardsMax, "shard_count");
  checkReplicationFactor(spec.replicationFactor);
  checkLabels(spec.labels);
  if (spec.partitionKey !== undefined) checkPartitionKey(spec.partitionKey);
}

function checkOnce(names: Set<string>, name: string): void {
  if (names.has(name)) {
    throw new KithError("INVALID_SCHEMA", `the vector field "${name}" is named twice`, { details: { field: name } });
  }
  names.add(name);
}

/** LIMIT_OUT_OF_RANGE for a recall that cannot be a target: more is what an exact search gives. */
export function checkRecallTarget(target: number, name: string): void {
  const { recallTargetMin: min, recallTargetMax: max } = limits;
  if (target >= min && target <= max) return;
  throw new KithError(
    "LIMIT_OUT_OF_RANGE",
    `${name} is ${target}; it must be in ${min}..${max}: an exact search gives all`,
    { details: { field: name, value: String(target), min, max } },
  );
}

/** INVALID_SCHEMA for a number of replicas out of its bounds. */
export function checkReplicationFactor(replicas: number): void {
  checkRange(replicas, 1, limits.replicasMax, "replication_factor");
}

/** Checks the numbers of a field. Replicas check fields that are added by the same bounds: they may be widened, never narrowed. */
export function checkVectorField(field: VectorField): void {
  const of = field.name === "" ? "" : ` of "${field.name}"`;
  checkRange(field.dimension, 1, limits.dimensionMax, `the dimension${of}`);
  checkRange(field.m, 2, 128, `m${of}`);
  checkRange(field.efConstruction, 8, 4096, `ef_construction${of}`);
  checkRange(field.efSearch, 1, limits.efMax, `ef_search${of}`);
  if (field.multivector !== undefined && keepsOriginals(field)) {
    throw new KithError(
      "INVALID_SCHEMA",
      `matrices${of} are kept in f32, f16, bf16 or i8, and not as they were written beside that`,
      { details: { field: field.name, datatype: field.datatype } },
    );
  }
  if (field.datatype === "binary" && field.metric !== "cosine") {
    throw new KithError(
      "INVALID_SCHEMA",
      `the datatype binary${of} goes with the metric cosine alone, not with ${field.metric}: it keeps directions, and no lengths`,
      { details: { field: field.name, datatype: field.datatype, metric: field.metric } },
    );
  }
}

/** INVALID_NAME, INVALID_SCHEMA. */
export function checkSparseField({ name, modifier }: SparseField): void {
  checkName(name, "vector field");
  if (modifier === undefined || modifier === "idf") return;
  throw new KithError("INVALID_SCHEMA", `the modifier of "${name}" is "${String(modifier)}"; give idf, or none`, {
    details: { field: name },
  });
}

export function checkLabels(labels: Record<string, string>): void {
  const entries = Object.entries(labels);
  checkRange(entries.length, 0, 64, "the number of labels");
  for (const [key, value] of entries) {
    if (typeof value !== "string") {
      throw new KithError(
        "INVALID_SCHEMA",
        `the label ${JSON.stringify(key.slice(0, 64))} is a ${typeof value}; labels are texts`,
      );
    }
    if (!isWellFormed(key) || !isWellFormed(value)) {
      throw new KithError(
        "INVALID_SCHEMA",
        `the label ${JSON.stringify(key.slice(0, 64))} has a lone surrogate, which UTF-8 cannot hold`,
      );
    }
    if (key.length === 0 || key.length > 64 || value.length > 256) {
      throw new KithError(
        "INVALID_SCHEMA",
        `the label "${key.slice(0, 64)}" has a key outside of 1..64 or a value beyond 256 characters`,
      );
    }
  }
}

/** What requests name fields of. */
export type FieldsOfCollection = Pick<Collection, "name" | "fields" | "sparseFields">;

/** The dense field that a request names; UNKNOWN_VECTOR lists those that exist. */
export function fieldOf(collection: FieldsOfCollection, name: string): VectorField {
  for (const field of collection.fields) if (field.name === name) return field;
  throw unknownField(collection, name, collection.fields, isSparse(collection, name) ? "dense vector" : "vector");
}

/** The sparse field that a request names; UNKNOWN_VECTOR lists those that exist. */
export function sparseFieldOf(collection: FieldsOfCollection, name: string): SparseField {
  const { sparseFields = [] } = collection;
  for (const field of sparseFields) if (field.name === name) return field;
  throw unknownField(collection, name, sparseFields, "sparse vector");
}

export function isSparse({ sparseFields }: Pick<Collection, "sparseFields">, name: string): boolean {
  return sparseFields !== undefined && sparseFields.some((field) => field.name === name);
}

/** UNKNOWN_VECTOR where the collection has no vector field of the name, of whatever kind. */
export function checkFieldName(collection: FieldsOfCollection, name: string): void {
  const { fields, sparseFields = [] } = collection;
  const all = [...fields, ...sparseFields];
  if (!all.some((field) => field.name === name)) throw unknownField(collection, name, all, "vector");
}

function unknownField(
  collection: FieldsOfCollection,
  name: string,
  known: readonly { name: string }[],
  what: string,
): KithError {
  const names = known.length === 0 ? "none" : known.map((field) => `"${field.name}"`).join(", ");
  return new KithError(
    "UNKNOWN_VECTOR",
    `the collection "${collection.name}" has no ${what} field "${name}"; it has ${names}`,
    {
      details: { collection: collection.name, field: name },
    },
  );
}

/** A collection as this or an earlier version wrote it. */
type StoredCollection = Omit<Collection, "shards" | "nextShard" | "payloadIndexes" | "schemaVersion"> & {
  shards: StoredPlacement[];
  nextShard?: number;
  payloadIndexes?: PayloadIndexRecord[];
  schemaVersion?: number;
};

/** The catalog's JSON in its present form, checked for what later code relies on. */
export function parseCollection(json: string): Collection {
  const value = JSON.parse(json) as StoredCollection;
  assert(
    typeof value.id === "string" &&
      typeof value.name === "string" &&
      Array.isArray(value.fields) &&
      Array.isArray(value.shards),
    `the catalog holds a collection record that is none: ${json.slice(0, 200)}`,
  );
  const shards = value.shards.map((shard) => currentPlacement(shard, value.epoch, value.createdAtMs));
  const ids = new Set(shards.map(({ shard }) => shard));
  const nextShard = value.nextShard ?? 1 + Math.max(-1, ...ids);
  assert(
    ids.size === shards.length && shards.every(({ shard }) => shard < nextShard),
    `the shards of the collection "${value.name}" have ids that stand twice, or are not below ${nextShard}: ${[...ids].join(", ")}`,
  );
  const { payloadIndexes = [], schemaVersion = 1 } = value;
  return { ...value, fields: value.fields.map(currentField), payloadIndexes, schemaVersion, nextShard, shards };
}

/**
 * A field as this or an earlier version wrote it: the datatype was called "storage" in the first, and an update of labels lost the
 * beam width of fields with names such as "constructor".
 */
export function currentField(field: VectorField & { storage?: Datatype }): VectorField {
  const { storage, ...rest } = field;
  const efSearch = (field as Partial<VectorField>).efSearch ?? indexDefaults.efSearch;
  return storage === undefined ? { ...field, efSearch } : { ...rest, efSearch, datatype: storage };
}
