export { Encoded } from "./encoded.js";
export * from "./floats.js";
export { filterFromWire, filterToWire, knowsFilter } from "./filter.js";
export * as ipb from "./gen/internal-pb.js";
export * as pb from "./gen/pb.js";
export * from "./query-response.js";
export { lookupFromWire, orderFromWire, type QueryReaders, queryFromWire, stageFromWire } from "./query-tree.js";
export * from "./record.js";
