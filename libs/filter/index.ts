export { filterFromJson } from "./json.js";
export { datetimeMicros, zonedDatetimeMicros } from "./datetime.js";
export { geoDistanceMeters } from "./geo.js";
export { compileFilter, type FilterSchema, matches, type PointTest } from "./matches.js";
export { type FilterPoint, parsePayload, StoredFilterPoint } from "./point.js";
export type { Words } from "./index/bits.js";
export {
  type ConditionReport,
  evaluateFilter,
  type FilterSelection,
  type SlotSource,
} from "./index/evaluate.js";
export { PayloadIndexes } from "./index/payload-indexes.js";
export { type RunOptions, runSteps, type SlotMask } from "./index/run.js";
export type { Steps } from "./index/sorted-entries.js";
export {
  type FacetCount,
  type FacetValue,
  type IndexKind,
  type OrderCursor,
  type OrderedPage,
  type PageOptions,
  type PayloadIndex,
  type PayloadIndexSpec,
} from "./index/types.js";
export { filterToJson } from "./print-json.js";
export { sizeOfFilter } from "./size.js";
export type { TokenizerOptions } from "./tokens.js";
export { parseFilter } from "./text/parse.js";
export { validateFilter } from "./validate.js";
