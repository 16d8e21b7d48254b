export { analyzerTo, bm25From, textQueryFrom } from "./bm25.js";
export { BackwardWriter, Encoded } from "./encoded.js";
export { appendFloat, appendFloats, bytesToFloats, emptyFloats, floatsToBytes } from "./floats.js";
export { filterFromWire, filterToWire, knowsFilter } from "./filter.js";
export * as ipb from "./gen/internal-pb.js";
export * as pb from "./gen/pb.js";
export {
  encodeBatchInTurns,
  encodeBatchResponse,
  encodeQueryInTurns,
  encodeQueryResponse,
  encodeStreamedInTurns,
  encodeStreamedResponse,
  isLargeAnswer,
  isLargeBatch,
  type QueryAnswer,
  type ShardSequence,
} from "./query-response.js";
export { type Pause, turnBytes } from "./in-turns.js";
export { payloadIndexFrom, payloadIndexTo, unindexedFieldFrom, unindexedFieldTo } from "./payload-index.js";
export {
  encodeGroupsInTurns,
  encodePageInTurns,
  encodePointsInTurns,
  encodeStreamedPointsInTurns,
  groupsBytes,
  pointsBytes,
} from "./points-in-turns.js";
export { datatypeFrom, datatypeTo, schemaChangeToWire, vectorFieldTo } from "./schema-change.js";
export { sparseFieldFrom, sparseFieldTo, sparseVectorTo } from "./sparse.js";
export { lookupFromWire, orderFromWire, type QueryReaders, queryFromWire, stageFromWire } from "./query-tree.js";
export { jsonOfStruct, structOfJson } from "./struct.js";
export { decodeRecord, encodeRecord, mutationHashes, recordFormatMax } from "./record.js";
