/*
 * The options of each method of a collection, by the method's name: others are refused, since what is misspelt or meant for another method
 * would be passed over without a word.
 */

const call = ["signal", "deadlineMs"];
const write = [...call, "ack", "idempotencyKey"];
const read = [...call, "withPayload", "withVectors", "consistency", "partition"];

export const optionKeys = {
  create: [
    ...call,
    "vectors",
    "sparse",
    "shards",
    "replicas",
    "labels",
    "strictMode",
    "recallTarget",
    "partitionKey",
    "ifNotExists",
  ],
  update: [...call, "efSearch", "labels", "strictMode", "recallTarget", "replicas"],
  info: call,
  exists: call,
  drop: call,
  rename: call,
  stats: call,
  createPayloadIndex: [...call, "isTenant", "isPrincipal", "text", "bm25", "wait"],
  dropPayloadIndex: call,
  listPayloadIndexes: call,
  addVectorField: call,
  addSparseField: [...call, "modifier"],
  dropVectorField: call,
  alterVectorField: [
    ...call,
    "datatype",
    "m",
    "efConstruction",
    "originals",
    "minRecall",
    "autoRecall",
    "manual",
    "wait",
  ],
  listGenerations: call,
  alterPayloadIndex: [...call, "bm25", "manual", "wait"],
  listTextGenerations: call,
  promoteGeneration: [...call, "index", "force"],
  rollbackGeneration: [...call, "index"],
  dropGeneration: [...call, "index"],
  waitIndexed: call,
  queryBatch: call,
  get: read,
  scroll: [...read, "filter", "orderBy", "batch", "onExplain"],
  count: [...call, "filter", "approximate", "onExplain", "consistency", "partition"],
  facet: [...call, "filter", "limit", "approximate", "explain", "consistency", "partition"],
  matrix: [...call, "using", "filter", "sample", "limit", "consistency", "partition"],
  upsert: [...write, "mode", "onlyIf"],
  delete: [...write, "onlyIf", "expectedVersion", "partition"],
} satisfies Record<string, readonly string[]>;

/** Methods whose options are checked where they become a request. */
type CheckedElsewhere =
  | "query"
  | "queryGroups"
  | "upsertMany"
  | "setPayload"
  | "overwritePayload"
  | "deletePayload"
  | "clearPayload"
  | "updateVectors"
  | "deleteVectors"
  | "setExpiry"
  | "writeBatch"
  | "truncate";

/** A method of a collection: each has its options named here or there. */
export type CollectionCall = keyof typeof optionKeys | CheckedElsewhere;

export const callKeys = call;
export const moveKeys = ["collection", "shard", "from", "to"];
export const splitKeys = ["collection", "shard", "into"];
export const mergeKeys = ["collection", "shards"];
export const promoteKeys = [...call, "force"];
export const isolateKeys = ["collection", "partition"];
export const rebalanceKeys = [...call, "apply"];
export const slowQueriesKeys = [...call, "limit"];

export const upsertManyKeys = [
  ...call,
  "batchBytes",
  "batchPoints",
  "inFlight",
  "ack",
  "mode",
  "onProgress",
  "onItemError",
  "onBatch",
];

export const listAliasesKeys = [...call, "collection"];

export const highlightKeys = [
  ...["text", "using", "fields", "before", "after", "fragmentLength", "fragmentCount", "escapeHtml"],
];
export const nearKeys = ["vector", "using", "threshold"];
export const watchKeys = ["signal", "withPayload", "withVectors", "from", "filter", "before", "near", "onToken"];

const location = [...call, "location"];

export const backupKeys = {
  create: [...location, "full", "maxBytesPerSecond", "group"],
  list: [...location, "collection", "group"],
  verify: location,
  restore: [...location, "collection", "shards", "replicas", "until"],
  delete: location,
  wait: ["signal", "onProgress", "everyMs"],
} satisfies Record<string, readonly string[]>;

export const backupGroupKeys = ["name", "size"];

export const createKeyKeys = [...call, "role", "collections", "expiresAt", "limits"];
export const accessLimitKeys = [
  "requestsPerSecond",
  "pointsPerSecond",
  "bytesPerSecond",
  "concurrentQueries",
  "storedPoints",
  "storedBytes",
];
export const rotateKeyKeys = [...call, "overlapMs"];
export const roleKeys = ["name", "rules", "limits"];
export const roleRuleKeys = ["verbs", "collections", "filter"];

export const clusterSettingKeys = [
  "repairAfterMs",
  "movesAtOnce",
  "copyBytesPerSecond",
  "autoRebalance",
  "rebalancePaused",
  "rebalanceThresholdPercent",
  "rebalanceMinBytes",
  "logRetentionMs",
  "logRetentionBytes",
  "logRetentionRecords",
  "logHoldMs",
  "replicaFlushMs",
  "splitShardBytes",
  "mergeShardBytes",
];

export const retryKeys = ["attempts", "initialMs", "maxMs", "ratio", "burst"];
export const tlsKeys = ["ca", "caFile", "cert", "certFile", "key", "keyFile", "serverName"];
export const vectorSpecKeys = [
  ...["dimension", "metric", "datatype", "m", "efConstruction", "efSearch", "originals", "autoRecall", "multivector"],
];
export const sparseSpecKeys = ["modifier"];
export const textIndexKeys = ["tokenizer", "minTokenLength", "maxTokenLength", "lowercase", "phrase"];
export const bm25Keys = ["fields", "k1", "analyzer"];
export const bm25FieldKeys = ["path", "weight", "b"];
export const analyzerKeys = [
  ...["tokenizer", "language", "lowercase", "foldAccents", "removeStopwords", "stem", "stopwords"],
  ...["minGram", "maxGram", "cjkBigrams"],
];
export const columnsInputKeys = ["ids", "vectors", "rows", "sparse", "payloads", "expiresAt"];

/** Of a point: what is written, and what reads give beside it, so that a point that was read can be written again. */
export const pointKeys: ReadonlySet<string> = new Set([
  "id",
  "vector",
  "vectors",
  "sparse",
  "matrices",
  "payload",
  "expiresAt",
  "expectedVersion",
  "version",
  "score",
  "order",
  "highlights",
]);
export const pointVectorsKeys: ReadonlySet<string> = new Set(["id", "vector", "vectors", "sparse"]);

export const connectKeys = [
  "connectTimeoutMs",
  "deadlineMs",
  "tls",
  "apiKey",
  "headers",
  "retry",
  "parsePayload",
  "tracing",
  "signal",
];
