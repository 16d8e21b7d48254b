/** Every bound that users can meet, with its unit. Errors that refuse a value name the limit. */
export const limits = {
  /** Longest collection or vector name, in characters. */
  nameLength: 128,
  /** Longest string id, in bytes of UTF-8. */
  idBytes: 256,
  /** Bytes of UTF-8 of a value of a partition key. */
  partitionBytes: 255,
  dimensionMax: 16_384,
  vectorFieldsMax: 16,
  /** Entries of one sparse vector: 8 bytes each. */
  sparseEntries: 16_384,
  /** Rows of one matrix, stored or asked with. */
  matrixRows: 2_048,
  /** Of one collection. */
  payloadIndexesMax: 64,
  /** Fields of one index by BM25. */
  bm25FieldsMax: 8,
  /** Further stop words of an analyzer. */
  stopwordsMax: 1_000,
  /** UTF-8 of the text of a query. */
  queryTextBytes: 65_536,
  /** Results of a query whose texts are marked. */
  highlightResults: 1_000,
  /** Words with * or ~ of which marked texts are looked through for the like. */
  highlightWords: 32,
  /** Characters of one part of a marked text, and of each of its marks. */
  highlightLength: 10_000,
  highlightMarkLength: 64,
  /** Parts of one field of a result. */
  highlightFragments: 100,
  /** UTF-16 units of all parts of all results of one query. */
  highlightAnswer: 8 * 1024 * 1024,
  /** Terms of the text of a query, and terms that its prefixes and fuzzy words stand for. */
  queryTermsMax: 1_024,
  /** Bounds of the length of words in indexes of texts, in characters. */
  tokenLength: 1_024,
  /** JSON text of one payload, in bytes. */
  payloadBytes: 64 * 1024,
  /** Arrays and objects of a payload within each other: many a client's parser is recursive. */
  payloadDepth: 100,
  /** All vectors and the payload of one point, in bytes: a point must fit into one log record. */
  pointBytes: 768 * 1024,
  /** Points in one upsert, ids in one delete or get. */
  batchPoints: 10_000,
  /** Points of one shard that one write by filter may touch. */
  filterTargets: 1_000_000,
  /** Bytes of vectors and payloads that the writes of one record may have to rewrite, beside what they bring. */
  rewrittenBytes: 256 * 1024 * 1024,
  /** Operations of one batch of mixed writes. */
  batchOperations: 1_000,
  /** Paths of one deletion of parts of payloads. */
  deletedPaths: 256,
  /** One gRPC message, in bytes. */
  messageBytes: 32 * 1024 * 1024,
  /** Results of one query. */
  queryLimit: 10_000,
  /** Points of one distance matrix: each is compared with all others. */
  matrixPoints: 1_000,
  /** Results of one shard: a query by a point needs one more, since the point itself is left out. */
  shardResults: 10_001,
  /** Queries in one batch. */
  queryBatch: 256,
  scrollLimit: 10_000,
  /** Vectors and payloads of one page of a scroll, in bytes: a page of larger points ends early. */
  scrollBytes: 8 * 1024 * 1024,
  efMax: 8_192,
  /** Of recall@k that queries may ask for. */
  recallTargetMin: 0.5,
  recallTargetMax: 0.999,
  /** Stages of one query: itself and all prefetches, however deep. */
  prefetchesMax: 64,
  /** Prefetches within prefetches. */
  prefetchDepth: 8,
  /** Positive and negative examples of a recommendation, pairs of a discovery. */
  examplesMax: 256,
  /** Expressions of one formula, and how deep they may be. */
  formulaNodes: 512,
  formulaDepth: 32,
  shardsMax: 256,
  /** New shards of one split. */
  splitMax: 16,
  /** Shards of one merge. */
  mergeMax: 16,
  replicasMax: 7,
  collectionsMax: 1_000,
  /** Of one cluster: shards of all collections, each of which has a log. docs/scale.md has what they cost. */
  logsMax: 4_096,
  /** Of all collections together. */
  aliasesMax: 4_000,
  /** Of one change of aliases. */
  aliasActions: 256,
  /** Operations that the coordinator works on at once. */
  operationsInFlight: 32,
  /** Moves of one plan that balances the nodes. */
  plannedMoves: 200,
  /** Operations that have ended and can still be looked at; older ones are forgotten. */
  endedOperations: 256,
  /** One log record is split at about this size, in bytes. JetStream's default message limit is 1 MiB. */
  recordBytes: 512 * 1024,
  /** Bytes of mutations waiting in the router for one shard before writers get RESOURCE_EXHAUSTED. */
  pendingWriteBytes: 64 * 1024 * 1024,
  /** Records of one shard in the log whose writers wait for a replica to apply them, before more get RESOURCE_EXHAUSTED. */
  unconfirmedRecords: 1_024,
  /** Unary calls in flight in one server, and queries in one router however they came, before more get RESOURCE_EXHAUSTED. */
  inFlightCalls: 8_192,
  /** Bytes of writes in flight in one router, until they are answered, before more get RESOURCE_EXHAUSTED. */
  inFlightWriteBytes: 256 * 1024 * 1024,
  /** Bytes of answers in flight in one router, until clients have taken them, before more get RESOURCE_EXHAUSTED. */
  inFlightAnswerBytes: 256 * 1024 * 1024,
  /** What the different values of a facet may take on one shard, in bytes: 64 each, and 2 for each character. */
  facetBytes: 128 * 1024 * 1024,
  /** Text of one path into payloads, in characters. */
  pathLength: 512,
  pathSteps: 32,
  /** Conditions of one filter, with those of filters within it and these filters themselves. */
  filterConditions: 1_024,
  /** Filters within filters (and within elements of arrays), with the outermost. */
  filterDepth: 16,
  /** Values of all lists (any, except) and ids of one filter. */
  filterValues: 16_384,
  /** One string of a filter (a keyword, a text), in characters. */
  filterStringLength: 8_192,
  /** A filter in its textual form, in characters. */
  filterTextLength: 65_536,
  /** Points of all polygons of one filter. */
  filterPolygonPoints: 2_000,
  /** Of one cluster. */
  keysMax: 10_000,
  rolesMax: 1_000,
  /** Rules of one role, and patterns of collections of one rule or key. */
  roleRules: 64,
  rolePatterns: 64,
  /** Where a backup is, in characters. */
  backupLocationLength: 256,
} as const;
