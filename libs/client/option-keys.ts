/*
 * The options of each method of a collection, by the method's name: others are refused, since what is misspelt or meant for another method
 * would be passed over without a word.
 */

const call = ["signal", "deadlineMs"];
const write = [...call, "ack", "idempotencyKey"];
const read = [...call, "withPayload", "withVectors", "consistency"];

export const optionKeys = {
  create: [...call, "vectors", "shards", "replicas", "labels", "strictMode", "ifNotExists"],
  update: [...call, "efSearch", "labels", "strictMode", "replicas"],
  info: call,
  exists: call,
  drop: call,
  rename: call,
  stats: call,
  waitIndexed: call,
  queryBatch: call,
  get: read,
  scroll: [...read, "filter", "orderBy", "batch"],
  count: [...call, "filter", "approximate", "consistency"],
  facet: [...call, "filter", "limit", "approximate", "explain", "consistency"],
  matrix: [...call, "using", "filter", "sample", "limit", "consistency"],
  upsert: [...write, "mode", "onlyIf"],
  delete: [...write, "onlyIf", "expectedVersion"],
} satisfies Record<string, readonly string[]>;

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

const location = [...call, "location"];

export const backupKeys = {
  create: [...location, "full", "maxBytesPerSecond"],
  list: [...location, "collection"],
  verify: location,
  restore: [...location, "collection", "shards", "replicas", "until"],
  delete: location,
} satisfies Record<string, readonly string[]>;

export const clusterSettingKeys = ["repairAfterMs", "movesAtOnce", "copyBytesPerSecond"];

export const connectKeys = [
  "connectTimeoutMs",
  "deadlineMs",
  "tls",
  "headers",
  "retry",
  "parsePayload",
  "tracing",
  "signal",
];
